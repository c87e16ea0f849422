"""Runs of playbooks on the hosts of a scenario, for its tests."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
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
    #: The actions and modules of the tasks that were not skipped, in order
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
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
    }
    finished = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    output = finished.stdout + finished.stderr
    start = finished.stdout.find("{")
    assert start >= 0, output
    report, _ = json.JSONDecoder().raw_decode(finished.stdout[start:])
    changed, called, messages = [], [], []
    for play in report["plays"]:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                if not result.get("skipped"):
                    called.append(result["action"])
                if result.get("changed"):
                    changed.append(task["task"]["name"])
                if result.get("failed") or result.get("unreachable"):
                    messages.append(str(result.get("msg", result)))
    assert finished.returncode or not messages, output
    return Run(stats=report["stats"], changed=changed, called=called, output=output, messages=messages)
