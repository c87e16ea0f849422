"""Placing files: what a person reads of it in a diff."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.action.files import expand
from ansible_collections.celeryops.stack.plugins.modules.files import Placer


class Module:
    def __init__(self, *, check_mode: bool) -> None:
        self.check_mode = check_mode
        self.params: dict[str, Any] = {}


@pytest.fixture
def role(tmp_path: Path) -> Path:
    package = tmp_path / "role" / "files" / "package"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "0.2.0"\n')
    (package / "sub" / "b.py").write_text("long = 1\n" * 1000)
    return tmp_path / "role"


def place(role: Path, target: Path, *, check_mode: bool = False) -> Placer:
    own = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
    unsaid = ("content", "secret_content", "validate", "mode", "keep", "target", "pristine")
    usual: dict[str, Any] = dict.fromkeys(unsaid)
    usual |= {"state": "file", "create_only": False, "backup": False, **own}
    placer = Placer(Module(check_mode=check_mode))  # type: ignore[arg-type]  # all that a Placer asks of it
    placer.run([{**usual, **entry} for entry in expand({"path": str(target), "tree": "package", **own}, [role])])
    return placer


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_tree_shows_its_version_and_names_and_no_source(role: Path, tmp_path: Path, check_mode: bool) -> None:
    placer = place(role, tmp_path / "opt", check_mode=check_mode)
    (shown,) = [entry for entry in placer.diff if entry["after"] != "directory\n"]
    assert shown["before_header"] == shown["after_header"] == str(tmp_path / "opt" / "package")
    assert shown["before"] == ""
    first, second = shown["after"].splitlines()
    assert first.startswith("__init__.py (version 0.2.0, ")
    assert second.startswith("sub/b.py (")
    assert str(tmp_path / "opt" / "package" / "sub" / "b.py") in placer.changed_paths
    assert (tmp_path / "opt" / "package" / "sub" / "b.py").exists() is not check_mode


def test_a_change_in_a_tree_shows_which_file_and_a_second_run_none(role: Path, tmp_path: Path) -> None:
    place(role, tmp_path)
    assert place(role, tmp_path).diff == []
    (tmp_path / "package" / "sub" / "b.py").write_text("edited\n")
    (tmp_path / "package" / "left.py").write_text("from an older version\n")
    placer = place(role, tmp_path)
    (shown,) = placer.diff
    assert [line.split(" ")[0] for line in shown["before"].splitlines()] == ["sub/b.py", "left.py"]
    assert [line.split(" ")[0] for line in shown["after"].splitlines()] == ["sub/b.py"]
    assert shown["before"].splitlines()[0] != shown["after"].splitlines()[0]
    assert not (tmp_path / "package" / "left.py").exists()
    assert place(role, tmp_path).changed_paths == []
