"""When a call is not made, since its host has a receipt for it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.receipts import proof
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory import receipts
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import this_run

CALL = {"files": [{"path": "/etc/shop.conf", "content": "a"}], "units": []}
HELD = {"settled": True, "restarts": [], "result": None}


class HostVars:
    def __init__(self, of: dict[str, dict[str, Any]]) -> None:
        self.of = of

    def raw_get(self, host: str) -> dict[str, Any]:
        return self.of[host]


def variables(**changes: Any) -> dict[str, Any]:
    """Those of a task on app1, whose host has a receipt for the call."""
    machine = {"run": this_run(), "receipts": {proof(receipts.KEY, receipts.asked(CALL)): HELD}}
    of: dict[str, dict[str, Any]] = {"mq1": {}, "app2": {}, "beat1": {}}
    return {
        "celeryops_receipts": True,
        "inventory_hostname": "app1",
        "ansible_facts": {
            "celeryops_machine": machine,
            "celeryops_same_machine": {"app1": ["beat1"], "beat1": ["app1"]},
        },
        "groups": {"rabbitmq": ["mq1"], "redis": ["app1"], "celery_workers": ["app1", "app2"]},
        "hostvars": HostVars(of),
        "__celery_app_files": {"changed": False},
        "celery_worker_classes": {"changed": {}},
        **changes,
    }


def test_what_has_a_receipt_is_known() -> None:
    assert receipts.found_by(CALL, variables()) == HELD
    assert receipts.found_by({"units": CALL["units"], "files": CALL["files"]}, variables()) == HELD


@pytest.mark.parametrize(
    "changes",
    [
        {"celeryops_receipts": False},
        {"celeryops_receipts": "false"},
        {"__celery_app_files": {"changed": True}},
        {"__celery_app_files": {"changed": False, "failed": True}},
        {"celeryops_restored": {"changed": True, "results": []}},
        {"hostvars": HostVars({"beat1": {}, "mq1": {"__rabbitmq_service": {"changed": True}}})},
        {"hostvars": HostVars({"beat1": {}, "mq1": {"__rabbitmq_service": {"unreachable": True}}})},
        {"hostvars": HostVars({"beat1": {"__celery_app_taken": {"changed": True}}, "mq1": {}})},
    ],
    ids=[
        *("not asked for", "switched off", "changed", "failed", "changed by a playbook"),
        *("a server was changed", "a server was lost", "another name of the machine was changed"),
    ],
)
def test_a_call_is_made_all_the_same(changes: dict[str, Any]) -> None:
    assert receipts.found_by(CALL, variables(**changes)) is None


def test_what_another_worker_host_has_changed_is_no_matter() -> None:
    others = HostVars({"mq1": {}, "beat1": {}, "app2": {"__celery_app_files": {"changed": True}}})
    assert receipts.found_by(CALL, variables(hostvars=others)) == HELD


def test_a_play_without_the_collections_variables_does_not_know_of_receipts() -> None:
    known = variables()
    del known["celeryops_receipts"]
    assert receipts.found_by(CALL, known) is None


@pytest.mark.parametrize(
    "call", [{**CALL, "files": [{"path": "/etc/shop.conf", "content": "b"}]}, {**CALL, "record": "/etc/record"}]
)
def test_another_question_has_another_answer(call: dict[str, Any]) -> None:
    assert receipts.found_by(call, variables()) is None


def test_other_code_has_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    known = variables()
    monkeypatch.setattr(receipts, "CODE", "other")
    assert receipts.found_by(CALL, known) is None


@pytest.mark.parametrize("machine", [{"run": "another"}, {"receipts": {}}], ids=["an earlier run", "no receipt"])
def test_facts_of_another_moment_prove_nothing(machine: dict[str, Any]) -> None:
    known = variables()
    known["ansible_facts"]["celeryops_machine"] |= machine
    assert receipts.found_by(CALL, known) is None


def test_the_key_of_another_run_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known = variables()
    monkeypatch.setattr(receipts, "KEY", "other")
    assert receipts.found_by(CALL, known) is None


def test_without_the_names_of_the_machine_every_call_is_made() -> None:
    known = variables()
    del known["ansible_facts"]["celeryops_same_machine"]
    assert receipts.found_by(CALL, known) is None


def test_keys_of_any_kind_have_one_order() -> None:
    one, other = (
        {"a": {1: "x", "b": [{"c": 1, "d": 2}]}, "e": True},
        {"e": True, "a": {"b": [{"d": 2, "c": 1}], 1: "x"}},
    )
    assert receipts.asked(one) == receipts.asked(other)
    assert receipts.asked({"a": [1, 2]}) != receipts.asked({"a": [2, 1]})
    assert receipts.asked({"a": {}}) != receipts.asked({"a": {"b": None}})
