"""An application of the scenario apps, on the host that the inventory of its example has set up."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import testinfra
import yaml
from hosts import run_in_app, wait
from playbooks import ROOT, Run, run_playbook

#: The folder of examples/ whose inventory has set up the host.
NAME = os.environ.get("CELERYOPS_APP", "django-ca")
EXAMPLE = ROOT / "examples" / NAME
LAB = ROOT / "molecule" / "apps" / "inventory"


class Application:
    """The application, and what is asked of it; what the inventory says is read from the inventory."""

    def __init__(self) -> None:
        """Read the inventory; nothing is asked yet."""
        self.variables: dict[str, Any] = yaml.safe_load((EXAMPLE / "inventory/group_vars/all.yml").read_text())
        self.name = str(self.variables["celery_app_name"])
        self.classes: dict[str, dict[str, Any]] = self.variables["celery_worker_classes"]
        # Who has all answers waits for no more.
        self.inspect = f"inspect(timeout=15, limit={len(self.classes)})"
        self.state = f"/var/lib/celeryops/{self.name}"
        container = os.environ.get("CELERYOPS_HOST", f"celeryops-test-apps-{NAME}")
        self.host = testinfra.get_host(f"docker://{container}")

    def on(self, command: str) -> str:
        """Run a shell command as root."""
        return str(self.host.check_output(command))

    def by_hand(self, command: str) -> str:
        """Run a program as the README of the example has it."""
        return self.on(f"celeryops-run {self.name} {command}")

    def play(self, playbook: Path | str, **variables: Any) -> Run:
        """Run a playbook on the host: play("restart"), play(EXAMPLE / "before.yml")."""
        path = f"playbooks/{playbook}.yml" if isinstance(playbook, str) else str(playbook.relative_to(ROOT))
        return run_playbook(EXAMPLE / "inventory", f"--inventory={LAB}", playbook=path, variables=variables)

    def python(self, text: str) -> Any:
        """Run Python with the app as the name ``app``, and return what it prints last, as JSON."""
        module, _colon, name = str(self.variables["celery_app_import"]).partition(":")
        program = f"import json\nfrom {module} import {name} as app\n{text}"
        return json.loads(run_in_app(self.host, self.name, program).splitlines()[-1])

    def result(self, task: str, *args: Any, **kwargs: Any) -> Any:
        """Send a task by its name, and return its state and its result."""
        return self.python(
            f"sent = app.send_task({task!r}, args={list(args)!r}, kwargs={kwargs!r})\n"
            "sent.get(timeout=120, propagate=False)\n"
            "print(json.dumps([sent.state, sent.result], default=str))"
        )

    def runs(self) -> dict[str, Counter[str]]:
        """Return worker class -> how often its worker took each task since it started."""
        told = self.python(f"print(json.dumps(app.control.{self.inspect}.stats()))")
        assert {node.split("@")[0] for node in told} == {*self.classes}, "not all workers answered"
        return {node.split("@")[0]: Counter(stats["total"]) for node, stats in told.items()}

    def took(self, task: str, *args: Any, **kwargs: Any) -> set[str]:
        """Send a task, wait until it has run, and return the classes that took it: all in one process."""
        state, found, before, after = self.python(
            "def totals():\n"
            f"    told = app.control.{self.inspect}.stats()\n"
            f"    return {{node.split('@')[0]: stats['total'].get({task!r}, 0) for node, stats in told.items()}}\n"
            "before = totals()\n"
            f"sent = app.send_task({task!r}, args={list(args)!r}, kwargs={kwargs!r})\n"
            "sent.get(timeout=120, propagate=False)\n"
            "print(json.dumps([sent.state, sent.result, before, totals()], default=str))"
        )
        assert state == "SUCCESS", found
        assert {*before} == {*after} == {*self.classes}, "not all workers answered"
        return {name for name in self.classes if after[name] > before[name]}

    def units(self) -> dict[str, dict[str, str]]:
        """Return what systemd says of each of the app's services that the inventory has."""
        names = [f"celery-{self.name}-{name}.service" for name in (*self.classes, "beat", "flower")]
        properties = "--property=Id,ActiveState,SubState,MainPID,NRestarts,User,ControlGroup"
        blocks = self.on(f"systemctl show {properties} {' '.join(names)}").split("\n\n")
        found = [dict(line.split("=", 1) for line in block.splitlines() if line) for block in blocks]
        return {one["Id"].removeprefix(f"celery-{self.name}-").removesuffix(".service"): one for one in found}

    def journal(self) -> list[str]:
        """Return everything that the app's services have said, however often they were started."""
        return self.on(
            f"journalctl --no-pager --output=cat --output-fields=MESSAGE --unit='celery-{self.name}-*.service'"
        ).splitlines()

    def sent(self, entry: str) -> int:
        """Return how often the scheduler has sent an entry of the schedule."""
        log = self.on(f"journalctl --no-pager --output=cat --unit=celery-{self.name}-beat.service")
        return len(re.findall(rf"Sending due task {re.escape(entry)} ", log))

    def wait_for_beat(self, entry: str, task: str, seconds: float) -> None:
        """Wait until the scheduler has sent an entry of the app's own schedule, and a worker has taken it."""
        wait(lambda: self.sent(entry) > 0, seconds, f"{entry} was not sent")
        wait(lambda: any(counts[task] for counts in self.runs().values()), 60, f"no worker took {task}")
