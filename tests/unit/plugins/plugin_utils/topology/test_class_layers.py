"""How the layers of a worker class are laid over each other, and that a mistake names its layer."""

from __future__ import annotations

from typing import Any

import pytest
from problems import told
from worker_plans import planned, refused, variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_worker import plan, read
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import Layer, merge


def test_layers_override_key_by_key_and_the_nearest_wins() -> None:
    result = planned(
        defaults={"stop_timeout": "1m", "nice": 1, "environment": {"A": "all", "B": "all"}},
        classes={"high": {"concurrency": 1, "queues": ["a", "b"], "environment": {"B": "class", "C": "class"}}},
        group_classes={"high": {"concurrency": 2, "queues": ["c"], "environment": {"C": "group"}}},
        host_classes={"high": {"concurrency": 3, "nice": None}, "extra": {"queues": ["x"]}},
    )
    high, extra = result["classes"]
    assert (high["name"], extra["name"]) == ("high", "extra")
    assert "--concurrency=3" in high["command"]
    assert "--queues=c " in high["command"]
    assert high["command"].startswith("/usr/bin/env A=all B=class C=group /opt/")
    assert high["resources"] == {}
    assert extra["resources"] == {"Nice": 1}
    assert (high["drain_seconds"], extra["drain_seconds"]) == (60, 60)


def test_an_absent_class_has_no_unit() -> None:
    result = planned(classes={"high": {}, "low": {}}, host_classes={"low": {"state": "absent"}})
    assert [entry["name"] for entry in result["classes"]] == ["high"]
    assert [entry["name"] for entry in result["units"]] == ["celery-shop.target", "celery-shop-high.service"]


def test_a_null_takes_back_one_key_and_no_other() -> None:
    (entry,) = planned(classes={"high": {"nice": 5}}, host_classes={"high": {"nice": None, "cpu_weight": 7}})["classes"]
    assert entry["resources"] == {"CPUWeight": 7}


def test_a_class_takes_the_prefix_of_all_classes_back() -> None:
    result = planned(defaults={"command_prefix": "ddtrace-run"}, classes={"high": {"command_prefix": None}, "bulk": {}})
    assert ["ddtrace-run" in entry["command"] for entry in result["classes"]] == [False, True]


def test_what_has_no_effect_in_a_pool_is_dropped_when_it_is_a_default_for_all() -> None:
    result = planned(
        defaults={"max_tasks_per_child": 1000, "concurrency": 4},
        classes={"io": {"pool": "threads"}, "one": {"pool": "solo"}, "cpu": {}},
    )
    lines = {entry["name"]: entry["command"] for entry in result["classes"]}
    assert "--max-tasks-per-child" not in lines["io"]
    assert "--concurrency=1 " in lines["one"]
    assert "--max-tasks-per-child=1000" in lines["cpu"]


# Mistakes


@pytest.mark.parametrize("name", ["beat", "flower", "High", "1st", "a_b", "a" * 32, "a-", 7])
def test_a_name_that_cannot_be_a_class(name: Any) -> None:
    (problem,) = refused(classes={name: {}})
    assert told([problem]) == [("not-a-class-name", f"celery_worker_classes.{name}")]
    # One of another role's unit says whose it is.
    whose = {"beat": " celery_beat'", "flower": " flower'"}.get(name)
    assert whose is None or whose in problem.reason


@pytest.mark.parametrize("name", ["Bulk_1", "beat", 7])
def test_a_class_is_read_whatever_its_name_is(name: Any) -> None:
    where = f"celery_worker_classes.{name}"
    found = refused(classes={name: {"time_limit": "soon", "concurency": 4}}, group_classes={name: {"nice": 99}})
    assert sorted(problem.variable for problem in found) == sorted(
        [
            where,
            f"{where}.time_limit",
            f"{where}.concurency",
            *(f"celery_worker_group_classes.{name}{key}" for key in ("", ".nice")),
        ]
    )


def test_the_queues_of_a_class_that_is_none_are_not_known() -> None:
    classes, _problems = merge({}, [Layer("celery_worker_classes", {"high": "payments"})])
    assert classes["high"].unread_queues is True
    classes, _problems = merge({}, [Layer("celery_worker_classes", {"Bulk_1": {"queues": ["bulk"]}})])
    assert classes["Bulk_1"].unread_queues is False


def test_a_mistake_names_the_layer_that_it_is_in() -> None:
    found = refused(
        defaults={"nice": 99},
        classes={"high": {"time_limit": "1h"}},
        group_classes={"high": {"cpu_weight": -1}},
        host_classes={"high": {"time_limit": "x"}, "low": 7},
    )
    assert {problem.variable for problem in found} == {
        "celery_worker_defaults.nice",
        "celery_worker_group_classes.high.cpu_weight",
        "celery_worker_host_classes.high.time_limit",
        "celery_worker_host_classes.low",
    }


def test_of_a_class_with_a_bad_name_or_an_idle_key_all_else_can_be_read() -> None:
    """What is worked out from it is right, so what is wrong there as well is told (consequences.py)."""
    for classes in ({"High": {}}, {"high": {"pool": "threads", "concurrency": 2, "time_limit": "1h"}}):
        _plan, problems = plan(variables(classes=classes), {})
        assert [problem.readable for problem in problems] == [True]
    _plan, problems = plan(variables(classes={"high": {"time_limit": "soon"}}), {})
    assert [problem.readable for problem in problems] == [False]


@pytest.mark.parametrize("layer", ["group_classes", "host_classes"])
def test_to_take_away_a_class_that_is_not_there_is_a_slip(layer: str) -> None:
    (problem,) = refused(classes={"high": {}}, **{layer: {"hgih": {"state": "absent"}}})
    assert told([problem]) == [("absent-class-unknown", f"celery_worker_{layer}.hgih.state")]
    assert problem.instead == "high (did you mean that?)"
    planned(classes={"high": {}, "low": {"state": "absent"}}, **{layer: {"high": {"state": "absent"}}})


def test_a_class_is_taken_away_where_it_is_not_by_default() -> None:
    (problem,) = refused(classes={"high": {"stat": "absent"}})
    assert problem.instead == "state (did you mean that?)"
    (problem,) = refused(defaults={"stat": "absent"})
    assert problem.instead.startswith("one of acknowledgement, ")
    assert "state" not in problem.instead


@pytest.mark.parametrize(
    ("keys", "queues", "known"),
    [
        ({"queues": ["a"]}, ["a"], True),
        ({"queues": ["a", "b c", "a"]}, ["a"], False),
        ({"queues": "payments, mails"}, ["payments", "mails"], False),
        ({"queues": "no name"}, ["default"], False),
        ({"quues": ["a"]}, ["default"], False),
        ({"quues": ["a"], "nicee": 1}, ["default"], False),
        ({"nicee": 1}, ["default"], True),
    ],
)
def test_what_is_known_of_queues_that_cannot_be_read(keys: dict[str, Any], queues: list[str], known: bool) -> None:
    high = read(variables(classes={"high": keys}))[0]["high"]
    assert ([*high.queues], high.queues_known) == (queues, known)


def test_one_mistake_hides_no_other() -> None:
    found = refused(classes={"Bad": {}, "low": 7, "high": {"nicee": 1, "io_weight": 0, "queues": ["a,b", "c d"]}})
    assert [problem.variable.removeprefix("celery_worker_classes.") for problem in found] == [
        "Bad",
        "low",
        "high.nicee",
        "high.queues",
        "high.io_weight",
    ]
