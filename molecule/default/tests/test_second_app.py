"""A second app on the same host and servers: a Django project, deployed by the same roles without the site playbook."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

RUN = (
    "systemd-run --quiet --pipe --wait --collect --property=User=django_shop --property=WorkingDirectory=/"
    " --property=EnvironmentFile=/etc/celeryops/django_shop/celery.env /opt/celeryops/django_shop/current/bin/"
)


@pytest.fixture(scope="module")
def deployed(host: Host, site: Callable[..., Any]) -> Callable[..., Any]:
    """The playbook of the second app, run once, and its database."""

    def deploy(*arguments: str) -> Any:
        return site(*arguments, playbook="molecule/default/second_app.yml")

    run = deploy()
    assert run.messages == [], run.output
    # The project's manage.py, as a package has it.
    host.check_output("celeryops-run django_shop django-shop migrate --verbosity 0")
    return deploy


@pytest.fixture(scope="module")
def ask(host: Host, deployed: Callable[..., Any]) -> Callable[..., Any]:
    assert deployed

    def send(task: str, *arguments: Any) -> Any:
        program = (
            "import json\nfrom django_shop.celery import app\n"
            f"result = app.send_task('django_shop.catalogue.tasks.{task}', args={list(arguments)!r})\n"
            "print(json.dumps(result.get(timeout=30)))"
        )
        return json.loads(host.check_output(f"{RUN}python -B - <<'END'\n{program}\nEND").splitlines()[-1])

    return send


@pytest.mark.alike
def test_the_projects_tasks_run_where_the_routes_say(host: Host, ask: Callable[..., Any]) -> None:
    priced = ask("reprice", "teapot", 1999)
    assert (priced["article"], priced["cents"]) == ("teapot", 1999)
    assert priced["ran_by"]["node"].startswith("default@")
    invoice = ask("render_invoice", 7, [{"name": "teapot", "pieces": 2, "cents": 1999}])
    assert "7" in invoice["text"]
    assert invoice["ran_by"]["node"].startswith("documents@")
    assert invoice["ran_by"]["uid"] == host.user("django_shop").uid != 0


@pytest.mark.alike
def test_the_shared_configuration_wins_over_settings_py(ask: Callable[..., Any]) -> None:
    found = ask("effective_settings")
    assert (found["broker_host"], found["result_host"], found["queue"]) == ("127.0.0.1", "127.0.0.1", "default")
    # What the shared configuration does not speak about stays the project's.
    assert (found["timezone"], found["task_track_started"]) == ("Europe/Berlin", True)


@pytest.mark.alike
@pytest.mark.usefixtures("deployed")
def test_the_apps_do_not_read_each_others_files(host: Host) -> None:
    refused = host.run(f'{RUN}python -B -c \'open("/var/lib/celeryops/shop/x", "w")\'')
    assert "PermissionError" in refused.stderr
    assert host.run(f"{RUN}python -B -c 'open(\"/etc/celeryops/django_shop/celery.env\")'").rc != 0


@pytest.mark.alike
@pytest.mark.broker("rabbitmq")
@pytest.mark.usefixtures("deployed")
def test_an_app_may_not_use_the_others_virtual_host(host: Host) -> None:
    listed = host.check_output("rabbitmqctl --silent list_permissions --vhost shop | cut -f1").splitlines()
    assert "django_shop" not in listed


@pytest.mark.broker("redis")
@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("command", ['lpush("APP:letters", "x")', 'publish("APP:/0.celery.pidbox", "x")'])
def test_an_app_may_not_use_the_others_keys_and_channels(host: Host, command: str) -> None:
    def run(app: str) -> Any:
        client = 'import os, redis\nclient = redis.Redis.from_url(os.environ["CELERY_BROKER_URL"])\n'
        return host.run(f"{RUN}python -B - <<'END'\n{client}client.{command.replace('APP', app)}\nEND")

    own = run("django_shop")
    assert own.rc == 0, own.stderr
    assert "NoPermissionError" in run("shop").stderr


@pytest.mark.alike
def test_a_run_for_one_app_leaves_the_other_alone(site: Callable[..., Any], deployed: Callable[..., Any]) -> None:
    """And a second run for each changes nothing, the first app's in between."""
    for again in (site, deployed):
        run = again()
        assert (run.messages, run.changed) == ([], [])
