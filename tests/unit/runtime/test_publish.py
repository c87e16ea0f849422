"""One call is one message: channels of py-amqp that answer as the test says, on a clock of its own."""

from __future__ import annotations

import socket
import time
import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import amqp
import celery
import pytest
import redis
from amqp.exceptions import (
    ConnectionForced,
    MessageNacked,
    PreconditionFailed,
    RecoverableChannelError,
    RecoverableConnectionError,
)
from amqp.method_framing import frame_writer
from amqp.transport import TCPTransport
from celery.backends.redis import RedisBackend
from kombu.exceptions import OperationalError
from kombu.transport.redis import Channel as RedisChannel

from celeryops_runtime import follow, publish
from celeryops_runtime.publish import PUBLISH_SECONDS, MaybeSentError, NotSentError


class Connection:
    """A connection on which things come at their time, in seconds from now."""

    def __init__(self) -> None:
        self.now = 100.0
        self.coming: list[tuple[float, Callable[[], None]]] = []
        self.collected = False

    def clock(self) -> float:
        return self.now

    def blocking_read(self, timeout: float) -> None:
        self.coming.sort(key=lambda one: one[0])
        if self.coming and self.coming[0][0] <= self.now + timeout:
            when, what = self.coming.pop(0)
            self.now = max(self.now, when)
            what()
            return
        self.now += timeout
        raise TimeoutError("timed out")

    def collect(self) -> None:
        self.collected = True

    def block(self, *, blocked: bool) -> None:
        self.__dict__["_celeryops_blocked"] = blocked


class Channel:
    """As much of py-amqp's channel as is needed to publish."""

    def __init__(self) -> None:
        self.connection: Any = Connection()
        self.events: Any = defaultdict(set)
        self._confirm_selected = False
        self.written: list[Any] = []
        self.fails: list[Exception] = []

    def confirm_select(self) -> None:
        pass

    def _basic_publish(self, message: Any, **options: Any) -> None:
        assert options["timeout"]
        for problem in self.fails:
            raise problem
        self.written.append(message)

    def at(self, seconds: float, what: str, tag: int = 0, *, multiple: bool = False) -> None:
        def happen() -> None:
            if what in {"ack", "nack"}:
                for callback in self.events[f"basic_{what}"]:
                    callback(tag, multiple)
            elif what in {"blocked", "unblocked"}:
                self.connection.block(blocked=what == "blocked")
            elif what == "lost":
                raise ConnectionResetError("reset")
            elif what == "closed":
                raise ConnectionForced("shutdown")

        self.connection.coming.append((self.connection.now + seconds, happen))

    def publish(self, task: str = "a", **options: Any) -> None:
        message = amqp.Message("body", application_headers={"id": task, "retries": 0})
        publish._publish(self, message, **{"exchange": "tasks", "routing_key": "default", **options})


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Channel:
    one = Channel()
    monkeypatch.setattr(publish, "_clock", one.connection.clock)
    return one


def took(channel: Channel) -> float:
    return float(channel.connection.now) - 100.0


def test_a_confirmed_message(channel: Channel) -> None:
    channel.at(0.1, "ack", 1)
    channel.publish()
    channel.at(0.1, "heartbeat")
    channel.at(0.2, "ack", 7, multiple=True)
    channel.publish("b")
    assert len(channel.written) == 2
    assert not channel.__dict__["_celeryops_confirms"].open


@pytest.mark.parametrize(
    ("exchange", "waits"),
    [("tasks", True), ("celery.pidbox", False), ("reply.celery.pidbox", False), ("celeryev", False), ("own", True)],
)
def test_remote_control_and_events_are_not_waited_for(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, exchange: str, waits: bool
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://mq1/shop;amqp://mq2/shop")
    monkeypatch.setattr(publish, "_events", {"celeryev"})

    def waited(to: str) -> bool:
        try:
            channel.publish(exchange=to, timeout=1)
        except MaybeSentError:
            return True
        return False

    assert waited(exchange) is waits
    if not waits:
        # It is not waited for, but counted: the next message is the second one to RabbitMQ.
        channel.at(0.1, "ack", 2)
        channel.publish("a task")
    publish.note_events("own")
    assert waited("own") is False
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://mq1/shop")
    assert waited(exchange) is True, "one node answers, or is away altogether"


@pytest.mark.parametrize(("url", "seconds"), [("amqp://mq1/shop", 20), ("amqp://mq1/shop;amqp://mq2/shop", 10)])
def test_a_node_of_several_has_less_time(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, url: str, seconds: float
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    with pytest.raises(MaybeSentError):
        channel.publish()
    assert took(channel) == seconds


def test_a_refused_message(channel: Channel) -> None:
    channel.at(0.1, "nack", 1)
    with pytest.raises(MessageNacked):
        channel.publish()


@pytest.mark.parametrize("heartbeats", [0, 30])
def test_a_broker_that_does_not_answer(channel: Channel, heartbeats: int) -> None:
    for number in range(heartbeats):
        channel.at(number, "heartbeat")
    with pytest.raises(MaybeSentError, match="does not answer") as maybe:
        channel.publish()
    assert not maybe.value.in_alarm
    assert PUBLISH_SECONDS <= took(channel) < PUBLISH_SECONDS + 1
    assert len(channel.written) == 1
    assert channel.connection.collected, "it may be dead"


@pytest.mark.parametrize("how", ["lost", "closed"])
def test_a_connection_that_is_lost_before_the_answer(channel: Channel, how: str) -> None:
    channel.at(0.1, how)
    with pytest.raises(MaybeSentError):
        channel.publish()
    assert not issubclass(MaybeSentError, OSError), "kombu would publish it again"


def test_a_connection_that_was_dead_before_is_for_kombu_to_mend(channel: Channel) -> None:
    channel.at(-1, "closed")
    with pytest.raises(ConnectionForced):
        channel.publish()
    assert not channel.written
    channel.fails = [RecoverableConnectionError("reset")]
    with pytest.raises(RecoverableConnectionError):
        channel.publish()
    channel.connection = None
    with pytest.raises(RecoverableConnectionError):
        channel.publish()


def test_in_an_alarm_nothing_more_is_written(channel: Channel) -> None:
    channel.at(0.1, "blocked")
    with pytest.raises(MaybeSentError, match="alarm") as maybe:
        channel.publish()
    assert not channel.connection.collected
    with pytest.raises(NotSentError) as not_sent:
        channel.publish("b")
    assert maybe.value.in_alarm
    assert not_sent.value.in_alarm
    assert len(channel.written) == 1
    assert took(channel) == pytest.approx(2 * PUBLISH_SECONDS, abs=1)
    channel.at(5, "unblocked")
    channel.at(5.1, "ack", 2)
    channel.publish("b")
    assert len(channel.written) == 2


def test_the_same_message_is_not_written_twice(channel: Channel) -> None:
    channel.at(0.1, "blocked")
    with pytest.raises(MaybeSentError):
        channel.publish()
    channel.at(5, "unblocked")
    channel.at(5.1, "ack", 1)
    channel.publish()
    assert len(channel.written) == 1


@pytest.mark.parametrize("between", [False, True])
def test_a_message_confirmed_between_two_tries_is_not_written_again(channel: Channel, between: bool) -> None:
    channel.at(0.1, "blocked")
    with pytest.raises(MaybeSentError):
        channel.publish()
    channel.at(1, "unblocked")
    channel.at(1.1, "ack", 1)
    channel.connection.now += 4
    if between:
        channel.at(0.1, "ack", 2)
        channel.publish("b")
    channel.publish()
    assert len(channel.written) == 1 + between
    assert not channel.__dict__["_celeryops_confirms"].arrived
    channel.at(0.1, "ack", 2 + between)
    channel.publish()
    assert len(channel.written) == 2 + between, "what was told as sent may be sent again"


def test_a_message_refused_between_two_tries_is_written_again(channel: Channel) -> None:
    channel.at(0.1, "blocked")
    with pytest.raises(MaybeSentError):
        channel.publish()
    channel.at(1, "unblocked")
    channel.at(1.1, "nack", 1)
    channel.connection.now += 4
    channel.at(0.1, "ack", 2)
    channel.publish()
    assert len(channel.written) == 2


def test_a_message_refused_while_it_is_waited_for_again(channel: Channel) -> None:
    channel.at(0.1, "blocked")
    with pytest.raises(MaybeSentError):
        channel.publish()
    channel.at(1, "unblocked")
    channel.at(1.1, "nack", 1)
    with pytest.raises(MessageNacked):
        channel.publish()


def test_what_follows_a_task_waits_for_the_end_of_the_alarm(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "seconds", lambda: 600.0)
    channel.at(0.1, "blocked")
    channel.at(500, "unblocked")
    channel.at(510, "ack", 1)
    channel.publish()
    assert len(channel.written) == 1
    channel.at(0.1, "heartbeat")
    with pytest.raises(MaybeSentError):
        channel.publish("b")
    assert took(channel) == pytest.approx(510 + PUBLISH_SECONDS, abs=1), "a dead broker is not waited for"


def test_a_time_of_ones_own(channel: Channel) -> None:
    with pytest.raises(MaybeSentError):
        channel.publish(confirm_timeout=3)
    assert took(channel) == pytest.approx(3)


@pytest.mark.parametrize("kind", [RecoverableConnectionError, RecoverableChannelError])
def test_a_write_that_takes_too_long(channel: Channel, kind: type[Exception]) -> None:
    def slow(*_args: Any, **_options: Any) -> None:
        channel.connection.now += PUBLISH_SECONDS
        try:
            raise TimeoutError("timed out")
        except TimeoutError:
            raise kind("basic_publish: timed out")  # noqa: B904

    channel._basic_publish = slow  # type: ignore[method-assign]
    with pytest.raises(NotSentError):
        channel.publish()
    assert channel.connection.collected, "a part of the message is written"


@pytest.mark.parametrize("follows", [False, True])
def test_a_socket_that_nobody_reads(monkeypatch: pytest.MonkeyPatch, follows: bool) -> None:
    publish.mend("rabbitmq")
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection = amqp.Connection(confirm_publish=True)
    transport = TCPTransport("localhost")
    transport.sock, transport._write = ours, ours.sendall
    transport.connected = True
    transport._read_buffer = b""
    transport._setup_transport()
    connection.transport = transport
    connection._frame_writer = frame_writer(connection, transport)
    channel = amqp.Channel(connection, 1)
    channel.is_open = channel._confirm_selected = True
    if follows:
        monkeypatch.setattr(follow, "seconds", lambda: 0.3)
    begun = time.monotonic()
    with pytest.raises(NotSentError, match="did not take the message"):
        channel.basic_publish_confirm(
            amqp.Message("x" * 10_000_000), exchange="", routing_key="a", confirm_timeout=60 if follows else 0.3
        )
    assert time.monotonic() - begun < 5
    assert not connection.connected, "a part of the message is written"
    theirs.close()


def test_a_channel_that_was_closed_for_one_message_counts_anew() -> None:
    publish.mend("rabbitmq")
    connection = amqp.Connection(confirm_publish=True)
    channel = amqp.Channel(connection, 1)
    coming: list[Callable[[], None]] = []
    asked: list[str] = []
    written: list[int] = []

    def read(_timeout: float | None = None) -> None:
        if not coming:
            raise TimeoutError
        coming.pop(0)()

    def opened() -> None:
        written.clear()

    def write(message: Any, **_options: Any) -> None:
        written.append(1)
        # As RabbitMQ says it: numbers are those of the channel that is open.
        tag = len(written)
        coming.append(
            (lambda: channel._on_close(406, "PRECONDITION_FAILED - larger than configured max size", 60, 40))
            if message.body == "large"
            else lambda: channel._on_basic_ack(tag, False)
        )

    connection.blocking_read = read
    channel.open, channel.send_method, channel._basic_publish = opened, lambda *_args, **_options: None, write
    channel.confirm_select = lambda: asked.append("confirms")

    def send(body: str) -> None:
        message = amqp.Message(body, application_headers={"id": body, "retries": 0})
        channel.basic_publish_confirm(message, exchange="tasks", routing_key="a", confirm_timeout=0.2)

    send("a")
    send("b")
    for _attempt in range(2):
        with pytest.raises(PreconditionFailed):
            send("large")
    # It was confirmed: to send it again, as a scheduler does when nobody answers, runs it twice.
    send("c")
    assert len(asked) == 3, "the channel that was opened again confirms only what it was asked to"


def test_py_amqp_is_mended_and_other_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    publish.mend("rabbitmq")
    publish.mend("rabbitmq")
    connection = amqp.Connection()
    now = [100.0]
    monkeypatch.setattr(publish, "_clock", lambda: now[0])

    def heartbeats(timeout: float | None = None) -> None:
        assert timeout
        now[0] += 1

    connection.blocking_read = heartbeats
    with pytest.raises(TimeoutError):
        connection.wait(amqp.spec.Channel.OpenOk)
    assert now[0] == pytest.approx(100 + publish.ANSWER_SECONDS, abs=2)
    connection._on_blocked()
    with pytest.raises(TimeoutError):
        connection.wait(amqp.spec.Connection.CloseOk)
    assert now[0] < 100 + publish.ANSWER_SECONDS + 4
    connection._on_unblocked()
    assert not publish._is_blocked(connection)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (redis.exceptions.TimeoutError("Timeout reading from socket"), MaybeSentError),
        (redis.exceptions.ConnectionError("Connection closed by server."), MaybeSentError),
        (redis.exceptions.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."), None),
        (redis.exceptions.TimeoutError("Timeout connecting to server"), None),
        (redis.exceptions.BusyLoadingError("Redis is loading"), None),
        (redis.exceptions.ResponseError("OOM"), None),
    ],
)
def test_redis_is_pushed_to_once(error: Exception, raised: type[Exception] | None) -> None:
    publish.mend("redis")
    publish.mend("redis")

    def fail() -> Any:
        raise error

    channel = types.SimpleNamespace(
        _get_message_priority=lambda *_args, **_options: 0,
        _q_for_pri=lambda *_args: "default",
        conn_or_acquire=fail,
    )
    with pytest.raises(raised or type(error)):
        RedisChannel._put(channel, "default", {})


def test_connections_that_publish_wait_less() -> None:
    app = celery.Celery("bound", broker="redis://localhost", set_as_current=False)
    app.conf.broker_transport_options = {"socket_timeout": 30, "global_keyprefix": "a:"}
    publish.bound_writes(app)
    assert app.connection_for_write().transport_options["socket_timeout"] == publish.REDIS_SECONDS
    assert app.connection_for_write().transport_options["global_keyprefix"] == "a:"
    assert app.connection_for_read().transport_options["socket_timeout"] == 30


def test_a_subscription_is_tried_twice() -> None:
    publish.mend("redis")
    app = celery.Celery("bound", backend="redis://localhost", set_as_current=False)
    backend = RedisBackend(app=app, url="redis://localhost")
    seen: list[Any] = []

    def consume_from(_task_id: str) -> None:
        def lost() -> None:
            seen.append(1)
            raise redis.exceptions.TimeoutError("no")

        try:
            backend.ensure(lost, ())
        except redis.exceptions.TimeoutError:
            raise RuntimeError("Retry limit exceeded") from None

    backend.result_consumer = types.SimpleNamespace(consume_from=consume_from, subscribed_to=set())
    with pytest.raises(NotSentError):
        backend.on_task_call(None, "id")
    assert len(seen) == 2
    assert issubclass(NotSentError, OperationalError)
