"""A process whose broker has several nodes."""

from __future__ import annotations

import importlib.util
import time
from contextlib import nullcontext
from unittest.mock import Mock

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.pidbox import Mailbox
from kombu.transport.pyamqp import Transport

from celeryops_runtime import nodes, silence

from .conftest import CELERY

THREE = "amqp://a:x@mq1/shop;amqp://a:x@mq2/shop;amqp://a:x@mq3/shop"


@pytest.mark.parametrize(("url", "expected"), [
    (THREE, True), ("amqp://a:x@mq1/shop", False), ("", False), ("sentinel://s1;sentinel://s2", False),
])  # fmt: skip
def test_only_a_rabbitmq_of_several_addresses_has_nodes(url: str, expected: bool) -> None:
    assert nodes.several(url) is expected


def test_every_process_begins_with_a_node_of_its_own_and_stays_with_it() -> None:
    orders = {nodes.rotated(THREE, f"host{number}/default@host{number}") for number in range(20)}
    them = THREE.split(";")
    assert orders == {";".join(them[first:] + them[:first]) for first in range(3)}
    assert nodes.rotated(THREE, "one/name") == nodes.rotated(THREE, "one/name")


def test_a_worker_is_told_from_another_of_its_host() -> None:
    assert nodes.key_of(["celery", "worker", "-n", "high@%h", "-c", "2"], "app1", 7) == "app1/high@%h"
    assert nodes.key_of(["celery", "worker", "--hostname", "high@%h"], "app1", 7) == "app1/high@%h"
    assert nodes.key_of(["celery", "worker", "--hostname=bulk@%h"], "app1", 7) == "app1/bulk@%h"
    assert nodes.key_of(["celery", "-A", "shop", "worker", "-nbulk@%h", "-c2"], "app1", 7) == "app1/bulk@%h"
    assert nodes.key_of(["celery", "worker"], "app1", 7) == "app1/worker"


def test_beat_flower_and_producers_of_a_host_are_told_apart() -> None:
    assert nodes.key_of(["/opt/bin/celery", "-A", "shop", "beat", "-s", "x"], "app1", 7) == "app1/beat"
    assert nodes.key_of(["celery", "flower"], "app1", 7) == "app1/flower"
    assert nodes.key_of(["gunicorn", "-n", "shop"], "web1", 7) == "web1/7"


def test_the_processes_of_a_host_begin_with_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gunicorn"])
    firsts = set()
    for pid in range(20):
        monkeypatch.setattr(nodes.os, "getpid", lambda pid=pid: pid)  # type: ignore[attr-defined]
        environ = {"CELERY_BROKER_URL": THREE}
        nodes.rotate(environ)
        firsts.add(environ["CELERY_BROKER_URL"].partition(";")[0])
    assert firsts == set(THREE.split(";"))


@pytest.mark.parametrize("name", ["high", "bulk", "default", "mail", "feeds", "reports"])
def test_the_environment_is_put_in_order_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    environ = {"CELERY_BROKER_URL": THREE}
    monkeypatch.setattr("sys.argv", ["celery", "worker", "-n", f"{name}@app1"])
    nodes.rotate(environ)
    first = environ["CELERY_BROKER_URL"]
    assert sorted(first.split(";")) == THREE.split(";")
    # A child that is another program: it has the same order.
    monkeypatch.setattr("sys.argv", ["other"])
    nodes.rotate(environ)
    assert environ["CELERY_BROKER_URL"] == first
    assert "x@" not in environ["CELERYOPS_BROKER_ROTATED"]


@pytest.mark.parametrize(
    ("options", "tried"),
    [
        # Three times the time of one attempt for each node, as the plan has it.
        ({"connect_retries_timeout": 3 * 0.1 * 3}, ["mq1", "mq2", "mq3"]),
        ({}, ["mq1"]),
    ],
)
def test_nodes_that_accept_and_never_answer_are_left(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, float], tried: list[str]
) -> None:
    """With kombu's own time for all attempts, that of one, the first node takes all of it."""
    asked = []

    def connect(transport: Transport) -> Mock:
        asked.append(transport.client.hostname)
        if asked[-1] == "mq3":
            return Mock(connected=True)
        time.sleep(transport.client.connect_timeout)
        raise TimeoutError

    monkeypatch.setattr(Transport, "establish_connection", connect)
    with (
        nullcontext() if options else pytest.raises(OperationalError),
        Connection(THREE, connect_timeout=0.1, transport_options=options) as connection,
    ):
        assert connection.default_channel
    assert asked == tried


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes that were asked, of which the first one gives no answer; the clock stands still."""
    them: list[str] = []

    def connect(transport: Transport) -> Mock:
        them.append(transport.client.hostname)
        if them[-1] == "mq1":
            raise TimeoutError
        return Mock(connected=True)

    for name in ("_establish_connection", "heartbeat_check"):
        monkeypatch.setattr(Connection, name, getattr(Connection, name))
    monkeypatch.setattr(Transport, "establish_connection", connect)
    monkeypatch.setattr(nodes, "_silent", silence.Silence())
    monkeypatch.setattr(silence, "_clock", lambda: 100.0)
    nodes.mend()
    return them


def test_a_node_that_gave_no_answer_is_tried_last_for_a_while(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each connection of the process."""
    for _connection in range(3):
        with Connection(THREE, connect_timeout=1) as connection:
            assert connection.default_channel
    assert asked == ["mq1", "mq2", "mq2", "mq2"]
    monkeypatch.setattr(silence, "_clock", lambda: 161.0)
    with Connection(THREE, connect_timeout=1) as connection:
        assert connection.default_channel
    assert asked[4:] == ["mq1", "mq2"]


def test_where_no_node_answers_each_is_tried_in_the_usual_order(asked: list[str]) -> None:
    for name in ("mq1", "mq2", "mq3"):
        nodes._silent.begin((name, 5672))
    with Connection(THREE, connect_timeout=1) as connection:
        assert connection.default_channel
    assert asked == ["mq1", "mq2"]
    assert ("mq2", 5672) not in nodes._silent


def test_a_node_whose_heartbeats_are_missed_is_tried_last(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missed(*_arguments: object, **_options: object) -> None:
        raise ConnectionResetError("Too many heartbeats missed")

    monkeypatch.setattr(Transport, "heartbeat_check", missed)
    with Connection(THREE.partition(";")[2], connect_timeout=1) as connection:
        assert connection.default_channel
        with pytest.raises(ConnectionResetError):
            connection.heartbeat_check()
    with Connection(THREE.partition(";")[2], connect_timeout=1) as connection:
        assert connection.default_channel
    assert asked == ["mq2", "mq3"]


@pytest.mark.parametrize("url", ["amqp://a:x@mq1/shop", "sentinel://mq1;sentinel://mq2"])
def test_other_addresses_keep_their_order(asked: list[str], url: str) -> None:
    del asked
    connection = Connection(url, connect_timeout=1)
    connection._transport = Mock(establish_connection=Mock(side_effect=TimeoutError))
    with pytest.raises(TimeoutError):
        connection._establish_connection()
    assert not nodes._silent._since


def test_one_address_is_left_alone() -> None:
    environ = {"CELERY_BROKER_URL": "amqp://a:x@mq1/shop"}
    nodes.rotate(environ)
    assert environ == {"CELERY_BROKER_URL": "amqp://a:x@mq1/shop"}


def test_the_queues_of_delays_are_not_declared_again_where_each_node_would_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes.mend()
    if not importlib.util.find_spec("celery.worker.consumer.delayed_delivery"):
        assert CELERY < (5, 5)
        return
    from celery.worker.consumer import delayed_delivery

    monkeypatch.setattr(delayed_delivery, "detect_quorum_queues", lambda *_: (True, "default"))
    step = delayed_delivery.DelayedDelivery(Mock())
    monkeypatch.setenv("CELERY_BROKER_URL", THREE)
    assert step.include_if(Mock()) is False
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://mq1")
    assert step.include_if(Mock())


def test_a_control_queue_is_new_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.mend()
    nodes.mend()
    mailbox = Mailbox("celery", type="fanout")
    monkeypatch.setenv("CELERY_BROKER_URL", THREE)
    names = {mailbox.get_queue("high@app1").name for _each in range(3)}
    assert len(names) == 3
    assert all(name.startswith("high@app1.") and name.endswith(".celery.pidbox") for name in names)
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://mq1")
    assert mailbox.get_queue("high@app1").name == "high@app1.celery.pidbox"
