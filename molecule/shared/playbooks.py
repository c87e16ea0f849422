"""Runs of playbooks on the hosts of a scenario, for its tests."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run of a playbook came to."""

    #: host -> ok, changed, failures, skipped, unreachable ...
    stats: Mapping[str, Mapping[str, int]]
    #: Names of the tasks that changed something, in order
    changed: list[str]
    #: The actions and modules of the tasks that were not skipped and had no receipt, in order
    called: list[str]
    #: Everything that Ansible printed
    output: str
    #: The messages of the tasks that failed
    messages: list[str]

    @property
    def failed(self) -> bool:
        """Whether it failed on any host, or any of its tasks did."""
        return bool(self.messages) or any(
            host.get("failures", 0) or host.get("unreachable", 0) for host in self.stats.values()
        )


class Server:
    """The process that runs playbooks, as long as this one is there (playbook_server.py)."""

    def __init__(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("playbook_server.py"))],
            cwd=ROOT,
            env=os.environ
            | {
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
                "ANSIBLE_NOCOLOR": "1",
            },
            stdin=subprocess.PIPE,
            text=True,
        )

    def run(self, words: Sequence[str]) -> tuple[int, str, str]:
        """Run a command line of ansible-playbook; return its exit code, and what it printed on which stream."""
        assert self._process.stdin is not None
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder, "ended")
            os.mkfifo(pipe)
            # Open for both, so that neither side waits for the other one to open it.
            with pipe.open("r+b", buffering=0) as ended:
                # One write, so that several threads may ask.
                self._process.stdin.write(f"{json.dumps({'words': words, 'folder': folder})}\n")
                self._process.stdin.flush()
                while not select.select([ended], [], [], 1)[0]:
                    assert self._process.poll() is None, "the process that runs playbooks has ended"
                code = int(ended.readline())
            assert code >= 0, f"the run was ended by the signal {-code}"
            return code, Path(folder, "stdout").read_text(), Path(folder, "stderr").read_text()


#: Begins with the first run, and ends with this process, whose end of the pipe is closed then.
server = functools.cache(Server)


def run_playbook(
    inventory: Path,
    *arguments: str,
    variables: Mapping[str, Any] | None = None,
    playbook: str = "site.yml",
) -> Run:
    """Run a playbook of the checkout; the test decides whether a failure is one."""
    command = ["ansible-playbook", f"--inventory={inventory}", *arguments, str(ROOT / playbook)]
    if variables:
        command.append(f"--extra-vars={json.dumps(variables)}")
    code, report, warnings = server().run(command)
    output = report + warnings
    start = report.find("{")
    assert start >= 0, output
    told, _other = json.JSONDecoder().raw_decode(report[start:])
    changed, called, messages = [], [], []
    for play in told["plays"]:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                if not (result.get("skipped") or result.get("receipt")):
                    called.append(result["action"])
                if result.get("changed"):
                    changed.append(task["task"]["name"])
                if result.get("failed") or result.get("unreachable"):
                    messages.append(str(result.get("msg", result)))
    assert code or not messages, output
    return Run(stats=told["stats"], changed=changed, called=called, output=output, messages=messages)
