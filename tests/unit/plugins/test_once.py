"""The rules of celery_app_once: what the runtime gets, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.task_locks import once_rules

from .test_celery_app_plan import BACKEND, SECRET, only, planned, refused


def rules(**declared: Any) -> list[dict[str, Any]]:
    found, problems = once_rules({name.replace("__", "."): value for name, value in declared.items()}, redis=True)
    assert problems == []
    return found


def wrong(task: Any, value: Any) -> str:
    _other, problems = once_rules({task: value}, redis=True)
    return str(only(problems))


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
    ("task", "value", "message"),
    [
        ("a", "20 hours", "celery_app_once.a.period: '20 hours' is not a duration; write a duration such as"),
        ("a", 0, "celery_app_once.a.period: 0 must be longer than 0s"),
        ("a", "-1h", "celery_app_once.a.period: '-1h' is not a duration"),
        ("a", -5, "celery_app_once.a.period: -5 is not between 0 and a hundred years"),
        ("a", True, "celery_app_once.a.period: True is not a duration"),
        ("a", None, "celery_app_once.a.period: None is not a duration"),
        ("a", "200000d", "is not between 0 and a hundred years"),
        ("a", {"key": []}, "celery_app_once.a: {'key': []} has no period; write {period: 20h}"),
        (
            "a",
            {"period": 5, "on_failur": "keep"},
            "celery_app_once.a.on_failur: 'keep' is not a key of a rule; write on_failure (did you mean that?)",
        ),
        ("a", {"period": 5, "key": "day"}, "celery_app_once.a.key: 'day' does not name arguments; write a list"),
        ("a", {"period": 5, "key": [-1]}, "celery_app_once.a.key: [-1] does not name arguments"),
        ("a", {"period": 5, "key": [True]}, "celery_app_once.a.key: [True] does not name arguments"),
        ("a", {"period": 5, "key": ["a b"]}, "celery_app_once.a.key: ['a b'] does not name arguments"),
        ("a", {"period": 5, "on_failure": "drop"}, "celery_app_once.a.on_failure: 'drop' is not a choice here; write"),
        (
            "a",
            {"period": 5, "when_redis_is_down": "wait"},
            "celery_app_once.a.when_redis_is_down: 'wait' is not a choice here; write refuse or run",
        ),
        ("a b", 5, "celery_app_once: 'a b' is not a task name or pattern; write a name such as"),
        ("shop.[ab]", 5, "is not a task name or pattern"),
        ("", 5, "is not a task name or pattern"),
    ],
)
def test_what_cannot_be_meant(task: Any, value: Any, message: str) -> None:
    assert message in wrong(task, value)


def test_a_rule_that_an_earlier_one_hides() -> None:
    _other, problems = once_rules({"shop.reports.*": 60, "shop.reports.nightly": "20h"}, redis=True)
    assert str(only(problems)) == (
        "celery_app_once: 'shop.reports.nightly' is never reached: shop.reports.* stands before it and matches too; "
        "write it above that rule"
    )
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
    assert (found.variable, found.reason) == ("celery_app_once_url", "is not a Redis")
    assert found.instead.startswith("redis://")
    assert only(refused(once={"a": 5}, once_url=f"redis://:{SECRET}@/0")).reason == "names no host"


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
