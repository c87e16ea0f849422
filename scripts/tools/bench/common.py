"""What the benchmarks share: the container, the shop that is deployed to it, and the file with the results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "bench"
RESULTS = ROOT / "build" / "bench.json"
SUITE = "trixie"
GROUPS = ("rabbitmq", "redis", "sentinel", "celery_workers", "celery_producers", "celery_beat", "flower")
#: What Ansible says is read by a program.
ENVIRONMENT = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_NOCOLOR": "1"}
#: Of accounts in a container that lives for minutes.
PASSWORD = "not-a-secret-but-long-enough"  # noqa: S105
CELERY, PYTHON = "/opt/celeryops/shop/current/bin/celery", "/opt/celeryops/shop/current/bin/python"


@dataclass
class Ratio:
    """One comparison: what is measured, against what, and how much may lie between."""

    key: str
    label: str
    limit: float
    measured: list[float]
    baseline: list[float]

    @property
    def value(self) -> float:
        """Return the ratio of the medians."""
        return statistics.median(self.measured) / statistics.median(self.baseline)


def lab(*arguments: str) -> None:
    """Start or remove a container."""
    subprocess.run([ROOT / "scripts" / "lab.py", *arguments], check=True, stdout=subprocess.DEVNULL)


def on_host(host: str, script: str) -> str:
    """Run a script on a host as root; return its output.

    Raises:
        SystemExit: when it failed, with what it said.
    """
    command = ["docker", "exec", "-i", host, "sh"]
    done = subprocess.run(command, check=False, input=script, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"on {host}: {done.stderr.strip()[-2000:] or f'ended with {done.returncode}'}")
    return done.stdout


def inventory(host: str) -> Path:
    """Write the inventory of one host that does everything, and return its path."""
    folder = BUILD / host
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, Any] = {group: {"hosts": {host: None}} for group in GROUPS if group != "sentinel"}
    variables = {"ansible_connection": "community.docker.docker"}
    (folder / "hosts.json").write_text(json.dumps({"all": {"vars": variables}, **groups}))
    return folder / "hosts.json"


def timed(command: Sequence[str]) -> tuple[float, str]:
    """Run one of Ansible's commands; return the seconds it took and what it wrote.

    Raises:
        SystemExit: when it failed, with the end of what it said.
    """
    started = time.monotonic()
    finished = subprocess.run(command, check=False, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT)
    seconds = time.monotonic() - started
    if finished.returncode:
        sys.exit(finished.stdout[-6000:] + finished.stderr[-2000:])
    return seconds, finished.stdout


def play(hosts: Path, playbook: Path, variables: Mapping[str, Any], *, unchanged: bool = False) -> float:
    """Run a playbook and return the seconds it took; fails when it changed something that had to stay.

    Raises:
        SystemExit: when the run failed or, with ``unchanged``, changed something.
    """
    extra = hosts.parent / "extra.json"
    extra.write_text(json.dumps(variables))
    seconds, said = timed(["ansible-playbook", "-i", str(hosts), "-e", f"@{extra}", str(playbook)])
    if unchanged and " changed=0 " not in said:
        sys.exit(said[-6000:])
    return seconds


def shop(**changes: Any) -> dict[str, Any]:
    """Return the variables of the example shop, as the demo has them."""
    import yaml

    variables: dict[str, Any] = yaml.safe_load((ROOT / "inventories/demo/group_vars/all.yml").read_text())
    variables["celery_app_source"] = {"type": "path", "path": str(ROOT / "examples" / "shop")}
    return {**variables, **changes}


def account(name: str) -> dict[str, Any]:
    """Return the variables of a virtual host and of its one user, both of that name, for a worker started by hand."""
    permission = {"vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
    user = {"name": name, "password": PASSWORD, "permissions": [permission]}
    return {"rabbitmq_vhosts": [{"name": name}], "rabbitmq_users": [user]}


def by_hand(name: str, *lines: str) -> str:
    """Return the script that writes /etc/celeryops/NAME.env, for a worker started by hand; for root only, as the app's.

    It is the app's own environment with the virtual host of that name and without the collection's loader, and with
    further lines.
    """
    return f"""
set -eu
umask 077
sed -E -e '/^(CELERY_LOADER|CELERYOPS_CONFIG|PYTHONPATH)=/d' \
  -e 's,^CELERY_BROKER_URL=.*,CELERY_BROKER_URL="amqp://{name}:{PASSWORD}@127.0.0.1:5672/{name}",' \
  /etc/celeryops/shop/celery.env > /etc/celeryops/{name}.env
printf '%s\\n' {" ".join(lines)} >> /etc/celeryops/{name}.env
"""


def start_by_hand(host: str, name: str, options: str, then: str = "") -> None:
    """Start a worker of the shop as NAME.service with /etc/celeryops/NAME.env, and run what has to follow."""
    unit = f"systemd-run -q --collect --unit={name} -p User=shop -p WorkingDirectory=/tmp -p KillMode=mixed"
    worker = f"{CELERY} -A shop.celery:app worker -l INFO {options}"
    on_host(host, f"set -eu\n{unit} -p EnvironmentFile=/etc/celeryops/{name}.env {worker}\n{then}")


def spread(seconds: Sequence[float]) -> str:
    """Return minimum, median and maximum."""
    return f"{min(seconds):.1f}  {statistics.median(seconds):.1f}  {max(seconds):.1f}"


def keep(results: Mapping[str, Any]) -> None:
    """Write results into build/bench.json, beside those of the other benchmarks."""
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**known, **results}, indent=2) + "\n")
