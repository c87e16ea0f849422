"""Mistakes that only follow from others are not told."""

from __future__ import annotations

from pathlib import Path

import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.consequences import (
    JOINTS,
    causes,
    root,
    without_consequences,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = {
    "celery_app_user": "{{ celery_app_name }}",
    "celery_worker_user": "{{ celery_app_user | default(celery_worker_app) }}",
    "celery_app_queues": "{{ celeryops_queues | default([]) }}",
    "celery_app_routes": [],
}


def problem(variable: str) -> Problem:
    return Problem(variable, "x", "is wrong", "another")


def test_a_derived_default_is_not_told_beside_its_cause() -> None:
    name, user, worker = map(problem, ("celery_app_name", "celery_app_user", "celery_worker_user"))
    assert without_consequences([name, user, worker], DEFAULTS, set()) == [name]
    assert without_consequences([user, worker], DEFAULTS, set()) == [user]


def test_what_the_inventory_sets_is_a_mistake_of_its_own() -> None:
    name, user, worker = map(problem, ("celery_app_name", "celery_app_user", "celery_worker_user"))
    assert without_consequences([name, user, worker], DEFAULTS, {"celery_app_user"}) == [name, user]
    assert without_consequences([name, worker], DEFAULTS, {"celery_app_user", "celery_worker_app"}) == [name, worker]


def test_what_the_playbook_joins_is_followed() -> None:
    queue, own = problem("celery_worker_classes.high.queues"), problem("celery_app_queues")
    assert without_consequences([own, queue, "redis: a text"], DEFAULTS, set()) == [queue, "redis: a text"]
    assert causes("celery_app_routes", DEFAULTS, set()) == set()


def test_a_path_leads_to_its_variable() -> None:
    assert [root(text) for text in ("a.b", "a[0].b", "a (x.y)", "a: text", "a")] == ["a"] * 5


def test_every_joint_is_one_of_the_playbooks() -> None:
    stack = yaml.safe_load((ROOT / "playbooks" / "vars" / "stack.yml").read_text())
    assert sorted(set(JOINTS) - set(stack)) == []
    used = {
        name
        for role in sorted((ROOT / "roles").iterdir())
        for value in yaml.safe_load((role / "defaults" / "main.yml").read_text()).values()
        for name in stack
        if name in str(value)
    }
    assert sorted(used - set(JOINTS) - {"celeryops_secrets"}) == []


def test_what_is_given_ends_one_way_and_no_other() -> None:
    defaults = {
        "celery_app_all": "{{ celery_app_one }} {{ celery_app_two }} {{ celery_app_three }}",
        **{f"celery_app_{name}": f"{{{{ celery_app_{name}_deep }}}}" for name in ("one", "two", "three")},
    }
    assert causes("celery_app_all", defaults, {"celery_app_two"}) == {
        *(f"celery_app_{name}" for name in ("one", "two", "three")),
        *(f"celery_app_{name}_deep" for name in ("one", "three")),
    }
