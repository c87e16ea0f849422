"""Runs of the other programs of this repository: the checks, the images, the chaos scenario, the control nodes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tools.chaos.stacks import STACKS
from tools.lab import engine, images
from tools.suites.order import times_of_tests
from tools.suites.run import ROOT, WORK, Run, count

if TYPE_CHECKING:
    from collections.abc import Sequence


class Images(Run):
    """The engine, and the images that the other runs need: two at once, while those that need the others begin."""

    weight, urgent, tests = 0.0, True, False

    def __init__(self, suites: Sequence[str]) -> None:
        super().__init__("images")
        self.suites = list(dict.fromkeys(suites))

    def run(self) -> None:
        started = time.monotonic()
        engine.engine()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(images.image, self.suites))
        self.finished("build", "ok", time.monotonic() - started)
        self.counts["prepared"] += 1


class Checks(Run):
    """`make checks`, beside the first hosts: what it finds in two minutes ends everything else."""

    urgent, decisive = True, True
    report = ROOT / "build" / "reports" / "unit.xml"

    def __init__(self) -> None:
        super().__init__("checks")

    def run(self) -> None:
        started = time.monotonic()
        self.report.unlink(missing_ok=True)  # an old one says nothing
        # It is no child of the make that called this: that one's jobs are not its own.
        environment = {
            key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
        }
        passed = self.command(["make", "--no-print-directory", "checks"], environment=environment, each_line=self.show)
        if self.report.exists():
            self.counts += count(self.report)
            self.times.tests = times_of_tests(self.report)
        if not passed and not self.counts["failed"]:
            self.counts["failed"] += 1
        self.finished("checks", "ok" if passed else "failed", time.monotonic() - started)

    @staticmethod
    def show(line: str) -> None:
        sys.stdout.write(line)
        sys.stdout.flush()


class Chaos(Run):
    """The shortened form of the chaos scenario (chaos.py), beside the suites: it waits most of its time."""

    weight = 0.5

    def __init__(self, broker: str) -> None:
        super().__init__(f"{broker}-chaos", suite=STACKS[broker].suite)
        self.broker = broker
        if STACKS[broker].cluster:
            # Six hosts.
            self.weight = 1.5
        self.rows = WORK / f"{self.name}.json"

    def run(self) -> None:
        """Run it; each class at each fault counts as a test."""
        started = time.monotonic()
        passed = self.command(
            [sys.executable, str(ROOT / "scripts" / "chaos.py"), "--short", f"--json={self.rows}", self.broker]
        )
        self.finished("faults", "ok" if passed else "failed", time.monotonic() - started)
        if passed:
            self.counts["passed"] += len(json.loads(self.rows.read_text()))
        else:
            self.counts["failed"] += 1
            if not Run.stopped.is_set():
                sys.stdout.write(self.log.read_text()[-8000:])
                sys.stdout.flush()


class ControlNode(Run):
    """What a user does with the built tarball, on one version of ansible-core (run_control_nodes.py)."""

    def __init__(self, version: str, suites: tuple[str, str]) -> None:
        """Name it.

        Args:
            version: of ansible-core, without the patch.
            suites: Debian of the control node, and of the host.
        """
        name = f"ansible{version}"
        super().__init__(name, suite=suites[1], row=name)
        self.version = version
        self.results = WORK / f"{name}.json"

    def run(self) -> None:
        started = time.monotonic()
        self.results.unlink(missing_ok=True)  # an old one says nothing
        program = str(ROOT / "scripts" / "run_control_nodes.py")
        passed = self.command(
            [sys.executable, program, f"--only={self.version}", f"--json={self.results}"], each_line=self.show
        )
        if self.results.exists():
            found = json.loads(self.results.read_text())[self.name]
            self.counts += Counter(passed=found["passed"], failed=found["failed"])
            self.versions, self.times.tests = found["versions"], found["seconds"]
        if not passed and not self.counts["failed"]:
            self.counts["failed"] += 1
        self.finished("control", "ok" if passed else "failed", time.monotonic() - started)
        if not passed and not Run.stopped.is_set():
            sys.stdout.write(self.log.read_text()[-8000:])
            sys.stdout.flush()

    def show(self, line: str) -> None:
        if line.startswith(f"  {self.name} "):
            self.say(line[len(f"  {self.name} ") :].strip())
