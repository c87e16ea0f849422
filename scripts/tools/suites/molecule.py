"""Runs of Molecule's scenarios: a part of the tests on one release of Debian, on a host of its own, or several."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tools.lab import containers, machine
from tools.suites.order import times_of_tests
from tools.suites.run import ROOT, WORK, Run, count, thorough

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The first is what most people run: one host, with RabbitMQ.
SCENARIOS = ("default", "redis", "fleet", "before", "cluster", "restore")
#: Those whose tests are not parted, and for which the support table has no row.
WHOLE = ("fleet", "before", "cluster", "restore")
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
        self.host = machine.own(f"celeryops-test-{name.replace('.', '-')}")
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
                hosts = containers.family(self.host)
                self.say(
                    f"kept: docker exec -it {self.host} bash; `molecule destroy` is scripts/lab.py down {self.host}"
                    if hosts == [self.host]
                    else f"kept: {', '.join(hosts)}; `molecule destroy` is scripts/lab.py down {' '.join(hosts)}"
                )
            elif not self.molecule("destroy"):
                self.counts["failed"] += 1
                self.remove()

    def remove(self) -> None:
        for host in containers.family(self.host):
            containers.down(host)

    def ask_versions(self) -> dict[str, str]:
        """What the hosts have of what the support table names, each of them a part of it; and who told them so."""
        lines = [
            line
            for host in containers.family(self.host)
            for line in machine.docker("exec", host, "sh", "-c", VERSIONS).splitlines()
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
        for host in containers.family(self.host):
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
        self.host = machine.own(f"celeryops-test-{self.name}")
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
        return {**super().ask_versions(), "application": machine.docker("exec", self.host, "sh", "-c", python).strip()}
