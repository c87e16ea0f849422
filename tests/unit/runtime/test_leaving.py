"""A worker that leaves a node of the broker before that node is restarted, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import types
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.asynchronous.timer import Timer
from kombu.pidbox import Mailbox

from celeryops_runtime import leaving, nodes

from .conftest import Request as Received
from .conftest import forget_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

THREE = "amqp://a:x@mq1/shop;amqp://a:x@mq2/shop;amqp://a:x@mq3/shop"


class Request(Received):
    """One that notes whether it was given back."""

    returned = False

    def reject(self, requeue: bool = False) -> None:
        self.returned, self.acknowledged = requeue, True


class Worker:
    """A worker with a connection to a server of the test's; its loop turns when the test says so."""

    def __init__(self, *, hub: bool = True) -> None:
        self.now = 100.0
        self.cancelled = 0
        self.asked: list[str] = []
        listening = socket.create_server(("127.0.0.1", 0))
        self.end = socket.create_connection(listening.getsockname())
        self.server, _address = listening.accept()
        listening.close()
        self.server.settimeout(5)
        self.timer = Timer()
        self.soon: list[Any] = []
        channel = types.SimpleNamespace(queue_declare=lambda queue, passive: self.asked.append(f"{queue} {passive}"))
        self.consumer = types.SimpleNamespace(
            hub=object() if hub else None,
            timer=self.timer,
            connection=self.connection(),
            controller=types.SimpleNamespace(semaphore=types.SimpleNamespace(_waiting=deque())),
            task_buckets={},
            task_consumer=types.SimpleNamespace(
                cancel=self.cancel, channel=channel, queues=[types.SimpleNamespace(name="high")]
            ),
            call_soon=self.soon.append,
        )

    def connection(self) -> Any:
        """Return a connection over the socket, as kombu has it."""
        transport = types.SimpleNamespace(sock=self.end)
        return types.SimpleNamespace(hostname="mq1", port=5672, connection=types.SimpleNamespace(transport=transport))

    @property
    def port(self) -> int:
        """The port of the worker's end of the connection."""
        return int(self.end.getsockname()[1])

    def cancel(self) -> None:
        self.cancelled += 1

    def told(self, **arguments: Any) -> str:
        """Give the worker the command, and have its loop turn once."""
        answer = leaving.leave(types.SimpleNamespace(consumer=self.consumer), **arguments)
        self.turn()
        return answer["ok"]

    def turn(self) -> None:
        while self.soon:
            self.soon.pop(0)()
        for entry in list(self.timer.queue):
            if not entry.entry.canceled:
                entry.entry()

    def left(self) -> bool:
        """Whether the server has read the end of the connection."""
        self.server.setblocking(False)
        try:
            return self.server.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    forget_requests()
    nodes._silent.clear()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    one = Worker()
    own = leaving.Leaving
    monkeypatch.setattr(leaving, "Leaving", lambda c, seconds: own(c, seconds, clock=lambda: one.now))
    # At every turn of its loop.
    monkeypatch.setattr(leaving, "LOOK_SECONDS", 1e-9)
    with one.end, one.server:
        yield one


def running() -> Request:
    """Return a request that a process of the pool runs."""
    request = Request("running", acknowledged=False, _apply_result=object())
    state.task_reserved(request)
    state.active_requests.add(request)
    return request


@pytest.mark.parametrize(("peer", "expected"), [
    ("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("10.0.0.2", False), ("127.0.0.1", True), ("::1", True),
])  # fmt: skip
def test_a_node_is_told_by_its_address_and_on_its_own_host_by_the_port(peer: str, expected: bool) -> None:
    own = ("127.0.0.1", 41000) if peer in ("127.0.0.1", "::1") else ("10.0.0.9", 50)
    assert leaving.leads_there(own, peer, ["10.0.0.1"], [41000]) is expected
    # The same loopback address on another host.
    assert not leaving.leads_there((own[0], 42000), "127.0.0.1", ["10.0.0.1"], [41000])


def test_it_finishes_what_runs_and_then_goes_to_another_node(worker: Worker) -> None:
    request, waits = running(), Request("waits", acknowledged=False, _apply_result=None)
    state.task_reserved(waits)
    assert worker.told(ports=[worker.port], seconds=30) == "leaving"
    assert (worker.cancelled, waits.returned) == (1, True)
    assert not worker.left()
    request.acknowledged = True
    state.task_ready(request)
    worker.turn()
    # The answer tells that the server has read the acknowledgement.
    assert (worker.asked, worker.left()) == (["high True"], True)
    assert ("mq1", 5672) in nodes._silent
    # Nothing turns on.
    assert all(entry.entry.canceled for entry in worker.timer.queue)


def test_what_takes_longer_holds_nobody(worker: Worker) -> None:
    running()
    worker.told(ports=[worker.port], seconds=30)
    worker.now += 29
    worker.turn()
    assert not worker.left()
    worker.now += 2
    worker.turn()
    assert worker.left()


def test_no_command_holds_a_worker_for_long(worker: Worker) -> None:
    running()
    worker.told(ports=[worker.port], seconds=1e9)
    worker.now += leaving.LONGEST_SECONDS + 1
    worker.turn()
    assert worker.left()


def test_a_worker_of_another_node_stays(worker: Worker) -> None:
    assert worker.told(addresses=["10.0.0.1"], ports=[worker.port + 1], seconds=30) == "another node"
    assert (worker.cancelled, worker.left()) == (0, False)


def test_the_command_may_come_twice(worker: Worker) -> None:
    request = running()
    worker.told(ports=[worker.port], seconds=30)
    assert worker.told(ports=[worker.port], seconds=30) == "leaving already"
    assert worker.cancelled == 1
    state.task_ready(request)
    worker.turn()
    assert worker.left()
    assert worker.told(ports=[worker.port], seconds=30) == "leaving"


def test_a_connection_that_was_lost_meanwhile_is_not_ended_once_more(worker: Worker) -> None:
    request = running()
    worker.told(ports=[worker.port], seconds=30)
    worker.consumer.connection = worker.connection()
    state.task_ready(request)
    worker.turn()
    assert (worker.left(), worker.asked) == (False, [])
    assert ("mq1", 5672) not in nodes._silent


def test_a_worker_that_cannot_stop_consuming_goes_on(worker: Worker) -> None:
    def fail() -> None:
        raise ConnectionError("lost")

    worker.consumer.task_consumer.cancel = fail
    worker.told(ports=[worker.port], seconds=30)
    worker.turn()
    assert not worker.left()


def test_a_pool_without_a_hub_is_looked_after_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, request = Worker(hub=False), running()
    monkeypatch.setattr(leaving, "LOOK_SECONDS", 0.01)
    with worker.end, worker.server:
        worker.told(ports=[worker.port], seconds=30)
        worker.turn()
        assert not worker.left()
        state.task_ready(request)
        for _turn in range(500):
            worker.turn()
            if worker.left():
                break
            threading.Event().wait(0.01)
        assert worker.left()


@pytest.mark.parametrize(("url", "known"), [
    ("amqp://a:x@mq1/shop", [leaving.COMMAND]), (THREE, [leaving.COMMAND]), ("redis://:x@cache/0", []), ("", []),
])  # fmt: skip
def test_only_a_worker_of_rabbitmq_knows_the_command(
    url: str, known: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery.worker.control import Panel

    monkeypatch.setattr(Panel, "data", {})
    monkeypatch.setattr(Consumer, "connect", Consumer.connect)
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    leaving.install()
    assert list(Panel.data) == known


class Server:
    """The only node: it takes connections until it is stopped."""

    def __init__(self, port: int = 0) -> None:
        self.listening = socket.create_server(("127.0.0.1", port))
        self.port = int(self.listening.getsockname()[1])
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.listening.accept()[0].close()

    def stop(self) -> None:
        # A close alone does not end an accept() that waits.
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()


@pytest.fixture
def alone(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The worker's node, which is its only one."""
    one = Server()
    worker.consumer.connection.hostname, worker.consumer.connection.port = "127.0.0.1", one.port
    monkeypatch.setenv("CELERY_BROKER_URL", f"amqp://a:x@127.0.0.1:{one.port}/shop")
    monkeypatch.setattr(leaving, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(Consumer, "connect", lambda self: self.connection)
    leaving.install()
    yield one
    one.stop()


def connects_again(worker: Worker) -> threading.Thread:
    """Have the consumer be connected again, as Celery does in its loop."""
    thread = threading.Thread(target=Consumer.connect, args=(worker.consumer,), daemon=True)
    thread.start()
    return thread


def is_back(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return not thread.is_alive()


def test_from_its_only_node_it_stays_away_until_that_has_stopped(worker: Worker, alone: Server) -> None:
    worker.told(ports=[worker.port], seconds=30)
    assert worker.left()
    thread = connects_again(worker)
    assert not is_back(thread, 0.2)
    alone.stop()
    assert is_back(thread, 10)
    # Once: what is lost after the restart is an outage as any other.
    again = Server(alone.port)
    assert is_back(connects_again(worker), 2)
    again.stop()


@pytest.mark.usefixtures("alone")
def test_a_node_that_is_not_restarted_after_all_gets_its_workers_back(worker: Worker) -> None:
    worker.told(ports=[worker.port], seconds=30)
    worker.now += 30 + leaving.AWAY_SECONDS - 1
    thread = connects_again(worker)
    assert not is_back(thread, 0.2)
    worker.now += 2
    assert is_back(thread, 10)


@pytest.mark.usefixtures("alone")
def test_a_worker_that_has_to_stop_does_not_stay_away(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.told(ports=[worker.port], seconds=30)
    thread = connects_again(worker)
    assert not is_back(thread, 0.2)
    monkeypatch.setattr(state, "should_stop", 0)
    assert is_back(thread, 10)


@pytest.mark.usefixtures("alone")
def test_with_another_node_it_is_connected_at_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", THREE)
    worker.told(ports=[worker.port], seconds=30)
    assert is_back(connects_again(worker), 2)


def test_a_node_that_was_left_is_tried_last(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is changed here is put back: other tests are about kombu's own order.
    for owner, name in ((Connection, "_establish_connection"), (Connection, "heartbeat_check"), (Mailbox, "get_queue")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    nodes.mend()
    tried: list[str] = []
    monkeypatch.setattr(
        "kombu.transport.pyamqp.Transport.establish_connection", lambda self: tried.append(self.client.hostname)
    )
    connection = Connection(THREE)
    nodes.avoid(connection)
    connection._establish_connection()
    assert tried == ["mq2"]
