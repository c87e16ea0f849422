"""The order in which the nodes of a RabbitMQ cluster are started and restarted, as the role's tasks have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TASKS = Path(__file__).resolve().parents[2] / "roles" / "rabbitmq" / "tasks"
UNITS = "celeryops.stack.units"
CLUSTER = "celeryops.stack.rabbitmq_cluster"


def tasks(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((TASKS / name).read_text())
    return found


def test_nodes_with_data_start_first_then_restart_then_the_blank_ones_begin_and_all_are_awaited() -> None:
    started, restarted, opened, reached, begun, awaited, balanced = tasks("service_cluster.yml")
    assert "not __rabbitmq.plan.blank" in started["when"]
    assert restarted["ansible.builtin.include_tasks"]["file"] == "restart_node.yml"
    variables = yaml.safe_load((TASKS.parent / "vars" / "main.yml").read_text())
    assert restarted["loop"] == "{{ __rabbitmq_turns }}"
    blank = "reject('in', __rabbitmq_hosts | selectattr('__rabbitmq.plan.blank')"
    assert blank in variables["__rabbitmq_turns"]
    # All port mappers, before any of them is asked for by another node.
    assert opened[UNITS]["units"] == "{{ __rabbitmq_units[:1] }}"
    assert reached[CLUSTER]["state"] == "reachable"
    assert all("__rabbitmq.plan.blank" in task["when"] for task in (opened, reached, begun))
    assert (awaited[CLUSTER]["state"], balanced[CLUSTER]["state"]) == ("up", "balanced")


def test_nodes_are_started_at_once_and_no_start_restarts_one() -> None:
    started, _restarted, _opened, _reached, begun, *_rest = tasks("service_cluster.yml")
    # After a full stop each waits for the others.
    assert (started[UNITS]["wait"], begun[UNITS]["wait"]) == (False, False)
    assert started[UNITS]["restart"] is False


def test_one_node_after_the_other_is_restarted_and_only_when_no_queue_needs_it() -> None:
    whole, gate, install, drain, restart = tasks("restart_node.yml")
    # The node itself may not know that the others are without it.
    assert whole[CLUSTER]["state"] == "up"
    assert "difference([__rabbitmq_turn])" in whole["when"]
    assert gate[CLUSTER]["state"] == "expendable"
    assert gate["when"] == "inventory_hostname == __rabbitmq_turn"
    assert drain[CLUSTER]["state"] == "drained"
    # Whoever leaves a node that is not restarted waits for nothing.
    restarts = "'rabbitmq-server.service' in __rabbitmq_files.restarts"
    expendable = "__rabbitmq_expendable.expendable | default(true)"
    assert drain["when"] == [gate["when"], expendable, f"inventory_hostname in __rabbitmq_to_upgrade or {restarts}"]
    assert restart["when"] == f"{gate['when']} and __rabbitmq_expendable.expendable | default(true)"
    assert gate["register"] == "__rabbitmq_expendable"
    # A node loads parts of itself from its files when it first needs them.
    needed = [gate["when"], "inventory_hostname in __rabbitmq_to_upgrade"]
    assert install["when"] == [*needed, "__rabbitmq_expendable.expendable | default(true)"]


def test_a_node_that_fails_ends_it_for_all() -> None:
    ending = [*tasks("service_cluster.yml")[:-1], *tasks("restart_node.yml")]
    assert all(task["any_errors_fatal"] for task in ending if "ansible.builtin.include_tasks" not in task)


def test_only_nodes_that_the_run_goes_on_without_may_be_away() -> None:
    asked = [*tasks("service_cluster.yml"), *tasks("restart_node.yml"), *tasks("reconcile.yml")]
    absent = {(task[CLUSTER]["state"], task[CLUSTER].get("absent")) for task in asked if CLUSTER in task}
    given = "{{ rabbitmq_absent_nodes }}"
    awaited = {(state, given) for state in ("up", "expendable", "complete")}
    # No blank node starts while one is away.
    assert absent == {*awaited, ("balanced", None), ("drained", None), ("reachable", None)}


def test_one_node_alone_is_run_as_before() -> None:
    drain, alone, cluster = tasks("service.yml")
    assert drain[CLUSTER]["state"] == "drained"
    restarts = "'rabbitmq-server.service' in __rabbitmq_files.restarts"
    assert drain["when"] == [restarts, "__rabbitmq.plan.cluster | length == 0"]
    assert "__rabbitmq.plan.cluster | length == 0" in alone["when"]
    assert "__rabbitmq.plan.cluster | length > 0" in cluster["when"]
