"""When idleness is a hang: a broker that says how many messages wait, and a clock of the test's own."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest
from celery.worker import state
from kombu.asynchronous.timer import Timer

from celeryops_runtime import publish
from celeryops_runtime.intake import ANSWER_SECONDS, Intake

from .conftest import Request, forget_requests, schedule


class Broker:
    """Queues with messages in them, and how often anybody asked."""

    def __init__(self, driver: str = "amqp", **sizes: int) -> None:
        self.sizes, self.asked, self.channels = sizes, 0, 0
        self.fails = False
        queues = [types.SimpleNamespace(name=name, queue_arguments=None) for name in sizes]
        if driver == "redis":
            self._size = self.size
        connection = types.SimpleNamespace(
            transport=types.SimpleNamespace(driver_type=driver), channel=self._open, default_channel=self
        )
        self.consumer: Any = types.SimpleNamespace(
            connection=connection,
            task_consumer=types.SimpleNamespace(queues=queues),
            task_buckets={"free": None},
            timer=Timer(),
        )

    def _open(self) -> Broker:
        self.channels += 1
        return self

    def queue_declare(self, queue: str, *, passive: bool) -> Any:
        assert passive
        return types.SimpleNamespace(message_count=self.size(queue))

    def size(self, queue: str) -> int:
        self.asked += 1
        if self.fails:
            raise OSError("gone")
        return self.sizes[queue]


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _counters() -> Iterator[None]:
    """A worker that has done nothing."""
    state.total_count.clear()
    yield
    state.total_count.clear()
    forget_requests()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def looks(intake: Intake, broker: Broker, clock: Clock, times: int, seconds: float = 30) -> list[bool]:
    found = []
    for _each in range(times):
        clock.now += seconds
        found.append(intake.look(broker.consumer))
    return found


@pytest.mark.parametrize("driver", ["amqp", "redis"])
def test_messages_that_wait_twice_prove_a_hang(clock: Clock, caplog: pytest.LogCaptureFixture, driver: str) -> None:
    intake, broker = Intake(60, clock), Broker(driver, payments=3, mails=0)
    # The first look only learns how much was received so far.
    assert looks(intake, broker, clock, 4) == [False, False, True, True]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "consuming nothing although messages wait (3 in payments): this worker has to be restarted"
    ]
    assert broker.channels == (1 if driver == "amqp" else 0)
    broker.sizes["payments"] = 0
    assert looks(intake, broker, clock, 1) == [False]


def test_a_message_that_arrived_in_between_proves_the_opposite(clock: Clock) -> None:
    intake, broker = Intake(60, clock), Broker(payments=3)
    looks(intake, broker, clock, 2)
    state.total_count["shop.pay"] += 1
    assert looks(intake, broker, clock, 2) == [False, False]
    assert looks(intake, broker, clock, 1) == [True]
    state.total_count["shop.pay"] += 1
    assert looks(intake, broker, clock, 1) == [False]


@pytest.mark.parametrize("where", ["reserved", "scheduled"])
def test_nothing_is_asked_while_there_is_work(clock: Clock, where: str) -> None:
    intake, broker = Intake(60, clock), Broker(payments=3)
    held = Request()
    if where == "reserved":
        state.reserved_requests.add(held)
    else:
        schedule(broker.consumer.timer, held)
    assert looks(intake, broker, clock, 5) == [False] * 5
    assert broker.asked == 0


def test_tasks_that_wait_for_their_rate_are_work(clock: Clock) -> None:
    intake, broker = Intake(60, clock), Broker(payments=3)
    broker.consumer.task_buckets["limited"] = types.SimpleNamespace(contents=["a request"])
    assert looks(intake, broker, clock, 5) == [False] * 5
    assert broker.asked == 0


def test_empty_queues_and_errors_prove_nothing(clock: Clock) -> None:
    intake, broker = Intake(60, clock), Broker(payments=0)
    assert looks(intake, broker, clock, 5) == [False] * 5
    broker.sizes["payments"], broker.fails = 3, True
    assert looks(intake, broker, clock, 5) == [False] * 5
    broker.fails = False
    assert looks(intake, broker, clock, 2) == [False, True]
    assert broker.channels > 1, "an error of RabbitMQ closes the channel"


def test_how_often_it_asks(clock: Clock) -> None:
    intake, broker = Intake(60, clock), Broker(payments=0)
    looks(intake, broker, clock, 60, seconds=5)
    assert broker.asked == 9
    assert Intake(4, clock)._interval == 5.0
    without, silent = Intake(0, clock), Broker(payments=3)
    assert looks(without, silent, clock, 5) == [False] * 5
    assert silent.asked == 0, "without a watchdog nobody would act on the answer"


def test_a_new_connection_is_judged_anew(clock: Clock) -> None:
    intake, broker = Intake(60, clock), Broker(payments=3)
    assert looks(intake, broker, clock, 3)[-1]
    intake.reset()
    assert not intake.starved
    assert looks(intake, broker, clock, 2) == [False, True]


def test_a_queue_with_a_single_active_consumer_is_not_asked(clock: Clock) -> None:
    intake, broker = Intake(60, clock), Broker(payments=3)
    broker.consumer.task_consumer.queues[0].queue_arguments = {"x-single-active-consumer": True}
    assert looks(intake, broker, clock, 5) == [False] * 5


def test_what_was_taken_and_never_begun_is_a_hang(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    intake, broker = Intake(60, clock), Broker(payments=3)
    held, runs = Request(), Request()
    state.reserved_requests.add(held)
    try:
        # The first look learns how much was received; two watchdogs' time from the second on.
        assert looks(intake, broker, clock, 5) == [False] * 5
        state.active_requests.add(runs)
        assert looks(intake, broker, clock, 8) == [False] * 8, "a process is busy"
        state.active_requests.clear()
        assert looks(intake, broker, clock, 6) == [False, False, False, False, True, True]
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
            "1 messages were taken, and for 120 s no process has begun with any: this worker has to be restarted"
        ]
        state.reserved_requests.clear()
        assert looks(intake, broker, clock, 1) == [False]
    finally:
        state.active_requests.clear()


@pytest.mark.parametrize("driver", ["amqp", "redis"])
def test_a_broker_that_does_not_answer_is_asked_once(driver: str) -> None:
    clock, broker = Clock(), Broker(driver, default=1, mails=1, payments=1)
    patience: list[float] = []

    def size(_queue: str) -> int:
        patience.append(publish._calling.seconds)
        broker.asked += 1
        raise TimeoutError

    broker.size = broker._size = size  # type: ignore[method-assign]
    intake = Intake(10.0, clock)
    for _each in range(2):
        clock.now += 60
        assert not intake.look(broker.consumer)
    assert (broker.asked, patience) == (1, [ANSWER_SECONDS]), "not once per queue, and not for long"
    assert publish._calling.seconds is None
