"""Messages that no worker can take: a real worker of Celery, not started, gets them from a channel that takes notes."""

from __future__ import annotations

import json
import types
import zlib
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from amqp.basic_message import Message as AmqpMessage
from celery._state import _set_task_join_will_block, task_join_will_block
from celery.signals import task_rejected
from celery.worker import loops, state
from kombu.clocks import LamportClock
from kombu.message import Message
from kombu.transport import redis as transport
from kombu.transport.virtual import Message as VirtualMessage

from celeryops_runtime.malformed.flaws import flaw
from celeryops_runtime.malformed.refusal import REDIS_DEAD_LETTERS, Malformed
from celeryops_runtime.malformed.tolerance import mend

from .test_redis_lists import MESSAGE

SECRET = "canary-word"
BODY = json.dumps([[SECRET], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])


class Channel:
    """What a worker told the broker."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.no_ack_consumers = {"broadcast"}
        self.kept: list[tuple[str, Any]] = []

    def basic_ack(self, tag: Any, multiple: bool = False) -> None:
        assert not multiple
        self.told.append(("ack", tag))

    def basic_reject(self, tag: Any, requeue: bool = False) -> None:
        self.told.append(("requeue" if requeue else "reject", tag))


class Stand:
    """A worker with one task, and what its consumer would be given."""

    def __init__(self) -> None:
        self.app = celery.Celery("stand", broker="memory://", backend="cache+memory://", set_as_current=False)
        self.app.conf.update(task_acks_late=True, worker_hijack_root_logger=False, task_ignore_result=True)
        self.ran: list[str] = []

        def work(word: str) -> None:
            self.ran.append(word)

        self.app.task(name="stand.work", shared=False)(work)
        self.app.steps["consumer"].add(Malformed)
        self.app.set_current()
        self.worker = self.app.WorkController(pool="solo", concurrency=1, hostname="stand@test")
        self.c = self.worker.consumer
        self.channel = Channel()
        self.c.connection = self.app.connection_for_read()
        self.c.connection_errors = (OSError,)
        self.c.task_consumer = types.SimpleNamespace(_active_tags={"mails": "1"})
        self.c.update_strategies()
        self.handler = self.c.create_task_handler()

    def message(self, body: Any = BODY, headers: Any = None, **options: Any) -> Any:
        given = {"content_type": "application/json", "content_encoding": "utf-8", **options}
        full = {"task": "stand.work", "id": "one", "lang": "py", "timelimit": [None, None], **(headers or {})}
        return Message(
            body,
            delivery_tag=7,
            channel=self.channel,
            delivery_info={"consumer_tag": "1", "routing_key": "0.0.mails"},
            accept={"application/json"},
            headers=full if headers is not False else {},
            **given,
        )

    def receive(self, message: Any) -> None:
        """As kombu's consumer does (kombu/messaging.py, ``_receive_callback``)."""
        if message.errors:
            message._reraise_error(self.c.on_decode_error)
        else:
            self.handler(message)
        self.c.perform_pending_operations()


@pytest.fixture(scope="module")
def one_stand() -> Iterator[Stand]:
    mend()
    mend()
    before = celery.current_app._get_current_object()
    blocks = task_join_will_block()
    yield Stand()
    # A pool forbids its process to wait for results.
    _set_task_join_will_block(blocks)
    before.set_current()


@pytest.fixture
def stand(one_stand: Stand) -> Iterator[Stand]:
    one_stand.ran.clear()
    one_stand.channel.told.clear()
    yield one_stand
    for requests in (state.reserved_requests, state.active_requests):
        requests.clear()
    state.requests.clear()


def test_what_a_real_producer_sends_is_sound(stand: Stand) -> None:
    work = stand.app.tasks["stand.work"]
    options = dict(stand.app.amqp.as_task_v2("id", work.name, (1,), {"a": 2}, countdown=5, expires=9)._asdict())
    assert flaw(options["headers"], json.loads(json.dumps(options["body"]))) is None
    chord = celery.chord([work.s("a"), work.s("b")], work.s("c") | work.s("d"), app=stand.app)
    sent = stand.app.amqp.as_task_v2(
        "id", work.name, ("x",), chord=chord.body, callbacks=[work.s("l"), chord], chain=[chord, work.s("m")]
    )
    assert flaw(sent.headers, json.loads(json.dumps(sent.body, default=dict))) is None
    old = stand.app.amqp.as_task_v1("id", work.name, ("x",), expires=5, callbacks=[work.s("l")])
    assert flaw(old.headers, json.loads(json.dumps(old.body, default=dict))) is None


LOOSE: list[tuple[str, Any]] = [
    *((name, value) for name in ("ignore_result", "utc") for value in (1, 0, "true", "")),
    *(
        (name, value)
        for name in ("group", "origin", "lang", "argsrepr", "kwargsrepr", "root_id", "parent_id", "taskset")
        for value in (5, {"a": 1}, ["x"], b"\xff", False)
    ),
    *((name, value) for name in ("callbacks", "errbacks", "chain", "chord") for value in (5, "x", {"a": 1}, [5])),
    *((name, value) for name in ("group_index", "replaced_task_nesting") for value in ("x", -1, 1.5, True, [])),
    *(("retries", value) for value in (-1, 1.5, True)),
    *(("shadow", value) for value in (5, b"x", False)),
]


@pytest.mark.parametrize(("name", "value"), LOOSE)
def test_what_celery_only_passes_on_or_does_not_look_at_runs(stand: Stand, name: str, value: Any) -> None:
    stand.receive(stand.message(headers={name: value}))
    assert stand.ran == [SECRET]
    assert stand.channel.told == [("ack", 7)]


WRONG_BODIES = [
    *('{"a": 1}', "5", "null", "[]", "[1, 2, 3]", "[[1], 5, null]", '[{"a": 1}, {}, null]', "[[1], {}, 5]", '"args"'),
    *("{", "", "[" * 100_000, '{"args": 5}', '{"args": [], "kwargs": 5}', "[[], {}]"),
    '[[{"__type__": "datetime", "__value__": "x"}], {}, null]',
]


@pytest.mark.parametrize("body", WRONG_BODIES)
@pytest.mark.parametrize("headers", [None, False], ids=["protocol2", "protocol1"])
def test_a_body_of_another_shape_is_a_dead_letter(
    stand: Stand, caplog: pytest.LogCaptureFixture, body: str, headers: Any
) -> None:
    stand.receive(stand.message(body, headers))
    assert stand.channel.told == [("reject", 7)]
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("message refused, to the dead letters: queue 'mails', id ")
    assert not stand.ran


@pytest.mark.parametrize(
    "options",
    [
        {"body": b'[["\xff\xfe"], {}, null]'},
        {"content_type": "application/x-python-serialize"},
        {"content_type": "text/nonsense"},
        {"headers": {"compression": "gzip"}},
        {"headers": {"compression": "nonsense"}},
        {"headers": {"compression": {"a": 1}}},
        {"headers": {"compression": "gzip"}, "body": zlib.compress(BODY.encode())[:-4]},
        {"headers": {"timelimit": SECRET}},
        {"headers": {"eta": SECRET}},
        {"headers": {"task": [SECRET]}},
        {"headers": {"id": None}},
    ],
)
def test_what_cannot_be_read_is_a_dead_letter_without_its_content(
    stand: Stand, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    seen: list[Any] = []

    def rejected(message: Any = None, **_signal: Any) -> None:
        seen.append(message)

    task_rejected.connect(rejected)
    stand.receive(stand.message(**options))
    assert stand.channel.told == [("reject", 7)]
    assert len(seen) == 1
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1
    assert SECRET not in caplog.text.split("DEBUG")[0]


def test_the_next_message_runs(stand: Stand) -> None:
    stand.receive(stand.message(headers={"timelimit": "abc"}))
    stand.receive(stand.message(headers={"id": "two"}))
    assert stand.ran == [SECRET]
    stand.receive(stand.message(json.dumps({"task": "stand.work", "id": "three", "args": ["old"]}), headers=False))
    assert stand.ran == [SECRET, "old"]
    stand.receive(stand.message(zlib.compress(BODY.encode()), headers={"id": "four", "compression": "gzip"}))
    assert len(stand.ran) == 3
    assert [word for word, _tag in stand.channel.told] == ["reject", "ack", "ack", "ack"]


def test_a_broadcast_is_only_left_out(stand: Stand) -> None:
    message = stand.message("{")
    message.delivery_info = {"consumer_tag": "broadcast"}
    stand.c.on_decode_error(message, ValueError("broken"))
    assert stand.channel.told == []


def test_a_task_that_no_process_can_be_given_frees_its_place(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released: list[int] = []
    monkeypatch.setattr(stand.worker, "_quick_release", lambda: released.append(1), raising=False)

    def trip(*_args: Any, **_kwargs: Any) -> None:
        raise RecursionError("maximum recursion depth exceeded while pickling")

    with monkeypatch.context() as patch:
        patch.setattr(stand.worker.pool, "apply_async", trip)
        # A strategy takes the pool's method when it is made.
        stand.c.update_strategies()
        stand.receive(stand.message())
    stand.c.update_strategies()
    assert stand.channel.told == [("reject", 7)]
    assert released == [1]
    assert not state.reserved_requests
    assert "no process can be given it (RecursionError)" in caplog.text


def test_a_lost_connection_is_no_messages_fault(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_args: Any, **_kwargs: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setitem(stand.c.strategies, "stand.work", lost)
    handler = stand.c.create_task_handler()
    with pytest.raises(ConnectionResetError):
        handler(stand.message())
    assert stand.channel.told == []


def test_an_unknown_task_is_a_dead_letter_as_ever(stand: Stand) -> None:
    stand.receive(stand.message(headers={"task": "no.such"}))
    assert stand.channel.told == [("reject", 7)]


@pytest.mark.parametrize("buffer", [b"\x80\x00\x02\xff\xfe", b"\x20\x00\x00\x00\x00\x0b\x01tT\x10" + bytes(7)])
def test_properties_that_cannot_be_read_end_no_connection(buffer: bytes) -> None:
    mend()
    message = AmqpMessage("body", content_type="text/plain")
    message._load_properties(60, buffer, 0)
    assert message.properties == {}


def test_the_first_look_at_a_connection_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    mend()

    def drain(exc: Exception) -> Any:
        def drain_events(timeout: float) -> None:
            assert timeout
            raise exc

        return types.SimpleNamespace(drain_events=drain_events)

    loops._quick_drain(drain(TimeoutError("timed out")))
    loops._quick_drain(drain(BlockingIOError()))
    for wrong in (ValueError("x"), RuntimeError("y"), ConnectionResetError()):
        with pytest.raises(type(wrong)):
            loops._quick_drain(drain(wrong))


@pytest.mark.parametrize(
    "raw",
    [
        *(b"{", b"5", b"[1]", b"\xff\xfe", b"null", b'{"body": 1}', b'{"properties": {}}'),
        json.dumps({**MESSAGE, "headers": [1]}).encode(),
        json.dumps({**MESSAGE, "properties": {"delivery_tag": 1}}).encode(),
        json.dumps({**MESSAGE, "body": "%%%"}).encode(),
        json.dumps({**MESSAGE, "properties": {**MESSAGE["properties"], "body_encoding": "klingon"}}).encode(),
    ],
)
def test_what_stands_in_a_list_of_redis_arrives_whatever_it_is(stand: Stand, raw: bytes) -> None:
    mend()
    payload = transport.loads(transport.bytes_to_str(raw))
    client = types.SimpleNamespace(lpush=lambda name, text: stand.channel.kept.append((name, text)))

    class RedisChannel(Channel):
        codecs = transport.Channel.codecs
        decode_body = transport.Channel.decode_body

        def conn_or_acquire(self) -> Any:
            from contextlib import nullcontext

            return nullcontext(client)

    channel = RedisChannel()
    message = VirtualMessage(payload, channel=channel)
    message.accept = {"application/json"}
    stand.channel.kept.clear()
    stand.receive(message)
    assert [word for word, _tag in channel.told] == ["reject"]
    [(name, text)] = stand.channel.kept
    assert name == REDIS_DEAD_LETTERS
    assert json.loads(text)["properties"]


def test_a_broadcast_of_redis_is_no_dead_letter(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    message = stand.message("{")
    message.channel.qos = types.SimpleNamespace(_delivered={"other": 1})
    try:
        stand.c.on_decode_error(message, ValueError("broken"))
        assert stand.channel.told == []
        assert "and left out" in caplog.text
        message.channel.qos._delivered[7] = message
        stand.c.on_decode_error(message, ValueError("broken"))
        assert stand.channel.told == [("reject", 7)]
    finally:
        del message.channel.qos


@pytest.mark.parametrize(
    ("queue", "options"),
    [("zz", {"exchange_type": "nonsense"}), (5, {}), ([5], {}), ("zz", {"durable": "x", "queue_arguments": 5})],
)
def test_a_queue_that_cannot_be_declared_is_not_consumed_from(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, queue: Any, options: Any
) -> None:
    def trip(*_args: Any, **_kwargs: Any) -> None:
        raise KeyError("nonsense")

    before = dict(stand.app.amqp.queues)
    chosen = dict(stand.app.amqp.queues.consume_from)
    monkeypatch.setattr("kombu.Queue.declare", trip)
    stand.c.add_task_queue(queue, **options)
    assert dict(stand.app.amqp.queues) == before
    assert dict(stand.app.amqp.queues.consume_from) == chosen
    assert "remote control: not consuming from" in caplog.text


def test_a_queue_that_can_be_declared_is_consumed_from(stand: Stand) -> None:
    tried: list[str] = []
    consumer = types.SimpleNamespace(
        consuming_from=lambda _queue: False, add_queue=lambda queue: tried.append(queue.name), consume=lambda: None
    )
    before, stand.c.task_consumer = stand.c.task_consumer, consumer
    try:
        stand.c.add_task_queue("extra")
    finally:
        stand.c.task_consumer = before
    assert tried == ["extra"]
    assert "extra" in stand.app.amqp.queues.consume_from, "it would be forgotten at the next connection"
    stand.app.amqp.queues.deselect("extra")
    del stand.app.amqp.queues["extra"]


def test_a_lost_connection_is_no_queues_fault(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_args: Any, **_kwargs: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr("kombu.Queue.declare", lost)
    with pytest.raises(ConnectionResetError):
        stand.c.add_task_queue("zz")
    assert "zz" not in stand.app.amqp.queues


def test_what_is_no_queue_cannot_be_left(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    stand.c.cancel_task_queue([5])
    assert "remote control: (list) is no queue" in caplog.text


@pytest.mark.parametrize("other", [10**30, 2**63, float("inf"), float("nan"), "x", [1], None, -5])
def test_no_clock_of_another_process_makes_this_one_unsayable(other: Any) -> None:
    mend()
    clock = LamportClock(41)
    assert clock.adjust(other) == 42
    assert clock.adjust(99) == 100


@pytest.mark.parametrize("body", ["{", "[1]", "5", "{}", '{"hostname": "other@x"}', '{"hostname": "o", "clock": "x"}'])
def test_an_event_that_cannot_be_read_is_left_out(stand: Stand, body: str) -> None:
    message = stand.message(body, headers=False)
    message.delivery_info = {"routing_key": "worker.heartbeat", "consumer_tag": "broadcast"}
    receiver = stand.app.events.Receiver(stand.app.connection_for_read().default_channel)
    stand.c.gossip.on_message(receiver.event_from_message, message)
    message.delivery_info["routing_key"] = "worker.elect"
    stand.c.gossip.on_message(receiver.event_from_message, message)
