"""The kinds of runs that the gate is made of: the checks, the images, Molecule's scenarios, the chaos scenario.

A new kind is one more class here (or in a file of its own) and its names in `run_suites.every_run`, and in `GATE` and
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

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lab
from suites_order import Times, times_of_tests

import chaos

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "molecule"
#: The first is what most people run: one host, with RabbitMQ.
SCENARIOS = ("default", "redis", "fleet", "before")
#: Those whose tests are not parted, and for which the support table has no row.
WHOLE = ("fleet", "before")
#: The applications of the scenario apps, each a folder of examples/, and the suite of Debian that it runs on.
APPLICATIONS = {"django-ca": "trixie", "weblate": "trixie", "superset": "bookworm"}
#: The parts of a scenario's tests, each on a host of its own: what has no marker `apart`, then what the marker names.
SHARDS = ("first", "apart", "releases")
#: The versions of Celery that a user's app may pin, and the modules of tests in which they differ.
CELERIES = ("5.4", "5.5", "5.6")
CELERY_TESTS = ("exchange", "stops", "pitfalls", "once")
#: And those in which releases of Debian differ: what the gate has of Debian 12, where it has an older Celery.
DEBIAN_TESTS = ("again", "host", "messages", "prune")
PHASE = re.compile(r"\[[a-z]+ > (?P<phase>\w+)\] (?P<event>Executing|Executed: .*)")
#: Only the first shard of a stack shows what a dry run on the bare host and a second run say; in the gate, the dry run
#: is on one stack. The tests of one host have the second run themselves (test_again.py), and look at more of it.
STEPS = ("create", "prepare", "check", "converge", "idempotence", "verify")
DRY_IN_THE_GATE = "trixie"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
VERSIONS = """
cd /
echo "debian $(. /etc/os-release; echo "${VERSION_ID:-testing}")"
dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' rabbitmq-server redis-server valkey-server 2>/dev/null \
    | while read -r package version status; do
        [ "$status" = installed ] && echo "${package%-server} $version"
    done
echo "systemd $(systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')"
# The app's, and not that of its Flower, whose environment has a Celery of its own.
python=$(find -L /opt/celeryops/*/current -maxdepth 4 -path '*/bin/python' 2>/dev/null | grep -v -e '-flower/' \
    | head -n 1)
[ -z "$python" ] || "$python" -c '
import platform
from importlib.metadata import version
print("python", platform.python_version())
for name in ("celery", "kombu"):
    print(name, version(name))
'
"""


#: Prints the application's name and version; some distributions have their foundation's name before their own, some an
#: underscore in it.
DISTRIBUTION = """
import sys
from importlib.metadata import distributions
for one in distributions():
    if one.metadata["Name"].replace("_", "-") in (sys.argv[1], "apache-" + sys.argv[1]):
        print(sys.argv[1], one.version)
        break
"""


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
                lab.engine()
                lab.image(self.suite)  # waits where another run is building it
            self.run()
        except Exception as problem:
            self.counts["failed"] += 1
            self.say(f"{type(problem).__name__}: {problem}")
        self.times.wall = time.monotonic() - started
        if not self.counts:
            self.counts["failed"] += 1
            self.say("it has counted nothing")


class Images(Run):
    """The engine, and the images that the other runs need: two at once, while those that need the others begin."""

    weight, urgent, tests = 0.0, True, False

    def __init__(self, suites: Sequence[str]) -> None:
        super().__init__("images")
        self.suites = list(dict.fromkeys(suites))

    def run(self) -> None:
        started = time.monotonic()
        lab.engine()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lab.image, self.suites))
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


class Suite(Run):
    """One part of a scenario's tests on one suite, on a host of its own, or several."""

    def __init__(
        self, suite: str, scenario: str, shard: str = SHARDS[0], celery: str = "", also: Sequence[str] = ()
    ) -> None:
        """Name it.

        Args:
            suite: the suite of Debian.
            scenario: Molecule's.
            shard: which part of the tests.
            celery: the minor version to which the app's Celery is held; then some modules are of interest, all of them.
            also: further modules that a run with such a version has.
        """
        row = "-".join(
            [suite, *([scenario] if scenario != SCENARIOS[0] else []), *([f"celery{celery}"] if celery else [])]
        )
        name = row if shard == SHARDS[0] else f"{row}-{shard}"
        super().__init__(name, suite=suite, row="" if scenario in WHOLE else row)
        self.scenario, self.shard, self.celery = scenario, shard, celery
        # Where there are several hosts, this begins their names.
        self.host = lab.own(f"celeryops-test-{name.replace('.', '-')}")
        self.folder = WORK / name
        self.report = self.folder / "verify.xml"
        self.phase = "start"
        self.tests_of = "none" if celery else shard
        self.modules = (*also, *CELERY_TESTS) if celery else ()

    @property
    def steps(self) -> tuple[str, ...]:
        """Molecule's steps, but for the last, which removes the hosts."""
        first = self.shard == SHARDS[0] and not self.celery
        left_out = {
            *(() if first and (thorough() or self.name == DRY_IN_THE_GATE) else ("check",)),
            *(() if first and self.scenario in WHOLE else ("idempotence",)),
        }
        return tuple(step for step in STEPS if step not in left_out)

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "CELERYOPS_SUITE": self.suite,
            "CELERYOPS_HOST": self.host,
            "CELERYOPS_RUN": self.name,
            "CELERYOPS_SHARD": self.tests_of,
            "CELERYOPS_TESTS": " ".join(self.modules),
            "CELERYOPS_CELERY": self.celery,
            "CELERYOPS_SEQUENCE": f"[{', '.join(self.steps)}, destroy]",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }

    def molecule(self, command: str, *options: str) -> bool:
        """Run one molecule command: the log gets everything, the person one line per step."""
        started = time.monotonic()

        def look(line: str) -> None:
            nonlocal started
            found = PHASE.search(line)
            if found and found["event"] == "Executing":
                self.phase, started = found["phase"], time.monotonic()
            elif found and found["phase"] in {command, *STEPS}:
                outcome = "ok" if "Successful" in found["event"] else found["event"].removeprefix("Executed: ")
                self.finished(found["phase"], outcome, time.monotonic() - started)

        return self.command(
            ["molecule", command, f"--scenario-name={self.scenario}", *options],
            environment=self.environment(),
            each_line=look,
        )

    def run(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.report.unlink(missing_ok=True)
        try:
            self.remove()  # what an interrupted run may have left
            (self.folder / "state.yml").unlink(missing_ok=True)
            passed = not Run.stopped.is_set() and self.molecule("test", "--destroy=never")
            if self.report.exists():
                self.counts += count(self.report)
                self.times.tests = times_of_tests(self.report)
            if not passed and not self.counts["failed"]:
                self.counts["failed"] += 1
            if passed:
                self.versions = self.ask_versions()
            elif not Run.stopped.is_set():
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
        """What the hosts have of what the support table names, each of them a part of it; and who told them so."""
        lines = [
            line
            for host in lab.family(self.host)
            for line in lab.docker("exec", host, "sh", "-c", VERSIONS).splitlines()
        ]
        found = dict(line.split(" ", 1) for line in lines if " " in line)
        return {**found, "ansible-core": importlib.metadata.version("ansible-core")}

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


class Application(Suite):
    """An application that nobody here wrote, deployed by its inventory in examples/, on a host of its own."""

    def __init__(self, application: str) -> None:
        """Name it.

        Args:
            application: its folder in examples/, and the module of its tests in molecule/apps/tests.
        """
        super().__init__(APPLICATIONS[application], "apps")
        self.application = application
        self.name = self.row = f"apps-{application}"
        self.host = lab.own(f"celeryops-test-{self.name}")
        self.log = WORK / f"{self.name}.log"
        self.folder = WORK / self.name
        self.report = self.folder / "verify.xml"

    @property
    def steps(self) -> tuple[str, ...]:
        """Without a dry run: the packages of the application would have to be there already."""
        left_out = {"check"}
        if not (ROOT / "examples" / self.application / "before.yml").exists():
            left_out.add("prepare")
        return tuple(step for step in STEPS if step not in left_out)

    def environment(self) -> dict[str, str]:
        return super().environment() | {"CELERYOPS_APP": self.application}

    def ask_versions(self) -> dict[str, str]:
        """And which version of the application was installed, as its environment tells."""
        python = (
            f"for one in /opt/celeryops/*/current/bin/python; do \"$one\" -c '{DISTRIBUTION}' {self.application}; done"
        )
        return {**super().ask_versions(), "application": lab.docker("exec", self.host, "sh", "-c", python).strip()}


class Chaos(Run):
    """The shortened form of the chaos scenario (chaos.py), beside the suites: it waits most of its time."""

    weight = 0.5

    def __init__(self, broker: str) -> None:
        super().__init__(f"{broker}-chaos", suite=chaos.STACKS[broker].suite)
        self.broker = broker
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


def count(report: Path) -> Counter[str]:
    """Tests of a JUnit report by outcome."""
    counts: Counter[str] = Counter()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314 (pytest wrote it a moment ago)
        number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        counts["failed"] += number["failures"] + number["errors"]
        counts["skipped"] += number["skipped"]
        counts["passed"] += number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    return counts
