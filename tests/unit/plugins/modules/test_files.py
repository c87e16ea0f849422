"""When the module files leaves a receipt."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import foreign, receipts
from ansible_collections.celeryops.stack.plugins.module_utils.file_placer import Placer
from ansible_collections.celeryops.stack.plugins.modules import files


class Module:
    """A module whose arguments are one file."""

    check_mode = False

    def __init__(self, path: Path, content: str) -> None:
        unsaid = ("secret_content", "validate", "environment_file", "mode", "keep", "target", "pristine", "part_of")
        me = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
        entry: dict[str, Any] = dict.fromkeys(unsaid)
        entry |= {"path": str(path), "state": "file", "content": content, "create_only": False, "backup": False, **me}
        units = [{"name": "shop.service", "restart_on": [str(path)], "reload_on": []}]
        self.params: dict[str, Any] = {"files": [entry], "record": None, "receipt": "asked"}
        self.params |= {"units": units, "prune": None, "servers": None}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(receipts, "RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setattr(receipts.write, "__defaults__", (str(tmp_path / "receipts"),))
    monkeypatch.setattr(foreign.recorded, "__defaults__", (str(tmp_path / "record"),))
    monkeypatch.setattr(foreign.record, "__defaults__", (str(tmp_path / "record"),))
    return tmp_path


def call(module: Any) -> None:
    state = files.look_of(module.params["files"], "")
    placer = Placer(module)
    placer.run(module.params["files"])
    files.leave_receipt(module, state, changed=bool(placer.changes.paths))


def held(place: Path) -> list[dict[str, Any]]:
    return receipts.valid(str(place / "receipts"))


def test_what_was_placed_and_what_was_there_has_a_receipt(place: Path) -> None:
    module = Module(place / "shop.conf", "a")
    for _time in range(2):
        call(module)
        [found] = held(place)
        assert found["asked"] == "asked"
        assert found["units"] == module.params["units"]


def test_what_somebody_changed_since_has_none(place: Path) -> None:
    call(Module(place / "shop.conf", "a"))
    (place / "shop.conf").write_text("b")
    assert held(place) == []


def test_what_somebody_changes_while_it_is_placed_has_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def and_somebody_else(source: str, target: str) -> None:
        replace(source, target)
        if target.endswith("shop.conf"):
            Path(target).write_text("c")

    monkeypatch.setattr(os, "replace", and_somebody_else)
    call(Module(place / "shop.conf", "a"))
    assert held(place) == []


def test_what_somebody_changes_while_it_is_compared_has_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = Module(place / "shop.conf", "a")
    call(module)
    (place / "receipts").rename(place / "earlier")
    run = Placer.run

    def and_somebody_else(self: Placer, entries: list[dict[str, Any]]) -> None:
        run(self, entries)
        (place / "shop.conf").write_text("c")

    monkeypatch.setattr(Placer, "run", and_somebody_else)
    call(module)
    assert held(place) == []


def test_all_that_decides_is_looked_at() -> None:
    paths = {"file": "/etc/a", "directory": "/etc/d", "absent": "/etc/x", "link": "/etc/l", "only": "/opt/tree"}
    listed = [{"path": path, "state": state, "owner": "root", "group": "adm"} for state, path in paths.items()]
    seen = files.look_of(listed, "/etc/files.json")
    assert set(seen["paths"]) == {*paths.values(), "/etc/files.json"}
    assert set(seen["lines"][foreign.RECORD]) == set(paths.values())
    assert set(seen["trees"]) == {"/opt/tree"}
    assert (set(seen["users"]), set(seen["groups"])) == ({"root"}, {"adm"})
