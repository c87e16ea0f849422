"""Limits of workers against each other and against the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployments import DEFAULT, GIB, HIGH, HOUR, STACK, about, found, only, with_app, with_class

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    App,
    Deployment,
    Machine,
    RunningClass,
    Server,
)

# Times


@pytest.mark.parametrize(("stop", "fits"), [(3599, False), (3600, True), (3601, True)])
def test_a_stop_that_cuts_tasks_off(stop: int, fits: bool) -> None:
    slow = {"time_limit": HOUR, "prefetch": 0, "written": {"stop_timeout": "59m"}}
    both = [found(with_class(stop_timeout=stop, late=late, **slow)).get("stop-timeout", []) for late in (True, False)]
    for findings in both:
        assert [about(finding) for finding in findings] == (
            [] if fits else [("celery_worker_classes.high.stop_timeout", "59m", "high", "shop")]
        )
        assert all(finding.problem.instead == "at least 1h" for finding in findings)
    # What becomes of the task is another thing.
    assert fits or both[0][0].problem.reason != both[1][0].problem.reason


def test_one_stop_timeout_of_all_classes_is_told_once() -> None:
    where = {"stop_timeout": "celery_worker_defaults.stop_timeout"}
    keys = {"stop_timeout": 300, "written": {"stop_timeout": "5m"}, "origins": where, "prefetch": 0}
    high, default = replace(HIGH, time_limit=600, **keys), replace(DEFAULT, time_limit=HOUR, **keys)
    finding = only(with_app(classes=(high, default)), "stop-timeout")
    assert (finding.problem.variable, finding.subject) == ("celery_worker_defaults.stop_timeout", "")
    assert finding.problem.instead == "at least 1h"
    accepted = with_app(classes=(high, default), accepted=frozenset({"stop-timeout:default"}))
    assert only(accepted, "stop-timeout").subject == "high"


def test_a_stop_timeout_that_nobody_wrote_is_shown_as_it_is() -> None:
    slow = {"time_limit": HOUR, "prefetch": 0, "stop_timeout": 300}
    assert only(with_class(**slow), "stop-timeout").problem.value == "5m"
    assert found(with_class(time_limit=None, stop_timeout=1)) == {}


@pytest.mark.parametrize(("soft", "hard", "fits"), [(60, 60, False), (61, 60, False), (59, 60, True), (60, None, True)])
def test_a_soft_limit_from_elsewhere_is_under_the_hard_one(soft: int, hard: int | None, fits: bool) -> None:
    def told(**written: Any) -> list[str]:
        findings = found(with_class(soft_time_limit=soft, time_limit=hard, written=written)).get("soft-time-limit", [])
        return [finding.problem.variable for finding in findings]

    assert told(soft_time_limit=soft) == ([] if fits else ["celery_worker_classes.high.soft_time_limit"])
    assert told() == ([] if fits else ["celery_app_settings.task_soft_time_limit"])
    assert told(soft_time_limit=soft, time_limit=hard) == []


def test_a_soft_limit_says_which_hard_limit_it_has_to_stay_under() -> None:
    def instead(*keys: str, **written: Any) -> list[str]:
        limits = {"soft_time_limit": 60, "time_limit": 60}
        stack = with_class(**limits, written={**dict.fromkeys(keys, 60), **written})
        return [finding.problem.instead for finding in found(stack).get("soft-time-limit", [])]

    assert instead("soft_time_limit") == ["less than task_time_limit, which is 60s"]
    assert instead("time_limit") == ["less than 1m, the time limit of class high"]
    assert instead("soft_time_limit", "time_limit", queues=["payments"]) == []
    late = replace(DEFAULT, soft_time_limit=60, time_limit=60)
    assert len(found(with_app(classes=(HIGH, late)))["soft-time-limit"]) == 1


# Processes and arguments


def test_arguments_that_no_worker_has() -> None:
    finding = only(with_class(extra_arguments=("-E", "--without-mingl")), "unknown-argument")
    assert about(finding) == ("celery_worker_classes.high.extra_arguments", "--without-mingl", "high", "shop")
    assert finding.problem.instead == "--without-mingle (did you mean that?)"
    assert found(with_class(extra_arguments=("-E", "-O", "fair", "--heartbeat-interval=10"))) == {}


def test_the_same_class_on_many_hosts_is_told_once() -> None:
    bad = replace(HIGH, max_tasks_per_child=1)
    finding = only(with_app(classes=(bad, DEFAULT, replace(bad, host="app2"))), "one-task-per-child")
    assert about(finding) == ("celery_worker_classes.high.max_tasks_per_child", 1, "high", "shop")
    assert found(with_class(max_tasks_per_child=2)) == {}


def sized(memory: int | None = None, cores: int | None = None, **changes: Any) -> Deployment:
    machine = Machine("app1", "app1", memory=memory, cores=cores)
    return replace(with_class(**changes), machines={**STACK.machines, "app1": machine})


def test_processes_fit_the_processors() -> None:
    assert found(sized(cores=2, concurrency=32)) == {}
    finding = only(sized(cores=2, concurrency=33), "concurrency")
    assert (finding.problem.variable, finding.problem.value) == ("celery_worker_classes.high.concurrency", 33)
    assert " 33 processes in all on app1, which has 2 processors" in finding.problem.reason
    assert only(sized(cores=1, concurrency=17), "concurrency").problem.reason.endswith(" 1 processor")
    assert found(sized(cores=1, concurrency="auto")) == {}
    assert found(sized(cores=1, concurrency=200, pool="gevent")) == {}
    assert "at most 48 for" in only(sized(cores=3, concurrency=49), "concurrency").problem.instead


@pytest.mark.parametrize(("pool", "most"), [("prefork", 256), ("threads", 1000), ("gevent", 10_000)])
def test_more_than_any_host_has_a_use_for(pool: str, most: int) -> None:
    assert found(sized(concurrency=most, pool=pool)) == {}
    problem = only(sized(concurrency=most + 1, pool=pool), "concurrency").problem
    assert problem.id == "more-than-any-host-has"
    assert problem.instead == f"at most {most}" + (", or auto" if pool == "prefork" else "")


# Memory


def test_the_memory_of_all_classes_fits_into_the_machine() -> None:
    assert found(sized(4 * GIB, memory_max=4 * GIB)) == {}
    finding = only(sized(4 * GIB, memory_max=4 * GIB + 1), "memory")
    assert (finding.problem.variable, finding.subject) == ("celery_worker_classes.high.memory_max", "app1")
    problem = only(sized(4 * GIB, max_memory_per_child=2 * GIB), "memory").problem
    assert (problem.variable, problem.value) == ("celery_worker_classes.high.max_memory_per_child", "8G")
    assert problem.instead.endswith(" 4G")
    assert found(sized(8 * GIB, max_memory_per_child=2 * GIB)) == {}
    assert found(sized(None, memory_max=999 * GIB)) == {}


def test_classes_of_several_apps_share_a_machine() -> None:
    machines = {**STACK.machines, "app1": Machine("app1", "10.0.0.1", memory=GIB), "blog": Machine("blog", "10.0.0.1")}
    blog = App("blog", classes=(replace(DEFAULT, app="blog", host="blog", memory_max=GIB),), variants=(("blog", {}),))
    stack = replace(with_class(memory_max=GIB), machines=machines)
    finding = only(replace(stack, apps={**stack.apps, "blog": blog}), "memory")
    assert " 2G of memory (high 1G + default 1G), and it has 1G" in finding.problem.reason
    # What is known of the machine may be said of any of its names.
    machines = {**machines, "app1": Machine("app1", "10.0.0.1"), "blog": Machine("blog", "10.0.0.1", memory=GIB)}
    assert only(replace(stack, machines=machines, apps={**stack.apps, "blog": blog}), "memory") == finding


def test_what_automatic_concurrency_may_take_is_known_where_the_processors_are() -> None:
    children = {"concurrency": "auto", "max_memory_per_child": 2 * GIB}
    assert found(sized(8 * GIB, cores=4, **children)) == {}
    assert found(sized(9 * GIB, cores=4, **children)) == {}
    problem = only(sized(7 * GIB, cores=4, **children), "memory").problem
    assert (problem.variable, problem.value) == ("celery_worker_classes.high.max_memory_per_child", "8G")
    # A class without limits is no part of it.
    assert " 8G of memory (high 8G), and it has 7G" in problem.reason
    assert found(sized(2 * GIB, cores=None, **children)) == {}
    assert found(sized(4 * GIB, cores=4, **children, memory_max=4 * GIB)) == {}


def test_every_machine_is_looked_at() -> None:
    small = {name: Machine(name, name, memory=GIB, cores=1) for name in ("app2", "app3")}
    big = replace(HIGH, host="app3", concurrency=17, memory_max=2 * GIB)
    stack = with_app(classes=(HIGH, replace(HIGH, host="app2"), big))
    findings = found(replace(stack, machines={**STACK.machines, **small}))
    assert [finding.subject for finding in findings["memory"]] == ["app3"]
    (finding,) = findings["concurrency"]
    assert "at most 16 for" in finding.problem.instead


def test_a_machine_of_several_names_is_called_by_the_first() -> None:
    names = {name: Machine(name, "10.0.0.1", memory=GIB) for name in ("app1", "app2")}
    stack = with_app(classes=(HIGH, replace(DEFAULT, host="app2", memory_max=2 * GIB)))
    (finding,) = found(replace(stack, machines={**STACK.machines, **names}))["memory"]
    assert finding.subject == "app1"


def test_every_worker_of_a_class_counts() -> None:
    assert replace(HIGH, workers=3, memory_max=GIB).memory == 3 * GIB
    assert found(sized(3 * GIB, memory_max=GIB, workers=3)) == {}
    assert only(sized(3 * GIB - 1, memory_max=GIB, workers=3), "memory").subject == "app1"
    children = {"concurrency": "auto", "max_memory_per_child": GIB}
    assert found(sized(8 * GIB, cores=2, workers=4, **children)) == {}
    assert "high 8G" in only(sized(7 * GIB, cores=2, workers=4, **children), "memory").problem.reason
    assert " 20 processes " in only(sized(cores=1, concurrency=4, workers=5), "concurrency").problem.reason
    assert found(sized(cores=2, concurrency=4, workers=5)) == {}


def test_what_a_class_takes_at_least() -> None:
    assert replace(HIGH, concurrency="auto", max_memory_per_child=GIB).memory == GIB
    assert replace(HIGH, concurrency=3, max_memory_per_child=GIB).memory == 3 * GIB
    assert replace(HIGH, concurrency=3, max_memory_per_child=GIB, memory_max=2 * GIB).memory == 2 * GIB
    assert HIGH.memory == 0


def test_what_nobody_says_of_a_deployment_is_nothing() -> None:
    assert (App("shop").longest_eta, App("shop").longest_task, App("shop").visibility_timeout) == (0, 0, 0)
    assert (Server("redis", "mq1").port, Server("redis", "mq1").consumer_timeout) == (0, 0)
    assert RunningClass("shop", "app1", "high", ()).stop_timeout == 0
