# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects inside of virtual hosts: policies, exchanges and queues, and their arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    closest,
    did_you_mean,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_variables import Variables, in_unit

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUEUE_TYPES = ("quorum", "classic", "stream")
#: Keys of policies whose values are whole numbers, and of what (rabbit_policies.erl of RabbitMQ 3.10 to 4.3).
_POLICY_NUMBERS = {
    "consumer-timeout": "milliseconds",
    "delivery-limit": "deliveries",
    "expires": "milliseconds",
    "max-in-memory-bytes": "bytes",
    "max-in-memory-length": "messages",
    "max-length": "messages",
    "max-length-bytes": "bytes",
    "message-ttl": "milliseconds",
    "stream-filter-size-bytes": "bytes",
    "stream-max-segment-size-bytes": "bytes",
    "target-group-size": "nodes",
}
#: The other keys that RabbitMQ itself has; plugins bring further ones.
_POLICY_KEYS = (
    *_POLICY_NUMBERS, "alternate-exchange", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy",
    "federation-upstream", "federation-upstream-set", "max-age", "overflow", "queue-leader-locator",
    "queue-master-locator", "queue-mode", "queue-version",
)  # fmt: skip
#: Of those whose value cannot be nothing. -1 is no limit of deliveries (RabbitMQ 4).
_POSITIVE = ("consumer-timeout", "expires", "target-group-size")
#: Arguments of queues that no policy knows (rabbit_quorum_queue.erl, rabbit_classic_queue.erl, rabbit_stream_queue.erl
#: of RabbitMQ 3.10 to 4.3), without the x- in front.
_QUEUE_ARGUMENTS = (
    "initial-cluster-size", "max-priority", "queue-type", "quorum-initial-group-size", "quorum-target-group-size",
    "single-active-consumer",
)  # fmt: skip
_OVERFLOW = ("drop-head", "reject-publish", "reject-publish-dlx")
_EXCHANGE_TYPES = ("direct", "fanout", "headers", "topic")
_OF_ONE_TYPE = ("classic_queues", "quorum_queues", "streams")


def policy_of(given: Variables, kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    where = f"{kind}.{entry['name']}"
    given.check_pattern(f"{where}.pattern", entry["pattern"])
    if not entry["definition"]:
        instead = "at least one key, such as delivery-limit"
        given.problem("empty", f"{where}.definition", entry["definition"], "is empty", instead)
    if given.is_3_10() and entry.get("apply_to") in _OF_ONE_TYPE:
        reason = "is not known to RabbitMQ 3.10, which would refuse the policy"
        given.problem("unknown-to-rabbitmq", f"{where}.apply_to", entry["apply_to"], reason, "queues")
    for key, value in entry["definition"].items():
        _policy_key(given, f"{where}.definition.{key}", str(key), value)
    return {
        "vhost": entry["vhost"],
        "name": entry["name"],
        "pattern": entry["pattern"],
        "apply-to": entry.get("apply_to") or "queues",
        "priority": int(entry.get("priority") or 0),
        "definition": entry["definition"],
    }


def _policy_key(given: Variables, where: str, key: str, value: Any) -> None:
    close = closest(key, _POLICY_KEYS)
    if close and key not in _POLICY_KEYS:
        given.problem("no-key-of-a-policy", where, value, "is not a key of a policy", f"{close} (did you mean that?)")
    elif key == "consumer-timeout" and given.is_3_10():
        reason = "is not known to RabbitMQ 3.10, which would refuse the policy"
        given.problem("unknown-to-rabbitmq", where, value, reason, "rabbitmq_consumer_timeout, for all queues")
    else:
        _limit(given, where, key, value)


def _limit(given: Variables, where: str, key: str, value: Any) -> None:
    """Note what RabbitMQ takes for no value of a key of a policy, or of an argument of a queue without its x-."""
    if key == "overflow" and value not in _OVERFLOW:
        reason = "is not an overflow behaviour of RabbitMQ"
        given.problem("not-an-overflow-behaviour", where, value, reason, did_you_mean(str(value), _OVERFLOW))
    elif key in _POLICY_NUMBERS:
        unit = _POLICY_NUMBERS[key]
        least = -1 if key == "delivery-limit" else 1 if key in _POSITIVE else 0
        if isinstance(value, bool) or not isinstance(value, int):
            given.problem("not-a-whole-number", where, value, f"is not a whole number of {unit}", in_unit(value, unit))
        elif value < least:
            given.problem("out-of-range", where, value, "is out of range", f"a whole number of {unit} from {least} on")


def operator_policy_of(given: Variables, entry: Mapping[str, Any]) -> dict[str, Any]:
    value = policy_of(given, "operator_policies", entry)
    key = {"vhost": value.pop("vhost"), "component": "operator_policy", "name": value.pop("name")}
    return {**key, "value": value}


def exchange_of(given: Variables, entry: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(entry.get("type") or "direct")
    given.misspelt(f"exchanges.{entry['name']}.type", kind, "is not a type of exchange", _EXCHANGE_TYPES)
    return {
        "vhost": entry["vhost"],
        "name": entry["name"],
        "type": kind,
        "durable": entry.get("durable", True),
        "auto_delete": bool(entry.get("auto_delete")),
        "internal": bool(entry.get("internal")),
        "arguments": dict(entry.get("arguments") or {}),
    }


def queue_of(given: Variables, entry: Mapping[str, Any]) -> dict[str, Any]:
    queue_type = entry.get("type") or "quorum"
    where = f"queues.{entry['name']}"
    if queue_type not in _QUEUE_TYPES:
        reason = "is not a type of queue"
        given.problem("no-type-of-queue", f"{where}.type", queue_type, reason, did_you_mean(queue_type, _QUEUE_TYPES))
    durable = entry.get("durable", True)
    if queue_type != "classic" and (not durable or entry.get("auto_delete")):
        reason = "queues are durable and not deleted by themselves"
        given.problem("always-durable", where, queue_type, reason, "type classic")
    arguments = dict(entry.get("arguments") or {})
    if "x-queue-type" in arguments:
        given.problem(
            "argument-with-its-own-key", f"{where}.arguments", "x-queue-type", "has a key of its own", "type instead"
        )
    for key, value in arguments.items():
        known = [f"x-{name}" for name in (*_POLICY_KEYS, *_QUEUE_ARGUMENTS)]
        if key not in known and (close := closest(str(key), known)):
            reason = "does nothing"
            given.problem("does-nothing", f"{where}.arguments.{key}", value, reason, f"{close} (did you mean that?)")
        else:
            _limit(given, f"{where}.arguments.{key}", str(key).removeprefix("x-"), value)
    return {
        "vhost": entry["vhost"],
        "name": entry["name"],
        "durable": durable,
        "auto_delete": bool(entry.get("auto_delete")),
        "arguments": {**arguments, "x-queue-type": queue_type},
    }
