"""Counting what waits."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, NotFound
from celery.worker import state
from celery.worker.control import Panel
from kombu import Connection, Queue
from kombu.asynchronous.timer import Timer
from kombu.utils.limits import TokenBucket

from celeryops_runtime import backlog
from celeryops_runtime.backlog import waiting
from celeryops_runtime.delay import BITS

from .conftest import Request, forget_requests, schedule


class Broker:
    """Answers like RabbitMQ, which closes the channel of a refused call."""

    channel_errors = (NotFound, AccessRefused)

    def __init__(self, queues: dict[str, Any]) -> None:
        self.queues, self.channels, self.consumers = queues, 0, 1

    def channel(self) -> Any:
        self.channels += 1
        return SimpleNamespace(queue_declare=self.declare, number=self.channels)

    def declare(self, *, queue: str, passive: bool) -> Any:
        assert passive, "nothing may be declared"
        answer = self.queues.get(queue, NotFound("no queue"))
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(message_count=answer, consumer_count=self.consumers)


def test_messages_of_each_queue_once() -> None:
    broker = Broker({"a": 3, "b": 0})
    assert waiting(broker, ["a", "b", "a"]) == {"a": 3, "b": 0}
    assert broker.channels == 1


def test_a_queue_that_is_not_there_is_no_empty_one() -> None:
    broker = Broker({"b": 7})
    assert waiting(broker, ["a", "b"]) == {"a": None, "b": 7}
    assert broker.channels == 2


def test_a_queue_that_is_too_busy_to_answer_is_no_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ says neither messages nor consumers then."""
    monkeypatch.setattr(backlog, "PAUSE_SECONDS", 0)
    broker = Broker({"busy": [0, 0, 7], "empty": 0, "full": [1]})
    broker.consumers = 0
    assert waiting(broker, ["busy", "empty", "full"]) == {"busy": 7, "empty": 0, "full": 1}
    broker = Broker({"idle": [0]})
    assert waiting(broker, ["idle"]) == {"idle": 0}, "one with consumers has answered"


def test_a_refusal_is_no_answer() -> None:
    with pytest.raises(AccessRefused):
        waiting(Broker({"a": AccessRefused("no")}), ["a"])


def test_what_kombu_keeps_itself() -> None:
    with Connection("memory://") as connection:
        queue = connection.SimpleQueue("backlog-test")
        queue.put("x")
        assert waiting(connection, ["backlog-test", "backlog-none"]) == {"backlog-test": 1, "backlog-none": None}
        queue.clear()
        queue.close()


def test_a_list_of_redis_is_measured_and_not_looked_for() -> None:
    """kombu looks for a list without the app's prefix (EXISTS), which the app's account may not do."""

    class Channel:
        def _size(self, queue: str) -> int:
            return {"a": 3}.get(queue, 0)

    connection = SimpleNamespace(channel=Channel, channel_errors=())
    assert waiting(connection, ["a", "gone"]) == {"a": 3, "gone": None}


@pytest.fixture
def panel() -> Iterator[Any]:
    """A worker of the queues feeds and reports, as a command of remote control gets to see it."""
    queues = [Queue("feeds", routing_key="feeds"), Queue("reports", routing_key="by.night")]
    consumer = SimpleNamespace(task_consumer=SimpleNamespace(queues=queues), task_buckets={}, timer=Timer())
    yield SimpleNamespace(consumer=consumer)
    forget_requests()


def request(key: str) -> Request:
    return Request(_delivery_info={"routing_key": key})


def of(panel: Any) -> Any:
    backlog.install()
    return Panel.data[backlog.TAKEN](panel)[backlog.TAKEN]


def test_what_was_taken_and_not_begun_is_counted(panel: Any) -> None:
    runs, waits, later, limited = request("feeds"), request("feeds"), request("by.night"), request("feeds")
    for one in (runs, waits):
        state.reserved_requests.add(one)
    state.active_requests.add(runs)
    schedule(panel.consumer.timer, later)
    bucket = TokenBucket(1)
    bucket.add((limited, 1))
    panel.consumer.task_buckets |= {"slow": bucket, "free": None}
    assert of(panel) == {"feeds": 2, "reports": 1}


def test_one_that_waited_in_the_broker_is_of_its_queue(panel: Any) -> None:
    delayed = request(f"{'0.' * BITS}by.night")
    state.reserved_requests.add(delayed)
    assert of(panel) == {"reports": 1}


def test_the_answers_of_all_workers_are_one() -> None:
    replies = [
        {"a@1": {backlog.TAKEN: {"feeds": 2, "others": 5}}},
        {"b@1": {backlog.TAKEN: {"feeds": 1}}},
        {"c@1": {"error": "Unknown command"}},
        {"d@1": None},
    ]
    app = SimpleNamespace(control=SimpleNamespace(broadcast=lambda *_arguments, **_options: replies))
    assert backlog.taken(app, ["feeds", "reports"]) == {"feeds": 3}
    app.control.broadcast = lambda *_arguments, **_options: None
    assert backlog.taken(app, ["feeds"]) == {}
