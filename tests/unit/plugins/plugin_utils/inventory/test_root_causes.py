"""Mistakes that only follow from others are not told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.root_causes import (
    causes,
    root,
    where_written,
    without_consequences,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import SOURCES, view

ROOT = Path(__file__).resolve().parents[5]
DEFAULTS = {
    "celery_app_user": "{{ celery_app_name }}",
    "celery_worker_user": "{{ celery_app_user | default(celery_worker_app) }}",
    "celery_app_queues": "{{ celeryops_queues | default([]) }}",
    "celery_app_visibility_timeout": "{{ celeryops_visibility_timeout | default('') }}",
    "celery_app_routes": [],
    # What joins the roles (playbooks/vars/stack.yml).
    "celeryops_queues": "{{ celeryops_stack.queues }}",
    "celeryops_visibility_timeout": "{{ celeryops_stack.visibility_timeout }}",
}


def problem(variable: str, *, readable: bool = False) -> Problem:
    return Problem("test", variable, "x", "is wrong", "another", readable=readable)


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
    assert without_consequences([own, queue, problem("redis")], DEFAULTS, set()) == [queue, problem("redis")]
    assert causes("celery_app_routes", DEFAULTS, set()) == set()


QUEUES, TIMEOUT = "celery_app_queues", "celery_app_visibility_timeout"


@pytest.mark.parametrize(
    ("cause", "derived", "hides"),
    [
        ("celery_worker_classes.eu.queues", QUEUES, True),
        ("celery_worker_classes.eu.queues[0]", QUEUES, True),
        ("celery_worker_host_classes.eu.queues", QUEUES, True),
        ("celery_worker_defaults.queues", QUEUES, True),
        ("celery_worker_classes.eu", QUEUES, True),
        ("celery_worker_classes", QUEUES, True),
        # A key that cannot be read may be what the value is worked out from.
        ("celery_worker_classes.eu.queue", QUEUES, True),
        ("celery_worker_classes.eu.time_limt", TIMEOUT, True),
        ("celery_app_settings.task_time_limt", TIMEOUT, True),
        ("celery_app_settings.CELERY_TASK_TIME_LIMIT", TIMEOUT, True),
        ("celery_worker_classes.eu.max_tasks_per_child", QUEUES, False),
        ("celery_worker_classes.eu.concurency", QUEUES, False),
        ("celery_worker_classes.eu.environment.queues", QUEUES, False),
        ("celery_worker_classes.eu.time_limit", QUEUES, False),
        ("celery_worker_classes.eu.queues", TIMEOUT, False),
        ("celery_worker_classes.eu.time_limit", TIMEOUT, True),
        ("celery_worker_classes.eu.soft_time_limit", TIMEOUT, False),
        ("celery_worker_classes.eu.prefetch_multiplier", TIMEOUT, True),
        ("celery_app_settings", TIMEOUT, True),
        ("celery_app_settings.task_time_limit", TIMEOUT, True),
        ("celery_app_settings.worker_prefetch_multiplier", TIMEOUT, True),
        ("celery_app_settings.task_soft_time_limit", TIMEOUT, False),
        ("celery_app_settings.timezone", TIMEOUT, False),
        ("celery_app_longest_eta", TIMEOUT, True),
        ("celery_app_longest_task", TIMEOUT, True),
    ],
)
def test_only_what_it_is_worked_out_from_hides_a_derived_mistake(cause: str, derived: str, *, hides: bool) -> None:
    both = [problem(cause), problem(derived)]
    assert without_consequences(both, DEFAULTS, set()) == both[: 1 if hides else 2]


@pytest.mark.parametrize(
    ("cause", "derived"),
    [
        ("celery_worker_classes.eu.queues", QUEUES),
        ("celery_worker_classes.eu.time_limit", TIMEOUT),
        ("celery_app_longest_eta", TIMEOUT),
    ],
)
def test_one_of_many_that_can_be_read_hides_nothing(cause: str, derived: str) -> None:
    both = [problem(cause, readable=True), problem(derived)]
    assert without_consequences(both, DEFAULTS, set()) == both


def test_a_mistake_without_a_place_of_its_own_hides_what_follows_from_it() -> None:
    unread = problem("celery_worker_defaults.queues")
    assert without_consequences([unread, problem(QUEUES)], DEFAULTS, set()) == [unread]


def test_what_is_handed_on_whole_is_told_once_whoever_finds_it() -> None:
    user, worker = problem("celery_app_user", readable=True), problem("celery_worker_user", readable=True)
    assert without_consequences([worker, user], DEFAULTS, set()) == [user]


def test_a_queue_is_told_where_a_class_names_it() -> None:
    places = {"eu.high": "celery_worker_classes.eu.queues", "a b": "celery_worker_classes.eu.queues"}
    told = [
        Problem("test", QUEUES, value, "is wrong", "another") for value in ("eu.high", "us.high", "a b", {"type": "x"})
    ]
    others = [
        problem(QUEUES),
        Problem("test", "celery_app_default_queue", "eu.high", "is wrong", "another"),
    ]
    moved, *left = where_written([*told, *others], places)
    assert moved == Problem("test", "celery_worker_classes.eu.queues", "eu.high", "is wrong", "another")
    assert left == [*told[1:], *others]


def test_a_path_leads_to_its_variable() -> None:
    assert [root(text) for text in ("a.b", "a[0].b", "a (x.y)", "a: text", "a")] == ["a"] * 5


STACK = yaml.safe_load((ROOT / "playbooks" / "vars" / "stack.yml").read_text())


def test_what_a_host_sees_says_where_it_comes_from() -> None:
    """Each key that the playbook uses, and no other."""
    used = {key for value in STACK.values() for key in re.findall(r"celeryops_stack\.(\w+)", str(value))}
    assert used - set(SOURCES) == set()
    empty: Any = {"apps": {}, "app_of": {}, "machines": {}, "servers": SERVED, "consumer_timeout": 0}
    empty["sentinel"] = {"name": "", "user": "", "engine": ""}
    assert set(SOURCES) - set(view({**empty, "connections": NONE}, "a")) == set()


NONE = {"rabbitmq": 0, "redis": 0}
SERVED: dict[str, list[object]] = {"rabbitmq": [], "redis": [], "sentinel": []}


@pytest.mark.parametrize(
    ("join", "cause"),
    [
        ("celeryops_queues", "celery_worker_defaults.queues"),
        ("celeryops_consumer_timeout", "celery_worker_classes.*.time_limit"),
        ("celeryops_visibility_timeout", "celery_app_longest_eta"),
        ("celeryops_broker_url", "rabbitmq_port"),
        ("celeryops_broker_url", "rabbitmq_listen_addresses"),
        ("celeryops_broker_url", "redis_port"),
        ("celeryops_broker_url", "celery_app_broker"),
        ("celeryops_broker_url", "celery_app_name"),
        ("celeryops_result_backend", "redis_bind"),
        ("celeryops_broker_api", "rabbitmq_management_port"),
        ("celeryops_redis_users", "celery_app_key_prefix"),
        ("celeryops_rabbitmq_definitions", "celery_app_dead_letter_queue"),
        ("celeryops_redis_purpose", "celery_app_broker"),
    ],
)
def test_the_joins_of_the_playbook_lead_to_the_variables_behind_them(join: str, cause: str) -> None:
    assert cause in causes(join, STACK, set())


def test_what_is_given_ends_one_way_and_no_other() -> None:
    defaults = {
        "celery_app_all": "{{ celery_app_one }} {{ celery_app_two }} {{ celery_app_three }}",
        **{f"celery_app_{name}": f"{{{{ celery_app_{name}_deep }}}}" for name in ("one", "two", "three")},
    }
    assert causes("celery_app_all", defaults, {"celery_app_two"}) == {
        *(f"celery_app_{name}" for name in ("one", "two", "three")),
        *(f"celery_app_{name}_deep" for name in ("one", "three")),
    }
