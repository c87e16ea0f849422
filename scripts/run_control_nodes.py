#!/usr/bin/env python
"""Use the built tarball as its users do: from a control node of its own, over ssh, on several versions of ansible-core.

For each version there are two containers. One is the control node: Debian with the Python that the version runs on, a
virtual environment with ansible-core from the package index, no ansible.cfg, and the collection installed from the
tarball. The other is a bare host with a real sshd and an unprivileged login that has sudo and a key. What users do is
done once: the check, a rehearsal on the bare host, the first run, the second, which may change nothing, and a deploy of
a new version of the app; then a task is sent and its result read. A deprecation fails a run, and so does a warning that
is not expected. With CELERYOPS_THOROUGH, as `make test-all` sets it, this version's ansible-test has a run as well.

    scripts/run_control_nodes.py                            all versions
    scripts/run_control_nodes.py --only 2.18 --only 2.21    some
    scripts/run_control_nodes.py --json build/control.json --only 2.18
    KEEP=1 scripts/run_control_nodes.py --only 2.18         leaves the containers, and says how to get into them
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import run_sanity
from tools.lab import containers, engine, images, machine
from tools.suites.molecule import VERSIONS as OF_A_HOST
from tools.suites.run import thorough

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = machine.ROOT
WORK = ROOT / "build" / "control"
FILES = ROOT / "tests" / "control"
#: ansible-core -> (Debian of the control node, Debian of the host). Debian 12 has Python 3.11, which is too old for
#: 2.20 and newer; Debian 13 has 3.13.
VERSIONS = {
    "2.18": ("bookworm", "trixie"),
    "2.19": ("bookworm", "bookworm"),
    "2.20": ("trixie", "bookworm"),
    "2.21": ("trixie", "trixie"),
}
LOGIN = "deploy"
#: What Ansible says by itself where nobody names the interpreter.
EXPECTED = re.compile(r"discovered Python interpreter|interpreter at '?/usr/bin/python3|Python interpreter discovery")
RECAP = re.compile(
    r"^\S+ +: ok=(?P<ok>\d+) +changed=(?P<changed>\d+) +unreachable=(?P<away>\d+) +failed=(?P<failed>\d+)", re.MULTILINE
)
#: More lines than a person reads of a rehearsal on a bare host: the runtime's source alone has four thousand.
MOST_LINES = 1600
ANSIBLE = "/root/ansible/bin"
#: Sends a task from an environment whose values look like data, which no version may take them for.
ASK = """
import json, os
assert os.environ["SHOP_DATA"] == '{"rate": 1.50, "on": true}', os.environ["SHOP_DATA"]
assert os.environ["SHOP_LIST"] == '["a", "b"]', os.environ["SHOP_LIST"]
assert os.environ["SHOP_VAULTED"] == "vaulted $ value", "the vaulted value"
from shop.stock import count
answer = count.delay("lamp").get(timeout=30)
assert answer["article"] == "lamp", answer
"""


#: A password that somebody placed: each of its signs has a meaning in an address, but for the last.
FLOWER_PASSWORD = "p@ss%w!*rd;/x#12"  # noqa: S105 - of a container that is removed
#: Run on the host, beside Flower: its page of the broker, and whom it knows.
PAGES = """
import base64, json, re, urllib.request
text = open("/etc/celeryops/shop/flower.env").read()
account = re.sub(r"\\\\(.)", r"\\1", re.search(r'FLOWER_BASIC_AUTH="(.*)"', text)[1]).split(",")[0]
def page(path):
    head = {"Authorization": "Basic " + base64.b64encode(account.encode()).decode()}
    return urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:5555" + path, headers=head)).read().decode()
queues = re.findall(r"<td>\\s*([\\w.-]+)\\s*</td>", page("/broker"))
assert {"default", "payments"} <= {*queues}, queues
workers = [name.partition("@")[0] for name in json.loads(page("/api/workers?refresh=1"))]
assert sorted(workers) == ["default", "high"], workers
"""


class StepError(Exception):
    """A step did not do what it has to; the text is the whole reason."""


@dataclass
class Outcome:
    """What came of a version."""

    passed: int = 0
    failed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def say(name: str, text: str) -> None:
    sys.stdout.write(f"  {name:14} {text}\n")
    sys.stdout.flush()


class Machine:
    """A container that stands in for a machine, with a log of what was done in it."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log

    def run(self, command: str, *, stdin: str | None = None, check: bool = True) -> str:
        """Return what a shell command prints, errors included; it runs as root in its home.

        Raises:
            StepError: it ended with an error and ``check`` is set.
        """
        finished = subprocess.run(
            [
                "docker", "exec", "--interactive", "--workdir=/root", "--env=HOME=/root", "--env=LC_ALL=C.UTF-8",
                f"--env=PIP_CERT={containers.CA_BUNDLE_INSIDE}", "--env=PIP_DISABLE_PIP_VERSION_CHECK=1",
                "--env=DEBIAN_FRONTEND=noninteractive", "--env=NO_COLOR=1",
                *(f"--env={name}" for name in ("PIP_INDEX_URL",) if name in os.environ),
                self.name, "sh", "-euc", command,
            ],
            check=False, text=True, input=stdin if stdin is not None else "",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        with self.log.open("a") as log:
            log.write(f"$ [{self.name}] {command}\n{finished.stdout}\n")
        if check and finished.returncode:
            last = "\n".join(finished.stdout.splitlines()[-80:])
            raise StepError(f"`{command}` ended with {finished.returncode}:\n{last}")
        return finished.stdout

    def copy(self, source: Path, target: str) -> None:
        """Copy a file, or the content of a folder, into the container."""
        machine.docker("cp", f"{source}/." if source.is_dir() else str(source), f"{self.name}:{target}")


def build(folder: Path) -> Path:
    """Return the collection's tarball, built from this checkout."""
    machine.run(["ansible-galaxy", "collection", "build", "--force", "--output-path", str(folder), str(ROOT)])
    return next(folder.glob("celeryops-stack-*.tar.gz"))


def unexpected(output: str) -> list[str]:
    """Return the deprecations and warnings in what a run printed that a user should not have to read."""
    # A warning goes over several lines up to an empty one.
    found = re.findall(r"(?ms)^\[(?:DEPRECATION )?WARNING\].*?(?=\n\n|\n\[|\nPLAY|\nTASK|\nok:|\nchanged:|\Z)", output)
    return [text for text in found if text.startswith("[DEPRECATION") or not EXPECTED.search(text)]


def recap(output: str) -> tuple[int, int]:
    """Return how many tasks of the hosts changed something and how many failed."""
    found = list(RECAP.finditer(output))
    if not found:
        raise StepError("the run has no recap")
    return sum(int(one["changed"]) for one in found), sum(int(one["failed"]) + int(one["away"]) for one in found)


class Run:
    """One version of ansible-core, on a control node and a host of its own."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.name = f"ansible{version}"
        self.suites = VERSIONS[version]
        self.log = WORK / f"{self.name}.log"
        family = machine.own(f"celeryops-test-{self.name.replace('.', '-')}")
        self.control = Machine(f"{family}-control", self.log)
        self.host = Machine(f"{family}-host", self.log)
        self.outcome = Outcome()

    def step(self, name: str, action: Callable[[], object]) -> None:
        """Do one thing that a user does, and note how long it took."""
        started = time.monotonic()
        try:
            action()
        except BaseException:
            self.outcome.failed += 1
            say(self.name, f"{name:12} failed   {time.monotonic() - started:4.0f} s")
            raise
        self.outcome.passed += 1
        self.outcome.seconds[name] = round(time.monotonic() - started, 1)
        say(self.name, f"{name:12} ok       {time.monotonic() - started:4.0f} s")

    def run(self, tarball: Path) -> Outcome:
        """Do everything that a user does; a failure ends it and is told."""
        self.log.write_text("")
        self.remove()
        try:
            for name, action in (
                ("create", lambda: self.create(tarball)),
                ("text", self.text),
                ("check", lambda: self.playbook("check", changes=False)),
                ("rehearsal", self.rehearsal),
                ("first run", lambda: self.playbook("site")),
                ("second run", lambda: self.playbook("site", changes=False)),
                ("deploy", self.deploy),
                ("a task", self.ask),
                ("Flower", self.pages),
                *([("sanity", self.sanity)] if thorough() else []),
            ):
                self.step(name, action)
            said = [line.split(" ", 1) for line in self.host.run(OF_A_HOST).splitlines() if " " in line]
            self.outcome.versions.update(dict(said))
        except (StepError, machine.LabError) as problem:
            sys.stdout.write(f"\n== {self.name}: the whole log is {self.log.relative_to(ROOT)}\n{problem}\n")
        finally:
            if os.environ.get("KEEP"):
                say(self.name, f"kept: docker exec -it {self.control.name} bash, and {self.host.name}")
            else:
                self.remove()
        return self.outcome

    def remove(self) -> None:
        for node in (self.control, self.host):
            containers.down(node.name)

    # -- what a user has ---------------------------------------------------------------------------------------------

    def create(self, tarball: Path) -> None:
        """Have both machines, the login, the key, Ansible and the collection."""
        for node, suite in zip((self.control, self.host), self.suites, strict=True):
            containers.up(node.name, suite, [])
        installing = self.start(
            self.host, "apt-get -qq update && apt-get -qq install -y --no-install-recommends openssh-server"
        )
        control = self.control
        control.run("apt-get -qq update && apt-get -qq install -y --no-install-recommends openssh-client >/dev/null")
        control.run(f"python3 -m venv ansible && {ANSIBLE}/pip install --quiet 'ansible-core=={self.version}.*'")
        control.run(
            "mkdir -p -m 0700 .ssh && mkdir -p stack/group_vars shop\nssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519"
        )
        if installing.wait():
            raise StepError(f"no sshd on {self.host.name}: {self.log.relative_to(ROOT)} has why")
        self.host.run(
            f"useradd --create-home --shell /bin/bash {LOGIN}\n"
            f"echo '{LOGIN} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{LOGIN}\n"
            f"install -d -m 0700 -o {LOGIN} ~{LOGIN}/.ssh\n"
            f"cat >~{LOGIN}/.ssh/authorized_keys; chown {LOGIN} ~{LOGIN}/.ssh/authorized_keys\n"
            "systemctl start ssh",
            stdin=control.run("cat .ssh/id_ed25519.pub"),
        )
        control.run(f"ssh -o StrictHostKeyChecking=accept-new {LOGIN}@{self.host.name} sudo id >/dev/null")
        control.copy(tarball, "/root/")
        control.run(f"{ANSIBLE}/ansible-galaxy collection install --offline {tarball.name}")
        control.copy(ROOT / "examples" / "shop", "/root/shop")
        control.copy(FILES / "group_vars", "/root/stack/group_vars")
        control.copy(FILES / "text.yml", "/root/")
        control.run("head -c 24 /dev/urandom | base64 >vault-password")
        vaulted = control.run(
            f"{ANSIBLE}/ansible-vault encrypt_string --vault-password-file vault-password --name vaulted"
            " 'vaulted $ value' 2>/dev/null"
        )
        control.run("cat >stack/group_vars/all/vault.yml", stdin="---\n" + vaulted)
        control.run("cat >stack/hosts.yml", stdin=self.hosts())
        control.run("mkdir -p -m 0700 stack/.celeryops/secrets")
        control.run("cat >stack/.celeryops/secrets/shop_flower_rabbitmq_password", stdin=FLOWER_PASSWORD)
        python = control.run(f"{ANSIBLE}/python -c 'import platform; print(platform.python_version())'").strip()
        core = control.run(f"{ANSIBLE}/ansible --version")
        found = re.search(r"core ([0-9.]+)", core)
        if not found or not found[1].startswith(f"{self.version}.") or "config file = None" not in core:
            raise StepError(f"this is not ansible-core {self.version} without a configuration:\n{core}")
        self.outcome.versions = {"ansible-core": found[1], "control": f"{self.suites[0]}, Python {python}"}

    def start(self, machine: Machine, command: str) -> subprocess.Popen[bytes]:
        """Begin a command in a container; what it prints goes to the log."""
        with self.log.open("a") as log:
            return subprocess.Popen(
                ["docker", "exec", "--env=DEBIAN_FRONTEND=noninteractive", machine.name, "sh", "-euc", command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def hosts(self) -> str:
        groups = ("rabbitmq", "redis", "sentinel", "celery_workers", "celery_producers", "celery_beat", "flower")
        lines = ["---", "all:", "  vars:", f"    ansible_user: {LOGIN}", "    ansible_become: true"]
        return (
            "\n".join(
                [*lines, *(f"{group}: {{hosts: {{{self.host.name}: }}}}" for group in groups if group != "sentinel")]
            )
            + "\n"
        )

    # -- what a user does --------------------------------------------------------------------------------------------

    def playbook(self, name: str, *options: str, changes: bool | None = None, path: str = "") -> str:
        """Return the output of one of the collection's playbooks.

        Raises:
            StepError: it failed, told something that nobody should have to read, or changed something and must not.
        """
        words = [f"{ANSIBLE}/ansible-playbook", "-i", "stack", "--vault-password-file", "vault-password"]
        output = self.control.run(shlex.join([*words, *options, path or f"celeryops.stack.{name}"]))
        told = unexpected(output)
        if told:
            raise StepError(f"{name} tells what it should not:\n" + "\n".join(told))
        changed, failed = recap(output)
        if failed or (changes is False and changed):
            raise StepError(f"{name}: {changed} changed, {failed} failed\n{output[-6000:]}")
        return output

    def text(self) -> None:
        """Text that looks like data arrives as it was written."""
        self.playbook("text", path="text.yml")

    def rehearsal(self) -> None:
        """A rehearsal on the bare host works, and a person can read it."""
        self.host.run("apt-get -qq install -y --no-install-recommends python3-apt >/dev/null")
        lines = len(self.playbook("site", "--check", "--diff").splitlines())
        if lines > MOST_LINES:
            raise StepError(f"the rehearsal prints {lines} lines, which nobody reads")

    def deploy(self) -> None:
        """A new version of the app is taken into use."""
        self.control.run('sed -i \'s/^version = "1.0.0"/version = "1.0.1"/\' shop/pyproject.toml')
        self.playbook("deploy")
        version = self.host.run(
            "/opt/celeryops/shop/current/bin/python -c"
            " 'from importlib.metadata import version; print(version(\"shop\"))'"
        )
        if version.strip() != "1.0.1":
            raise StepError(f"after the deploy the host runs shop {version.strip()}")

    def ask(self) -> None:
        """A task is run, by a worker whose environment says what the inventory does."""
        self.host.run(
            "systemd-run --quiet --pipe --wait --collect -p User=shop -p EnvironmentFile=/etc/celeryops/shop/celery.env"
            f" /opt/celeryops/shop/current/bin/python -c {shlex.quote(ASK)}"
        )

    def pages(self) -> None:
        """Flower shows queues and workers, with a password of signs that an address encodes."""
        self.host.run("cat >/var/tmp/pages.py && python3 /var/tmp/pages.py", stdin=PAGES)

    def sanity(self) -> None:
        """ansible-test of this version finds nothing in the repository."""
        with tempfile.TemporaryDirectory(prefix="celeryops-") as folder:
            run_sanity.copy(ROOT, Path(folder))
            self.control.run("mkdir sanity; apt-get -qq install -y --no-install-recommends shellcheck >/dev/null")
            self.control.copy(Path(folder), "/root/sanity")
        self.control.copy(ROOT / "scripts" / "run_sanity.py", "/root/")
        self.control.run(f"{ANSIBLE}/python run_sanity.py --tree sanity/{run_sanity.COLLECTION} /root")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", action="append", choices=VERSIONS, help="this version; may be given several times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write versions and results there")
    options = parser.parse_args(arguments)
    WORK.mkdir(parents=True, exist_ok=True)
    runs = [Run(version) for version in dict.fromkeys(options.only or VERSIONS)]
    try:
        engine.engine()
        for suite in dict.fromkeys(suite for run in runs for suite in run.suites):
            images.image(suite)
        with tempfile.TemporaryDirectory(prefix="celeryops-") as folder:
            tarball = build(Path(folder))
            outcomes = {run.name: run.run(tarball) for run in runs}
    except machine.LabError as problem:
        sys.stderr.write(f"lab: {problem}\n")
        return 1
    if options.json:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        rows = {name: {"date": today, **vars(outcome)} for name, outcome in outcomes.items()}
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    for name, outcome in outcomes.items():
        versions = ", ".join(f"{what} {version}" for what, version in outcome.versions.items())
        say(name, f"{outcome.passed} passed, {outcome.failed} failed ({versions})")
    passed, failed = (sum(getattr(outcome, key) for outcome in outcomes.values()) for key in ("passed", "failed"))
    sys.stdout.write(f"{passed} passed, {failed} failed\n")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
