"""A receipt holds as long as nothing has changed that a call looked at."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import receipts
from ansible_collections.celeryops.stack.plugins.module_utils.paths import folders_of

ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a file, a link, a directory and a tree; ``absent`` is not there."""
    host = tmp_path / "host"
    (host / "tree" / "sub").mkdir(parents=True)
    (host / "tree" / "sub" / "code.py").write_text("x = 1\n")
    (host / "file").write_text("one\n")
    (host / "link").symlink_to("file")
    (host / "folder").mkdir()
    (host / "record").write_text("/etc/mine\n")
    (host / "folder" / "entry").write_text("")
    return host


def leave(host: Path, asked: str = "asked", **more: Any) -> Path:
    """Leave a receipt for all of it, and return where receipts are."""
    folder = host.parent / "receipts"
    state = receipts.seen(
        [f"{host}/{name}" for name in ("file", "link", "folder", "absent")],
        trees=[f"{host}/tree"],
        folders=[f"{host}/folder"],
        users=[ME],
        groups=[MY_GROUP],
        lines={f"{host}/record": ["/etc/mine", "/etc/not"]},
    )
    receipts.write(asked, state, more, str(folder))
    time.sleep(0.05)  # the kernel stamps files by a clock of a few milliseconds
    return folder


def same_size_and_time(host: Path) -> None:
    path = host / "file"
    before = path.stat()
    path.write_text("two\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_of_the_same_name(host: Path) -> None:
    (host / "new").write_text("one\n")
    (host / "new").replace(host / "file")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "content": lambda host: (host / "file").write_text("other\n"),
    "content of the same size, with the time set back": same_size_and_time,
    "another file of the same content": another_of_the_same_name,
    "mode": lambda host: (host / "file").chmod(0o600),
    "mode of a directory": lambda host: (host / "folder").chmod(0o700),
    "file is gone": lambda host: (host / "file").unlink(),
    "link leads elsewhere": lambda host: ((host / "link").unlink(), (host / "link").symlink_to("tree")),
    "what was absent is there": lambda host: (host / "absent").write_text(""),
    "content in a tree": lambda host: (host / "tree" / "sub" / "code.py").write_text("y = 1\n"),
    "one more in a tree": lambda host: (host / "tree" / "more.py").write_text(""),
    "one less in a tree": lambda host: (host / "tree" / "sub" / "code.py").unlink(),
    "a line is gone": lambda host: (host / "record").write_text("/etc/other\n"),
    "a line has come": lambda host: (host / "record").write_text("/etc/mine\n/etc/not\n"),
    "one more in a folder": lambda host: (host / "folder" / "more").write_text(""),
}


def test_a_receipt_holds_while_nothing_changes(host: Path) -> None:
    folder = leave(host, units=[{"name": "a.service"}], prune=None)
    # Compiled Python comes and goes with whoever runs it; what is in a directory of ours may be anybody's.
    (host / "tree" / "__pycache__").mkdir()
    (host / "tree" / "__pycache__" / "code.pyc").write_text("")
    (host / "record").write_text("/etc/others\n/etc/mine\n")
    [found] = receipts.valid(str(folder))
    assert (found["asked"], found["units"], found["prune"]) == ("asked", [{"name": "a.service"}], None)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_receipt_is_gone_once_something_changed(host: Path, change: Callable[[Path], Any]) -> None:
    folder = leave(host)
    change(host)
    assert receipts.valid(str(folder), tidy=False) == []
    assert len(list(folder.iterdir())) == 1
    assert receipts.valid(str(folder)) == []
    assert list(folder.iterdir()) == [], "nobody will ask for it"


def test_another_owner_of_a_name_is_a_change(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = leave(host)
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: pwd.struct_passwd(("x", "", 4711, 4711, "", "/", "/bin/sh")))
    assert receipts.valid(str(folder)) == []


def test_an_account_that_has_gone_is_a_change(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Any:
        raise KeyError(name)

    folder = leave(host)
    monkeypatch.setattr(grp, "getgrnam", none)
    assert receipts.valid(str(folder)) == []


def test_a_call_has_one_receipt_for_root_alone(host: Path) -> None:
    leave(host, "first")
    folder = leave(host, "second")
    assert [found["asked"] for found in receipts.valid(str(folder))] == ["second"]
    [path] = folder.iterdir()
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": 1}', '{"state": {"paths": {}, "other": 1}}'])
def test_what_is_no_receipt_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert receipts.valid(str(tmp_path)) == []
    assert not (tmp_path / "a.json").exists()


def test_without_a_place_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert receipts.valid(str(tmp_path / "nowhere")) == []
    receipts.write("asked", receipts.seen([]), {}, str(tmp_path / "file" / "below"))


def test_a_proof_is_of_one_run_and_one_question() -> None:
    assert receipts.proof("key", "asked") == receipts.proof("key", "asked")
    assert len({receipts.proof("key", "asked"), receipts.proof("other", "asked"), receipts.proof("key", "else")}) == 3


def test_the_directories_of_a_file() -> None:
    assert folders_of("/etc/celeryops/shop/file") == ["/etc", "/etc/celeryops", "/etc/celeryops/shop"]


def test_what_cannot_be_looked_at_is_told_by_the_error(tmp_path: Path) -> None:
    assert receipts.identity(str(tmp_path / ("x" * 300))) == [errno.ENAMETOOLONG]


def test_a_way_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to(tmp_path / "c")
    assert receipts.links(f"{tmp_path}/a") == [f"{tmp_path}/{name}" for name in ("a", "b", "c")]
    (tmp_path / "c").symlink_to("a")
    assert len(receipts.links(f"{tmp_path}/a")) == receipts.LINKS
