# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Delivers every entry of a Redis list, even an invalid one, and returns it to its own queue.

Nothing checks it before: who may write to Redis can put anything there, and it is off the list by the time kombu reads
it.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

from celeryops_runtime.around import around

DEEPEST = 100
"""Levels of lists and objects in what stands in a list of Redis; the body is one text there. Python reads what is
nested ten times deeper, and could not always write it again."""


def _wrapped(raw: str) -> dict[str, Any]:
    """Put what is no message of kombu's into one that nobody can read."""
    return {
        "body": base64.b64encode(raw.encode("utf-8", "surrogateescape")).decode("ascii"),
        "content-encoding": "binary",
        "content-type": "application/data",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": ""},
        },
    }


def _is_flat(value: object, text: str) -> bool:
    """Tell whether what was read is nested so little that it can be written again, from wherever that happens.

    :param value: what was read.
    :param text: what it was read from: it has a bracket for each level.
    """
    if text.count("{") + text.count("[") <= DEEPEST:
        return True
    level = [value]
    for _level in range(DEEPEST):
        level = [
            child
            for one in level
            if isinstance(one, (dict, list))
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return not level


def _tag(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def _is_message(value: object) -> bool:
    """Tell whether kombu can make a message of this (kombu/transport/virtual/base.py, ``Message``), and keep it."""
    if not isinstance(value, dict) or not isinstance(value.get("properties"), dict):
        return False
    properties = value["properties"]
    return (
        _tag(properties.get("delivery_tag"))
        and isinstance(properties.get("delivery_info"), dict)
        and isinstance(properties.get("body_encoding") or "", str)
        and isinstance(value.get("headers") or {}, dict)
        and isinstance(value.get("body") or "", str)
        and isinstance(value.get("content-type") or "", str)
        and isinstance(value.get("content-encoding") or "", str)
    )


def _lead_back(message: dict[str, Any], queue: str, state: Any) -> None:
    """Let a message that is returned go to the queue that it came from, whatever its sender wrote into it.

    kombu returns it by the exchange and the routing key that it carries, and drops it where these lead nowhere: a
    client in another language may have names of its own there, or none.

    :param message: as it was read.
    :param queue: whose list it was on.
    :param state: what the transport knows of exchanges and bindings.
    """
    if not message.get("headers"):
        # kombu notes the return in them.
        message["headers"] = {}
    info = message["properties"]["delivery_info"]
    way = info.get("exchange"), info.get("routing_key")
    known = all(isinstance(part, str) for part in way) and state.has_binding(queue, *way)
    if not known and way != ("", queue):
        info.update(exchange="", routing_key=queue)


def mend() -> None:
    """Let what stands in a list of Redis arrive, whatever it is: it is off the list by the time kombu reads it."""
    try:
        from kombu.transport import redis as transport
    except ImportError:
        return

    @around(transport, "bytes_to_str")
    def bytes_to_str(own: Any, value: Any) -> Any:
        try:
            return own(value)
        except UnicodeDecodeError:
            return value.decode("utf-8", "surrogateescape")

    @around(transport, "loads")
    def loads(own: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            value = own(text, *args, **kwargs)
        except (ValueError, TypeError, RecursionError):
            value = None
        # A list of three: a message that was not acknowledged, with where it came from.
        kept = isinstance(value, list) and len(value) == 3 and _is_message(value[0])
        if (kept or _is_message(value)) and _is_flat(value, text):
            return value
        return _wrapped(text if isinstance(text, str) else str(text))

    @around(transport.Channel, "decode_body")
    def decode_body(own: Any, self: Any, body: Any, encoding: Any = None) -> Any:
        try:
            return own(self, body, encoding)
        except (ValueError, TypeError, AttributeError):
            return body

    @around(transport.Transport, "_deliver")
    def _deliver(own: Any, self: Any, message: Any, queue: str) -> Any:
        if not isinstance(message, dict):
            # In a queue such a list is nobody's.
            message = _wrapped(json.dumps(message))
        # What was broadcast names its event by its key, and is never returned.
        if not any(queue in channel._fanout_queues for channel in self.channels if channel):
            _lead_back(message, queue, self.state)
        return own(self, message, queue)
