"""The record of an app's own files: what was placed is told from what somebody made of it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.action.files import expand, with_sources
from ansible_collections.celeryops.stack.plugins.module_utils import paths, placed, removal
from ansible_collections.celeryops.stack.plugins.module_utils.foreign import SUFFIX

from .test_file_placer import Module, Placer

ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name, "mode": "0640"}


def run(record: Path, *files: tuple[Path, str], check_mode: bool = False) -> tuple[Placer, list[str]]:
    """Place files of the app's own as the module does; what has left is returned as well."""
    module = Module(check_mode=check_mode)
    module.params = {"record": str(record)}
    placer = Placer(module)  # type: ignore[arg-type]  # all that a Placer asks of it
    unsaid = ("content", "secret_content", "validate", "keep", "target", "pristine")
    usual: dict[str, Any] = {**dict.fromkeys(unsaid), "state": "file", "create_only": False, "backup": False}
    items = [{"path": str(path), "content": text, "own": True, "secret": True, **ME} for path, text in files]
    placer.run([{**usual, **entry} for item in items for entry in expand(item, [])])
    return placer, placer.owners.note_own()


def test_what_was_placed_is_noted_for_root_alone_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    record, target = tmp_path / "files.json", tmp_path / "a"
    placer, left = run(record, (target, "s3cret\n"))
    assert (target.read_text(), left) == ("s3cret\n", [])
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert "s3cret" not in str(placer.changes.diff) + record.read_text()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert placed.is_ours(str(target), placed.read(str(record))[str(target)])
    again, left = run(record, (target, "s3cret\n"))
    assert (again.changes.paths, again.owners.kept, left) == ([], [], [])


def test_a_file_of_somebody_elses_is_kept_and_one_of_ours_is_not(tmp_path: Path) -> None:
    record, target = tmp_path / "celeryops.json", tmp_path / "celeryops-a"
    target.write_text("# theirs\n")
    assert run(record, (target, "one\n"), check_mode=True)[0].owners.kept == [f"{target}{SUFFIX}"]
    assert run(record, (target, "one\n"))[0].owners.kept == [f"{target}{SUFFIX}"]
    assert Path(f"{target}{SUFFIX}").read_text() == "# theirs\n"
    Path(f"{target}{SUFFIX}").unlink()
    assert run(record, (target, "two\n"))[0].owners.kept == []
    target.write_text("edited by hand\n")
    assert run(record, (target, "three\n"))[0].owners.kept == [f"{target}{SUFFIX}"]


def test_a_file_that_leaves_stays_and_is_told_once(tmp_path: Path) -> None:
    record, one, two = tmp_path / "files.json", tmp_path / "1", tmp_path / "2"
    run(record, (one, "1"), (two, "2"))
    assert run(record, (two, "2"), check_mode=True)[1] == [str(one)]
    assert run(record, (two, "2"))[1] == [str(one)]
    assert run(record, (two, "2"))[1] == []
    assert one.read_text() == "1"
    assert placed.read(str(record))[str(one)]["left"] is True
    assert run(record, (one, "1"), (two, "2"))[1] == []
    assert "left" not in placed.read(str(record))[str(one)]


def test_a_file_that_was_there_as_it_is_to_be_stays_its_owners(tmp_path: Path) -> None:
    record, target = tmp_path / "files.json", tmp_path / "a"
    target.write_text("theirs\n")
    for _run in range(2):
        placer, _left = run(record, (target, "theirs\n"))
        assert placer.owners.kept == []
        assert not placed.is_ours(str(target), placed.read(str(record))[str(target)])
    assert run(record)[1] == [str(target)]
    assert not placed.is_ours(str(target), placed.read(str(record))[str(target)])
    # What replaces it is ours, and theirs is kept.
    assert run(record, (target, "ours\n"))[0].owners.kept == [f"{target}{SUFFIX}"]
    assert placed.is_ours(str(target), placed.read(str(record))[str(target)])


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_a_record_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "files.json").write_text(text)
    assert placed.read(str(tmp_path / "files.json")) == {}


def test_a_removed_app_takes_along_what_was_placed_and_nobody_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CONFIG", str(tmp_path / "etc"))
    (tmp_path / "etc" / "shop").mkdir(parents=True)
    same, edited, gone = tmp_path / "same", tmp_path / "edited", tmp_path / "gone"
    for path in (same, edited, gone):
        path.write_text("x")
    record = {str(path): {"sha256": placed.digest(b"x")} for path in (same, edited, gone)}
    placed.write(str(tmp_path / "etc" / "shop" / placed.NAME), record)
    edited.write_text("y")
    gone.unlink()
    found = removal.of_app("shop", [], {}, "", data=False)
    assert (found.paths, found.changed) == ([str(same)], [str(edited)])
    # Another app of the host has it as well.
    (tmp_path / "etc" / "blog").mkdir()
    placed.write(str(tmp_path / "etc" / "blog" / placed.NAME), {str(same): record[str(same)]})
    found = removal.of_app("shop", [], {}, "", data=False)
    assert (found.paths, found.changed) == ([], [str(edited), str(same)])


class Loader:
    """Ansible's loader, as far as it is asked: what is encrypted, it hands over as another file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_basedir(self) -> str:
        return str(self.folder)

    def get_real_file(self, path: str) -> str:
        return path + ".plain" if Path(path + ".plain").exists() else path


def test_a_source_is_read_from_the_control_machine_and_decrypted(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("")
    (tmp_path / "a").write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    (tmp_path / "a.plain").write_text("s3cret")
    variables = {"ansible_inventory_sources": [str(tmp_path / "hosts.yml")]}
    loader = Loader(tmp_path)
    found = with_sources([{"path": "/x", "src": "a"}, {"path": "/y", "content": "z"}], loader, variables)
    assert found == [{"path": "/x", "content": "s3cret"}, {"path": "/y", "content": "z"}]
    (tmp_path / "d").write_bytes(b"a\r\nb\n")
    assert with_sources([{"path": "/x", "src": "d"}], loader, variables) == [{"path": "/x", "content": "a\r\nb\n"}]
    with pytest.raises(ValueError, match=r"there is no file .*/b on the control machine, for /x"):
        with_sources([{"path": "/x", "src": "b"}], loader, variables)
    (tmp_path / "c").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text"):
        with_sources([{"path": "/x", "src": "c"}], loader, variables)
