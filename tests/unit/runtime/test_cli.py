"""The commands, and what ``declare`` does with a broker: against a broker of the test's own that keeps the rules."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed

from celeryops_runtime.commands import Failure
from celeryops_runtime.commands.declare import declare
from celeryops_runtime.config_reader import parse
from celeryops_runtime.topology import reconcile, topology

from .conftest import BROKER, KOMBU

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]


LEVELS = 28 if KOMBU >= (5, 5) else 0
"""Delay queues, each with its exchange. An older kombu has none: there the workers hold what is to wait."""

ALL = 3 + 2 * LEVELS + (1 if LEVELS else 0)
"""The app's exchange, two queues, and what delays them, with the exchange that leads back."""


class Broker:
    """RabbitMQ's rules for declarations: passive, equivalent, and a channel that a refusal closes."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.bindings: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        self.writes = 0

    def channel(self) -> Channel:
        return Channel(self)


class Channel:
    """One channel."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.open = True

    def _declare(self, kind: str, name: str, passive: bool, arguments: dict[str, Any]) -> None:
        assert self.open, "the channel was closed by a refusal"
        there = self.broker.objects.get((kind, name))
        refusal: Exception | None = None
        if passive:
            refusal = None if there else NotFound("no " + kind)
        elif name in self.broker.refused:
            refusal = AccessRefused("access refused for user 'shop'")
        elif there is not None and there != arguments:
            refusal = PreconditionFailed("inequivalent arg 'x-queue-type'")
        if refusal:
            self.open = False
            raise refusal
        if there is None:
            self.broker.objects[kind, name] = arguments
            self.broker.writes += 1

    def exchange_declare(self, exchange: str, *, passive: bool = False, **arguments: Any) -> None:
        self._declare("exchange", exchange, passive, arguments)

    def queue_declare(self, queue: str, *, passive: bool = False, **arguments: Any) -> None:
        self._declare("queue", queue, passive, arguments)

    def queue_bind(self, *, nowait: bool, **binding: Any) -> None:
        assert nowait
        self.broker.bindings.append(binding)

    exchange_bind = queue_bind


def test_topology_is_kombus_own(document: dict[str, Any]) -> None:
    wanted = topology(parse(document))
    assert next(iter(wanted.exchanges)) == "tasks"
    assert wanted.exchanges["tasks"]["type"] == "topic"
    assert len(wanted.exchanges) == ALL - 2 - LEVELS
    assert list(wanted.queues)[:2] == ["default", "payments"]
    assert len(wanted.queues) == 2 + LEVELS
    assert wanted.queues["default"]["arguments"] == {"x-queue-type": "quorum"}
    assert wanted.queues["default"]["durable"] is True
    assert wanted.queues["default"]["auto_delete"] is False
    if not LEVELS:
        assert [b["routing_key"] for b in wanted.bindings] == ["default", "payments"]
        return
    assert wanted.queues["celery_delayed_3"]["arguments"]["x-message-ttl"] == 8000
    assert wanted.queues["celery_delayed_3"]["arguments"]["x-dead-letter-strategy"] == "at-least-once"
    bound = [
        (b.get("queue"), b.get("exchange"), b["routing_key"]) for b in wanted.bindings if b.get("queue") == "payments"
    ]
    assert bound == [("payments", "tasks", "payments"), ("payments", "tasks", "#.payments")]
    assert {
        "destination": "tasks",
        "source": "celery_delayed_delivery",
        "routing_key": "#.payments",
        "arguments": {},
    } in (wanted.bindings)


def test_classic_queues_need_no_delayed_delivery(document: dict[str, Any]) -> None:
    for queue in document["queues"]:
        queue["type"] = "classic"
    wanted = topology(parse(document))
    assert (list(wanted.exchanges), list(wanted.queues)) == (["tasks"], ["default", "payments"])


def test_declare_check_and_drift(document: dict[str, Any]) -> None:
    broker, wanted = Broker(), topology(parse(document))
    found = reconcile(broker, wanted, check=True)
    assert len(found.missing) == len(wanted) == ALL
    assert (broker.objects, broker.bindings) == ({}, [])
    assert reconcile(broker, wanted, check=False) == found
    assert len(broker.objects) == ALL
    assert broker.bindings == wanted.bindings
    assert reconcile(broker, wanted, check=False).missing == []
    assert reconcile(broker, wanted, check=True).missing == []
    assert broker.writes == ALL

    gone = ["payments", "celery_delayed_5"] if LEVELS else ["payments"]
    for name in gone:
        del broker.objects["queue", name]
    assert reconcile(broker, wanted, check=True).missing == [f"queue {name}" for name in gone]
    assert reconcile(broker, wanted, check=False).missing == [f"queue {name}" for name in gone]
    assert reconcile(broker, wanted, check=True).missing == []


def test_all_conflicts_are_found_and_nothing_is_created(document: dict[str, Any]) -> None:
    for check in (True, False):
        broker, wanted = Broker(), topology(parse(document))
        broker.objects["exchange", "tasks"] = {"type": "direct"}
        broker.objects["queue", "default"] = {"arguments": None}
        found = reconcile(broker, wanted, check=check)
        assert broker.writes == 0
        assert len(found.conflicts) == 2
        assert "exchange tasks exists in another form (inequivalent arg" in found.conflicts[0]
        assert "queue default exists in another form" in found.conflicts[1]
        assert "give it a new name" in found.conflicts[1]


def test_missing_permission_is_explained(document: dict[str, Any]) -> None:
    broker = Broker()
    broker.refused = {"celery_delayed_27" if LEVELS else "payments"}
    found = reconcile(broker, topology(parse(document)), check=False)
    assert "may not declare it" in found.conflicts[0]
    assert "'configure'" in found.conflicts[0]


def test_redis_has_nothing_to_declare(python: Python, config_file: Path, document: dict[str, Any]) -> None:
    document["broker"] = "redis"
    config_file.write_text(json.dumps(document), encoding="utf-8")
    done = python("-m", "celeryops_runtime", "declare", "--json", env={"CELERY_BROKER_URL": ""})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["changed"], found["failed"], found["missing"]) == (False, False, [])


def test_declare_needs_no_celery(fresh_python: Python) -> None:
    code = (
        "import sys; from celeryops_runtime import cli, topology;"
        "print(any(m == 'celery' or m.startswith('celery.') for m in sys.modules))"
    )
    assert fresh_python("-c", code).stdout == "False\n"


@pytest.mark.parametrize(
    ("env", "status", "reason"),
    [
        ({"CELERY_BROKER_URL": ""}, 2, "CELERY_BROKER_URL is not set"),
        ({"CELERY_BROKER_URL": "redis://x"}, 2, "is not an amqp:// or amqps:// URL"),
        ({"CELERYOPS_CONFIG": "/nonexistent.json"}, 2, "/nonexistent.json cannot be read"),
    ],
)
def test_usage_errors(python: Python, env: dict[str, str], status: int, reason: str) -> None:
    done = python("-m", "celeryops_runtime", "declare", "--json", env=env)
    assert done.returncode == status
    assert reason in json.loads(done.stdout)["message"]
    assert "Traceback" not in done.stderr
    plain = python("-m", "celeryops_runtime", "declare", env=env)
    assert (plain.returncode, plain.stdout) == (status, "")
    assert reason in plain.stderr


def test_unreachable_broker_is_said_without_its_password(
    document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound and not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        url = f"amqp://shop:secret-word@127.0.0.1:{taken.getsockname()[1]}/shop"
        with pytest.raises(Failure, match=r"RabbitMQ at amqp://shop:\*\*@127\.0\.0\.1") as caught:
            declare(parse(document), {"CELERY_BROKER_URL": url}, timeout=1)
    assert caught.value.status == 1
    assert "secret-word" not in str(caught.value) + capsys.readouterr().out


def test_inspect_app(python: Python, tmp_path: Path) -> None:
    (tmp_path / "shopping.py").write_text(
        "from celery import Celery\nprint('noise')\napp = Celery('shop')\n"
        "@app.task(name='shop.pay')\ndef pay(): pass\n",
        encoding="utf-8",
    )
    done = python("-m", "celeryops_runtime", "inspect-app", "--app", "shopping:app", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["in_force"] is True
    assert found["tasks"] == ["shop.pay"]
    assert found["conf"]["task_time_limit"] == 777
    assert found["conf"]["task_queues"][1]["arguments"] == {"x-queue-type": "quorum"}
    assert found["conf"]["broker_url"] == BROKER.replace("secret-word", "**")
    assert "secret-word" not in done.stdout + done.stderr
    some = python("-m", "celeryops_runtime", "inspect-app", "--app", "shopping", "--conf", "task_acks_late", "--json")
    assert json.loads(some.stdout)["conf"] == {"task_acks_late": True}


def test_app_with_its_own_loader_is_told_so(python: Python, tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "from celery import Celery\napp = Celery('shop', loader='celery.loaders.app:AppLoader')\n", encoding="utf-8"
    )
    done = python("-m", "celeryops_runtime", "inspect-app", "--app", "stubborn:app", "--json")
    assert done.returncode == 3
    found = json.loads(done.stdout)
    assert (found["in_force"], found["loader"]) == (False, "celery.loaders.app:AppLoader")
    assert "Remove loader=" in found["message"]
    unset = python("-m", "celeryops_runtime", "inspect-app", "--app", "stubborn:app", env={"CELERY_LOADER": ""})
    assert unset.returncode == 3
    assert "CELERY_LOADER is not set" in unset.stderr


def test_app_that_cannot_be_imported(python: Python, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('no settings')\n", encoding="utf-8")
    for app, reason in (("broken:app", "no settings"), ("nowhere:app", "nowhere")):
        done = python("-m", "celeryops_runtime", "inspect-app", "--app", app, "--json")
        assert done.returncode == 3
        found = json.loads(done.stdout)
        assert found["failed"] is True
        assert reason in found["message"]
        assert "Traceback" not in done.stderr


def test_inspect_app_says_where_tasks_go(python: Python, tmp_path: Path) -> None:
    (tmp_path / "shopping.py").write_text(
        "from celery import Celery\napp = Celery('shop', task_default_queue='own', security_key_password='word')\n"
        "@app.task(name='shop.own', queue='payments')\ndef own(): pass\n",
        encoding="utf-8",
    )
    words = ["-m", "celeryops_runtime", "inspect-app", "--app", "shopping:app"]
    words += ["--task", "shop.pay", "--task", "no.such", "--task", "shop.own"]
    said = python(*words)
    assert said.stdout.splitlines()[1:] == [
        "  shop.pay -> payments",
        "  no.such -> default",
        # A queue in the task's own code comes before every route, as in Celery.
        "  shop.own -> payments",
    ]
    everything = json.loads(python(*words, "--all", "--json").stdout)
    assert everything["effective"]["routes"] == everything["routes"]
    settings = everything["effective"]["settings"]
    assert (settings["task_default_queue"], settings["security_key_password"]) == ("default", "**")
    assert everything["effective"]["queues"]["payments"]["arguments"] == {"x-queue-type": "quorum"}
    assert "secret-word" not in json.dumps(everything)
