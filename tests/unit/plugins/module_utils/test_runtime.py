"""A command of the runtime, as a module runs it."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import runtime
from ansible_collections.celeryops.stack.plugins.module_utils.runtime import CommandError, run_runtime, waiting


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        (
            "celeryops_runtime: error: argument command: invalid choice: 'backlog' (choose from 'check', 'drain')\n",
            "the runtime on this host is of an earlier version and lacks what backlog is asked for; run site.yml once ",
        ),
        (
            "celeryops_runtime: error: unrecognized arguments: --taken\n",
            "lacks what backlog is asked for; run site.yml",
        ),
        ("Traceback\n  x\nKeyError: 'backlog'\n", "ended with 2:\nTraceback"),
    ],
)
def test_a_runtime_that_does_not_know_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, says: str
) -> None:
    def ends(words: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 2, "", stderr)

    monkeypatch.setattr(runtime.subprocess, "run", ends)
    (tmp_path / "env").write_text("A=1\n")
    with pytest.raises(CommandError) as error:
        run_runtime("/opt/x", str(tmp_path / "env"), getpass.getuser(), ["backlog"], timeout=1)
    assert says in str(error.value)


def test_it_has_all_groups_of_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a unit's process has them; a directory service lists no members."""
    options: dict[str, Any] = {}

    def answers(words: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
        options.update(given)
        return subprocess.CompletedProcess(words, 0, "{}\n", "")

    monkeypatch.setattr(runtime.subprocess, "run", answers)
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid, 64321])
    (tmp_path / "env").write_text("A=1\n")
    run_runtime("/opt/x", str(tmp_path / "env"), "nobody", ["backlog"], timeout=1)
    assert options["extra_groups"] == [options["group"], 64321]


@pytest.mark.parametrize(
    ("report", "known"),
    [
        ({"failed": False, "waiting": {"high": 2}}, {"high": 2}),
        ({"failed": True, "message": "no broker"}, "no broker"),
        ({"failed": False}, "the app's runtime reported no counts"),
        ({"failed": False, "waiting": None}, "the app's runtime reported no counts"),
    ],
)
def test_an_answer_without_counts_is_not_an_empty_queue(
    monkeypatch: pytest.MonkeyPatch, report: dict[str, object], known: object
) -> None:
    monkeypatch.setattr(runtime, "run_runtime", lambda *_words, **_options: report)
    assert waiting("shop", "shop") == known
