"""The control machine's part of placing files: no call where the host has a receipt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.action import declare, files, workers
from ansible_collections.celeryops.stack.plugins.module_utils.receipts import proof
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory import receipts
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import this_run

FILES: dict[str, Any] = {"files": [{"path": "/etc/shop.conf", "content": "a"}]}
WORKERS: dict[str, Any] = {"app": "shop", "workers": [], "settings": "/etc/s", "queues": "/etc/q"}
DECLARE: dict[str, Any] = {"current": "/opt/shop/current", "vhost": "shop"}
ANSWERS = {"answered": ["high"], "tasks": ["shop.add"], "routes": []}


def run(plugin: Any, arguments: dict[str, Any], variables: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Run an action; return its result, and the arguments of the calls that it made."""
    calls: list[Any] = []

    class Action(plugin.ActionModule):  # type: ignore[misc]
        def __init__(self) -> None:
            self._task = SimpleNamespace(args=arguments, async_val=False, action="files", delegate_to=None)
            self._loader = SimpleNamespace(get_basedir=lambda: ".")
            self._display = SimpleNamespace()
            self._connection = None
            self._templar = None

        def _execute_module(self, **call: Any) -> dict[str, Any]:
            calls.append(call["module_args"])
            return {"changed": True}

    action = Action()
    action._supports_async = True
    # What Ansible's own run() does needs a connection.
    base = plugin.ActionBase.run
    plugin.ActionBase.run = lambda *_arguments, **_options: {}
    try:
        return action.run(task_vars=variables), calls
    finally:
        plugin.ActionBase.run = base


def variables(question: dict[str, Any] | None, **held: Any) -> dict[str, Any]:
    """Those of a host that has a receipt for a question; of a run that has seen what RabbitMQ has."""
    own = {} if question is None else {proof(receipts.KEY, receipts.asked(question)): held}
    seen = {"__rabbitmq_objects": {"changed": False, "topology": {"shop": "digest", "empty": ""}}}
    return {
        "celeryops_receipts": True,
        "inventory_hostname": "app1",
        "groups": {"rabbitmq": ["mq1"]},
        "hostvars": SimpleNamespace(raw_get=lambda _host: seen),
        "ansible_facts": {"celeryops_machine": {"run": this_run(), "receipts": own}, "celeryops_same_machine": {}},
    }


@pytest.mark.parametrize("settled", [True, False])
def test_files_that_have_a_receipt_are_not_looked_at_again(settled: bool) -> None:
    known = {"settled": settled, "restarts": [] if settled else ["a.service"]}
    for more, result in [({}, {}), ({"units": []}, known), ({"record": "/etc/r"}, {"left": []})]:
        asked = {**FILES, **more}
        found, calls = run(files, asked, variables(asked, **known, result=None))
        assert calls == []
        assert found == {
            "changed": False,
            "changed_paths": [],
            "kept": [],
            "held": {},
            "diff": [],
            "receipt": True,
            **result,
        }


def test_files_without_one_are_placed_and_leave_one() -> None:
    found, calls = run(files, FILES, variables(None))
    assert calls == [{**FILES, "receipt": receipts.asked(FILES)}]
    assert found["changed"]


def test_workers_whose_answers_are_known_are_not_asked_again() -> None:
    known = variables(WORKERS, settled=True, result=ANSWERS)
    # What is pending differs between the run that changes something and the next one; so may what runs elsewhere.
    given = {**WORKERS, "pending": ["/etc/s"], "elsewhere": ["old.*"]}
    of_app = {"app": WORKERS["app"], "elsewhere": ["old.*"]}
    answers = {"changed": False, "receipt": True, "complete": True, **of_app, **ANSWERS}
    assert run(workers, given, known) == (answers, [])
    assert run(workers, WORKERS, variables(None))[1] == [{**WORKERS, "receipt": receipts.asked(WORKERS)}]


def test_queues_are_not_declared_again_where_the_broker_has_them() -> None:
    question = {**DECLARE, "topology": "digest"}
    kept = {"missing": [], "objects": 64}
    assert run(declare, DECLARE, variables(question, result=kept)) == ({"changed": False, "receipt": True, **kept}, [])
    assert run(declare, DECLARE, variables(None))[1] == [{**DECLARE, "receipt": receipts.asked(question)}]


@pytest.mark.parametrize("vhost", ["", "empty", "unknown"])
def test_of_a_broker_that_was_not_seen_nothing_is_known(vhost: str) -> None:
    asked = {**DECLARE, "vhost": vhost}
    assert run(declare, asked, variables({**asked, "topology": ""}, result={}))[1] == [asked]


def test_what_several_servers_have_is_not_told_from_one() -> None:
    known = variables({**DECLARE, "topology": "digest"}, result={})
    known["groups"]["rabbitmq"].append("mq2")
    assert run(declare, DECLARE, known)[1] == [DECLARE]
