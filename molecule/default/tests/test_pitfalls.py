"""The mistakes that Celery's users make: each is made by hand first, beside the stack, on the same server.

An ETA longer than the broker's patience runs twice: a worker that holds a delayed task has not acknowledged it, so
RabbitMQ takes it back after its consumer timeout, and Redis after the workers' visibility timeout, for the next worker.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from testinfra.host import Host

#: `make test` has it with an older Celery (CELERY_TESTS in scripts/tools/suites/molecule.py).
pytestmark = [pytest.mark.seldom, pytest.mark.apart]
Produce = Callable[..., Any]

#: An app as a tutorial has it; each run of its task leaves a line.
NAIVE = """
import json, os, time
from celery import Celery

app = Celery("naive", broker=os.environ["NAIVE_BROKER"])
app.conf.update(json.loads(os.environ["NAIVE_SETTINGS"]))

@app.task(name="naive.work", ignore_result=True)
def work(key, seconds):
    with open("/var/lib/naive/ran", "a") as file:
        file.write(key + "\\n")
    time.sleep(seconds)
"""


@dataclasses.dataclass
class Naive:
    """Workers that a person set up by hand: stock Celery, an account without rights, a transient unit each."""

    host: Host
    url: str = dataclasses.field(repr=False)
    units: list[str] = dataclasses.field(default_factory=list)

    @property
    def run(self) -> str:
        return (
            "systemd-run --quiet --collect --property=User=www-data --property=EnvironmentFile=/run/naive/env"
            " --property=StateDirectory=naive --property=WorkingDirectory=/run/naive"
        )

    def start(self, workers: int, processes: int, settings: Mapping[str, Any]) -> None:
        """Start workers and wait until they consume; systemd starts a worker again that ends."""
        self.host.check_output(
            f"install -d -m 0755 /run/naive && cat > /run/naive/naive.py <<'END'\n{NAIVE}\nEND\n"
            "install -m 0600 /dev/null /run/naive/env && cat > /run/naive/env <<'END'\n"
            f"NAIVE_BROKER={self.url}\nNAIVE_SETTINGS='{json.dumps(settings)}'\nEND"
        )
        for number in range(workers):
            unit = f"naive-{number}.service"
            self.units.append(unit)
            self.host.check_output(
                f"{self.run} --unit={unit} --property=Restart=always --property=RestartSec=1 --property=KillMode=mixed"
                " --property=TimeoutStopSec=10 /opt/celeryops/shop/current/bin/celery --app=naive worker"
                f" --hostname=naive-{number}@naive --concurrency={processes} --loglevel=INFO"
            )
        deadline = time.monotonic() + 180
        while not all("ready." in self.journal(unit) for unit in self.units):
            assert time.monotonic() < deadline, "\n".join(map(self.journal, self.units))
            time.sleep(1)

    def journal(self, unit: str) -> str:
        started = self.host.check_output(f"systemctl show --property=InactiveExitTimestamp --value {unit}")
        since = started.split(" ", 1)[1].rsplit(" ", 1)[0] if " " in started else "-1min"
        return self.host.check_output(f"journalctl --no-pager --output=cat --unit={unit} --since='{since}'")

    def send(self, delays: Mapping[str, float], seconds: float) -> None:
        """Send a task of so many seconds for each key, to be run after its delay."""
        program = f"from naive import work\nfor key, delay in {dict(delays)!r}.items():\n"
        program += f"    work.apply_async((key, {seconds!r}), countdown=delay)"
        self.host.check_output(
            f"{self.run} --pipe --wait /opt/celeryops/shop/current/bin/python -B - <<'END'\n{program}\nEND"
        )

    @property
    def ran(self) -> Counter[str]:
        """How often each key's task was started."""
        return Counter(self.host.run("cat /var/lib/naive/ran").stdout.split())

    def stop(self) -> None:
        for unit in self.units:
            self.host.run(f"systemctl stop {unit}")
        self.host.check_output("rm -rf /run/naive /var/lib/naive")


@pytest.fixture
def naive(host: Host, secrets: Mapping[str, str], broker: str) -> Iterator[Naive]:
    password = secrets["naive_password"]
    url = (
        f"amqp://naive:{password}@127.0.0.1/naive" if broker == "rabbitmq" else f"redis://naive:{password}@127.0.0.1/0"
    )
    made = Naive(host, url)
    yield made
    made.stop()


def started(host: Host, inventory: dict[str, Any], ids: list[str]) -> dict[str, tuple[int, int]]:
    """How often the app's workers received each task, and how often they finished it."""
    app = inventory["celery_app_name"]
    logs = host.check_output(
        f"journalctl --no-pager --output=cat --unit='celery-{app}-*'; cat /var/log/celeryops/*/*.log"
    )
    return {one: (logs.count(f"[{one}] received"), logs.count(f"[{one}] succeeded")) for one in ids}


def restart_workers(host: Host, inventory: dict[str, Any]) -> None:
    app = inventory["celery_app_name"]
    host.check_output(
        "systemctl restart " + " ".join(f"celery-{app}-{name}" for name in inventory["celery_worker_classes"])
    )


#: Seconds. RabbitMQ waits for half an hour by default and looks every minute; the tasks here are due three times later
#: than it waits. Each runs for half that time, and one of them is due in the second half of the time that a worker may
#: hold it, whenever that began.
PATIENCE, LOOK, SECONDS, ETAS = 15, 1, 8, (45, 50, 55)


@pytest.fixture
def impatient(host: Host, inventory: dict[str, Any]) -> Iterator[str]:
    """A RabbitMQ that takes a message back after seconds; returns its version. New channels go by it."""
    wanted = {"consumer_timeout": PATIENCE, "channel_tick_interval": LOOK, "quorum_tick_interval": LOOK}

    def evaluate(program: str) -> str:
        # One call for everything: each starts an Erlang machine.
        return host.check_output(f"rabbitmqctl eval '{program}.'").strip()

    before = evaluate(f"[{{K, application:get_env(rabbit, K)}} || K <- [{', '.join(wanted)}]]")
    evaluate(", ".join(f"application:set_env(rabbit, {key}, {value * 1000})" for key, value in wanted.items()))
    restart_workers(host, inventory)
    yield host.check_output("dpkg-query --show --showformat='${Version}' rabbitmq-server")
    evaluate(
        f"[case V of {{ok, O}} -> application:set_env(rabbit, K, O); undefined -> application:unset_env(rabbit, K) end"
        f" || {{K, V}} <- {before}]"
    )
    restart_workers(host, inventory)


@pytest.mark.broker("rabbitmq")
def test_an_eta_longer_than_the_consumer_timeout_runs_once(
    host: Host, produce: Produce, inventory: dict[str, Any], naive: Naive, impatient: str
) -> None:
    settings: dict[str, Any] = {"task_acks_late": True, "task_default_queue": "work"}
    if [int(part) for part in re.findall(r"\d+", impatient)[:2]] >= [4, 3]:
        # Classic queues have no such timeout any more (RabbitMQ 4.3, consumer_timeouts.md).
        settings["task_default_queue_type"] = "quorum"
    naive.start(2, 3, settings)
    naive.send({f"eta-{eta}": eta for eta in ETAS}, SECONDS)
    ids = produce(
        f"r = [send('shop.feeds.import_feed', 'eta', 10, {SECONDS}, countdown=eta) for eta in {ETAS}]\n"
        "print(json.dumps([one.id for one in r]))"
    )
    produce(f"[app.AsyncResult(one).get(timeout={max(ETAS) + 60}) for one in {ids}]; print(0)")
    # A message that was taken back would be with the next worker by now.
    time.sleep(PATIENCE + 2 * LOOK)
    assert max(naive.ran.values()) > 1, (naive.ran, [naive.journal(unit)[-3000:] for unit in naive.units])
    assert started(host, inventory, ids) == dict.fromkeys(ids, (1, 1))


#: kombu looks every 100 s for messages that were held too long, which is too seldom for a test.
OFTEN = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
REDIS_ETA = 20


def in_the_environment_of(host: Host, unit: str, python: str, program: str) -> Any:
    """Run a program with the environment that a unit's main process has, and return what it prints."""
    main = host.check_output(f"systemctl show --property=MainPID --value {unit}")
    caller = f"""
import subprocess
environment = open("/proc/{main}/environ").read().rstrip("\\0").split("\\0")
finished = subprocess.run(
    [{python!r}, "-B", "-c", {program!r}], env=dict(one.split("=", 1) for one in environment), cwd="/", check=True,
    stdout=subprocess.PIPE, text=True,
)
print(finished.stdout)
"""
    return json.loads(host.check_output(f"python3 - <<'END'\n{caller}\nEND").splitlines()[-1])


@pytest.mark.broker("redis")
@pytest.mark.usefixtures("restored")
def test_an_eta_longer_than_the_visibility_timeout_runs_once(
    host: Host, site: Callable[..., Any], produce: Produce, inventory: dict[str, Any], naive: Naive
) -> None:
    # Late acknowledgement holds a task for twice its limit, which would count for more than the ETA.
    classes = {name: {**keys, "time_limit": "5s"} for name, keys in inventory["celery_worker_classes"].items()}
    run = site(
        variables={
            "celery_app_longest_eta": f"{REDIS_ETA}s",
            "celery_worker_classes": classes,
            "celery_app_settings": {"broker_transport_options": OFTEN},
        }
    )
    assert run.messages == []
    naive.start(
        2,
        1,
        {"broker_transport_options": {"global_keyprefix": "naive:", "visibility_timeout": REDIS_ETA // 4, **OFTEN}},
    )
    naive.send({"eta": REDIS_ETA}, 0)
    ids = produce(f"print(json.dumps([send('shop.feeds.import_feed', 'eta', 10, 0.0, countdown={REDIS_ETA}).id]))")
    produce(f"app.AsyncResult('{ids[0]}').get(timeout={REDIS_ETA + 40}); print(0)")
    # A copy would be on its way by now.
    time.sleep(REDIS_ETA // 2)
    assert naive.ran["eta"] > 1, [naive.journal(unit)[-3000:] for unit in naive.units]
    assert started(host, inventory, ids) == {ids[0]: (1, 1)}

    # One process that has another timeout spoils it for all, Flower too, which reads from Redis as a worker does.
    ask = "import json; print(json.dumps(app.conf.broker_transport_options))"
    found = produce(
        "nodes = app.control.inspect(timeout=5).conf()\n"
        "print(json.dumps({node.split('@')[0]: conf['broker_transport_options'] for node, conf in nodes.items()}))"
    )
    found["producer"] = produce(ask)
    for name, release, source in (
        ("beat", "shop", "from shop.celery import app"),
        ("flower", "shop-flower", "from celery import Celery; app = Celery()"),
    ):
        found[name] = in_the_environment_of(
            host, f"celery-shop-{name}.service", f"/opt/celeryops/{release}/current/bin/python", f"{source}; {ask}"
        )
    assert found.keys() == {*inventory["celery_worker_classes"], "producer", "beat", "flower"}
    shared = json.loads(host.file("/etc/celeryops/shop/celery.json").content_string)["settings"]
    wanted = shared["broker_transport_options"]["visibility_timeout"]
    assert wanted > REDIS_ETA
    assert {name: options.get("visibility_timeout") for name, options in found.items()} == dict.fromkeys(found, wanted)
