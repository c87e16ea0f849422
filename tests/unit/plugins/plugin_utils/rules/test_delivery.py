"""Timeouts of brokers, at their boundaries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployments import (
    DAY,
    DEFAULT,
    HIGH,
    HOUR,
    RABBITMQ,
    REDIS,
    REDIS_BROKER,
    SHOP,
    STACK,
    about,
    apps,
    found,
    named,
    only,
    two_apps,
    with_app,
    with_class,
    with_server,
)

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment, RunningClass
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import held_for

# The visibility timeout of Redis


def patient(timeout: int, *classes: RunningClass, **changes: Any) -> Deployment:
    """Return a stack on Redis with a visibility timeout."""
    variables = {"celery_app_longest_task": "30m", "celery_app_visibility_timeout": "given"}
    own = {**REDIS_BROKER, "visibility_timeout": timeout, "variables": variables, "longest_eta": HOUR}
    given = frozenset({"celery_app_visibility_timeout"})
    return with_app(**{**own, "given": given, "classes": classes or SHOP.classes, **changes})


def test_the_visibility_timeout_is_above_the_longest_eta() -> None:
    nobody = {"classes": (), "hosts": ("app2",)}
    assert found(patient(HOUR + 1, **nobody)) == {}
    finding = only(patient(HOUR, **nobody), "visibility-timeout")
    assert about(finding) == ("celery_app_visibility_timeout", "given", "shop", "shop")
    assert "celery_app_longest_eta, 1h:" in finding.problem.reason
    assert "more than 1h," in finding.problem.instead


@pytest.mark.parametrize(("late", "held"), [(True, 8), (False, 6)])
@pytest.mark.parametrize("eta", [0, 1])
def test_the_visibility_timeout_is_above_what_a_delayed_task_takes(late: bool, held: int, eta: int) -> None:
    slow = replace(HIGH, late=late, prefetch=3, time_limit=2 * HOUR, stop_timeout=2 * HOUR)
    needed = held + eta
    assert found(patient(needed * HOUR + 1, DEFAULT, slow, longest_eta=eta * HOUR)) == {}
    problem = only(patient(needed * HOUR, DEFAULT, slow, longest_eta=eta * HOUR), "visibility-timeout").problem
    assert (problem.variable, problem.value) == ("celery_app_visibility_timeout", "given")
    assert f"the {held}h for which" in problem.reason
    assert "class high" in problem.reason
    assert ("celery_app_longest_eta, 1h and" in problem.reason) is bool(eta)
    assert f"more than {needed}h," in problem.instead


def test_a_longest_task_that_a_class_outlives_is_told_where_it_stands() -> None:
    slow = replace(HIGH, time_limit=2 * HOUR, stop_timeout=2 * HOUR)
    problem = only(patient(HOUR, DEFAULT, slow, longest_eta=0, given=frozenset()), "visibility-timeout").problem
    assert (problem.variable, problem.value) == ("celery_app_longest_task", "30m")
    assert "timeout 1h, which is not above the 4h" in problem.reason
    assert "at least 2h," in problem.instead
    problem = only(patient(HOUR, longest_eta=0, given=frozenset()), "visibility-timeout").problem
    assert "at least 30m," in problem.instead


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("eta", [0, 60, DAY])
@pytest.mark.parametrize("limit", [1, 1800, DAY])
def test_what_is_derived_is_long_enough(late: bool, eta: int, limit: int) -> None:
    worker = replace(HIGH, late=late, time_limit=limit, stop_timeout=limit)
    derived = held_for(limit, 1, eta)
    assert found(patient(derived, worker, replace(worker, name="default", queues=("default",)), longest_eta=eta)) == {}
    several = held_for(limit, 5, eta)
    taking = replace(worker, prefetch=5, queues=("default", "payments"))
    assert found(patient(several, taking, longest_eta=eta)) == {}


def test_of_a_worker_that_takes_all_another_rule_tells() -> None:
    taking = (replace(HIGH, prefetch=None, time_limit=DAY, stop_timeout=DAY), replace(DEFAULT, prefetch=None))
    assert list(found(patient(HOUR + 1, *taking))) == ["unlimited-prefetch"]
    assert list(found(patient(HOUR, *taking))) == ["visibility-timeout", "unlimited-prefetch"]


def test_a_visibility_timeout_is_redis_matter() -> None:
    assert found(with_app(visibility_timeout=1)) == {}


def test_the_visibility_timeout_of_every_app_is_looked_at() -> None:
    short = {**REDIS_BROKER, "visibility_timeout": HOUR}
    own = {"own_settings": {"broker_transport_options": {"visibility_timeout": 1}}}
    findings = found(apps(named("a"), named("b", **short, **own), named("c", **short)))["visibility-timeout"]
    assert [about(finding) for finding in findings] == [("celery_app_visibility_timeout", "1h", "c", "c")]


def test_two_apps_on_one_redis() -> None:
    base = with_app(**REDIS_BROKER)
    other = {"visibility_timeout": 4 * HOUR}
    finding = only(two_apps(base, **other), "different-visibility-timeouts")
    assert (finding.app, finding.problem.value) == ("blog", "4h")
    assert "of shop on the same Redis, 3h:" in finding.problem.reason
    apart = {**other, "variables": {"celery_app_key_prefix": "blog:"}}
    assert found(two_apps(base, **apart)) == {}
    said = {**apart, "given": frozenset({"celery_app_visibility_timeout"})}
    assert "different-visibility-timeouts" in found(two_apps(base, **said))
    assert found(two_apps(base)) == {}
    assert found(two_apps(base, **{**other, "broker_addresses": ("other:6379/0",)})) == {}
    assert found(two_apps(**{**other, "broker_addresses": ("mq1:6379/0",)})) == {}


def test_the_timeouts_of_every_two_apps_on_one_redis_are_compared() -> None:
    same, other = {"celery_app_key_prefix": "shop:"}, {"visibility_timeout": 4 * HOUR}
    shop = named("shop", **REDIS_BROKER)
    second = {**REDIS_BROKER, "variables": same, **other, "broker_addresses": ("mq2:6379/0", "mq1:6379/0")}
    rule = "different-visibility-timeouts"
    assert [finding.app for finding in found(apps(shop, named("blog", **second)))[rule]] == ["blog"]
    # Apart from the first app, but not from the second.
    crm = named("crm", **{**second, "variables": {"celery_app_key_prefix": "c:"}, "broker_addresses": ("mq2:6379/0",)})
    late = {**second, "variables": {"celery_app_key_prefix": "c:"}, "visibility_timeout": 5 * HOUR}
    stack = apps(shop, crm, named("late", **{**late, "broker_addresses": ("mq1:6379/0", "mq2:6379/0")}))
    (finding,) = found(stack)[rule]
    assert " of crm on " in finding.problem.reason


def test_a_redis_for_results_is_no_broker() -> None:
    results = replace(REDIS, variables={"redis_purpose": "results", "redis_maxmemory_policy": "noeviction"})
    stack = replace(with_app(**REDIS_BROKER), servers=(results,))
    assert only(stack, "results-only-server").problem.variable == "redis_purpose"
    elsewhere = with_app(**REDIS_BROKER, given=frozenset({"celery_app_broker_url"}))
    assert found(replace(elsewhere, servers=(results,))) == {}
    assert found(replace(STACK, servers=(RABBITMQ, results))) == {}
    both = replace(results, variables={"redis_purpose": "both", "redis_maxmemory_policy": "noeviction"})
    assert found(replace(stack, servers=(both,))) == {}


def test_results_that_may_be_evicted() -> None:
    variables = {"redis_purpose": "results", "redis_maxmemory_policy": "allkeys-lru"}
    assert only(with_server(REDIS, variables=variables), "evicted-results").problem.value == "allkeys-lru"
    assert found(with_server(REDIS, variables={**variables, "redis_purpose": "custom"})) == {}


# The consumer timeout of RabbitMQ


@pytest.mark.parametrize(("timeout", "fits"), [(3 * HOUR, False), (3 * HOUR + 1, True), (0, True)])
@pytest.mark.parametrize("late", [True, False])
def test_the_consumer_timeout_is_above_what_a_worker_holds(timeout: int, fits: bool, late: bool) -> None:
    slow = with_class(late=late, prefetch=2, time_limit=HOUR, stop_timeout=HOUR)
    server = replace(RABBITMQ, consumer_timeout=timeout, variables={"rabbitmq_consumer_timeout": "3h"})
    findings = found(replace(slow, servers=(server, REDIS))).get("consumer-timeout", [])
    assert [about(finding) for finding in findings] == (
        [] if fits else [("rabbitmq_consumer_timeout", "3h", "high", "shop")]
    )
    assert all("more than 3h," in finding.problem.instead for finding in findings)


def test_the_consumer_timeout_of_the_servers_own_configuration_is_named() -> None:
    own = {"rabbitmq_config": {"consumer_timeout": 1000}, "rabbitmq_consumer_timeout": "4h"}
    finding = only(with_server(RABBITMQ, consumer_timeout=1, variables=own), "consumer-timeout")
    assert (finding.problem.variable, finding.problem.value) == ("rabbitmq_config.consumer_timeout", 1000)


def test_every_server_and_every_app_have_their_consumer_timeout_looked_at() -> None:
    patient = replace(RABBITMQ, consumer_timeout=0)
    other = named("other", **REDIS_BROKER)
    stack = apps(other, named("idle"), replace(SHOP, longest_task=HOUR), servers=(patient, RABBITMQ))
    assert [finding.app for finding in found(stack)["consumer-timeout"]] == ["shop"]


def test_without_a_limit_the_longest_task_counts_and_without_quorum_the_eta() -> None:
    assert "consumer-timeout" in found(with_app(longest_task=HOUR))
    assert "consumer-timeout" not in found(with_app(longest_task=HOUR - 1))
    classic = {"queues": {"default": "classic", "payments": "classic"}, "longest_task": 60}
    assert "consumer-timeout" in found(with_app(**classic, longest_eta=2 * HOUR - 120))
    assert "consumer-timeout" not in found(with_app(**classic, longest_eta=2 * HOUR - 121))
    assert "consumer-timeout" not in found(with_app(longest_task=HOUR, broker="redis", visibility_timeout=9 * HOUR))


ELSEWHERE: dict[str, Any] = {
    "broker_addresses": ("mq.example.com:5672/shop",),
    "given": frozenset({"celery_app_broker_url"}),
}
WITHOUT_RABBITMQ = replace(STACK, servers=(REDIS,))


@pytest.mark.parametrize(("limit", "fits"), [(899, True), (900, False), (6 * HOUR, False)])
def test_the_consumer_timeout_of_a_server_elsewhere(limit: int, fits: bool) -> None:
    slow = replace(HIGH, time_limit=limit, stop_timeout=limit)
    findings = found(with_app(WITHOUT_RABBITMQ, **ELSEWHERE, classes=(slow, DEFAULT)))
    assert list(findings) == ([] if fits else ["consumer-timeout-elsewhere"])
    for finding in findings.get("consumer-timeout-elsewhere", ()):
        assert about(finding) == ("celery_app_broker_url", "mq.example.com:5672/shop", "high", "shop")
        assert f"more than {2 * limit * 1000} as " in finding.problem.instead


def test_an_app_without_a_server_elsewhere_hides_no_other() -> None:
    slow = {"classes": (replace(HIGH, app="blog", time_limit=6 * HOUR, stop_timeout=6 * HOUR),)}
    blog = replace(SHOP, name="blog", **ELSEWHERE, **slow)
    findings = found(replace(WITHOUT_RABBITMQ, apps={"shop": replace(SHOP, **REDIS_BROKER), "blog": blog}))
    assert [finding.app for finding in findings["consumer-timeout-elsewhere"]] == ["blog"]


def test_of_a_server_elsewhere_nothing_is_told_without_need() -> None:
    slow = {"classes": (replace(HIGH, time_limit=6 * HOUR, stop_timeout=6 * HOUR), DEFAULT)}
    rule = "consumer-timeout-elsewhere"
    # Nobody says how long its tasks are, or whether they are delayed.
    assert found(with_app(WITHOUT_RABBITMQ, **ELSEWHERE)) == {}
    classic = {**ELSEWHERE, "queues": dict.fromkeys(SHOP.queues, "classic")}
    assert found(with_app(WITHOUT_RABBITMQ, **classic)) == {}
    for name in ("celery_app_longest_task", "celery_app_longest_eta"):
        given = ELSEWHERE["given"] | {name}
        assert (rule in found(with_app(WITHOUT_RABBITMQ, **{**ELSEWHERE, "given": given}))) is (
            name == "celery_app_longest_task"
        )
        assert rule in found(with_app(WITHOUT_RABBITMQ, **{**classic, "given": given}))
    # The server is known, is not a RabbitMQ, or nothing is consumed.
    assert rule not in found(with_app(**slow))
    assert rule not in found(with_app(**{**ELSEWHERE, "broker_addresses": SHOP.broker_addresses}, **slow))
    assert rule in found(with_app(**ELSEWHERE, **slow))
    redis = {**REDIS_BROKER, "visibility_timeout": 99 * HOUR, "given": ELSEWHERE["given"]}
    assert found(with_app(WITHOUT_RABBITMQ, **redis, **slow)) == {}
    assert found(with_app(WITHOUT_RABBITMQ, **ELSEWHERE, classes=(), hosts=("app2",))) == {}


# Workers that take all there is


def test_a_worker_that_takes_all_there_is() -> None:
    taking = (replace(HIGH, prefetch=None, time_limit=9 * HOUR, stop_timeout=9 * HOUR), DEFAULT)
    finding = only(with_app(classes=taking), "unlimited-prefetch")
    assert about(finding) == ("celery_app_settings.worker_prefetch_multiplier", 0, "shop", "shop")
    endless = replace(RABBITMQ, consumer_timeout=0)
    assert found(replace(with_app(classes=taking), servers=(endless, REDIS))) == {}
    # What ends is another timeout on each broker.
    on_redis = only(with_app(**REDIS_BROKER, classes=taking), "unlimited-prefetch")
    assert about(on_redis) == about(finding)
    assert on_redis.problem.reason != finding.problem.reason
    everywhere = (*taking, replace(taking[0], host="app2"), replace(DEFAULT, prefetch=None))
    assert "classes high, default take" in only(with_app(classes=everywhere), "unlimited-prefetch").problem.reason


def test_a_worker_that_takes_all_holds_delayed_tasks_only() -> None:
    classic = {"queues": {"default": "classic", "payments": "classic"}, "classes": (replace(HIGH, prefetch=None),)}
    assert "consumer-timeout" in found(with_app(**classic, longest_eta=2 * HOUR))
    assert "consumer-timeout" not in found(with_app(**classic, longest_eta=2 * HOUR - 1))


@pytest.mark.parametrize(
    ("names", "shown"),
    [("a", "class a"), ("ab", "classes a, b"), ("abc", "classes a, b, c"), ("abcd", "classes a, b, c, ...")],
)
def test_three_classes_that_take_all_are_named(names: str, shown: str) -> None:
    classes = tuple(replace(HIGH, name=name, queues=(f"q{name}",), prefetch=None) for name in names)
    (finding,) = found(with_app(classes=classes))["unlimited-prefetch"]
    assert f" {shown} take" in finding.problem.reason
