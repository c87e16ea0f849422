"""What is found out about units and the files that they read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.look import Outlook, last_change, runs_in
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Actions


def test_a_directory_is_as_new_as_the_newest_file_below_it_and_bytecode_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "package" / "sub").mkdir(parents=True)
    (tmp_path / "package" / "a.py").write_text("")
    inner = tmp_path / "package" / "sub" / "b.py"
    inner.write_text("")
    newest = inner.stat().st_ctime
    (tmp_path / "package" / "__pycache__").mkdir()
    (tmp_path / "package" / "__pycache__" / "a.pyc").write_text("")
    assert last_change(str(tmp_path / "package")) == newest
    time.sleep(0.05)  # the kernel stamps files by a clock of a few milliseconds
    inner.write_text("x = 1")
    assert last_change(str(tmp_path / "package")) == inner.stat().st_ctime > newest


def test_a_link_is_as_new_as_itself(tmp_path: Path) -> None:
    target = tmp_path / "releases"
    target.mkdir()
    link = tmp_path / "current"
    link.symlink_to(target)
    (target / "file").write_text("")
    assert last_change(str(link)) == os.lstat(link).st_ctime


@pytest.mark.parametrize(
    "outlook",
    [
        Outlook(Actions(enable=["a.service"]), [], reload_needed=False),
        Outlook(Actions(), ["old.service"], reload_needed=False),
        Outlook(Actions(), [], reload_needed=True),
    ],
    ids=["a unit to enable", "a unit file to remove", "definitions to read again"],
)
def test_units_with_something_left_to_do_are_not_settled(outlook: Outlook) -> None:
    assert not outlook.settled


def test_units_with_nothing_left_to_do_are_settled() -> None:
    assert Outlook(Actions(), [], reload_needed=False).settled


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """A process 7 as the kernel shows it, whose directory is the release ``one``."""
    for name in ("one", "two"):
        (tmp_path / "releases" / name / "bin").mkdir(parents=True)
        (tmp_path / "releases" / name / "bin" / "python").symlink_to("/usr/bin/python3")
    (tmp_path / "current").symlink_to("releases/one")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cwd").symlink_to(tmp_path / "releases" / "one")
    (tmp_path / "7" / "cmdline").write_bytes(f"{tmp_path}/releases/two/bin/python\0celery\0worker".encode())
    return tmp_path


def move(process: Path, target: str) -> None:
    (process / "7" / "cwd").unlink()
    (process / "7" / "cwd").symlink_to(target)


def test_a_process_runs_from_the_directory_that_it_began_in(process: Path) -> None:
    assert runs_in(7, str(process)) == f"{process}/releases/one"


def test_a_release_that_was_deleted_is_no_release_that_is_there(process: Path) -> None:
    move(process, f"{process}/releases/gone (deleted)")
    assert runs_in(7, str(process)) == f"{process}/releases/gone (deleted)"


def test_the_interpreter_tells_of_an_app_that_changed_its_directory(process: Path) -> None:
    move(process, "/")
    assert runs_in(7, str(process)) == f"{process}/releases/two"


def test_the_interpreter_tells_where_root_may_not_look(process: Path) -> None:
    (process / "7" / "cwd").unlink()
    assert runs_in(7, str(process)) == f"{process}/releases/two"


@pytest.mark.parametrize("program", ["[celeryd: high@stack]", "/usr/bin/env", "{}/current/bin/python"])
def test_where_a_process_runs_may_be_unknown(process: Path, program: str) -> None:
    move(process, "/")
    (process / "7" / "cmdline").write_bytes(program.format(process).encode() + b"\0-c")
    assert runs_in(7, str(process)) is None
    assert runs_in(8, str(process)) is None, "a process that is gone"
