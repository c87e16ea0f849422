"""The rules of celery_app_once: what the runtime gets, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from app_plans import BACKEND, SECRET, only, planned, refused
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.task_locks import once_rules


def rules(**declared: Any) -> list[dict[str, Any]]:
    found, problems = once_rules({name.replace("__", "."): value for name, value in declared.items()}, redis=True)
    assert problems == []
    return found


def test_a_duration_is_enough_and_the_safe_choices_follow() -> None:
    assert rules(shop__nightly="20h") == [
        {"task": "shop.nightly", "period": 72000, "key": None, "on_failure": "free", "when_redis_is_down": "refuse"}
    ]


def test_the_long_form() -> None:
    assert rules(a={"period": 90, "key": ["day", 0], "on_failure": "keep", "when_redis_is_down": "run"}) == [
        {"task": "a", "period": 90, "key": ["day", 0], "on_failure": "keep", "when_redis_is_down": "run"}
    ]
    assert rules(a={"period": "1m", "key": []})[0]["key"] == []


@pytest.mark.parametrize(
    ("task", "value", "key", "identity"),
    [
        *(("a", value, ".a.period", "not-a-duration") for value in ("20 hours", "-1h", True, None)),
        ("a", 0, ".a.period", "zero-duration"),
        ("a", -5, ".a.period", "duration-out-of-range"),
        ("a", "200000d", ".a.period", "duration-out-of-range"),
        ("a", {"key": []}, ".a", "no-period"),
        ("a", {"period": 5, "on_failur": "keep"}, ".a.on_failur", "not-a-key"),
        *(
            ("a", {"period": 5, "key": key}, ".a.key", "does-not-name-arguments")
            for key in ("day", [-1], [True], ["a b"])
        ),
        ("a", {"period": 5, "on_failure": "drop"}, ".a.on_failure", "not-a-choice"),
        ("a", {"period": 5, "when_redis_is_down": "wait"}, ".a.when_redis_is_down", "not-a-choice"),
        *((task, 5, "", "pattern-matches-nothing") for task in ("a b", "shop.[ab]", "")),
    ],
)
def test_what_cannot_be_meant(task: Any, value: Any, key: str, identity: str) -> None:
    _other, problems = once_rules({task: value}, redis=True)
    assert told(problems) == [(identity, f"celery_app_once{key}")]


def test_a_rule_that_an_earlier_one_hides() -> None:
    _other, problems = once_rules({"shop.reports.*": 60, "shop.reports.nightly": "20h"}, redis=True)
    assert only(problems).value == "shop.reports.nightly"
    assert once_rules({"shop.reports.nightly": "20h", "shop.reports.*": 60}, redis=True)[1] == []


def test_without_a_redis_there_is_one_problem() -> None:
    found = only(refused(result_backend="", once={"a": 5, "b": 6}))
    assert (found.variable, found.value) == ("celery_app_once", ["a", "b"])
    assert "celery_app_once_url" in found.instead
    assert only(refused(result_backend="rpc://", once={"a": 5})).variable == "celery_app_once"
    # Nothing to keep, nothing needed.
    assert planned(result_backend="", once={})


def test_the_rules_are_in_the_shared_configuration_with_the_apps_prefix() -> None:
    once = planned(once={"a": 5}, key_prefix="eu.shop:")["configuration"]["once"]
    assert once["prefix"] == "eu.shop:"
    assert [rule["task"] for rule in once["rules"]] == ["a"]
    # An app without a rule keeps the file that it had.
    assert "once" not in planned()["configuration"]


def test_a_redis_of_its_own() -> None:
    plan = planned(result_backend="", once={"a": 5}, once_url=BACKEND)
    assert "once" in plan["configuration"]
    assert SECRET not in repr(plan)
    found = only(refused(once={"a": 5}, once_url=f"amqp://shop:{SECRET}@mq1:5672/shop"))
    assert told([found]) == [("not-a-redis", "celery_app_once_url")]
    assert found.instead.startswith("redis://")


def test_the_runtime_reads_what_the_plan_writes() -> None:
    from celeryops_runtime.config import OnceRule
    from celeryops_runtime.config_reader import parse

    declared = {"a.*": "1h", "b": {"period": 5, "key": ["day", 1], "on_failure": "keep", "when_redis_is_down": "run"}}
    plan = planned(once=declared)
    once = parse({**plan["configuration"], **plan["queues"]}).once
    assert once.rules == (
        OnceRule("a.*", 3600, None, "free", "refuse"),
        OnceRule("b", 5, ("day", 1), "keep", "run"),
    )
    assert once.prefix == "shop:"
