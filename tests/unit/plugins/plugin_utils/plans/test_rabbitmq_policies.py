"""What policies of RabbitMQ may say."""

from __future__ import annotations

from typing import Any

import pytest
from rabbitmq_plans import FACTS, refused

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

OLD = {**FACTS, "distribution_major_version": "12"}


def policy_problems(facts: dict[str, Any] | None = None, **changes: Any) -> list[Problem]:
    """Return what is wrong with a policy, which an operator's would be told as well."""
    entry = {"name": "p", "vhost": "shop", "pattern": "^a", "definition": {"max-length": 5}, **changes}
    given = {"vhosts": [{"name": "shop"}]}
    problems, others = (refused(facts, **given, **{kind: [entry]}) for kind in ("policies", "operator_policies"))
    assert [str(one).replace("operator_", "") for one in others] == list(map(str, problems))
    return problems


@pytest.mark.parametrize(
    "definition",
    [
        {"max-length": 0, "message-ttl": 0, "max-length-bytes": 1},
        {"delivery-limit": -1},
        {"expires": 1, "consumer-timeout": 1, "target-group-size": 1},
        {"overflow": "reject-publish", "queue-leader-locator": "balanced", "dead-letter-exchange": ""},
        {"shard-count": 3, "ha-mode": "all"},
    ],
)
def test_what_policies_may_say(definition: dict[str, Any]) -> None:
    assert policy_problems(definition=definition) == []


@pytest.mark.parametrize(
    ("key", "value", "identity", "instead"),
    [
        ("max-lenght", 5, "no-key-of-a-policy", "max-length (did you mean that?)"),
        ("delivery_limit", 5, "no-key-of-a-policy", "delivery-limit (did you mean that?)"),
        ("message-ttl", "30m", "not-a-whole-number", "1800000"),
        ("max-length-bytes", "1G", "not-a-whole-number", "1073741824"),
        ("max-length", "5", "not-a-whole-number", "5,"),
        ("expires", True, "not-a-whole-number", "a "),
        ("delivery-limit", 1.5, "not-a-whole-number", "a "),
        ("delivery-limit", -2, "out-of-range", "a whole number of deliveries from -1 "),
        ("max-length", -1, "out-of-range", "a whole number of messages from 0 "),
        ("expires", 0, "out-of-range", "a whole number of milliseconds from 1 "),
        ("consumer-timeout", 0, "out-of-range", "a whole number of milliseconds from 1 "),
    ],
)
def test_what_policies_cannot_say(key: str, value: Any, identity: str, instead: str) -> None:
    (problem,) = policy_problems(definition={key: value})
    assert (problem.id, problem.value) == (identity, value)
    assert problem.variable == f"rabbitmq_policies.p.definition.{key}"
    assert problem.instead.startswith(instead)


def test_a_pattern_that_is_none() -> None:
    assert [problem.variable for problem in policy_problems(pattern="(")] == ["rabbitmq_policies.p.pattern"]


def test_what_the_server_of_debian_12_does_not_know() -> None:
    for apply_to in ("classic_queues", "quorum_queues", "streams"):
        (problem,) = policy_problems(OLD, apply_to=apply_to)
        assert (problem.variable, problem.value) == ("rabbitmq_policies.p.apply_to", apply_to)
        assert policy_problems(apply_to=apply_to) == []
    for apply_to in ("queues", "exchanges", "all"):
        assert policy_problems(OLD, apply_to=apply_to) == []
    (problem,) = policy_problems(OLD, definition={"consumer-timeout": 5})
    assert problem.variable == "rabbitmq_policies.p.definition.consumer-timeout"
    assert problem.instead.startswith("rabbitmq_consumer_timeout,")
