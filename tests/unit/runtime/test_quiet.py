"""What a worker says about itself, to brokers that take nothing, or too long."""

from __future__ import annotations

import types
from typing import Any

import celery
import pytest
from celery.events.dispatcher import EventDispatcher
from celery.worker.consumer.mingle import Mingle
from kombu.pidbox import Node

from celeryops_runtime import follow, quiet
from celeryops_runtime.quiet import MUTE_SECONDS, Gate, Quiet, Voice, options, quiet_connection


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def app() -> celery.Celery:
    quiet.mend()
    quiet.mend()
    return celery.Celery("quiet", broker="memory://", backend="cache+memory://", set_as_current=False)


def test_a_gate_shuts_while_blocked_and_for_a_while_after_an_error() -> None:
    clock = Clock()
    gate = Gate(clock)
    assert gate.open
    gate.on_blocked("memory")
    assert not gate.open
    gate.on_unblocked()
    assert gate.open
    gate.failed()
    clock.now += MUTE_SECONDS - 1
    assert not gate.open
    clock.now += 1
    assert gate.open


def test_nobody_waits_for_a_confirmation() -> None:
    gate = Gate()
    amqp = options({"confirm_publish": True, "read_timeout": 30, "socket_settings": {1: 2}}, "amqp", gate)
    assert amqp["confirm_publish"] is False
    assert amqp["read_timeout"] < 30
    assert amqp["socket_settings"] == {1: 2}
    amqp["on_blocked"]("why")
    assert gate.blocked
    redis = options({"socket_timeout": 30, "global_keyprefix": "a:"}, "redis", gate)
    assert redis == {"socket_timeout": 5, "socket_connect_timeout": 5, "global_keyprefix": "a:"}
    assert options(None, "memory", gate) == {}


def dispatcher(app: celery.Celery, gate: Gate) -> Any:
    connection = quiet_connection(app, gate)
    return EventDispatcher(connection, app=app, hostname="a@b", enabled=True)


def test_events_are_left_out_while_the_gate_is_shut(app: celery.Celery) -> None:
    clock = Clock()
    gate = Gate(clock)
    events = dispatcher(app, gate)
    sent: list[Any] = []
    events.producer = types.SimpleNamespace(
        publish=lambda event, **_more: sent.append(event["type"]), revive=lambda _channel: None
    )
    events.send("worker-heartbeat")
    gate.on_blocked()
    events.send("worker-heartbeat")
    assert sent == ["worker-heartbeat"]
    assert not events._outbound_buffer
    gate.on_unblocked()

    def fail(*_args: Any, **_kwargs: Any) -> None:
        sent.append("tried")
        raise OSError("timed out")

    events.producer.publish = fail
    for _each in range(3):
        events.send("worker-heartbeat")
    assert sent == ["worker-heartbeat", "tried"], "one error in half a minute"
    assert len(events._outbound_buffer) == 1
    events.flush()
    assert sent == ["worker-heartbeat", "tried"]
    assert not events._outbound_buffer, "nothing is kept for later"


def test_another_dispatcher_is_celerys_own(app: celery.Celery) -> None:
    events = EventDispatcher(app.connection_for_write(), app=app, hostname="a@b", enabled=True)
    sent: list[Any] = []
    events.producer = types.SimpleNamespace(publish=lambda event, **_more: sent.append(event["type"]))
    events.send("task-sent", uuid="x")
    assert sent == ["task-sent"]


def test_a_blocked_connection_is_not_closed_in_form(app: celery.Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("kombu.Connection.release", lambda _self: told.append("close"))
    monkeypatch.setattr("kombu.Connection.close", lambda _self: told.append("close"))
    monkeypatch.setattr("kombu.Connection.collect", lambda _self, **_options: told.append("collect"))
    gate = Gate()
    connection = quiet_connection(app, gate)
    connection.close()
    gate.on_blocked()
    connection.release()
    assert told == ["close", "collect"]


class Producer:
    """What remote control publishes with."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sent: list[Any] = []

    def publish(self, body: Any, *, retry: bool, **_more: Any) -> None:
        assert retry is False
        if self.errors:
            raise self.errors.pop()
        self.sent.append(body)


def voice_with(app: celery.Celery, producer: Producer) -> tuple[Voice, Clock]:
    clock = Clock()
    voice = Voice(app, clock)
    voice._connection = app.connection_for_write()
    voice._connection.collect = lambda **_options: None
    voice._producer = producer
    return voice, clock


def test_an_answer_that_fails_is_not_tried_again_for_a_while(app: celery.Celery) -> None:
    producer = Producer(*(error() for error in app.connection_for_write().connection_errors[:1]))
    voice, clock = voice_with(app, producer)
    voice.publish("one", retry=True)
    assert voice._connection is None
    voice._ready = lambda: producer  # type: ignore[method-assign]
    voice.publish("two")
    assert producer.sent == []
    clock.now += MUTE_SECONDS
    voice.publish("three")
    assert producer.sent == ["three"]


def test_an_answer_is_left_out_while_blocked(app: celery.Celery) -> None:
    producer = Producer()
    voice, _clock = voice_with(app, producer)
    voice._gate.on_blocked()
    voice.publish("one")
    assert producer.sent == []
    voice._gate.on_unblocked()
    with voice.acquire(block=True) as itself:
        itself.publish("two")
    assert producer.sent == ["two"]


def test_remote_control_and_mingle_use_the_voice(app: celery.Celery) -> None:
    producer = Producer()
    voice, _clock = voice_with(app, producer)
    app.__dict__["_celeryops_voice"] = voice
    mailbox = app.control.mailbox
    connection = app.connection_for_write()
    node = Node("a@b", types.SimpleNamespace(app=app), connection.default_channel, {}, mailbox=mailbox(connection))
    node.reply({"a@b": "pong"}, "reply.celery.pidbox", "key", "ticket")
    assert producer.sent == [{"a@b": "pong"}]
    seen: list[Any] = []
    step = types.SimpleNamespace(
        send_hello=lambda c: seen.append(c.app.control.mailbox(connection).producer_pool) or {},
        on_node_reply=None,
    )
    before = mailbox.producer_pool
    Mingle.sync(step, types.SimpleNamespace(app=app))
    assert seen == [voice]
    assert mailbox.producer_pool is before

    def garbage(_c: Any) -> Any:
        raise TypeError("cannot unpack")

    Mingle.sync(types.SimpleNamespace(send_hello=garbage), types.SimpleNamespace(app=app))
    voice._pid = -1
    assert quiet._voice(app) is None, "a process of the pool has connections of its own"


def test_the_step_gives_the_consumer_a_quiet_connection(app: celery.Celery) -> None:
    controller = types.SimpleNamespace(time_limit=77)
    c = types.SimpleNamespace(app=app, ensure_connected=lambda connection: connection, controller=controller)
    step = Quiet(c)
    assert follow._class_limit == 77
    follow.limit_class(None)
    connection = c.connection_for_write(heartbeat=30)
    assert getattr(connection, quiet._GATE).open
    assert isinstance(step.voice, Voice)
    step.stop(c)
