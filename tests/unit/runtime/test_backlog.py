"""Counting what waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, NotFound
from kombu import Connection

from celeryops_runtime.backlog import waiting


class Broker:
    """Answers like RabbitMQ, which closes the channel of a refused call."""

    channel_errors = (NotFound, AccessRefused)

    def __init__(self, queues: dict[str, Any]) -> None:
        self.queues, self.channels = queues, 0

    def channel(self) -> Any:
        self.channels += 1
        return SimpleNamespace(queue_declare=self.declare, number=self.channels)

    def declare(self, *, queue: str, passive: bool) -> Any:
        assert passive, "nothing may be declared"
        answer = self.queues.get(queue, NotFound("no queue"))
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(message_count=answer)


def test_messages_of_each_queue_once() -> None:
    broker = Broker({"a": 3, "b": 0})
    assert waiting(broker, ["a", "b", "a"]) == {"a": 3, "b": 0}
    assert broker.channels == 1


def test_a_queue_that_is_not_there_is_no_empty_one() -> None:
    broker = Broker({"b": 7})
    assert waiting(broker, ["a", "b"]) == {"a": None, "b": 7}
    assert broker.channels == 2


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
