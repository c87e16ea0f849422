#!/usr/bin/env python3
"""Run Molecule's scenarios on several suites of Debian side by side, and say what came of it.

Each scenario of each suite has its own containers, its own scratch folder below build/molecule/ and its own log there;
what one does is not seen by another. A failure shows the log from the step that failed, and the journal's warnings.

    scripts/run_suites.py bookworm trixie
    scripts/run_suites.py trixie-redis trixie-fleet trixie-chaos
    scripts/run_suites.py --record tests/support.json bookworm trixie forky
    KEEP=1 scripts/run_suites.py trixie             leaves the containers, and says how to get into them
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lab

import chaos

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "molecule"
#: The first is what most people run: one host, with RabbitMQ.
SCENARIOS = ("default", "redis", "fleet")
PHASE = re.compile(r"\[[a-z]+ > (?P<phase>\w+)\] (?P<event>Executing|Executed: .*)")
STEPS = ("create", "prepare", "check", "converge", "idempotence", "verify")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
VERSIONS = """
cd /
echo "debian $(. /etc/os-release; echo "${VERSION_ID:-testing}")"
dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' rabbitmq-server redis-server valkey-server 2>/dev/null \
    | while read -r package version status; do
        [ "$status" = installed ] && echo "${package%-server} $version"
    done
echo "systemd $(systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')"
python=$(find -L /opt/celeryops/*/current -maxdepth 4 -path '*/bin/python' 2>/dev/null | head -n 1)
[ -z "$python" ] || "$python" -c '
import platform
from importlib.metadata import version
print("python", platform.python_version())
for name in ("celery", "kombu"):
    print(name, version(name))
'
"""


def say(name: str, text: str) -> None:
    """Tell the person at the keyboard what came of a step."""
    sys.stdout.write(f"  {name:14} {text}\n")
    sys.stdout.flush()


class Suite:
    """One scenario's run on one suite."""

    stopped = False

    def __init__(self, suite: str, scenario: str) -> None:
        self.suite, self.scenario = suite, scenario
        self.name = name = suite if scenario == SCENARIOS[0] else f"{suite}-{scenario}"
        # Where there are several hosts, this begins their names.
        self.host = lab.own(f"celeryops-test-{name}")
        self.folder = WORK / name
        self.log = WORK / f"{name}.log"
        self.report = self.folder / "verify.xml"
        self.process: subprocess.Popen[str] | None = None
        self.phase = "start"
        self.counts: Counter[str] = Counter()
        self.versions: dict[str, str] = {}

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "CELERYOPS_SUITE": self.suite,
            "CELERYOPS_HOST": self.host,
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }

    def say(self, text: str) -> None:
        say(self.name, text)

    def molecule(self, command: str, *options: str) -> bool:
        """Run one molecule command: the log gets everything, the person one line per step."""
        started = time.monotonic()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                ["molecule", command, f"--scenario-name={self.scenario}", *options],
                cwd=ROOT,
                env=self.environment(),
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for coloured in self.process.stdout or ():
                line = COLOUR.sub("", coloured)
                log.write(line)
                log.flush()
                found = PHASE.search(line)
                if found and found["event"] == "Executing":
                    self.phase, started = found["phase"], time.monotonic()
                elif found and found["phase"] in {command, *STEPS}:
                    outcome = "ok" if "Successful" in found["event"] else found["event"].removeprefix("Executed: ")
                    self.say(f"{found['phase']:12} {outcome:8} {time.monotonic() - started:4.0f} s")
        return self.process.wait() == 0

    def run(self) -> None:
        if Suite.stopped:
            self.counts["failed"] += 1
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.report.unlink(missing_ok=True)
        self.log.write_text("")
        try:
            self.remove()  # what an interrupted run may have left
            (self.folder / "state.yml").unlink(missing_ok=True)
            passed = self.molecule("test", "--destroy=never")
            if self.report.exists():
                self.counts += count(self.report)
            if not passed and not self.counts["failed"]:
                self.counts["failed"] += 1
            if passed:
                self.versions = self.ask_versions()
            else:
                self.explain()
        finally:
            if os.environ.get("KEEP"):
                hosts = lab.family(self.host)
                self.say(
                    f"kept: docker exec -it {self.host} bash; `molecule destroy` is scripts/lab.py down {self.host}"
                    if hosts == [self.host]
                    else f"kept: {', '.join(hosts)}; `molecule destroy` is scripts/lab.py down {' '.join(hosts)}"
                )
            elif not self.molecule("destroy"):
                self.counts["failed"] += 1
                self.remove()

    def remove(self) -> None:
        for host in lab.family(self.host):
            lab.down(host)

    def ask_versions(self) -> dict[str, str]:
        """What the hosts have of what the support table names, each of them a part of it."""
        lines = [
            line
            for host in lab.family(self.host)
            for line in lab.docker("exec", host, "sh", "-c", VERSIONS).splitlines()
        ]
        return dict(line.split(" ", 1) for line in lines if " " in line)

    def explain(self) -> None:
        """Print what a person needs to see of a failure: the log of the step, and the journal."""
        lines = self.log.read_text().splitlines()
        start = max((number for number, line in enumerate(lines) if f"> {self.phase}] Executing" in line), default=0)
        text = [
            f"\n== {self.name}: {self.phase} failed; the whole log is {self.log.relative_to(ROOT)}",
            *lines[start:][-250:],
        ]
        show = ["journalctl", "--no-pager", "--priority=warning", "--lines=60", "--output=short"]
        for host in lab.family(self.host):
            journal = subprocess.run(["docker", "exec", host, *show], check=False, capture_output=True, text=True)
            text += [f"\n== {self.name}: warnings of the journal of {host}", journal.stdout]
        sys.stdout.write("\n".join(text) + "\n")
        sys.stdout.flush()


class Chaos:
    """The shortened form of the chaos scenario (chaos.py), beside the suites: it waits most of its time."""

    def __init__(self, broker: str) -> None:
        self.suite, self.broker = chaos.BROKERS[broker][0], broker
        self.name = f"{broker}-chaos"
        self.log, self.rows = WORK / f"{self.name}.log", WORK / f"{self.name}.json"
        self.process: subprocess.Popen[str] | None = None
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Run it; each class at each fault counts as a test."""
        if Suite.stopped:
            self.counts["failed"] += 1
            return
        started = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "scripts" / "chaos.py"), "--short", f"--json={self.rows}", self.broker],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        passed = self.process.wait() == 0
        say(self.name, f"{'faults':12} {'ok' if passed else 'failed':8} {time.monotonic() - started:4.0f} s")
        if passed:
            self.counts["passed"] += len(json.loads(self.rows.read_text()))
        else:
            self.counts["failed"] += 1
            sys.stdout.write(self.log.read_text()[-8000:])
            sys.stdout.flush()


def count(report: Path) -> Counter[str]:
    """Tests of a JUnit report by outcome."""
    counts: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314 (pytest wrote it a moment ago)
        number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        counts["failed"] += number["failures"] + number["errors"]
        counts["skipped"] += number["skipped"]
        counts["passed"] += number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    return counts


def record(path: Path, suites: Sequence[Suite]) -> None:
    """Keep what was seen, for the support table; suites that were not run keep what was seen of them before."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    for suite in suites:
        known[suite.name] = {
            "date": today,
            "passed": suite.counts["passed"],
            "failed": suite.counts["failed"],
            "versions": dict(sorted(suite.versions.items())),
        }
    path.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    every: list[Suite | Chaos] = [Suite(name, scenario) for name in lab.SUITES for scenario in SCENARIOS]
    every += [Chaos(broker) for broker in chaos.BROKERS]
    runs = {run.name: run for run in every}
    parser.add_argument("runs", nargs="+", choices=runs, metavar="RUN", help=", ".join(runs))
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep versions and results in this file")
    parser.add_argument("--add", type=Path, metavar="FILE", help="count the tests of this JUnit report too")
    parser.add_argument("--jobs", type=int, default=2, help="hosts at the same time (default: %(default)s)")
    options = parser.parse_args()
    suites = [runs[name] for name in dict.fromkeys(options.runs)]
    WORK.mkdir(parents=True, exist_ok=True)

    def stop(_number: int, _frame: object) -> None:
        Suite.stopped = True
        for suite in suites:
            if suite.process and suite.process.poll() is None:
                os.killpg(suite.process.pid, signal.SIGTERM)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

    # Two runs of one checkout would remove each other's hosts.
    lock = (WORK / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write("The suites of this checkout are being tested already.\n")
        return 1

    try:
        lab.engine()
        for name in dict.fromkeys(suite.suite for suite in suites):
            lab.image(name)
    except lab.LabError as problem:
        sys.stderr.write(f"lab: {problem}\n")
        return 1
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = [pool.submit(suite.run) for suite in suites]
    for suite, outcome in zip(suites, outcomes, strict=True):
        if outcome.exception():
            suite.counts["failed"] += 1
            sys.stdout.write(f"  {suite.name}: {outcome.exception()}\n")
    if options.record:
        record(options.record, [suite for suite in suites if isinstance(suite, Suite)])

    total = sum((suite.counts for suite in suites), count(options.add) if options.add else Counter())
    for suite in suites:
        say(
            suite.name,
            ", ".join(f"{suite.counts[key]} {key}" for key in ("passed", "failed", "skipped") if suite.counts[key]),
        )
    sys.stdout.write(f"{total['passed']} passed, {total['failed']} failed\n")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
