"""A command of the runtime, as a module runs it."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import runtime
from ansible_collections.celeryops.stack.plugins.module_utils.runtime import CommandError, run_runtime


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        (
            "celeryops_runtime: error: argument command: invalid choice: 'backlog' (choose from 'check', 'drain')\n",
            "the runtime on this host is of an earlier version and has no backlog; run site.yml once without ",
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
