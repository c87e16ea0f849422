"""What the gate is made of: runs. Molecule's scenarios are in molecule.py, the other kinds in programs.py.

A new kind is one more class there (or in a file of its own) and its names in `run_suites.every_run`, and in `GATE` and
`ALL` there if it is to be part of `make test` and `make test-all`. It inherits from `Run`, which is given `name`,
`suite` (whose image is there when it begins) and `row`; it sets `weight`, and has a method `run()`, which

* does the work with `self.command(...)`: the child's output goes to `self.log`, and an interruption ends the child;
* counts what passed and failed in `self.counts`; to return without a count, or to raise, is one failure;
* says each finished phase with `self.finished(...)`, which the budget and the durations then have;
* fills `self.versions` with what it ran on, and `self.times.tests` where it knows single tests.

`row` is the row of the support table that it belongs to, "" for none: runs with the same row are one stack that was
tested on several hosts. Order, places, interruption, resuming and recording are not its affair.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tools.lab import engine, images, machine
from tools.suites.order import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

ROOT = machine.ROOT
WORK = ROOT / "build" / "molecule"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def thorough() -> bool:
    """Tell whether every long test is wanted, as `make test-all` wants them."""
    return bool(os.environ.get("CELERYOPS_THOROUGH"))


def say(name: str, text: str) -> None:
    """Tell the person at the keyboard what came of a step."""
    sys.stdout.write(f"  {name:20} {text}\n")
    sys.stdout.flush()


class Run:
    """One entry of the gate; the text of this file says how to add another kind."""

    #: How much of the machine it keeps busy: a stack under test is 1.
    weight = 1.0
    #: Whether others wait for it, or for what it says: it begins before them.
    urgent = False
    #: Whether its failure ends the others.
    decisive = False
    #: Whether it tests something: then it is listed, and there is a row of it.
    tests = True
    #: Set when somebody interrupts the gate, or the checks have failed: what has not begun does not begin.
    stopped = threading.Event()

    def __init__(self, name: str, *, suite: str = "", row: str = "") -> None:
        """Name a run.

        Args:
            name: what a person calls it on the command line; its log and its rows are called so.
            suite: the suite of Debian whose image it needs, if any.
            row: the row of the support table that it belongs to, if any.
        """
        self.name, self.suite, self.row = name, suite, row
        self.log = WORK / f"{name}.log"
        self.process: subprocess.Popen[str] | None = None
        self.counts: Counter[str] = Counter()
        self.versions: dict[str, str] = {}
        self.times = Times()

    def run(self) -> None:
        """Do the work."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        say(self.name, text)

    def finished(self, phase: str, outcome: str, seconds: float) -> None:
        """Note a phase that has ended, and say so."""
        self.times.phases[phase] = self.times.phases.get(phase, 0.0) + seconds
        self.say(f"{phase:12} {outcome:8} {seconds:4.0f} s")

    def command(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        each_line: Callable[[str], None] = lambda _line: None,
    ) -> bool:
        """Run a program of the checkout and return whether it ended well.

        Args:
            arguments: the program and its arguments.
            environment: what it has instead of this process's environment.
            each_line: called with each line of its output, which the log gets as well.
        """
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                arguments,
                cwd=ROOT,
                env=environment,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as self.process,
        ):
            for coloured in self.process.stdout or ():
                line = COLOUR.sub("", coloured)
                log.write(line)
                log.flush()
                each_line(line)
        return self.process.returncode == 0

    def interrupt(self) -> None:
        """End what it does just now; it may clean up."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)

    def attend(self, began: float) -> None:
        """Run it, with all that is the same for every kind.

        Args:
            began: when the gate began (time.monotonic): it has waited for a place since then.
        """
        started = time.monotonic()
        self.times.waited = started - began
        if Run.stopped.is_set():
            self.counts["failed"] += 1
            return
        try:
            WORK.mkdir(parents=True, exist_ok=True)
            self.log.write_text("")
            if self.suite:
                engine.engine()
                images.image(self.suite)  # waits where another run is building it
            self.run()
        except Exception as problem:
            self.counts["failed"] += 1
            self.say(f"{type(problem).__name__}: {problem}")
        self.times.wall = time.monotonic() - started
        if not self.counts:
            self.counts["failed"] += 1
            self.say("it has counted nothing")


def count(report: Path) -> Counter[str]:
    """Tests of a JUnit report by outcome."""
    counts: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314 (pytest wrote it a moment ago)
        number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        counts["failed"] += number["failures"] + number["errors"]
        counts["skipped"] += number["skipped"]
        counts["passed"] += number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    return counts
