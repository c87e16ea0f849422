"""What is found out about units and the files that they read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.look import Outlook, last_change
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
