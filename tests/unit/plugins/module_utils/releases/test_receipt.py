"""When a release leaves a receipt, and what ends it."""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from release_request import request

from ansible_collections.celeryops.stack.plugins.module_utils import debian_packages, paths, receipts
from ansible_collections.celeryops.stack.plugins.module_utils.releases import receipt

DONE = {"changed": False, "release": "shop-1", "previous": "shop-1"}
PATH = {"type": "path", "path": "/srv/shop"}


@pytest.mark.parametrize(
    ("asked", "result", "left"),
    [
        ({}, {}, True),
        ({"source": {"type": "wheel"}}, {}, True),
        ({"source": {"type": "pip"}}, {}, True),
        ({"source": {"type": "git", "version": "a" * 40}}, {}, True),
        # A branch may lead elsewhere by now, and what somebody else looks after may be anything.
        ({"source": {"type": "git", "version": "main"}}, {}, False),
        ({"source": {"type": "virtualenv", "path": "/srv/venv"}}, {}, False),
        ({"receipt": None}, {}, False),
        ({"take": "shop-1"}, {}, False),
        ({"select": "current"}, {}, False),
        ({"switch": False}, {}, False),
        ({}, {"changed": True}, False),
        ({}, {"held": True}, False),
        ({}, {"due": True}, False),
        ({}, {"previous": "shop-0"}, False),
    ],
)
def test_only_a_call_that_found_nothing_to_do_leaves_one(
    asked: dict[str, Any], result: dict[str, Any], left: bool
) -> None:
    wanted = request(**{"source": PATH, "receipt": "asked", **asked})
    assert receipt.may_be_left(wanted, {**DONE, **result}) is left


@pytest.mark.usefixtures("host")
def test_a_release_too_many_leaves_none() -> None:
    """A process may still run from it, and nobody tells when it ends."""
    wanted = {"source": PATH, "receipt": "asked"}
    assert receipt.may_be_left(request(**wanted, keep=2), DONE)
    assert not receipt.may_be_left(request(**wanted, keep=1), DONE)


@pytest.mark.parametrize("answer", [{"missing_packages": ["git"]}, {"needs_content": True, "needs_files": False}])
def test_a_question_leaves_none(answer: dict[str, Any]) -> None:
    assert not receipt.may_be_left(request(source=PATH, receipt="asked"), {"changed": False, **answer})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a release in use and one before it, and a file of the app's own."""
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path / "opt"))
    monkeypatch.setattr(receipt, "STATUS", str(tmp_path / "status"))
    (tmp_path / "status").write_text("Package: git\n")
    base = tmp_path / "opt" / "shop"
    for name in ("shop-0", "shop-1"):
        release = base / "releases" / name
        (release / "bin").mkdir(parents=True)
        (release / "bin" / "python").symlink_to(sys.executable)
        (release / "release.json").write_text("{}")
        (release / "lib" / "python3.13" / "site-packages" / "celery-5.7.0.dist-info").mkdir(parents=True)
    (base / "current").symlink_to("releases/shop-1")
    (base / "activations.json").write_text("{}")
    (tmp_path / "real").mkdir()
    (tmp_path / "own").symlink_to("real")
    for folder in ("local", "usr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "usr" / "python3").symlink_to("alternative")
    (tmp_path / "usr" / "alternative").symlink_to("python3.11")
    (tmp_path / "usr" / "python3.11").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}/local:{tmp_path}/usr")
    return tmp_path


def look(host: Path, python: str = sys.executable) -> dict[str, Any]:
    entry = {"path": f"{host}/own/app.ini", "own": True, "sha256": ""}
    me = pwd.getpwuid(os.geteuid()).pw_name
    return receipt.look_of(request(source=PATH, user=me, configuration=[entry], python=python))


def moved(host: Path) -> None:
    link = host / "opt" / "shop" / "current"
    link.unlink()
    link.symlink_to("releases/shop-0")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "another release is in use": moved,
    "a release is there that was not": lambda host: (host / "opt" / "shop" / "releases" / "shop-2").mkdir(),
    "a release is not complete any more": lambda host: (
        host / "opt" / "shop" / "releases" / "shop-0" / "release.json"
    ).unlink(),
    "a package was installed by hand": lambda host: (
        host / "opt/shop/releases/shop-1/lib/python3.13/site-packages/kombu-5.6.0.dist-info"
    ).mkdir(),
    "its interpreter is gone": lambda host: (host / "opt/shop/releases/shop-1/bin/python").unlink(),
    "a switch was noted": lambda host: (host / "opt" / "shop" / "activations.json").write_text('{"after": ""}'),
    "a package of Debian has come or gone": lambda host: (host / "status").write_text("Package: curl\n"),
    "somebody may write where a file of the app's own is": lambda host: (host / "real").chmod(0o777),
    "a file of the app's own is a link": lambda host: (host / "own" / "app.ini").symlink_to("/etc/passwd"),
}


def test_nothing_is_seen_where_nothing_changed(host: Path) -> None:
    assert look(host) == look(host)


@pytest.mark.parametrize(
    "change",
    [
        lambda host: ((host / "usr/alternative").unlink(), (host / "usr/alternative").symlink_to("python3.12")),
        lambda host: (host / "local" / "python3").write_text(""),
        lambda host: (host / "usr" / "python3.11").write_text("another"),
    ],
    ids=["an alternative", "one before it in PATH", "the interpreter itself"],
)
def test_another_interpreter_of_the_name_is_seen(host: Path, change: Callable[[Path], Any]) -> None:
    before = look(host, "python3")
    time.sleep(0.05)  # the kernel stamps files by a clock of a few milliseconds
    change(host)
    assert look(host, "python3") != before


def test_an_access_list_is_seen(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = look(host)
    monkeypatch.setattr(os, "getxattr", lambda path, *_more, **_options: b"acl" if path.endswith("/real") else b"")
    assert look(host) != before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_decides_is_looked_at(host: Path, change: Callable[[Path], Any]) -> None:
    before = look(host)
    time.sleep(0.05)  # the kernel stamps files by a clock of a few milliseconds
    change(host)
    assert look(host) != before


def test_the_accounts_of_the_system_are_looked_at(host: Path) -> None:
    assert {"/etc/passwd", "/etc/group"} <= set(look(host)["paths"])
    assert debian_packages.STATUS.startswith("/var/lib/dpkg/")
    assert receipts.seen([])["paths"] == {}
