"""Whose a file is, and the copy that is kept of somebody else's before it is replaced."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import foreign
from ansible_collections.celeryops.stack.plugins.module_utils.file_placer import Placer

HAND_MADE = b"listeners.tcp.default = 5672\n"
OWN = b"# Managed by celeryops.stack (role rabbitmq). Local changes are overwritten.\nx = 1\n"


@pytest.mark.parametrize(
    ("path", "content", "is_foreign"),
    [
        ("/etc/rabbitmq/rabbitmq.conf", HAND_MADE, True),
        ("/etc/rabbitmq/rabbitmq.conf", OWN, False),
        # A shebang may come first.
        ("/usr/local/bin/x", b"#!/bin/sh\n" + OWN, False),
        ("/etc/celeryops/shop/celery.json", b"{}", False),
        ("/etc/sysctl.d/30-celeryops-redis.conf", b"vm.x = 1\n", False),
        # As the package has it.
        ("/etc/rabbitmq/rabbitmq-env.conf", b"# NODENAME=rabbit\n\n  % x\n; y\n// z\n", False),
        ("/etc/rabbitmq/rabbitmq-env.conf", b"# NODENAME=rabbit\nNODENAME=rabbit\n", True),
        ("/etc/rabbitmq/enabled_plugins", b"[rabbitmq_shovel].", True),
        ("/etc/rabbitmq/recorded", b"[rabbitmq_shovel].", False),
        ("/etc/x", b"", False),
        ("/etc/x", b"\xff\x00", True),
    ],
)
def test_whose_a_file_is(path: str, content: bytes, *, is_foreign: bool) -> None:
    assert foreign.is_foreign(path, content, {"/etc/rabbitmq/recorded"}) is is_foreign


@pytest.mark.parametrize(("content", "is_foreign"), [(b"ABC1\n", False), (b"ABC1 hand\n", True)])
def test_what_a_package_generates_is_nobodys(content: bytes, *, is_foreign: bool) -> None:
    assert foreign.is_foreign("/x", content, (), "[A-Z0-9]{4}|never") is is_foreign


@pytest.mark.parametrize(
    ("before", "wanted", "kept"),
    [(0o640, 0o644, 0o640), (0o644, 0o640, 0o640), (0o644, 0o600, 0o600), (0o400, 0o644, 0o400), (0o666, 0o644, 0o644)],
)
def test_a_copy_is_for_nobody_for_whom_a_file_was_not(tmp_path: Path, before: int, wanted: int, kept: int) -> None:
    path = tmp_path / "a.conf"
    path.write_bytes(HAND_MADE)
    path.chmod(before)
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid)
    copy = Path(foreign.keep(str(path), HAND_MADE, wanted))
    status = copy.stat()
    assert (copy.read_bytes(), status.st_mode & 0o777) == (HAND_MADE, kept)
    assert (status.st_uid, status.st_gid) == (nobody.pw_uid, nobody.pw_gid)


def test_a_copy_is_made_once_and_never_through_a_link(tmp_path: Path) -> None:
    path, other = tmp_path / "a.conf", tmp_path / "other"
    path.write_bytes(HAND_MADE)
    copy = Path(foreign.keep(str(path), HAND_MADE, 0o644))
    path.write_bytes(b"later")
    assert foreign.keep(str(path), b"later", 0o644) == ""
    assert copy.read_bytes() == HAND_MADE
    copy.unlink()
    copy.symlink_to(other)
    assert foreign.keep(str(path), b"later", 0o644) == ""
    assert not other.exists()


def test_the_record_grows_and_may_be_missing(tmp_path: Path) -> None:
    record = str(tmp_path / "state" / ".placed")
    assert foreign.recorded(record) == set()
    foreign.record([], record)
    assert not (tmp_path / "state").exists()
    foreign.record(["/a"], record)
    foreign.record(["/b", "/c"], record)
    assert foreign.recorded(record) == {"/a", "/b", "/c"}


class Module:
    """As much of a module as placing files needs; what validates a content fails."""

    def __init__(self, *, check_mode: bool) -> None:
        self.check_mode = check_mode
        self.params: dict[str, Any] = {"units": None, "servers": []}

    def fail_json(self, **told: Any) -> None:
        raise AssertionError(told)

    def run_command(self, _command: list[str]) -> tuple[int, str, str]:
        return 1, "", "wrong"


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the record of a host of one's own."""
    path = tmp_path / "state" / ".placed"
    write, read = foreign.record, foreign.recorded
    monkeypatch.setattr(foreign, "record", lambda paths, at=str(path): write(paths, at))
    monkeypatch.setattr(foreign, "recorded", lambda at=str(path): read(at))
    return path


def place(path: Path, content: str, *, check_mode: bool = False, **changes: Any) -> Placer:
    """Place a file as the module does."""
    entry: dict[str, Any] = {
        "path": str(path), "state": "file", "content": content, "secret_content": None, "owner": "root",
        "group": "root", "mode": "0640", "target": None, "validate": None, "create_only": False, "backup": False,
        "keep": None, "pristine": None, **changes,
    }  # fmt: skip
    placer = Placer(Module(check_mode=check_mode))  # type: ignore[arg-type]
    placer.run([entry])
    return placer


def test_somebody_elses_file_is_kept_once(tmp_path: Path, record: Path) -> None:
    path = tmp_path / "enabled_plugins"
    copy = tmp_path / "enabled_plugins.before-celeryops~"
    path.write_text("[rabbitmq_shovel].")
    assert place(path, "[a].", check_mode=True).owners.kept == [str(copy)]
    assert not copy.exists()
    assert not record.exists()
    assert place(path, "[a].").owners.kept == [str(copy)]
    assert (path.read_text(), copy.read_text()) == ("[a].", "[rabbitmq_shovel].")
    # From now on it is ours, whatever is done to it.
    copy.unlink()
    path.write_text("[by_hand].")
    assert place(path, "[b].").owners.kept == []
    assert not copy.exists()


def test_what_a_link_led_to_is_kept_beside_it(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "a.conf", tmp_path / "elsewhere"
    elsewhere.write_bytes(HAND_MADE)
    path.symlink_to(elsewhere)
    (copy,) = place(path, OWN.decode()).owners.kept
    assert Path(copy).read_bytes() == elsewhere.read_bytes() == HAND_MADE
    assert (path.is_symlink(), path.read_bytes()) == (False, OWN)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    assert place(tmp_path / "dangling", OWN.decode()).owners.kept == []


def test_our_own_file_is_not_kept(tmp_path: Path, record: Path) -> None:
    path = tmp_path / "a.conf"
    for content in (OWN.decode(), OWN.decode() + "y = 2\n"):
        assert place(path, content).owners.kept == []
    # Nothing but its first line has to tell it.
    assert not record.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.conf"]


def test_what_was_there_already_as_it_should_be_is_ours_from_now_on(tmp_path: Path, record: Path) -> None:
    path = tmp_path / "list"
    path.write_text("[a].")
    path.chmod(0o640)
    assert place(path, "[a].").owners.kept == []
    assert place(path, "[b].").owners.kept == []
    assert record.read_text() == f"{path}\n"


def test_what_a_package_makes_by_itself_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "erl_inetrc"
    path.write_text("made by a package\n")
    assert place(path, OWN.decode(), pristine="made by a .*").owners.kept == []
    path.write_text("made by a person\n")
    assert place(path, OWN.decode(), pristine="made by a package").owners.kept != []


def test_a_secret_is_kept_as_closed_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "cookie"
    path.write_text("HANDMADE")
    path.chmod(0o400)
    placer = place(path, "", secret_content="generated", mode="0400")
    (copy,) = placer.owners.kept
    assert Path(copy).stat().st_mode & 0o777 == 0o400
    assert "HANDMADE" not in str(placer.changes.diff)


def test_a_content_that_is_refused_leaves_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_bytes(HAND_MADE)
    with pytest.raises(AssertionError, match="the old one stays in place"):
        place(path, "x", validate="check %s")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.conf"]


@pytest.mark.parametrize(("conf", "is_foreign"), [(OWN, False), (HAND_MADE, True), (None, True)])
def test_what_holds_no_mark_is_whose_its_neighbour_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conf: bytes | None, *, is_foreign: bool
) -> None:
    witness = tmp_path / "rabbitmq.conf"
    if conf is not None:
        witness.write_bytes(conf)
    monkeypatch.setattr(foreign, "_WITNESSES", dict.fromkeys(foreign._WITNESSES, str(witness)))
    for path in ("/etc/rabbitmq/definitions.json", "/etc/rabbitmq/enabled_plugins", "/var/lib/rabbitmq/.erlang.cookie"):
        assert foreign.is_foreign(path, b'{"users": []}', ()) is is_foreign
    assert foreign.is_foreign("/etc/rabbitmq/other.json", b"{}", ())
