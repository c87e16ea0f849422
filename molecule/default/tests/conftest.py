"""What the tests of a running stack share: the host, its inventory, its secrets, another run of the playbook."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = ROOT / "molecule" / "default" / "inventory"
LAB = ROOT / "scripts" / "lab.py"
#: The one host of the scenario; it is in all groups.
HOST = "stack"


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run of a playbook came to."""

    #: ok, changed, failures, skipped, unreachable ... of the host
    stats: Mapping[str, int]
    #: Names of the tasks that changed something, in order
    changed: list[str]
    #: Everything that Ansible printed
    output: str
    #: The messages of the tasks that failed
    messages: list[str]

    @property
    def failed(self) -> bool:
        return bool(self.stats.get("failures", 0) or self.stats.get("unreachable", 0) or self.messages)


def run_playbook(
    *arguments: str,
    variables: Mapping[str, Any] | None = None,
    playbook: str = "site.yml",
    inventory: Path = INVENTORY,
) -> Run:
    """Run a playbook of the checkout on the scenario's host; the test decides whether a failure is one."""
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
    changed, messages = [], []
    for play in report["plays"]:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                if result.get("changed"):
                    changed.append(task["task"]["name"])
                if result.get("failed") or result.get("unreachable"):
                    messages.append(str(result.get("msg", result)))
    stats = report["stats"].get(HOST, {})
    assert finished.returncode or not messages, output
    return Run(stats=stats, changed=changed, output=output, messages=messages)


@pytest.fixture(scope="session")
def site() -> Callable[..., Run]:
    """Run site.yml again: site("--check"), site(variables={"celery_worker_classes": {...}})."""
    return run_playbook


@pytest.fixture(scope="session")
def converged() -> Run:
    """A run that found everything as it should be: the state that the tests start from."""
    return run_playbook()


@pytest.fixture
def restored(site: Callable[..., Run]) -> Iterator[None]:
    """For a test that damages or reconfigures the host: site.yml runs once more afterwards."""
    yield
    run = site()
    assert not run.failed, run.messages


@pytest.fixture(scope="session")
def inventory() -> dict[str, Any]:
    """The variables of the host as a person wrote them, in that order (those that are templates, as templates)."""
    variables: dict[str, Any] = yaml.safe_load((INVENTORY / "group_vars" / "all.yml").read_text())
    return variables


@pytest.fixture(scope="session")
def suite() -> str:
    return os.environ.get("CELERYOPS_SUITE", "trixie")


@pytest.fixture(scope="session")
def engine(suite: str) -> str:
    """Which server holds the results; the inventory says the same."""
    return "valkey" if suite == "forky" else "redis"


@pytest.fixture(scope="session")
def container(suite: str) -> str:
    return os.environ.get("CELERYOPS_HOST", f"celeryops-test-{suite}")


@pytest.fixture(scope="session")
def host(container: str) -> Host:
    return testinfra.get_host(f"docker://{container}")


@pytest.fixture(scope="session")
def reboot(container: str) -> Callable[[], None]:
    """Restart the host and wait until systemd is up again; a failed unit is an error."""

    def restart() -> None:
        done = subprocess.run([LAB, "restart", container], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return restart


@pytest.fixture(scope="session")
def secret_files(suite: str) -> list[Path]:
    """The generated secrets on the control machine."""
    folder = ROOT / "build" / "molecule" / suite / "secrets"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files, f"{folder} is empty"
    return files


@pytest.fixture(scope="session")
def secrets(secret_files: list[Path]) -> dict[str, str]:
    """Every generated secret by the name of its file."""
    return {path.name: path.read_text().strip() for path in secret_files}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """A failure brings the last lines of the journal with it."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.when == "call" and report.failed and host is not None:
        journal = host.run(
            "journalctl --no-pager --lines=40 --output=short --unit='celery-*' --unit='rabbitmq*' --unit='re*'"
        )
        report.sections.append(("journal of the services", journal.stdout))
    return report
