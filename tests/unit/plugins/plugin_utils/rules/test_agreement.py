"""What is said twice, or otherwise on another host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployments import DEFAULT, HIGH, RABBITMQ, REDIS, SHOP, STACK, about, found, only, with_app, with_server
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment, Duty, Machine


def test_producers_and_workers_agree() -> None:
    one, other = {"celery_app_routes": [1], "celery_app_user": "a"}, {"celery_app_routes": [2], "celery_app_user": "b"}
    finding = only(with_app(variants=(("app1", one), ("web1", other))), "differs-between-hosts")
    assert about(finding) == ("celery_app_routes", [2], "celery_app_routes", "shop")
    assert " web1 " in finding.problem.reason
    assert found(with_app(variants=(("app1", one), ("web1", one)))) == {}


@pytest.mark.parametrize("name", ["celery_app_broker_url", "celery_app_result_backend", "celery_app_once_url"])
def test_hosts_of_one_app_with_different_servers(name: str) -> None:
    one, other = {name: ("mq1:5672/shop",)}, {name: ("mq2:5672/shop",)}
    variants = (("app1", one), ("web1", other))
    # What nobody sets is worked out: who is told of a server in a wrong way, is another rule's.
    assert found(with_app(variants=variants)) == {}
    finding = only(with_app(variants=variants, given=frozenset({name})), "another-server")
    assert about(finding) == (name, "mq2:5672/shop", name, "shop")
    assert " app1, mq1:5672/shop" in finding.problem.reason
    assert found(with_app(variants=(("app1", one), ("web1", one)))) == {}
    none_there = (("app1", {name: ()}), ("web1", one))
    assert only(with_app(variants=none_there, given=frozenset({name})), "another-server")


def test_processes_of_one_app_with_different_accounts() -> None:
    stack = replace(STACK, accounts=(("celery_beat_user", "third", "app1", "shop", "shop"),))
    finding = only(stack, "different-accounts")
    assert (finding.problem.variable, finding.problem.value) == ("celery_beat_user", "third")
    assert finding.problem.instead.startswith("celery_app_user ")


# Twice


@pytest.mark.parametrize(
    ("setting", "value", "key", "written"),
    [
        ("worker_prefetch_multiplier", 4, "prefetch_multiplier", 1),
        ("task_time_limit", 60, "time_limit", "90s"),
        ("task_time_limit", float("inf"), "time_limit", "60s"),
        ("task_soft_time_limit", 60, "soft_time_limit", 30),
        ("task_acks_late", True, "acknowledgement", "early"),
    ],
)
def test_a_setting_that_the_defaults_of_all_classes_override(setting: str, value: Any, key: str, written: Any) -> None:
    worker = replace(HIGH, written={key: written}, origins={key: f"celery_worker_defaults.{key}"})
    finding = only(with_app(own_settings={setting: value}, classes=(worker, DEFAULT)), "given-twice")
    assert told([finding.problem]) == [("no-effect-beside-defaults", f"celery_app_settings.{setting}")]
    assert finding.subject == setting
    own = replace(worker, origins={key: f"celery_worker_classes.high.{key}"})
    assert found(with_app(own_settings={setting: value}, classes=(own, DEFAULT))) == {}
    assert found(with_app(classes=(worker, DEFAULT))) == {}


@pytest.mark.parametrize(
    ("setting", "value", "key", "written"),
    [
        ("task_time_limit", 60, "time_limit", "60s"),
        ("task_time_limit", 60.0, "time_limit", "60s"),
        ("task_acks_late", True, "acknowledgement", "late"),
        ("task_acks_late", False, "acknowledgement", "early"),
    ],
)
def test_the_same_value_twice_is_no_contradiction(setting: str, value: Any, key: str, written: Any) -> None:
    worker = replace(HIGH, written={key: written}, origins={key: f"celery_worker_defaults.{key}"})
    assert found(with_app(own_settings={setting: value}, classes=(worker, DEFAULT))) == {}


def test_a_prefetch_multiplier_that_a_setting_overrides() -> None:
    variables = {"celery_app_prefetch_multiplier": 2}
    given = {"given": frozenset(variables), "variables": variables}
    problem = only(with_app(own_settings={"worker_prefetch_multiplier": 4}, **given), "given-twice").problem
    assert told([problem]) == [("no-effect-beside-settings", "celery_app_prefetch_multiplier")]
    assert problem.value == 2
    assert problem.reason.endswith("worker_prefetch_multiplier is 4")
    assert found(with_app(own_settings={"worker_prefetch_multiplier": 2}, **given)) == {}
    assert found(with_app(**given)) == {}
    assert found(with_app(own_settings={"worker_prefetch_multiplier": 4}, variables=variables)) == {}


@pytest.mark.parametrize(
    ("setting", "value", "variable", "given", "same"),
    [
        ("beat_scheduler", "a.Scheduler", "celery_beat_scheduler", "b.Scheduler", "a.Scheduler"),
        ("beat_max_loop_interval", 60, "celery_beat_max_interval", "90s", "1m"),
    ],
)
def test_a_setting_that_a_variable_of_beat_overrides(
    setting: str, value: Any, variable: str, given: Any, same: Any
) -> None:
    def stack(said: Any, **changes: Any) -> Deployment:
        duty = Duty("celery_beat", "shop", "app1", {variable: said})
        return replace(with_app(own_settings={setting: value}), duties=(replace(duty, **changes),))

    finding = only(stack(given), "given-twice")
    assert about(finding) == (f"celery_app_settings.{setting}", value, setting, "shop")
    assert finding.problem.reason.endswith(f"{variable} is {given}")
    assert found(stack(same)) == found(stack("")) == found(stack(0)) == found(stack(given, app="blog")) == {}
    assert found(replace(stack(given), apps={"shop": SHOP})) == {}


def test_a_line_of_rabbitmq_conf_and_its_variable() -> None:
    variables = {"rabbitmq_config": {"management.tcp.port": 1}, "rabbitmq_management_port": 15672}
    given = frozenset({"rabbitmq_management_port"})
    finding = only(with_server(RABBITMQ, variables=variables, given=given), "given-twice")
    assert (finding.problem.variable, finding.problem.value) == ("rabbitmq_config.management.tcp.port", 1)
    assert found(with_server(RABBITMQ, variables=variables)) == {}


# Ports

FLOWER = Duty("flower", "shop", "mq1", {"flower_port": 5555})


def test_one_port_for_two() -> None:
    assert found(replace(STACK, duties=(FLOWER,))) == {}
    taken = replace(FLOWER, variables={"flower_port": 6379})
    assert only(replace(STACK, duties=(taken,)), "port-twice").subject == "mq1"
    machines = {**STACK.machines, "alias": Machine("alias", "mq1")}
    two = replace(STACK, machines=machines, duties=(FLOWER, replace(FLOWER, app="blog", host="alias")))
    finding = only(two, "port-twice")
    assert (finding.problem.variable, finding.problem.value) == ("flower_port", 5555)
    assert "on alias is taken by flower_port of mq1" in finding.problem.reason
    elsewhere = (FLOWER, replace(FLOWER, host="app1"))
    assert found(replace(STACK, duties=elsewhere)) == {}
    management = with_server(RABBITMQ, variables={"rabbitmq_management_port": 6379})
    assert only(management, "port-twice").problem.variable == "rabbitmq_management_port"


def test_ports_that_are_not_known_are_not_taken() -> None:
    machines = {**STACK.machines, "alias": Machine("alias", "mq1")}
    rabbits = (RABBITMQ, replace(RABBITMQ, host="alias", port=5673))
    flowers = (Duty("flower", "shop", "mq1"), Duty("flower", "blog", "alias"))
    stack = replace(STACK, machines=machines, servers=rabbits, duties=flowers)
    assert "port-twice" not in found(stack)
    twice = found(replace(stack, servers=(RABBITMQ, replace(RABBITMQ, host="alias"))))["port-twice"]
    assert [finding.problem.value for finding in twice] == [5672]


def test_the_two_ports_of_one_rabbitmq_are_its_roles_own_check() -> None:
    assert found(with_server(RABBITMQ, variables={"rabbitmq_management_port": 5672})) == {}


def test_servers_behind_one_address_may_have_one_port() -> None:
    machines = {"mq1": Machine("mq1", "127.0.0.1", port="2222"), "app1": Machine("app1", "127.0.0.1", port="2200")}
    servers = (replace(RABBITMQ, listen=("10.0.0.1",)), REDIS)
    stack = replace(STACK, machines={**STACK.machines, **machines}, servers=servers)
    flower = Duty("flower", "shop", "app1", {"flower_port": 6379})
    assert found(replace(stack, duties=(flower,))) == {}
    assert list(found(replace(stack, duties=(replace(flower, host="mq1"),)))) == ["port-twice"]
    near = (replace(RABBITMQ, listen=("127.0.0.1",)), REDIS)
    assert list(found(replace(stack, servers=near))) == ["server-out-of-reach"]
