"""A fault of the collection's own is told like a mistake: where it is, and nothing of what the user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from check_in_process import checked

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory import check as inventory_check
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import redis


def test_a_fault_of_a_plan_names_role_host_and_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(variables: Mapping[str, Any], _facts: Mapping[str, Any]) -> Any:
        if variables["redis_databases"] == 7:
            raise ValueError("hunter2")
        return {}, []

    monkeypatch.setattr(redis, "plan", plan)
    told = checked(tmp_path, {"redis_databases": 7, "redis_port": 6380})["msg"]
    assert "hunter2" not in told
    assert told.startswith(
        "1 mistake in the variables; nothing was changed:\n  - redis_databases: '(not shown)' hit a bug "
    )
    assert "(ValueError in test_check_faults.py, line 19, role redis, one.invalid); write " in told


def test_a_fault_without_a_variable_names_the_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "plan", lambda _variables, _facts: {}["hunter2"])
    told = checked(tmp_path, {})["msg"]
    assert "  - role redis: '(not shown)' hit a bug in celeryops.stack (KeyError in " in told
    assert "hunter2" not in told


def test_a_fault_of_the_rules_is_told_where_nothing_else_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_arguments: object) -> Any:
        raise TypeError("hunter2")

    monkeypatch.setattr(inventory_check, "judge", judge)
    told = checked(tmp_path, {})["msg"]
    assert "  - the inventory: '(not shown)' hit a bug in celeryops.stack (TypeError in " in told
    assert "hunter2" not in told
    assert checked(tmp_path, {"redis_port": "x"})["msg"].splitlines()[1:] == [
        "  - redis_port: 'x' is not a whole number; write a whole number"
    ]
