"""The hosts of the scenario fleet: one with the servers, two with the app."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import testinfra
from hosts import run_in_app, standing_in, wait
from playbooks import Run, run_playbook
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "molecule" / "fleet" / "inventory"
APP = "fleet"
BASE = f"/opt/celeryops/{APP}"
STATE = f"/var/lib/celeryops/{APP}"
#: The hosts with the app, in the order in which they are replaced, and the worker classes of each.
CLASSES = {"app1": ("default",), "app2": ("default", "bulk")}
#: Where tasks are sent.
PRODUCER = "app1"
SENDER = "fleet-test-sender"


class Fleet:
    """The hosts, and what is done on them."""

    def __init__(self) -> None:
        """Name the containers; nothing is asked yet."""
        suite = os.environ.get("CELERYOPS_SUITE", "trixie")
        self.prefix = os.environ.get("CELERYOPS_HOST", f"celeryops-test-{suite}-fleet")
        self.hosts: dict[str, Host] = {
            name: testinfra.get_host(f"docker://{self.container(name)}") for name in ("servers", *CLASSES)
        }
        #: What the hosts have to run: the inventory's, until a test has deployed another.
        self.source = {"type": "path", "path": str(INVENTORY.parent / "app")}

    def container(self, name: str) -> str:
        """Return what the engine calls a host; so the host calls itself."""
        return f"{self.prefix}-{name}"

    def engine(self, *arguments: str) -> str:
        """Tell the engine to do something, such as to pause a container.

        Raises:
            AssertionError: what the engine said, when it could not.
        """
        done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Pause a host for as long as the block runs.

        The runtime gives the kernel a tenth of a second to freeze all processes of a container, and gives up with
        "unable to freeze" where a busy machine has not scheduled each of them in that time.
        """
        container = self.container(name)
        pause = ["docker", "pause", container]
        wait(
            lambda: not subprocess.run(pause, check=False, capture_output=True).returncode,
            30,
            f"{container} could not be paused",
        )
        try:
            yield
        finally:
            self.engine("unpause", container)

    def on(self, name: str, command: str) -> str:
        """Run a shell command as root."""
        return str(self.hosts[name].check_output(command))

    def each(self, command: str) -> dict[str, str]:
        """Run a shell command on every host with the app; return what it said on each."""
        return {name: self.on(name, command) for name in CLASSES}

    def play(self, playbook: str, *arguments: str, inventory: Path = INVENTORY, **variables: Any) -> Run:
        """Run a playbook: play("site"), play("restart", celeryops_restart_mode="drain")."""
        given = {"celery_app_source": self.source, **variables}
        return run_playbook(inventory, *arguments, playbook=f"playbooks/{playbook}.yml", variables=given)

    def deploy(self, source: dict[str, str], *arguments: str) -> Run:
        """Deploy a release, which from then on is what the hosts have to run if that did not fail."""
        run = self.play("deploy", *arguments, celery_app_source=source)
        if not run.failed:
            self.source = source
        return run

    def produce(self, text: str) -> Any:
        """Run Python in the app on the host of the producer, and return what it prints last."""
        program = f"import json, time\nfrom fleet_app import app\n{text}"
        return json.loads(run_in_app(self.hosts[PRODUCER], APP, program).splitlines()[-1])

    def send(self, task: str, *names: str) -> None:
        """Send tasks, whose names the notes have."""
        self.produce(f"print(json.dumps([app.send_task({task!r}, args=(one,)).id for one in {list(names)!r}]))")

    # What became of tasks

    def forget(self) -> None:
        """Begin with empty notes."""
        self.each(f"cd {STATE} && rm -f notes enough sent stop fewest broken")

    def notes(self) -> dict[str, Counter[str]]:
        """Return event -> how often each task was noted with it, on whichever host."""
        found: dict[str, Counter[str]] = {}
        for text in self.each(f"cat {STATE}/notes 2>/dev/null || true").values():
            for line in text.splitlines():
                event, name = line.split()
                found.setdefault(event, Counter())[name] += 1
        return found

    def noted(self, event: str, name: str) -> int:
        """Return how often that was noted."""
        return self.notes().get(event, Counter())[name]

    def enough(self) -> None:
        """Let the tasks end that are held."""
        self.each(f"touch {STATE}/enough")

    @contextmanager
    def load(self) -> Iterator[None]:
        """Send tasks to every queue while something happens; afterwards each has begun and ended exactly once."""
        self.forget()
        self.on(
            PRODUCER,
            f"systemd-run --quiet --collect --unit={SENDER} --property=User={APP} --property=WorkingDirectory=/"
            f" --property=EnvironmentFile=/etc/celeryops/{APP}/celery.env"
            f" {BASE}/current/bin/python -B -m fleet_app.sender",
        )
        try:
            wait(lambda: bool(self.notes().get("done")), 60, "nothing is sent, or nothing is run")
            yield
        finally:
            self.on(PRODUCER, f"touch {STATE}/stop")
        ended = f"systemctl is-active --quiet {SENDER}"
        self.on(PRODUCER, f"timeout 60 sh -c 'while {ended}; do sleep 0.2; done'")
        sent = set(self.on(PRODUCER, f"cat {STATE}/sent").split())
        assert len(sent) > 50, "hardly anything was sent"
        wait(lambda: sent <= set(self.notes()["done"]), 90, "lost")
        notes = self.notes()
        assert sorted(name for name in sent if notes["done"][name] > 1) == [], "run twice"
        assert sorted(name for name in sent if notes["begun"][name] > 1) == [], "begun twice"
        fewest = json.loads(self.on(PRODUCER, f"cat {STATE}/fewest"))
        assert sorted(fewest) == ["bulk", "default"]
        assert min(fewest.values()) > 0, f"a queue was without a consumer: {fewest}"

    # What runs

    def current(self) -> dict[str, str]:
        """Return the release that the link leads to on each host."""
        return {name: text.removeprefix("releases/") for name, text in self.each(f"readlink {BASE}/current").items()}

    def releases(self) -> dict[str, str]:
        """Return the release that each worker says it runs."""
        found = {}
        for host, classes in CLASSES.items():
            for name in classes:
                report = json.loads(self.on(host, f"cat /run/celeryops/{APP}/{name}/worker.json"))
                found[f"{name}@{host}"] = report["release"]
        return found

    def pids(self) -> dict[str, str]:
        """Return the main process of each of the app's services on each host; 0 for one that does not run."""
        found = {}
        show = f"systemctl show --property=Id --property=MainPID 'celery-{APP}-*.service'"
        for host, text in self.each(show).items():
            for block in text.split("\n\n"):
                values = dict(line.split("=", 1) for line in block.splitlines())
                found[f"{values['Id'].removeprefix(f'celery-{APP}-').removesuffix('.service')}@{host}"] = values[
                    "MainPID"
                ]
        return found

    def workers(self) -> set[str]:
        """Return the workers that the inventory has, as ``pids`` calls them."""
        return {f"{name}@{host}" for host, classes in CLASSES.items() for name in classes}

    def standing_in(self) -> str:
        """Return whatever stands in for a worker, on any host."""
        return "".join(standing_in(self.hosts[name], APP) for name in CLASSES)
