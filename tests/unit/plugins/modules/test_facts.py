"""What the module reads of a host."""

from __future__ import annotations

import os
import platform
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.utils.nodenames import host_format

from ansible_collections.celeryops.stack.plugins.module_utils import receipts
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Actions
from ansible_collections.celeryops.stack.plugins.modules import facts
from ansible_collections.celeryops.stack.plugins.modules.facts import disk, installed, memory, named, servers, system
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.host_variables import FACTS


def test_only_what_is_installed_and_configured_counts() -> None:
    output = "ii  adduser\nrc  redis-server\niU  rabbitmq-server\nhi  erlang-base\nun  valkey\n"
    assert installed(output) == ["adduser", "erlang-base"]


def test_a_login_without_root_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Module:
        def __init__(self, **_options: object) -> None:
            pass

        def fail_json(self, msg: str) -> None:
            said.append(msg)
            raise SystemExit(1)

    monkeypatch.setattr(facts, "AnsibleModule", Module)
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    with pytest.raises(SystemExit):
        facts.main()
    assert said == ["ansible_become: the roles need root on this host, and this is nobody; write true"]


def test_the_memory_is_in_mebibytes() -> None:
    assert memory("MemFree: 1 kB\nMemTotal:       8388608 kB\nSwapTotal: 5 kB\n") == 8192
    assert memory("") == 0


def test_a_directory_that_is_not_there_yet_will_be_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert disk(str(tmp_path / "not" / "yet")) == status.f_frsize * status.f_blocks > 0


def test_every_fact_that_a_plan_asks_for_is_gathered() -> None:
    assert set(FACTS) <= {*system(), *servers(lambda _command: "")}


def test_the_name_of_a_node_is_the_whole_name_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_format("high@%h") == f"high@{system()['nodename']}"
    monkeypatch.setattr(platform, "node", lambda: "app1.eu.example.com")
    assert (system()["nodename"], system()["hostname"]) == ("app1.eu.example.com", "app1")


def test_no_fact_becomes_a_variable_that_an_inventory_may_have() -> None:
    names = named({**system(), "celeryops_packages": []})
    assert [name for name in names if not name.startswith(("ansible_", "celeryops_"))] == []
    assert names["ansible_hostname"] == system()["hostname"]
    assert {name.removeprefix("ansible_") for name in names} == {*system(), "celeryops_packages"}


HELD: list[dict[str, Any]] = [
    {"asked": "files", "units": [{"name": "b.service"}], "prune": None},
    {"asked": "loose", "units": [{"name": "a.service"}], "prune": None},
    {"asked": "release", "result": {"release": "shop-1"}},
    {"asked": "workers", "answers": {"workers": [{"unit": "c.service"}]}},
    {"asked": "silent", "answers": {"workers": []}},
    {"asked": "once", "result": {"missing": []}, "unproven": True},
]


class Systemd:
    """A module that asks systemd."""

    check_mode = False

    def __init__(self, told: str = "ActiveState=active\n\n" * 3) -> None:
        self.asked: list[list[str]] = []
        self.told = told

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        self.asked.append(command[4:])
        return 0, self.told, ""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    def outlook(units: list[dict[str, str]], *_more: object) -> SimpleNamespace:
        loose = units == [{"name": "a.service"}]
        return SimpleNamespace(settled=not loose, actions=Actions(restart=["a.service"] if loose else []))

    monkeypatch.setattr(receipts, "valid", lambda *, tidy: HELD if tidy else [])
    monkeypatch.setattr(facts, "outlook", outlook)
    monkeypatch.setattr(facts, "answers_of", lambda given, _statuses: {"tasks": []} if given["workers"] else None)


@pytest.mark.usefixtures("held")
def test_the_facts_have_which_receipts_hold() -> None:
    """Systemd is asked once for all of them; who has to be asked himself is left out."""
    host: Any = Systemd()
    found = facts.receipts_held(host, "key")
    assert host.asked == [["a.service", "b.service", "c.service"]]
    assert found == {
        receipts.proof("key", "files"): {"result": None, "settled": True, "restarts": []},
        receipts.proof("key", "loose"): {"result": None, "settled": False, "restarts": ["a.service"]},
        receipts.proof("key", "release"): {"result": {"release": "shop-1"}, "settled": True, "restarts": []},
        receipts.proof("key", "workers"): {"result": {"tasks": []}, "settled": True, "restarts": []},
    }


@pytest.mark.usefixtures("held")
def test_what_cannot_be_read_is_left_to_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    silent: Any = Systemd(told="")
    assert facts.receipts_held(silent, "key") == {}

    def broken(*_arguments: object) -> None:
        raise RecursionError

    monkeypatch.setattr(facts, "answers_of", broken)
    host: Any = Systemd()
    assert receipts.proof("key", "workers") not in facts.receipts_held(host, "key")
    assert receipts.proof("key", "files") in facts.receipts_held(host, "key")
