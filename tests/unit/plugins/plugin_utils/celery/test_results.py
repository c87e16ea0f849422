"""The rules of celery_app_results: what the runtime gets, what is refused, what is only told."""

from __future__ import annotations

from typing import Any

import pytest
from app_plans import BACKEND, only, planned, refused, variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.results import result_rules
from ansible_collections.celeryops.stack.plugins.plugin_utils.model import build as assemble
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import celery_app
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import catalogue, judge
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.results import RULES


def test_the_runtime_reads_what_the_plan_writes() -> None:
    from celeryops_runtime.config import ResultRule
    from celeryops_runtime.config_reader import parse

    declared = {"shop.reports.total": "keep", "shop.reports.*": "ignore", "*": "keep"}
    plan = planned(results=declared)
    read = parse({**plan["configuration"], **plan["queues"]}).results
    assert read == tuple(ResultRule(task, result) for task, result in declared.items())
    # An app without a rule keeps the file that it had.
    assert "results" not in planned()["configuration"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"a": "ignored"}, "celery_app_results.a: 'ignored' is not a choice here; write ignore (did you mean that?)"),
        ({"a": True}, "celery_app_results.a: True is not a choice here; write one of ignore, keep"),
        ({"a b": "keep"}, "celery_app_results: 'a b' is not a task name or pattern; write a name such as"),
        ({"": "keep"}, "is not a task name or pattern"),
        (
            {"shop.*": "ignore", "shop.reports.total": "keep"},
            (
                "celery_app_results: 'shop.reports.total' is never reached: shop.* stands before it and matches too; "
                "write it above that rule"
            ),
        ),
    ],
)
def test_what_cannot_be_meant(declared: dict[Any, Any], message: str) -> None:
    _other, problems = result_rules(declared)
    assert message in str(only(problems))
    assert only(refused(results=declared)) == problems[0]


def warned(*, has_results: bool, accepted: tuple[str, ...] = (), **rules: str) -> list[str]:
    shop = App("shop", has_results=has_results, variables={"celery_app_results": rules}, accepted=frozenset(accepted))
    verdict = judge(Deployment(apps={"shop": shop}), RULES)
    assert verdict.problems == []
    return list(verdict.warnings)


def test_kept_nowhere_is_told_and_can_be_meant() -> None:
    assert warned(has_results=False, a="keep", b="ignore") == [
        (
            "celery_app_results.a: 'keep' has nowhere to keep them: the app has no result backend; write an address in "
            'celery_app_result_backend, or ignore, or celery_app_accept: ["results-without-backend:a"] if it is meant'
        )
    ]
    assert warned(has_results=False, accepted=("results-without-backend:a",), a="keep") == []
    assert warned(has_results=True, a="keep", b="ignore") == []


@pytest.mark.parametrize("backend", [BACKEND, "rpc://", ""])
def test_the_check_knows_who_has_a_backend(backend: str) -> None:
    values = variables(result_backend=backend)
    found = assemble.Planned(values, {}, frozenset(), frozenset(), read=celery_app.read(values))
    shop = assemble.assemble({}, {("celery_app", "a"): found}, lambda _host: {}, lambda _host, _name, default: default)
    assert shop.apps["shop"].has_results is bool(backend)
    assert set(RULES) <= set(catalogue.RULES)


def test_every_app_is_asked_for_its_backend() -> None:
    rules = {"celery_app_results": {"a": "keep"}}
    kept, lost = App("kept", variables=rules), App("lost", has_results=False, variables=rules)
    told = judge(Deployment(apps={"plain": App("plain"), "kept": kept, "lost": lost}), RULES).warnings
    assert len(told) == 1
