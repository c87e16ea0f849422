"""Policies of RabbitMQ against queues and workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployments import (
    DEAD,
    DEFAULT,
    HIGH,
    HOUR,
    RABBITMQ,
    REDIS,
    SHOP,
    about,
    declaring,
    found,
    limit,
    only,
    with_app,
    with_class,
)

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_policies import acting, policies


def policy(definition: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a policy that keeps dead letters."""
    keeping = {"dead-letter-exchange": "", **definition}
    return {"vhost": "shop", "name": "own", "pattern": "^pay", "definition": keeping, **changes}


# The consumer timeout of a policy


@pytest.mark.parametrize("kind", ["policies", "operator_policies"])
@pytest.mark.parametrize(
    ("timeout", "fits"), [(3_600_000, False), (3_600_001, True), (0, True), (-1, True), ("1h", True)]
)
def test_the_consumer_timeout_of_a_queue_is_above_what_its_workers_hold(kind: str, timeout: Any, fits: bool) -> None:
    findings = found(declaring(**{kind: [policy({"consumer-timeout": timeout})]}))
    assert list(findings) == ([] if fits else ["queue-consumer-timeout"])
    for finding in findings.get("queue-consumer-timeout", ()):
        variable = f"rabbitmq_{kind}.own.definition.consumer-timeout"
        assert about(finding) == (variable, 3_600_000, "high", "shop")
        assert " 1h in milliseconds, not above the 1h " in finding.problem.reason
        assert "more than 3600000" in finding.problem.instead


@pytest.mark.parametrize(
    "changes",
    [
        {"pattern": "^mails$"},
        {"pattern": "("},
        {"vhost": "blog"},
        {"apply_to": "exchanges"},
        {"apply_to": "streams"},
        {"apply_to": "classic_queues"},
    ],
)
def test_a_policy_for_something_else(changes: dict[str, Any]) -> None:
    assert found(declaring(policies=[policy({"consumer-timeout": 1}, **changes)])) == {}


@pytest.mark.parametrize("apply_to", [None, "all", "queues", "quorum_queues"])
def test_a_policy_for_queues(apply_to: str | None) -> None:
    declared = policy({"consumer-timeout": 1}, apply_to=apply_to)
    assert only(declaring(policies=[declared]), "queue-consumer-timeout")
    for address in ("mq2:5672/shop", "mq1:5673/shop"):
        assert found(declaring(with_app(broker_addresses=(address,)), policies=[declared])) == {}


def test_the_slowest_class_of_a_policys_queues_counts() -> None:
    slow = replace(DEFAULT, time_limit=2 * HOUR, stop_timeout=2 * HOUR)
    stack = declaring(with_app(classes=(HIGH, slow)), policies=[policy({"consumer-timeout": 1}, pattern=".")])
    finding = found(stack)["queue-consumer-timeout"][0]
    assert finding.subject == "default"
    assert f"more than {4 * HOUR * 1000}," in finding.problem.instead
    # One that concerns no class comes first.
    idle = policy({"consumer-timeout": 1}, pattern="^mails$", name="idle")
    late = policy({"consumer-timeout": 1}, pattern="^pay")
    assert only(declaring(policies=[idle, late]), "queue-consumer-timeout").subject == "high"
    held = declaring(
        with_app(classes=(HIGH, DEFAULT), queues=dict.fromkeys(SHOP.queues, "classic"), longest_eta=6 * HOUR),
        policies=[policy({"consumer-timeout": 7 * HOUR * 1000})],
    )
    assert f"more than {7 * HOUR * 1000}," in found(held)["queue-consumer-timeout"][0].problem.instead


def test_a_policy_wins_over_the_consumer_timeout_of_the_server() -> None:
    slow = with_class(time_limit=3 * HOUR, stop_timeout=3 * HOUR)

    def told(**changes: Any) -> list[str]:
        server = replace(RABBITMQ, variables={"rabbitmq_policies": [policy({"consumer-timeout": 10**9}, **changes)]})
        return list(found(replace(slow, servers=(server, REDIS))))

    assert told() == []
    assert told(pattern="^default$") == told(vhost="blog") == ["consumer-timeout"]
    slow = with_class(queues=("payments", "mails"), time_limit=3 * HOUR, stop_timeout=3 * HOUR)
    assert told() == ["consumer-timeout"]


@pytest.mark.parametrize(("said", "timeout"), [(0, 0), (-1, 0), (1, 1), ("1", 0), (None, 0)])
def test_the_consumer_timeout_of_a_policy(said: Any, timeout: int) -> None:
    entry = {"name": "p", "vhost": "shop", "pattern": ".", "definition": {"consumer-timeout": said}}
    (read,) = policies({"rabbitmq_policies": [entry]}, "policies", "shop")
    assert read.consumer_timeout_ms == timeout


# Which policy acts, and dead letters


def test_the_policy_of_the_highest_priority_acts() -> None:
    def acts(*priorities: int | None) -> list[str]:
        entries = [
            {"name": f"p{number}", "vhost": "shop", "pattern": "^a", "definition": {}, "priority": priority}
            for number, priority in enumerate(priorities)
        ]
        declared = policies({"rabbitmq_policies": entries}, "policies", "shop")
        return [one.variable.rpartition(".")[2] for one in acting(declared, "a", "quorum")]

    assert acts(None, 0, 1) == ["p2"]
    assert acts(None, 0) == ["p0", "p1"]
    assert acts(None, -1) == ["p0"]
    assert acts() == []


@pytest.mark.parametrize(("priority", "displaces"), [(None, True), (0, True), (1, True), (-1, False)])
def test_a_policy_that_displaces_the_dead_letters(priority: int | None, displaces: bool) -> None:
    findings = found(declaring(with_app(**DEAD), policies=[limit(priority=priority)]))
    assert list(findings) == (["policy-without-dead-letters"] if displaces else [])
    for finding in findings.get("policy-without-dead-letters", ()):
        assert about(finding) == ("rabbitmq_policies.limit.definition", ["max-length"], "limit", "shop")
        assert "payments of shop" in finding.problem.reason
        assert "dead-letter-routing-key: dead " in finding.problem.instead


def test_a_policy_that_keeps_dead_letters_or_concerns_none() -> None:
    app = with_app(**DEAD)
    for own in (
        limit(definition={"max-length": 5, "dead-letter-exchange": ""}),
        limit(pattern="^mails$"),
        limit(vhost="blog"),
        limit(apply_to="exchanges"),
        # By its name the site playbook's own, said otherwise.
        limit(name="celeryops-dead-letters"),
    ):
        assert found(declaring(app, policies=[own])) == {}
    dead = with_app(**DEAD, queues={**SHOP.queues, "dead": "quorum"})
    assert found(declaring(dead, policies=[limit(pattern="^dead$")])) == {}
    assert found(declaring(app, operator_policies=[limit()])) == {}
    # The virtual host is somebody else's, or its policies are.
    other = with_app(**DEAD, broker_addresses=("mq1:5672/other",))
    assert found(declaring(other, policies=[limit(vhost="other")])) == {}
    own_objects = replace(
        RABBITMQ, variables={"rabbitmq_policies": [limit()]}, given=frozenset({"rabbitmq_extra_definitions"})
    )
    assert found(replace(app, servers=(own_objects, REDIS))) == {}


def test_of_several_policies_one_acts() -> None:
    app = with_app(**DEAD)
    keeping = policy({"max-length": 9}, priority=2)
    assert found(declaring(app, policies=[limit(priority=1), keeping])) == {}
    assert found(declaring(app, policies=[limit(), {**keeping, "priority": 1}])) == {}
    assert only(declaring(app, policies=[limit(), {**keeping, "priority": 0}]), "policy-without-dead-letters")
    assert only(declaring(app, policies=[limit(priority=2), keeping]), "policy-without-dead-letters")
    several = found(declaring(app, policies=[limit(priority=3, pattern="."), keeping]))["policy-without-dead-letters"]
    assert [finding.subject for finding in several] == ["limit"]
