"""How much a worker takes in advance: a broker that is told so, and a clock of the test's own."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest
from celery.worker import state
from kombu.common import QoS

from celeryops_runtime.prefetch import Prefetch, wanted

from .conftest import KOMBU


class Worker:
    """A consumer, of two processes unless said otherwise, with a real QoS; what the broker was told, in order."""

    def __init__(
        self,
        multiplier: int = 8,
        driver: str = "amqp",
        arguments: dict[str, Any] | None = None,
        processes: int = 2,
    ) -> None:
        self.told: list[Any] = []
        self.timers: list[Any] = []
        self.consuming, self.now = True, 100.0
        tasks = types.SimpleNamespace(
            queues=[types.SimpleNamespace(name="mails", queue_arguments=arguments)],
            consuming_from=lambda _queue: self.consuming,
            cancel=lambda: self.told.append("cancel"),
            consume=lambda: self.told.append("consume"),
        )
        self.c: Any = types.SimpleNamespace(
            prefetch_multiplier=multiplier,
            qos=QoS(self.tell, processes * multiplier),
            pool=types.SimpleNamespace(num_processes=processes),
            connection=types.SimpleNamespace(transport=types.SimpleNamespace(driver_type=driver)),
            task_consumer=tasks,
        )
        self.step = Prefetch(self.c)
        self.step.clock = lambda: self.now
        self.connect()

    def tell(self, *, prefetch_count: int) -> None:
        self.told.append(prefetch_count)

    def connect(self) -> None:
        self.step.start(self.c)
        self.timers.clear()
        timer = types.SimpleNamespace(call_repeatedly=lambda *call: self.timers.append(call))
        self.step.register_with_event_loop(self.c, types.SimpleNamespace(timer=timer))

    def second(self, tasks: int, seconds: float = 1.0) -> None:
        """A second, or as many as the loop was late, in which so many tasks begin."""
        state.total_count["a.task"] += tasks
        self.now += seconds
        for every, look, arguments in self.timers:
            assert every == 1.0
            look(*arguments)


@pytest.fixture(autouse=True)
def _counters() -> Iterator[None]:
    """A worker that has done nothing."""
    state.total_count.clear()
    yield
    state.total_count.clear()


def test_it_takes_one_message_until_tasks_turn_out_to_be_short() -> None:
    worker = Worker()
    assert worker.told == [2]
    worker.second(199)
    assert worker.told == [2]
    worker.second(200)
    assert worker.told == [2, 16, "cancel", "consume"]
    worker.second(5000)
    worker.second(100)
    assert worker.told == [2, 16, "cancel", "consume"]


def test_it_takes_one_again_when_they_are_not() -> None:
    worker = Worker()
    worker.second(1000)
    del worker.told[:]
    worker.second(99)
    assert worker.told == [2, "cancel", "consume"]
    worker.second(199)
    assert worker.told == [2, "cancel", "consume"]


@pytest.mark.parametrize(("processes", "multiplier"), [(1, 2), (1, 8), (2, 2), (3, 4)])
def test_the_rate_is_that_of_a_process_and_all_of_them_take_more(processes: int, multiplier: int) -> None:
    worker = Worker(multiplier, processes=processes)
    worker.second(100 * processes - 1)
    assert worker.told == [processes]
    worker.second(100 * processes)
    assert worker.told == [processes, processes * multiplier, "cancel", "consume"]


@pytest.mark.parametrize(("seconds", "tasks"), [(4.0, 800), (0.5, 100), (0.1, 20), (0.01, 20)])
def test_a_look_that_is_late_or_early_counts_by_the_second(seconds: float, tasks: int) -> None:
    """But not by less than a tenth of one, in which a single task would be a high rate."""
    worker = Worker()
    worker.second(tasks - 1, seconds)
    assert worker.told == [2]
    worker.second(tasks, seconds)
    assert worker.told == [2, 16, "cancel", "consume"]


def test_a_new_connection_begins_with_one() -> None:
    worker = Worker()
    worker.second(1000)
    worker.c.qos = QoS(worker.tell, 16)
    del worker.told[:]
    worker.now += 60.0
    worker.connect()
    assert worker.told == [2]
    worker.second(30)
    assert worker.told == [2]


def test_what_was_done_before_a_connection_is_not_counted_for_it() -> None:
    worker = Worker()
    state.total_count["a.task"] += 1000
    worker.connect()
    del worker.told[:]
    worker.second(10)
    assert worker.told == []


def test_tasks_that_wait_for_their_time_keep_their_part() -> None:
    worker = Worker()
    worker.c.qos.increment_eventually(3)
    worker.second(1000)
    worker.second(0)
    assert worker.told == [2, 19, "cancel", "consume", 5, "cancel", "consume"]


def test_never_less_than_a_message_for_each_process() -> None:
    worker = Worker()
    # worker_eta_task_limit, of which a kombu before 5.6 knows nothing: there the number is the class's own.
    worker.c.qos.max_prefetch = 10
    worker.second(1000)
    worker.second(0)
    most = 10 if KOMBU >= (5, 6) else 16
    assert worker.told == [2, most, "cancel", "consume", 2, "cancel", "consume"]


def test_a_worker_that_is_to_stop_takes_nothing_up_again() -> None:
    worker = Worker()
    worker.consuming = False
    worker.second(1000)
    assert worker.told == [2]


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param({"multiplier": 1}, id="one is all that is wanted"),
        pytest.param({"multiplier": 0}, id="no limit"),
        pytest.param({"driver": "redis"}, id="Redis"),
        pytest.param({"arguments": {"x-single-active-consumer": True}}, id="a queue that goes to whoever is next"),
    ],
)
def test_where_there_is_no_choice_nothing_is_changed(worker: dict[str, Any]) -> None:
    other = Worker(**worker)
    other.second(1000)
    assert (other.told, other.timers) == ([], [])


def test_a_class_with_a_number_of_its_own_is_left_alone() -> None:
    assert wanted({})
    assert not wanted({"CELERYOPS_PREFETCH": "fixed"})
