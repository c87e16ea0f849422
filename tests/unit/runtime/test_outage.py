"""What runs in the event loop while a server is away: a broker that refuses, a backend that fails, no waiting."""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
import threading
import types
from typing import TYPE_CHECKING, Any
from unittest import mock

import celery
import kombu
import pytest
import redis
from celery.app.task import Context
from celery.events import EventDispatcher
from kombu.transport import redis as transport

from celeryops_runtime import follow, outage, quiet
from celeryops_runtime.outage import LATER_SECONDS, MUTE_SECONDS, Outage, Results, patience
from celeryops_runtime.quiet import Gate, quiet_connection

from .conftest import CELERY, KOMBU

if TYPE_CHECKING:
    from collections.abc import Iterator

AWAY = ("amqp://127.0.0.1:1//", "redis://127.0.0.1:1/0")
BROKERS = AWAY[:1] if CELERY < (5, 5) and KOMBU >= (5, 7) else AWAY
"""No worker of Celery 5.4 starts on Redis with kombu 5.7: redis-py is too old for it (docs/versions.md)."""


class WaitedError(Exception):
    """Somebody slept: in a worker, for as long as the server is away."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        raise WaitedError

    monkeypatch.setattr("kombu.utils.functional.sleep", sleep)
    monkeypatch.setattr("celery.backends.base.time.sleep", sleep)
    outage.mend()
    outage.mend()
    quiet.mend()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the event loop run in this thread."""
    monkeypatch.setattr(follow, "_loop", None)
    follow.loop_runs_here()


def app(broker: str, **settings: Any) -> celery.Celery:
    made = celery.Celery("away", broker=broker, backend="redis://127.0.0.1:1/0", set_as_current=False)
    made.conf.update(result_backend_always_retry=True, **settings)
    return made


@pytest.fixture
def frozen() -> Iterator[tuple[str, list[socket.socket]]]:
    """The address of a Redis that takes connections and answers nothing, and its connections."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0", connections
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


@pytest.mark.usefixtures("loop")
def test_each_question_waits_once_for_a_redis_that_is_frozen(frozen: tuple[str, list[socket.socket]]) -> None:
    """What docs/versions.md says of the longest silence is the sum of these."""
    url, connections = frozen
    here = celery.Celery("frozen", broker=url, backend=url, set_as_current=False)
    here.conf.update(result_backend_always_retry=True, redis_socket_timeout=0.3)
    outage.install(here)
    for task in ("a", "b"):
        here.backend.mark_as_failure(task, ValueError("no"), request=Context(id=task))
    assert (len(connections), len(here.__dict__["_celeryops_results"].kept)) == (1, 2), "and then none for a while"
    if url.startswith(BROKERS[-1].partition(":")[0]):
        connection = kombu.Connection(url, transport_options={"socket_timeout": 0.3})
        with pytest.raises(connection.connection_errors):
            connection.ensure_connection(max_retries=3)
        assert len(connections) == 2
    assert (patience(60), patience(40), quiet.ANSWER_SECONDS) == (15, 10, 5)


@pytest.mark.parametrize("url", BROKERS)
@pytest.mark.usefixtures("loop")
def test_the_loop_tries_a_lost_connection_once(url: str) -> None:
    connection = kombu.Connection(url)
    with pytest.raises(connection.connection_errors):
        _other = connection.default_channel
    producer = kombu.Producer(kombu.Connection(url))
    with pytest.raises(kombu.exceptions.OperationalError):
        producer.publish({}, retry=True)


@pytest.mark.parametrize("url", BROKERS)
@pytest.mark.usefixtures("loop")
def test_another_thread_waits_as_ever(url: str) -> None:
    seen: list[BaseException] = []

    def task() -> None:
        try:
            _other = kombu.Connection(url).default_channel
        except WaitedError as exc:
            seen.append(exc)

    thread = threading.Thread(target=task)
    thread.start()
    thread.join(30)
    assert len(seen) == 1


@pytest.mark.parametrize("url", BROKERS)
@pytest.mark.usefixtures("loop")
def test_the_heartbeat_does_not_wait_for_the_broker(url: str) -> None:
    here = app(url)
    gate = Gate(Clock())
    events = EventDispatcher(quiet_connection(here, gate), app=here, hostname="a@b", enabled=False)
    events.producer, events.enabled = kombu.Producer(events.connection), True
    # As celery/worker/heartbeat.py sends it.
    events.send("worker-heartbeat", retry=True)
    assert not gate.open
    assert len(events._outbound_buffer) == 1


@pytest.mark.usefixtures("loop")
def test_events_are_sent_again_over_a_new_connection() -> None:
    here = celery.Celery("near", broker="memory://", set_as_current=False)
    clock = Clock()
    gate = Gate(clock)
    events = EventDispatcher(quiet_connection(here, gate), app=here, hostname="a@b", enabled=True)
    events.send("worker-heartbeat", retry=True)
    before = events.producer.channel
    events.connection._connection = None
    assert not events.connection.connected
    events.send("worker-heartbeat", retry=True)
    assert gate.open
    assert not events._outbound_buffer
    assert events.producer.channel is not before


@pytest.mark.usefixtures("loop")
def test_a_connection_is_given_up_without_a_word() -> None:
    connection = kombu.Connection("amqp://127.0.0.1:1//")
    said: list[str] = []

    class Lower:
        def collect(self) -> None:
            said.append("collect")

        def close(self) -> None:
            said.append("close")

    class Channel:
        def close(self) -> None:
            said.append("channel")
            raise connection.connection_errors[0]("gone")

    connection._connection, connection._default_channel = Lower(), Channel()
    connection.collect()
    assert said[0] == "collect", "the socket is closed before anything is said"
    assert connection._default_channel is None
    said.clear()
    connection.close()
    assert not said, "kombu closes what is left of a channel a second time"


@pytest.mark.usefixtures("loop")
def test_celerys_own_reconnect_waits() -> None:
    c = consumer()
    step = Outage(c)
    with pytest.raises(WaitedError):
        c.ensure_connected(kombu.Connection(AWAY[0]))
    with pytest.raises(kombu.Connection(AWAY[0]).connection_errors):
        _other = kombu.Connection(AWAY[0]).default_channel
    step.start(c)
    [(seconds, call)] = c.timer.repeated
    assert (seconds, call) == (LATER_SECONDS, step.results.flush)
    step.stop(c)
    assert not c.timer.repeated


class Timer:
    def __init__(self) -> None:
        self.repeated: list[Any] = []

    def call_repeatedly(self, seconds: float, call: Any) -> Any:
        self.repeated.append((seconds, call))
        return self.repeated[-1]

    def cancel(self, entry: Any) -> None:
        self.repeated.remove(entry)


def consumer() -> Any:
    return types.SimpleNamespace(
        app=celery.Celery("c", set_as_current=False),
        timer=Timer(),
        ensure_connected=lambda connection: connection.ensure_connection(),
    )


@pytest.mark.parametrize(("watchdog", "given", "seconds"), [(60, 30, 15), (60, 5, 5), (8, None, 10), (0, 30, 30)])
def test_redis_has_a_part_of_the_watchdogs_time(
    watchdog: float, given: int | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeryops_runtime.outage.watchdog_seconds", lambda: watchdog)
    c = consumer()
    c.ensure_connected = lambda connection: connection
    Outage(c)
    options = {"global_keyprefix": "a:"} | ({"socket_timeout": given} if given else {})
    connection = c.ensure_connected(kombu.Connection(AWAY[1], transport_options=options))
    assert connection.transport_options == {"global_keyprefix": "a:", "socket_timeout": seconds}
    assert patience(0) == 10
    assert c.ensure_connected(kombu.Connection(AWAY[0])).transport_options == {}


@pytest.mark.usefixtures("loop")
def test_a_result_that_cannot_be_stored_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    here = app(AWAY[1])
    outage.install(here)
    results: Results = here.__dict__["_celeryops_results"]
    clock = results._clock = Clock()
    stored: list[str] = []
    backend = here.backend
    for task in ("a", "b"):
        backend.mark_as_failure(task, ValueError("no"), request=Context(id=task))
    assert len(results.kept) == 2
    monkeypatch.setattr(type(backend), "_store_result", lambda _self, task, *_a, **_k: stored.append(task))
    results.flush()
    assert not stored, "nothing is tried for a while"
    clock.now += MUTE_SECONDS
    results.flush()
    assert stored == ["a", "b"]
    assert not results.kept
    backend.mark_as_failure("c", ValueError("no"), request=Context(id="c"))
    assert stored == ["a", "b", "c"]


def test_what_is_kept_stays_in_order() -> None:
    clock = Clock()
    results, stored = Results(clock), []
    errors: list[Exception] = [OSError("away")]

    def store(name: str, result: Any = None) -> Any:
        if errors:
            raise errors.pop()
        stored.append(name)
        return result

    assert results.store(store, "first") is None
    assert results.store(store, "second") is None, "the first is before it"
    clock.now += MUTE_SECONDS
    errors.append(OSError("still away"))
    results.flush()
    assert (stored, len(results.kept)) == ([], 2)
    clock.now += MUTE_SECONDS
    errors.append(TypeError("never"))
    results.flush()
    assert stored == ["second"], "what can never be stored does not hold the others up"
    errors.append(TypeError("never"))
    with pytest.raises(TypeError):
        results.store(store, "third")


def test_what_is_kept_is_tried_once_more_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    results = Results(Clock())
    errors: list[Exception] = [OSError("away"), OSError("away")]
    stored: list[str] = []

    def store(name: str) -> None:
        if errors:
            raise errors.pop()
        stored.append(name)

    results.store(store, "first")
    results.flush()
    assert len(errors) == 1, "not yet"
    results.flush(last=True)
    assert "1 results could not be stored, and are lost" in caplog.text
    c = consumer()
    c.app.__dict__["_celeryops_results"] = results
    Outage(c).shutdown(c)
    assert stored == ["first"]


@pytest.mark.usefixtures("loop")
def test_redis_is_silent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    soon: list[Any] = []
    monkeypatch.setattr("kombu.asynchronous.get_event_loop", lambda: types.SimpleNamespace(call_soon=soon.append))

    def silent(_qos: Any, tag: str) -> None:
        asked.append(tag)
        raise redis.exceptions.TimeoutError("no answer")

    acknowledge = functools.partial(outage._once_per_connection, silent)
    assert hasattr(transport.QoS.ack, "__celeryops__")
    assert hasattr(transport.QoS.reject, "__celeryops__")
    qos = types.SimpleNamespace()
    for tag in ("a", "b", "c"):
        with pytest.raises(redis.exceptions.TimeoutError):
            acknowledge(qos, tag)
    assert asked == ["a"]
    [lost] = soon
    with pytest.raises(redis.exceptions.TimeoutError):
        lost()


@pytest.mark.usefixtures("loop")
def test_a_server_that_answers_nothing_is_asked_once_or_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the transports of RabbitMQ and Redis say; kombu gives others up by itself.
    monkeypatch.setattr("kombu.transport.memory.Transport.recoverable_connection_errors", (OSError,), raising=False)
    monkeypatch.setattr("kombu.transport.memory.Transport.recoverable_channel_errors", (), raising=False)
    here = app("memory://")
    asked: list[str] = []

    def broker() -> None:
        asked.append("broker")
        if len(asked) > 9:
            raise WaitedError
        raise OSError("timed out")

    def store() -> None:
        asked.append("store")
        raise here.backend.connection_errors[0]("timed out")

    connection = kombu.Connection("memory://")
    producer = types.SimpleNamespace(revive=lambda _channel: None)
    with pytest.raises(Exception, match="timed out"):
        connection.ensure(producer, broker)()
    with pytest.raises(Exception, match="timed out"):
        here.backend.ensure(store, ())
    assert asked == ["broker", "broker", "store"], "kombu connects anew once, and both would go on for ever"


def test_no_event_is_published_with_a_retry() -> None:
    here = celery.Celery("near", broker="memory://", set_as_current=False)
    events = EventDispatcher(quiet_connection(here, Gate(Clock())), app=here, hostname="a@b", enabled=True)
    retries: list[bool] = []
    events.producer = types.SimpleNamespace(
        publish=lambda _event, **options: retries.append(options["retry"]), revive=lambda _channel: None
    )
    events.send("worker-heartbeat", retry=True)
    assert retries == [False]


def test_a_transport_for_redis_that_lacks_a_package_is_no_affair_of_rabbitmq(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """kombu 5.7 imports `packaging` there, which Celery 5.4 does not ask for: a traceback stood in each log."""
    monkeypatch.setitem(sys.modules, "kombu.transport.redis", None)
    monkeypatch.delattr("kombu.transport.redis")
    outage.mend()
    assert caplog.text == ""


@pytest.fixture
def threads() -> Iterator[Any]:
    """A pool of threads, as it is in a worker."""
    from celery.concurrency.thread import TaskPool

    outage.mend_pool(TaskPool)
    outage.mend_pool(TaskPool)
    pool = TaskPool(2)
    yield pool
    pool.executor.shutdown()


def test_what_the_tracer_lets_through_reaches_the_worker(threads: Any) -> None:
    told: list[tuple[str, Any]] = []

    def full() -> None:
        raise redis.exceptions.ResponseError("OOM command not allowed")

    for target in (full, lambda: "done"):
        threads.apply_async(
            target,
            callback=lambda result: told.append(("result", result)),
            error_callback=lambda info: told.append(("error", info.exception)),
            accept_callback=lambda *_args: None,
        ).f.result(5)
    assert [word for word, _what in told] == ["error", "result"]
    assert isinstance(told[0][1].exc, redis.exceptions.ResponseError)
    assert told[1][1] == "done"


def test_a_pool_that_tells_it_itself_is_left_alone() -> None:
    from celery.concurrency.prefork import TaskPool

    before = TaskPool.__dict__.get("on_apply")
    outage.mend_pool(TaskPool)
    assert TaskPool.__dict__.get("on_apply") is before


# Connections to Redis that the loop watches


def watched(sock: Any) -> tuple[Any, Any]:
    """A poller of kombu's that watches a connection with this socket, and the connection."""
    from kombu.utils.eventio import poll

    class Redis:
        def __init__(self) -> None:
            self._sock = sock

        def disconnect(self, *_arguments: Any) -> None:
            gone, self._sock = self._sock, None
            gone.close()

    cycle = transport.MultiChannelPoller()
    cycle.poller = poll()
    channel, client = mock.Mock(), mock.Mock()
    channel.connection.cycle = cycle
    client.connection = outage._unwatched_first(Redis, channel)()
    cycle._register(channel, client, "LISTEN")
    return cycle, client.connection


def test_a_connection_that_a_process_of_the_pool_has_as_well_is_watched_no_more() -> None:
    here, there = socket.socketpair()
    cycle, connection = watched(here)
    # What a forked process has.
    inherited = here.dup()
    connection.disconnect()
    assert (cycle._fd_to_chan, cycle._chan_to_sock) == ({}, {})
    there.close()
    assert not cycle.poller.poll(0)
    inherited.close()


def test_what_is_given_up_is_not_read_from() -> None:
    outage.mend()
    assert transport.MultiChannelPoller().on_readable(7) is None


@pytest.mark.parametrize("url", ["redis://h/0", "sentinel://h/0"])
def test_each_connection_that_the_loop_may_watch_is_one_that_leaves_it(url: str) -> None:
    outage.mend()
    with kombu.Connection(url, transport_options={"master_name": "x"}) as client:
        channel = object.__new__(client.transport.Channel)
        channel.connection = types.SimpleNamespace(client=client, default_port=6379, cycle=None)
        kind = channel._connparams(asynchronous=True)["connection_class"]
        assert kind.__name__ == "Unwatched"
        assert channel._connparams()["connection_class"].__name__ != "Unwatched"
        channel.connection = channel._registered = None
