"""One configuration, everywhere it is read: three kinds of apps that contradict it, and a producer-only host.

Each app's web process is the unit that the role places as an example, copied as it is: gunicorn as www-data, which
cannot read celery.env itself. What is in force in that process is compared with what is in force in a worker of the
same app, setting by setting, both asked while they run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml
from testinfra.host import Host

pytestmark = [pytest.mark.long, pytest.mark.apart]
WEB = Path(__file__).resolve().parents[1] / "inventory_web"
OWN = WEB.parents[1] / os.environ.get("MOLECULE_SCENARIO_NAME", "default") / "inventory"
PLAYBOOK = "molecule/default/unmodified_apps.yml"
EMPTY = "no_such.task"
#: app -> tasks that the shared routes send to a queue of their own, and the classes that may read it
ROUTES = {
    "constructor_shop": {
        "constructor_shop.tasks.charge": "payments",
        "constructor_shop.tasks.count": "default",
        "probe.view": "probes",
    },
    "object_shop": {
        "object_shop.tasks.charge": "payments",
        "object_shop.tasks.count": "default",
        "object_shop.tasks.tick": "probes",
        "probe.view": "probes",
    },
    "django_shop": {
        "django_shop.catalogue.tasks.render_invoice": "invoices",
        "django_shop.catalogue.tasks.effective_settings": "default",
        "probe.view": "default",
    },
}
APPS = sorted(ROUTES)

# A CA, a certificate for a name (kombu makes 127.0.0.1 of localhost before it compares), RabbitMQ's listener on 5671
# (no restart) where there is one, and a server of results on 6390, which is the broker as well where there is none.
LISTENERS = """
set -e
install -d /srv/celeryops-tls; cd /srv/celeryops-tls
if [ ! -e server.pem ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca \\
        -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server 2>/dev/null
    printf 'subjectAltName=DNS:servers.celeryops.test\n' > names
    echo '127.0.0.1 servers.celeryops.test' >> /etc/hosts
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \\
        -out server.pem 2>/dev/null
fi
if [ -e /usr/sbin/rabbitmqctl ] && [ -z "$(ss -Hltn sport = 5671)" ]; then
    chown rabbitmq server.key
    rabbitmqctl --silent eval 'application:ensure_all_started(ssl), rabbit_networking:start_ssl_listener(
        {"127.0.0.1", 5671, inet}, [{certfile, "/srv/celeryops-tls/server.pem"},
        {keyfile, "/srv/celeryops-tls/server.key"}], 2).' < /dev/null
fi
if [ -z "$(ss -Hltn sport = 6390)" ]; then
    (umask 077; printf 'requirepass PASSWORD\nport 0\ntls-port 6390\nbind 127.0.0.1\nsave ""\n' > results.conf
    echo 'tls-auth-clients no' >> results.conf
    printf 'tls-cert-file server.pem\ntls-key-file server.key\ntls-ca-cert-file ca.pem\n' >> results.conf)
    systemd-run --quiet --collect --unit=celeryops-tls-results --working-directory=/srv/celeryops-tls \
        ENGINE-server results.conf
fi
"""
RUN = "systemd-run --quiet --pipe --wait --collect --property=WorkingDirectory=/"


@pytest.fixture(scope="module")
def deployed(host: Host, site: Callable[..., Any], secrets: Mapping[str, str], secret_folder: Path, engine: str) -> Any:
    """All three apps, deployed as they are."""
    # The listeners ask for it before the playbook has looked it up; with RabbitMQ an account of the inventory has it.
    if "unmodified_password" not in secrets:
        password = secret_folder / "unmodified_password"
        password.touch(0o600)
        password.write_text(token_hex(20))
    listeners = LISTENERS.replace("PASSWORD", secrets["unmodified_password"]).replace("ENGINE", engine)
    host.check_output(f"bash <<'END'\n{listeners}\nEND")
    run = site(playbook=PLAYBOOK)
    assert run.messages == [], run.output
    return run


def test_what_the_apps_say_and_what_holds_is_told(deployed: Any) -> None:
    """When they are tried the first time. Nothing of it is a secret, or what the classes say."""
    said = [line for line in deployed.output.replace("\\n", "\n").splitlines() if "the app says" in line]
    for line in (
        "- task_acks_late: the app says False, here True holds; write celery_app_settings.task_acks_late to have",
        "- task_serializer: the app says 'pickle', here 'json' holds; write celery_app_settings.task_serializer",
        "- task_default_queue: the app says 'developer', here 'default' holds; write celery_app_default_queue to have",
        "- task_routes: the app says object_shop.tasks.charge to later, object_shop.tasks.tick to later, ",
        "- worker_prefetch_multiplier: the app says 64, here 1 holds",
    ):
        assert any(line in one for one in said), said
    assert not any(".invalid" in line or "broker_url" in line for line in said)


@pytest.fixture(scope="module", params=APPS)
def web(request: pytest.FixtureRequest, host: Host, deployed: Any) -> Iterator[tuple[str, Callable[[str], str]]]:
    """The app's web process: the documented unit, copied; and a browser. The probe comes in by gunicorn's own means."""
    assert deployed
    app: str = request.param
    unit = f"/etc/systemd/system/{app}-web.service"
    host.check_output(
        f"cp /etc/celeryops/{app}/producer.service.example {unit} && install -d {unit}.d && printf '%s\n' [Service]"
        f" Environment=GUNICORN_CMD_ARGS=--config=/srv/celeryops-probe/gunicorn.conf.py > {unit}.d/probe.conf"
        f" && systemctl daemon-reload && systemctl restart {app}-web.service"
    )

    def get(path: str) -> str:
        program = (
            f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000{path}', timeout=60).read().decode())"
        )
        return host.check_output(f'python3 -c "{program}"')

    deadline = time.monotonic() + 30
    while not host.socket("tcp://127.0.0.1:8000").is_listening:
        assert time.monotonic() < deadline, host.run(f"journalctl --no-pager -n 40 -u {app}-web.service").stdout
        time.sleep(0.5)
    yield app, get
    host.check_output(f"systemctl stop {app}-web.service; rm -r {unit} {unit}.d; systemctl daemon-reload")


def ask(get: Callable[[str], str], path: str, app: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(get(f"/-/{path}?" + "&".join(f"task={name}" for name in [*ROUTES[app], EMPTY])))
    return answer


@pytest.fixture(scope="module")
def both(web: tuple[str, Callable[[str], str]]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The app, its web process's view, and the view of the worker that the web process's task came to."""
    app, get = web
    return app, ask(get, "view", app), ask(get, "ask", app)


def test_the_web_process_is_one_that_cannot_read_the_file(
    host: Host, both: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    app, producer, worker = both
    assert producer["uid"] == host.user("www-data").uid
    assert worker["uid"] == host.user(app).uid
    env = host.file(f"/etc/celeryops/{app}/celery.env")
    assert (env.user, env.mode) == ("root", 0o600)


def test_a_task_goes_where_only_the_shared_configuration_says(
    both: tuple[str, dict[str, Any], dict[str, Any]], broker: str
) -> None:
    app, producer, worker = both
    routed = {name: found["queue"]["name"] for name, found in producer["routes"].items()}
    assert routed == {**ROUTES[app], EMPTY: "default"}
    # And so it went: the worker that answered is the one that reads that queue, and it got durable JSON.
    assert worker["queue"] == ROUTES[app]["probe.view"]
    # A list of Redis needs no exchange.
    assert worker["exchange"] == ("tasks" if broker == "rabbitmq" else "")
    # The class that reads it has its name.
    assert worker["node"].split("@")[0] == worker["queue"]
    assert worker["delivery_mode"] == 2
    # On Redis it stands beside what a task sees of its message.
    assert worker["content_type"] == ("application/json" if broker == "rabbitmq" else None)


def test_producer_and_worker_have_the_same_in_force(both: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    _app, producer, worker = both
    # What the class says of itself is the worker's alone. Of all the settings that Celery knows nothing else differs.
    of_the_class = {"probes": {"task_acks_late"}, "default": set()}[worker["queue"]]
    # A worker writes down in this one what it has imported.
    imported = {"include"}
    assert set(producer["settings"]) == set(worker["settings"])
    differing = {key for key, value in producer["settings"].items() if value != worker["settings"][key]}
    assert differing == of_the_class | imported
    # A web process need not have imported a task to send it, so the task's own options are not compared.
    ways = [{name: way["queue"] for name, way in found["routes"].items()} for found in (producer, worker)]
    assert ways[0] == ways[1]
    for part in ("queues", "broker", "publish", "urls", "results", "loader", "app"):
        assert producer[part] == worker[part], part
    assert len(producer["settings"]) > 150
    assert producer["loader"] == "celeryops_runtime.loader"


def test_it_is_what_the_inventory_says_and_not_what_the_app_says(
    host: Host, both: tuple[str, dict[str, Any], dict[str, Any]], broker: str
) -> None:
    app, producer, _other = both
    shared = json.loads(host.file(f"/etc/celeryops/{app}/celery.json").content_string)
    settings = producer["settings"]
    tls = ("broker_use_ssl", "redis_backend_use_ssl")
    assert {key: settings[key] for key in shared["settings"] if key not in tls} == {
        key: value for key, value in shared["settings"].items() if key not in tls
    }
    assert (settings["accept_content"], settings["result_accept_content"]) == (["json"], None)
    assert {settings[f"{kind}_serializer"] for kind in ("task", "result", "event")} == {"json"}
    assert (settings["task_default_queue"], settings["task_default_exchange"]) == ("default", "tasks")
    queues = json.loads(host.file(f"/etc/celeryops/{app}/queues.json").content_string)["queues"]
    assert set(producer["queues"]) == {entry["name"] for entry in queues}
    rabbitmq = broker == "rabbitmq"
    for queue in producer["queues"].values():
        assert (queue["arguments"] or {}) == ({"x-queue-type": "quorum"} if rabbitmq else {})
        exchange = ("tasks", "topic" if rabbitmq else "direct", True)
        assert (queue["exchange"], queue["exchange_type"], queue["durable"]) == exchange
    options = producer["broker"]["transport_options"]
    if rabbitmq:
        assert options["confirm_publish"] is True
        assert (producer["broker"]["user"], producer["broker"]["virtual_host"]) == (app, app)
    else:
        # What decides whether a task runs twice is the same in both, and nothing that the app says.
        assert options["visibility_timeout"] == shared["settings"]["broker_transport_options"]["visibility_timeout"]
        assert options["visibility_timeout"] > 600
    assert producer["publish"]["delivery_mode"] == 2
    assert ".invalid" not in json.dumps(producer)
    assert "developer" not in json.dumps({key: producer[key] for key in ("queues", "routes", "broker", "results")})


def test_tls_follows_the_urls(both: tuple[str, dict[str, Any], dict[str, Any]], broker: str) -> None:
    """And not what the apps say, each of which turns the verification off or wants none of it."""
    _app, producer, _other = both
    settings = producer["settings"]
    ca = "/srv/celeryops-tls/ca.pem"
    # redis-py before 6 compares the name in the certificate only where it is told to.
    wanted = {"ssl_ca_certs": ca, "ssl_cert_reqs": "CERT_REQUIRED", "ssl_check_hostname": True}
    assert settings["redis_backend_use_ssl"] == wanted
    # Each client has its own names for the same.
    prefix = "" if broker == "rabbitmq" else "ssl_"
    assert producer["broker"]["tls"][f"{prefix}cert_reqs"] == "CERT_REQUIRED"
    assert producer["broker"]["tls"][f"{prefix}ca_certs"] == ca
    assert producer["results"]["connection_class"] == "SSLConnection"


def test_the_apps_own_pages_send_through_it(web: tuple[str, Callable[[str], str]], host: Host) -> None:
    app, get = web
    if app == "django_shop":
        assert json.loads(get("/-/send?task=probe.view"))[0]["queue"] == "default"
        return
    task_id = get("/an-order").strip()
    unit = f"celery-{app}-main.service"
    deadline = time.monotonic() + 20
    while f"[{task_id}] succeeded" not in host.check_output(f"journalctl --no-pager --output=cat --unit={unit}"):
        assert time.monotonic() < deadline, "the task of the page did not run"
        time.sleep(0.5)
    # Neither app has `log_received` for its classes.
    assert f"[{task_id}] received" not in host.check_output(f"journalctl --no-pager --output=cat --unit={unit}")


@pytest.mark.usefixtures("deployed")
def test_beat_sends_by_the_same_routes(host: Host) -> None:
    journal = "journalctl --no-pager --output=cat --unit=celery-object_shop-probes.service"
    deadline = time.monotonic() + 30
    while "succeeded in" not in (text := host.check_output(journal)) or "object_shop.tasks.tick" not in text:
        assert time.monotonic() < deadline, "no periodic task came through the queue that the routes name"
        time.sleep(1)
    assert "tick" in text
    assert "'probes'" in text


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("wrong", ["name", "ca"])
def test_a_certificate_that_is_not_the_servers_is_refused(
    host: Host, secrets: Mapping[str, str], broker: str, wrong: str
) -> None:
    address = {
        "rabbitmq": "amqps://constructor_shop:{}@127.0.0.1:5671/constructor_shop",
        "redis": "rediss://:{}@127.0.0.1:6390/0",
    }[broker].format(secrets["unmodified_password"])
    given, reason = {
        "name": (f"CELERY_BROKER_URL={address}", "IP address mismatch"),
        "ca": ("CELERYOPS_CONFIG=/run/celeryops-no-ca.json", "certificate verify failed"),
    }[wrong]
    # The same document without a CA of its own: the system's does not know the server's.
    queues, document = (
        json.loads(host.file(f"/etc/celeryops/constructor_shop/{name}.json").content_string)
        for name in ("queues", "celery")
    )
    document |= queues
    for key in ("broker_use_ssl", "redis_backend_use_ssl"):
        document["settings"].pop(key)
    host.check_output(f"cat > /run/celeryops-no-ca.json <<'END'\n{json.dumps(document)}\nEND")
    program = (
        "from constructor_shop.celery import app; c = app.connection_for_write()\n"
        "try: c.ensure_connection(max_retries=1, reraise_as_library_errors=False)\n"
        "except Exception as e: print(type(e).__name__, e)\n"
        "try: app.backend.client.ping()\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    said = host.check_output(
        f"{RUN} --property=User=www-data --property=EnvironmentFile=/etc/celeryops/constructor_shop/celery.env"
        f" env {given} /opt/celeryops/constructor_shop/current/bin/python -B -c '{program}'"
    )
    assert reason in said
    assert said.count("CERTIFICATE_VERIFY_FAILED") == (2 if wrong == "ca" else 1)


@pytest.mark.usefixtures("deployed")
def test_a_person_sees_what_is_in_force(host: Host) -> None:
    said = host.check_output(
        f"{RUN} --property=User=www-data --property=EnvironmentFile=/etc/celeryops/object_shop/celery.env"
        " /opt/celeryops/object_shop/current/bin/python -m celeryops_runtime inspect-app --app object_shop.celery:app"
        " --task object_shop.tasks.charge --task no.such"
    )
    assert "is in force in object_shop.celery:app" in said
    assert "object_shop.tasks.charge -> payments" in said
    assert "no.such -> default" in said


@pytest.mark.usefixtures("deployed")
def test_manage_py_runs_by_the_documented_command(host: Host) -> None:
    found = json.loads(host.check_output("cd / && celeryops-run object_shop manage.py migrate --noinput"))
    assert found["words"] == ["manage.py", "migrate", "--noinput"]
    assert found["folder"].startswith("/opt/celeryops/object_shop/releases/")
    assert found["queue"] == "default"


def test_a_host_that_only_sends_gets_the_same_files(site: Callable[..., Any], host: Host) -> None:
    # The scenario's own comes last, so that its variables hold.
    inventories = [f"--inventory={WEB}", f"--inventory={OWN}"]
    path, queues = "/etc/celeryops/shop/celery.json", "/etc/celeryops/shop/queues.json"

    def differing(*arguments: str) -> list[str]:
        run = site(*inventories, "--check", "--tags=celery_app_configure", "--limit=stack,web", *arguments)
        assert run.messages == [], run.output
        report, _other = json.JSONDecoder().raw_decode(run.output[run.output.index("{") :])
        tasks = [task["hosts"].get("web", {}) for play in report["plays"] for task in play["tasks"]]
        placed = [result["changed_paths"] for result in tasks if "changed_paths" in result]
        assert placed, run.output
        return [path for paths in placed for path in paths]

    # web has no classes, and its files are those that are there: made for the host that has them.
    assert not {path, queues} & {*differing()}
    assert yaml.safe_load(host.file(queues).content_string)["queues"]
    # That comparison sees a difference.
    changed = differing('--extra-vars={"celery_app_result_expires": "3h", "celery_app_queues": ["others"]}')
    assert {path, queues} <= {*changed}
