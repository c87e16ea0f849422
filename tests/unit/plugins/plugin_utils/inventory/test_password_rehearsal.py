"""Passwords that are made up while an inventory is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import forget, made_up
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.password_rehearsal import PasswordRehearsal


@pytest.fixture
def rehearsal(tmp_path: Path) -> PasswordRehearsal:
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    return PasswordRehearsal(folder)


def test_a_copy_has_what_is_there_and_is_made_once(tmp_path: Path, rehearsal: PasswordRehearsal) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "folder").mkdir(parents=True)
    (secrets / "old").write_text("known")
    copy = rehearsal.copy(secrets)
    assert {path.name: path.read_text() for path in copy.iterdir()} == {"old": "known"}
    assert copy.stat().st_mode & 0o777 == 0o700
    (copy / "new").write_text("made up")
    assert rehearsal.copy(secrets) == copy
    assert (copy / "new").exists()
    assert rehearsal.copy(tmp_path / "other") != copy


def test_what_is_new_is_kept_for_its_owner_alone(tmp_path: Path, rehearsal: PasswordRehearsal) -> None:
    secrets = tmp_path / "inventory" / "secrets"
    copy = rehearsal.copy(secrets)
    (copy / "folder").mkdir()
    for name in ("b", "a"):
        (copy / name).write_text(name)
    assert not secrets.exists()
    assert list(rehearsal.keep()) == []
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert sorted(made_up(secrets)) == ["a", "b"]
    forget(secrets)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == {"a": "a", "b": "b"}
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}


def test_what_is_there_meanwhile_stays_as_it_is(tmp_path: Path, rehearsal: PasswordRehearsal) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    copy = rehearsal.copy(secrets)
    (copy / "password").write_text("made up")
    (secrets / "password").write_text("by hand")
    # A link that leads nowhere is not there, and cannot be made either.
    (copy / "link").write_text("made up")
    (secrets / "link").symlink_to(tmp_path / "nowhere")
    assert list(rehearsal.keep()) == []
    assert (secrets / "password").read_text() == "by hand"
    assert not (tmp_path / "nowhere").exists()


def test_nothing_new_makes_no_folder(tmp_path: Path, rehearsal: PasswordRehearsal) -> None:
    rehearsal.copy(tmp_path / "secrets")
    assert list(rehearsal.keep()) == []
    assert not (tmp_path / "secrets").exists()


def test_each_folder_that_cannot_be_written_to_is_told(tmp_path: Path, rehearsal: PasswordRehearsal) -> None:
    (tmp_path / "file").write_text("")
    folders = [tmp_path / "file" / "one", tmp_path / "fine", tmp_path / "file" / "two"]
    for folder in folders:
        (rehearsal.copy(folder) / "password").write_text("x")
    assert list(rehearsal.keep()) == [(folders[0], "Not a directory"), (folders[2], "Not a directory")]
    assert (tmp_path / "fine" / "password").read_text() == "x"
