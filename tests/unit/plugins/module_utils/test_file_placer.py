"""Placing files: what a person reads of it in a diff."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.action.files import expand
from ansible_collections.celeryops.stack.plugins.module_utils import foreign, placed
from ansible_collections.celeryops.stack.plugins.module_utils.file_placer import Placer

OWNER, GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name


class Module:
    def __init__(self, *, check_mode: bool) -> None:
        self.check_mode = check_mode
        self.params: dict[str, Any] = {}

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def fail_json(self, msg: str, **_more: Any) -> None:
        raise SystemExit(msg)


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of the record of this machine."""
    path = tmp_path / "record"
    read, write = foreign.recorded, foreign.record
    monkeypatch.setattr(foreign, "record", lambda paths: write(paths, str(path)))
    monkeypatch.setattr(foreign, "recorded", lambda: read(str(path)))
    return path


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
    (shown,) = [entry for entry in placer.changes.diff if entry["after"] != "directory\n"]
    assert shown["before_header"] == shown["after_header"] == str(tmp_path / "opt" / "package")
    assert shown["before"] == ""
    first, second = shown["after"].splitlines()
    assert first.startswith("__init__.py (version 0.2.0, ")
    assert re.fullmatch(r"sub/b\.py \([0-9a-f]{12}\)", second)
    assert str(tmp_path / "opt" / "package" / "sub" / "b.py") in placer.changes.paths
    assert (tmp_path / "opt" / "package" / "sub" / "b.py").exists() is not check_mode


def test_a_change_in_a_tree_shows_which_file_and_a_second_run_none(role: Path, tmp_path: Path) -> None:
    place(role, tmp_path)
    assert place(role, tmp_path).changes.diff == []
    (tmp_path / "package" / "sub" / "b.py").write_text("edited\n")
    (tmp_path / "package" / "left.py").write_text("from an older version\n")
    placer = place(role, tmp_path)
    (shown,) = placer.changes.diff
    assert [line.split(" ")[0] for line in shown["before"].splitlines()] == ["sub/b.py", "left.py"]
    assert [line.split(" ")[0] for line in shown["after"].splitlines()] == ["sub/b.py"]
    assert shown["before"].splitlines()[0] != shown["after"].splitlines()[0]
    assert not (tmp_path / "package" / "left.py").exists()
    assert place(role, tmp_path).changes.paths == []


def test_nothing_leaves_a_tree_while_what_comes_is_not_there(
    role: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(role, tmp_path)
    left, old = tmp_path / "package" / "left.py", tmp_path / "package" / "sub" / "b.py"
    left.write_text("what the others import\n")
    (role / "files" / "package" / "sub" / "b.py").write_text("imports it no more\n")

    def refuse(_self: Placer) -> None:
        raise SystemExit("something else is not valid")

    with monkeypatch.context() as patch:
        patch.setattr(Placer, "_ask_servers", refuse)
        with pytest.raises(SystemExit):
            place(role, tmp_path)
    assert (left.exists(), old.read_text()) == (True, "long = 1\n" * 1000)
    place(role, tmp_path)
    assert (left.exists(), old.read_text()) == (False, "imports it no more\n")


def test_what_a_trial_says_is_its_end_without_the_apps_secrets(tmp_path: Path) -> None:
    said = "\n".join(
        [
            *(f"noise {number}" for number in range(500)),
            "no host for postgres://shop:unseen123@db/x, unseen456, nor unseen-789",
        ]
    )
    # The app reads one of its own files as well.
    (tmp_path / "secret").write_text("unseen-789\n")
    (tmp_path / "secret").chmod(0o600)
    placed.write(str(tmp_path / placed.NAME), {str(tmp_path / "secret"): {"sha256": ""}})
    (tmp_path / "said").write_text(said)
    (tmp_path / "celery.env").write_text('DATABASE_URL="postgres://shop:unseen123@db/x"\nSHOP_API_KEY="unseen456"\n')
    own = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
    each = {"validate": f"sh -c 'cat {tmp_path}/said; exit 1'", "environment_file": str(tmp_path / "celery.env")}
    entries = expand({"path": str(tmp_path / "unit"), "content": "new", "each": [each], **own}, [])
    unsaid = dict.fromkeys(("secret_content", "mode", "keep", "target", "pristine"))
    usual = {**unsaid, "state": "file", "create_only": False, "backup": False}
    with pytest.raises(SystemExit) as failed:
        Placer(Module(check_mode=False)).run([{**usual, **entry} for entry in entries])  # type: ignore[arg-type]
    text = str(failed.value)
    assert "unseen" not in text
    assert "no host for postgres://***@db/x, ***" in text.replace("shop:***@", "***@")
    assert len(text.splitlines()) <= 25
    assert list(tmp_path.glob("unit")) == []


def validated(role: Path, *commands: str) -> Placer:
    """Place files a and b, each with a command."""
    entries = [
        {"path": str(role / name), "content": f"{name}\n", "owner": OWNER, "group": GROUP, "validate": command}
        for name, command in zip(("a", "b"), commands, strict=True)
    ]
    unsaid = ("secret_content", "mode", "keep", "target", "pristine", "environment_file")
    usual: dict[str, Any] = {**dict.fromkeys(unsaid), "state": "file", "create_only": False, "backup": False}
    placer = Placer(Module(check_mode=False))  # type: ignore[arg-type]  # all that a Placer asks of it
    placer.run([{**usual, **entry} for entry in entries])
    return placer


def test_one_command_for_all_files_runs_once(role: Path) -> None:
    """It sees all of them at a time; one for each sees its own."""
    together = f"sh -c 'echo $# >> {role}/together; cat $@ > {role}/seen' - %*"
    validated(role, together, together)
    assert (role / "together").read_text() == "2\n"
    assert (role / "seen").read_text() == "a\nb\n"


def test_a_command_for_each_file_runs_for_each(role: Path) -> None:
    alone = f"sh -c 'echo $# >> {role}/alone' - %s"
    validated(role, alone, alone)
    assert (role / "alone").read_text() == "1\n1\n"


@pytest.mark.parametrize("word", ["%s", "%*"])
def test_none_is_placed_where_one_is_not_valid(role: Path, word: str) -> None:
    refuses = f"sh -c 'grep -l b $@ && exit 1 || exit 0' - {word}"
    with pytest.raises(SystemExit, match=f"{role}/b: the new content is not valid.*: {role}/b$"):
        validated(role, refuses, refuses)
    assert not (role / "a").exists()
    assert list(role.glob(".*")) == [], "no temporary file stays"
