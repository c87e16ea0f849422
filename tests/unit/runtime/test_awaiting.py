"""Results in Redis that are waited for while Redis is restarted, or away."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
from celery.backends.asynchronous import greenletDrainer
from celery.exceptions import TimeoutError as NothingCameError

from celeryops_runtime import awaiting, publish
from celeryops_runtime.publish import NotSentError

FAST = {"max_retries": 20, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.05}
"""As Celery's own retries of the backend, with shorter pauses."""


class Redis:
    """A server that can go and come back, with what it holds; it knows what a result backend asks."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.channels: dict[bytes, set[socket.socket]] = {}
        self.connections: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.run(self.accept, self.listener)

    def run(self, what: Callable[[socket.socket], None], where: socket.socket) -> None:
        self.threads.append(threading.Thread(target=what, args=(where,), daemon=True))
        self.threads[-1].start()

    def stop(self) -> None:
        for one in (self.listener, *self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for one in self.threads:
            one.join(5)
        self.channels, self.threads, self.connections = {}, [], []

    def accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener:
            while True:
                connection, _other = listener.accept()
                self.connections.append(connection)
                self.run(self.serve, connection)

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while head := stream.readline():
                words = []
                for _each in range(int(head[1:])):
                    words.append(stream.read(int(stream.readline()[1:])))
                    stream.read(2)
                connection.sendall(self.answer(connection, words))

    def answer(self, connection: socket.socket, words: list[bytes]) -> bytes:
        name, rest = words[0].upper(), words[1:]
        if name == b"GET":
            return bulk(self.data.get(rest[0]))
        if name == b"MGET":
            return b"*%d\r\n" % len(rest) + b"".join(bulk(self.data.get(key)) for key in rest)
        if name in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
            for key in rest:
                there = self.channels.setdefault(key, set())
                (there.add if name == b"SUBSCRIBE" else there.discard)(connection)
            return b"".join(b"*3\r\n" + bulk(name.lower()) + bulk(key) + b":1\r\n" for key in rest)
        return b"-ERR unknown command\r\n" if name == b"HELLO" else b"+OK\r\n"

    def succeed(self, app: celery.Celery, task: str, result: int) -> None:
        """Store a result as a worker does, and tell who has subscribed to it."""
        key = app.backend.get_key_for_task(task)
        meta = {"status": "SUCCESS", "result": result, "traceback": None, "children": [], "task_id": task}
        self.data[key] = json.dumps(meta).encode()
        for connection in list(self.channels.get(key, ())):
            connection.sendall(b"*3\r\n" + bulk(b"message") + bulk(key) + bulk(self.data[key]))


def bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


@pytest.fixture
def server() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.stop()


@pytest.fixture
def app(server: Redis) -> celery.Celery:
    publish.mend("rabbitmq")
    backend = f"redis://127.0.0.1:{server.port}/0?protocol=2"
    app = celery.Celery("awaiting", broker="memory://", backend=backend, set_as_current=False)
    app.conf.result_backend_transport_options = {"retry_policy": FAST}
    return app


def a_send(app: celery.Celery) -> None:
    """What finds the connection lost: the first write after it may still go out."""
    with contextlib.suppress(NotSentError):
        for _each in range(10):
            app.send_task("another")
            time.sleep(0.05)


def a_result_that_goes(app: celery.Celery) -> None:
    for result in [app.AsyncResult(key) for key in ("one", "two", "three")]:
        app.backend.result_consumer.subscribed_to.add(app.backend.get_key_for_task(result.id))
        result.backend.remove_pending_result(result)
        time.sleep(0.05)


@pytest.mark.parametrize("notice", [a_send, a_result_that_goes])
def test_a_result_arrives_although_redis_was_away_when_something_else_was_done(
    app: celery.Celery, server: Redis, notice: Callable[[celery.Celery], None]
) -> None:
    slow, stored = app.send_task("slow"), app.send_task("stored")
    server.stop()
    notice(app)
    server.start()
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(slow.get(timeout=20)), daemon=True)
    waiting.start()
    time.sleep(0.3)
    server.succeed(app, slow.id, 42)
    waiting.join(5)
    assert got == [42], "it sleeps beside a result that is there"
    server.succeed(app, stored.id, 43)
    assert stored.get(timeout=5) == 43


def test_the_next_task_has_no_subscription_for_itself_alone(app: celery.Celery, server: Redis) -> None:
    """Who waits already would never hear of his own."""
    slow = app.send_task("slow")
    server.stop()
    a_send(app)
    server.start()
    app.send_task("next")
    app.backend.result_consumer._pubsub.connection.can_read(timeout=2)
    key = app.backend.get_key_for_task(slow.id)
    assert server.channels.get(key), "what was subscribed to before is not any more"


def tries(caplog: pytest.LogCaptureFixture) -> int:
    return sum("Connection to Redis lost" in one.getMessage() for one in caplog.records)


@pytest.mark.parametrize("held", [0, 2])
def test_a_task_that_cannot_subscribe_is_not_sent_and_says_so(
    app: celery.Celery, server: Redis, caplog: pytest.LogCaptureFixture, held: int
) -> None:
    """Also where nobody holds a result, so that nothing has to be subscribed to again before it."""
    results = [app.send_task("before") for _each in range(held)]
    app.send_task("nobody holds this one")
    server.stop()
    a_send(app)
    # Or it ends the subscriptions of those that were sent at some moment from here on.
    gc.collect()
    caplog.clear()
    for task in ("one", "two"):
        with pytest.raises(NotSentError):
            app.send_task("another", task_id=task)
    assert tries(caplog) < 10
    assert app.backend.result_consumer.subscribed_to == {app.backend.get_key_for_task(one.id) for one in results}, (
        "nobody will ask for it"
    )


def test_a_result_that_goes_while_redis_is_away_holds_nobody(
    app: celery.Celery, server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    result = app.send_task("before")
    server.stop()
    app.backend.result_consumer._pubsub = app.backend.client.pubsub(ignore_subscribe_messages=True)
    result.backend.remove_pending_result(result)
    assert 0 < tries(caplog) < 10


@pytest.mark.parametrize("greenlets", [True, False])
def test_who_reads_goes_on_after_redis_was_away(
    app: celery.Celery,
    server: Redis,
    greenlets: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The one greenlet that reads for all others always; a thread that waits for its own result is told in the end."""
    monkeypatch.setattr(awaiting, "PAUSE_SECONDS", 0.01)
    result = app.send_task("slow")
    consumer = app.backend.result_consumer
    if greenlets:
        monkeypatch.setattr(consumer, "drainer", greenletDrainer(consumer))
    server.stop()
    ends: list[BaseException] = []
    for _each in range(awaiting.TRIES + 3):
        try:
            consumer.drain_events(timeout=0.1)
        except Exception as exc:
            ends.append(exc)
    assert "results cannot be read now" in caplog.text
    told = [one for one in ends if not isinstance(one, TimeoutError)]
    assert [isinstance(one, (RuntimeError, *consumer._connection_errors)) for one in told] == [True] * (not greenlets)
    server.start()
    server.succeed(app, result.id, 42)
    for _each in range(10):
        with contextlib.suppress(TimeoutError):
            consumer.drain_events(timeout=0.1)
    assert consumer.backend._pending_messages.take(result.id)["result"] == 42


def test_who_sends_waits_for_nobody_who_reads(app: celery.Celery, server: Redis) -> None:
    slower = {**FAST, "interval_step": 0.5, "interval_max": 0.5}
    app.conf.result_backend_transport_options = {"retry_policy": slower}
    slow = app.send_task("slow")
    reading = threading.Thread(target=slow.get, daemon=True)
    reading.start()
    time.sleep(0.3)
    server.stop()
    time.sleep(0.3)
    begun = time.monotonic()
    a_send(app)
    assert time.monotonic() - begun < 5, "it waited for the lock of who reads"
    server.start()
    server.succeed(app, slow.id, 42)
    reading.join(10)
    assert not reading.is_alive()


def test_nothing_that_came_is_no_loss(app: celery.Celery, server: Redis) -> None:
    del server
    with pytest.raises(NothingCameError):
        app.send_task("slow").get(timeout=0.3)
