"""What the rules have in common: their names, and what an inventory accepts of their findings."""

from __future__ import annotations

from dataclasses import replace

from deployments import REDIS, SHOP, STACK, found, with_app, with_server
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule, judge
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES


def test_what_a_rule_looked_at_was_read() -> None:
    problems = judge(with_app(own_settings={"worker_detect_quorum_queues": False}), RULES).problems
    assert [problem.readable for problem in problems] == [True]


def test_a_sound_deployment_breaks_no_rule() -> None:
    assert found(STACK) == {}


def test_names_of_rules_are_unique_and_speak() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.name == rule.name.lower()
        assert rule.meaning.endswith(".")
        assert not (rule.acceptable and rule.unwise)


def test_what_can_be_meant_is_said_here() -> None:
    assert {rule.name for rule in RULES if rule.acceptable} == {
        "shared-queue",
        "different-visibility-timeouts",
        "eta-in-worker",
        "long-eta",
        "stop-timeout",
        "one-task-per-child",
        "memory",
        "concurrency",
        "weak-password",
        "unknown-argument",
        "newer-setting",
        "merged-indexes",
        "queue-of-two-apps",
        "file-of-two-apps",
        "another-server",
        "unlimited-prefetch",
        "schedule-without-beat",
        "tls-without-server",
        "policy-without-dead-letters",
        "missing-package",
        "no-worker-class",
        "account-of-an-app",
        "unknown-account",
        "redbeat-without-redis",
        "several-beats",
    }
    assert {rule.name for rule in RULES if rule.unwise} == {
        "evicted-results",
        "perhaps-shared-system-queues",
        "perhaps-newer-setting",
        "results-without-backend",
        "unverified-tls",
        "fragile-messages",
        "consumer-timeout-elsewhere",
    }


def noisy(name: str, **kinds: bool) -> Rule:
    def find(_deployment: Deployment) -> list[Finding]:
        return [Finding(Problem("test", f"v_{one}", one, "is odd", "another"), one, "shop") for one in ("a", "b")]

    return Rule(name, find, "Odd.", **kinds)


def test_a_mistake_that_can_be_meant_says_how_and_is_silent_then() -> None:
    rule = noisy("odd", acceptable=True)
    first, _other = judge(STACK, [rule]).problems
    assert str(first).endswith('write another, or celery_app_accept: ["odd:a"] if it is meant')
    accepted = with_app(accepted=frozenset({"odd:a"}))
    assert [problem.variable for problem in judge(accepted, [rule]).problems] == ["v_b"]
    assert judge(with_app(accepted=frozenset({"odd"})), [rule]).problems == []


def test_what_one_app_accepts_is_not_accepted_for_another() -> None:
    rule = noisy("odd", acceptable=True)
    stack = replace(STACK, apps={"shop": SHOP, "blog": replace(SHOP, name="blog", accepted=frozenset({"odd"}))})
    assert [problem.variable for problem in judge(stack, [rule]).problems] == ["v_a", "v_b"]


def test_a_finding_about_a_server_is_accepted_by_any_app() -> None:
    evicting = with_server(REDIS, variables={"redis_purpose": "results", "redis_maxmemory_policy": "allkeys-lru"})
    assert len(judge(evicting, RULES).warnings) == 1
    accepted = replace(evicting, apps={"shop": replace(SHOP, accepted=frozenset({"evicted-results:mq1"}))})
    assert judge(accepted, RULES).warnings == []


def test_what_is_unwise_warns_once_and_breaks_nothing() -> None:
    verdict = judge(STACK, [noisy("odd", unwise=True), noisy("odd", unwise=True)])
    assert verdict.problems == []
    assert len(verdict.warnings) == 2
    assert 'celery_app_accept: ["odd:a"]' in verdict.warnings[0]


def test_what_is_accepted_must_be_a_rule_that_can_be() -> None:
    rules = [noisy("odd", acceptable=True), Rule("even", lambda _deployment: [], "Even.")]
    (problem,) = judge(with_app(accepted=frozenset({"od:a", "odd"})), rules).problems
    assert (*told([problem]), problem.value) == (("not-a-rule", "celery_app_accept"), "od:a")
    assert "odd (did you mean that?)" in problem.instead
    (problem,) = judge(with_app(accepted=frozenset({"even", "odd"})), rules).problems
    assert (*told([problem]), problem.value) == (("not-acceptable", "celery_app_accept"), "even")
