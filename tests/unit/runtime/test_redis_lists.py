"""What stands in a list of Redis, through kombu's own transport."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest
from kombu.transport import redis as transport
from kombu.transport.virtual.base import BrokerState

from celeryops_runtime.malformed import redis_lists

MESSAGE = {
    "body": "W10=",
    "headers": {},
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "properties": {
        "delivery_tag": "1",
        "delivery_info": {"exchange": "", "routing_key": "x"},
        "body_encoding": "base64",
    },
}


def test_a_message_of_kombus_is_left_as_it_is() -> None:
    redis_lists.mend()
    assert transport.loads(json.dumps(MESSAGE)) == MESSAGE
    assert transport.loads(json.dumps([MESSAGE, "", "x"])) == [MESSAGE, "", "x"]


class Redis:
    """As much of kombu's transport as hands over what was read."""

    def __init__(self) -> None:
        redis_lists.mend()
        self.got: list[Any] = []
        self.own = object.__new__(transport.Transport)
        self.own._callbacks = {"mails": self.got.append, "broadcast": self.got.append}
        self.own.channels = [types.SimpleNamespace(_fanout_queues={"broadcast": ("celeryev", "")}), None]
        self.own.state = BrokerState()
        self.own.state.binding_declare("mails", "tasks", "mails", None)

    def deliver(self, message: Any, queue: str = "mails") -> Any:
        self.own._deliver(message, queue)
        return self.got.pop()


def addressed(way: Any, **more: Any) -> dict[str, Any]:
    return {**MESSAGE, **more, "properties": {**MESSAGE["properties"], "delivery_info": way}}


@pytest.mark.parametrize(
    "way",
    [
        {}, {"exchange": "", "routing_key": ""}, {"exchange": None, "routing_key": None},
        {"exchange": [1], "routing_key": {"a": 1}}, {"exchange": "celery", "routing_key": "celery"},
        {"exchange": "tasks", "routing_key": "other"},
    ],
)  # fmt: skip
def test_what_is_returned_finds_the_queue_it_came_from(way: dict[str, Any]) -> None:
    found = Redis().deliver(addressed(dict(way), headers=None))
    assert found["properties"]["delivery_info"] == {"exchange": "", "routing_key": "mails"}
    assert found["headers"] == {}


def test_what_leads_back_is_left_as_it_is() -> None:
    redis = Redis()
    for way in ({"exchange": "tasks", "routing_key": "mails", "priority": 3}, {"exchange": "", "routing_key": "mails"}):
        assert redis.deliver(addressed(dict(way)))["properties"]["delivery_info"] == way
    event = {"exchange": "celeryev", "routing_key": "worker.heartbeat"}
    assert redis.deliver(addressed(dict(event)), "broadcast")["properties"]["delivery_info"] == event


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**MESSAGE, "properties": {**MESSAGE["properties"], "delivery_tag": "\ud800"}}),
        json.dumps({**MESSAGE, "headers": {"x": "@"}}).replace('"@"', "[" * 300 + "]" * 300),
        json.dumps({**MESSAGE, "headers": {"x": "@"}}).replace('"@"', '{"a":' * 300 + "1" + "}" * 300),
    ],
)
def test_what_kombu_could_not_note_is_wrapped(text: str) -> None:
    redis_lists.mend()
    assert transport.loads(text)["content-type"] == "application/data"
    many = {**MESSAGE, "headers": {"x": [[1]] * 300}}
    assert transport.loads(json.dumps(many)) == many


def test_a_list_in_a_queue_is_no_message() -> None:
    found = Redis().deliver([MESSAGE, "", "x"])
    assert found["content-type"] == "application/data"
