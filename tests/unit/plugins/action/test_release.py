"""The control machine's part of a release: packages, and what it hands to the host."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.plugins.action import ActionBase
from jinja2 import Template

from ansible_collections.celeryops.stack.plugins.action.release import ActionModule
from ansible_collections.celeryops.stack.plugins.modules.release import OPTIONS

ROOT = Path(__file__).resolve().parents[4]
MISSING = {"failed": True, "msg": "No package matching 'git' is available"}
LOCKED = {"failed": True, "msg": "Could not get lock /var/lib/dpkg/lock-frontend"}
DONE: dict[str, Any] = {"changed": True}


class Action(ActionModule):  # type: ignore[misc]  # Ansible's classes have no types
    """Has answers of apt in the place of a host."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.asked = [*answers], []  # type: list[dict[str, Any]], list[int]

    def _execute_module(self, **call: Any) -> dict[str, Any]:
        assert call["module_name"] == "ansible.builtin.apt"
        assert call["module_args"]["name"] == ["git"]
        assert call["module_args"]["update_cache"] is True
        self.asked.append(call["module_args"]["cache_valid_time"])
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("answers", "asked", "result"),
    [
        ([DONE], [3600], DONE),
        ([MISSING, DONE], [3600, 0], DONE),
        # A package that nobody has is asked for twice, and told as apt tells it.
        ([MISSING, MISSING], [3600, 0], MISSING),
        ([LOCKED], [3600], LOCKED),
    ],
)
def test_lists_that_are_not_complete_yet_are_fetched(
    answers: list[dict[str, Any]], asked: list[int], result: dict[str, Any]
) -> None:
    action = Action(*answers)
    assert action._install_packages(["git"], {}) == result
    assert action.asked == asked
    assert action.answers == []


class Host(ActionModule):  # type: ignore[misc]
    """A host on which a package can be installed and is not found by its name afterwards."""

    def __init__(self, **options: Any) -> None:
        self.asked: list[list[str]] = []
        self.requests: list[dict[str, Any]] = []
        source = {"type": "virtualenv", "path": "/srv/venv"}
        args = {"source": source, "system_packages": ["libpq*"], "import": "shop", **options}
        self._task: Any = SimpleNamespace(args=args)
        self._loader: Any = SimpleNamespace(get_basedir=str)
        self._connection: Any = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))

    def _ask(self, request: dict[str, Any], _task_vars: dict[str, Any] | None) -> dict[str, Any]:
        missing = request["system_packages"]
        self.asked.append(missing)
        self.requests.append(dict(request))
        return {"changed": False, "missing_packages": missing} if missing else {"changed": True, "release": "1.4.2"}

    def _install_packages(self, _names: list[str], _task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return {"changed": True}

    def _remove_tmp_path(self, tmp_path: str) -> None:
        """There is none."""


def test_a_release_is_built_whatever_name_its_packages_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    host = Host()
    assert host.run(task_vars={})["release"] == "1.4.2"
    assert host.asked == [["libpq*"], []]


def test_packages_that_were_installed_are_a_change_and_no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that was there before stays when a deployment goes back (playbooks/tasks/switch.yml)."""
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    monkeypatch.setattr(
        Host,
        "_ask",
        lambda _self, request, _variables: (
            {"changed": False, "missing_packages": request["system_packages"]}
            if request["system_packages"]
            else {"changed": False, "built": False, "fresh": False, "release": "1.4.2"}
        ),
    )
    found = Host().run(task_vars={})
    assert (found["changed"], found["built"]) == (True, False)
    tasks = yaml.safe_load((ROOT / "playbooks" / "tasks" / "switch.yml").read_text())
    [discard] = [
        task["celeryops.stack.roll"]["discard"]
        for part in tasks
        for task in part.get("block", [part])
        if "discard" in task.get("celeryops.stack.roll", {})
    ]
    said = [
        Template(discard).render(__celery_app_release={**found, **more})
        for more in ({}, {"built": True}, {"fresh": True})
    ]
    assert said == ["", "1.4.2", "1.4.2"]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("shop.old.*", ["shop.old.*"]),
        ("shop.b", ["shop.b"]),
        ("shop.old.*, shop.b", ["shop.old.*", "shop.b"]),
        ("[shop.b]", ["shop.b"]),
        (["shop.b"], ["shop.b"]),
    ],
)
def test_what_is_accepted_on_the_command_line_is_that_and_no_more(
    monkeypatch: pytest.MonkeyPatch, said: Any, names: list[str]
) -> None:
    """``-e celeryops_deploy_accept_missing_tasks=...`` is text, and one of its letters may be a ``*``."""
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    host = Host(accept_missing_tasks=said)
    host.run(task_vars={})
    assert host.requests[0]["accept_missing_tasks"] == names


def test_the_host_gets_what_was_written_and_digests_in_place_of_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    file = {"path": "/etc/shop.json", "content": "{}"}
    host = Host(configuration=[file], keep="2", environment={"A": 1})
    host.run(task_vars={})
    sent = host.requests[0]
    digest = hashlib.sha256(b"{}").hexdigest()
    assert sent["configuration"] == [{"path": "/etc/shop.json", "sha256": digest}]
    assert (sent["expected"], sent["keep"], sent["environment"]) == ([], "2", {"A": 1})
    assert "contents" not in sent
    assert set(sent) <= set(OPTIONS), "the module takes what it is given"


def test_the_host_gets_of_each_worker_what_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The playbooks hand over what the plan of celery_worker says of them, and the scheduler."""
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    worker = {"name": "high", "unit": "celery-shop-high.service", "report": "/run/worker.json", "queues": ["payments"]}
    host = Host(running=[worker, {"unit": "celery-shop-beat.service"}])
    host.run(task_vars={})
    sent = host.requests[0]["running"]
    assert sent == [
        {"unit": "celery-shop-high.service", "report": "/run/worker.json"},
        {"unit": "celery-shop-beat.service"},
    ]
    assert {key for entry in sent for key in entry} <= set(OPTIONS["running"]["options"])
