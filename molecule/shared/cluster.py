"""The hosts of the scenarios cluster and restore: three with RabbitMQ, Redis and Sentinel, and those with the apps."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import testinfra
from hosts import run_in_app
from playbooks import Run, run_playbook
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[2]
APP = "fleet"
STATE = f"/var/lib/celeryops/{APP}"
NODES = ("mq1", "mq2", "mq3")
WORKERS = ("app1", "app2")
SERVER = "rabbitmq-server.service"
REDIS_PORT = 6379
SENTINEL_PORT = 26379
MASTER = "celeryops"
_ASK = """
import base64, json, pathlib, urllib.request
login = base64.b64encode(f"admin:{pathlib.Path('/root/password').read_text()}".encode()).decode()
request = urllib.request.Request("http://127.0.0.1:15672/api/%s", headers={"Authorization": f"Basic {login}"})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


class Cluster:
    """The hosts, and what is done on them."""

    def __init__(self, scenario: str = "cluster", workers: Sequence[str] = WORKERS) -> None:
        """Name the containers, and have the nodes know their administrators' passwords.

        Args:
            scenario: Molecule's.
            workers: the machines with an app.
        """
        suite = os.environ.get("CELERYOPS_SUITE", "trixie")
        self.inventory = ROOT / "molecule" / scenario / "inventory"
        self.prefix = os.environ.get("CELERYOPS_HOST", f"celeryops-test-{suite}-{scenario}")
        self.hosts: dict[str, Host] = {
            name: testinfra.get_host(f"docker://{self.prefix}-{name}") for name in (*NODES, *workers)
        }
        folder = ROOT / "build" / "molecule" / f"{suite}-{scenario}"
        self.addresses, self.secrets = folder / "addresses", folder / "secrets"
        self.engine_of_redis = "valkey" if suite == "forky" else "redis"
        self.place_passwords()

    def place_passwords(self) -> None:
        """Leave the administrators' passwords where only root of a node reads them."""
        passwords = {
            "password": "rabbitmq_admin_password",
            "redis": "redis_admin_password",
            "sentinel": "sentinel_admin_password",
        }
        for file, source in passwords.items():
            password = (self.secrets / source).read_text().split()[0]
            for name in NODES:
                self.on(name, f"umask 077; printf %s '{password}' > /root/{file}")

    def on(self, name: str, command: str) -> str:
        """Run a shell command as root."""
        return str(self.hosts[name].check_output(command))

    def node(self, name: str) -> str:
        """Return the name of a host's node."""
        return f"rabbit@{self.prefix}-{name}"

    def ask(self, name: str, path: str) -> Any:
        """Return what the management API of a host answers."""
        return json.loads(self.on(name, f"python3 - <<'END'{_ASK % path}END"))

    def members(self, name: str) -> dict[str, bool]:
        """Return node -> whether it runs, as a host sees it."""
        return {one["name"]: one["running"] for one in self.ask(name, "nodes?columns=name,running")}

    def queues(self, name: str) -> list[dict[str, Any]]:
        """Return the quorum queues, as a host sees them."""
        found = self.ask(name, "queues?columns=name,type,members,online,leader")
        return [one for one in found if one["type"] == "quorum"]

    def whole(self, name: str) -> bool:
        """Tell whether all nodes run, and each queue has a member on each of them, as a host sees it."""
        everywhere = {self.node(one) for one in NODES}
        queues = self.queues(name)
        return (
            self.members(name) == dict.fromkeys(everywhere, True)
            and len(queues) > 0
            and all(set(one["members"]) == set(one["online"]) == everywhere for one in queues)
        )

    def connected_to(self, worker: str) -> str:
        """Return the host of the node to which a worker is connected: that of its control queue."""
        found = self.ask("mq1", f"queues/{APP}?columns=name,node")
        (node,) = [one["node"] for one in found if one["name"].startswith(worker) and "pidbox" in one["name"]]
        return str(node).rpartition("-")[2]

    def redis(self, name: str, command: str, *, port: int = 6379) -> str:
        """Return what Redis, or Sentinel, answers on a host."""
        login = "redis" if port == REDIS_PORT else "sentinel"
        auth = f"REDISCLI_AUTH=$(cat /root/{login})"
        return self.on(name, f"{auth} {self.engine_of_redis}-cli --user admin --no-auth-warning -p {port} {command}")

    def primary(self, asked: str = "mq1") -> str:
        """Return the host that takes writes, as the Sentinel of a host says."""
        address = self.redis(asked, f"sentinel get-master-addr-by-name {MASTER}", port=SENTINEL_PORT).split()[0]
        return next(name for name in NODES if (self.addresses / name).read_text() == address)

    def answers(self, name: str) -> bool:
        """Tell whether Redis and Sentinel of a host take connections: a host that starts has them after a while."""
        ports = f"{REDIS_PORT} {SENTINEL_PORT}"
        look = f'for port in {ports}; do timeout 2 bash -c "</dev/tcp/127.0.0.1/$port" || exit 1; done'
        return bool(self.hosts[name].run(look).rc == 0)

    def replicated(self) -> bool:
        """Tell whether one server is the primary, the others have its data, and all Sentinels know that."""
        if not all(self.answers(name) for name in NODES):
            return False
        primaries = {self.primary(name) for name in NODES}
        told = {name: self.redis(name, "info replication") for name in NODES}
        following = [name for name, text in told.items() if "role:slave" in text and "master_link_status:up" in text]
        return primaries == set(NODES) - set(following) and len(following) == len(NODES) - 1

    def keys(self, name: str) -> int:
        """Count what a server holds."""
        return int(self.redis(name, "dbsize"))

    def result(self, seconds: float) -> float:
        """Have a task run, and return after how many seconds its result was read, whatever failed between."""
        program = (
            "import time\nfrom fleet_app import app\nbegan = time.monotonic()\n"
            f"while time.monotonic() < began + {seconds}:\n"
            "    try:\n"
            "        app.send_task('default.work', args=('asked',)).get(timeout=5)\n"
            "        break\n"
            "    except Exception as error:\n"
            "        print(repr(error))\n"
            "        time.sleep(0.2)\n"
            "else:\n    raise SystemExit('no result')\n"
            "print(time.monotonic() - began)"
        )
        return float(run_in_app(self.hosts["app1"], APP, program).splitlines()[-1])

    def ticks(self) -> int:
        """Count what the schedulers have sent."""
        return sum(int(self.on(name, f"grep -c tick-often {STATE}/notes || true")) for name in WORKERS)

    def play(self, playbook: str = "playbooks/site.yml", **variables: Any) -> Run:
        """Run a playbook."""
        return run_playbook(self.inventory, playbook=playbook, variables=variables)

    def send(self, number: int, task: str = "default.work", seconds: float = 0.1) -> None:
        """Send so many tasks, named by their numbers, each of which takes so long."""
        each = f"app.send_task('{task}', args=(str(n), {seconds}))"
        program = f"from fleet_app import app\nfor n in range({number}): {each}"
        run_in_app(self.hosts["app1"], APP, program)

    def done(self, *names: str, event: str = "done") -> Counter[str]:
        """Return how often each task has ended, or has begun, on some hosts or on all."""
        text = "".join(self.on(name, f"cat {STATE}/notes 2>/dev/null || true") + "\n" for name in names or WORKERS)
        return Counter(name for word, name in (line.split() for line in text.splitlines()) if word == event)

    def seconds_until_done(self, name: str, more: int) -> float:
        """Return how long it takes until so many more tasks have ended on a host, which looks for itself."""
        look = f"grep -c ^done {STATE}/notes"
        late = "[ $(date +%s) -lt $((begun + 60)) ] || exit 1"
        loop = f"while [ $({look}) -lt $((had + {more})) ]; do sleep 0.05; {late}; done"
        text = self.on(name, f"begun=$(date +%s); date +%s.%N; had=$({look}); {loop}; date +%s.%N")
        first, last = (float(line) for line in text.split())
        return last - first

    def started(self, server: str) -> dict[str, tuple[int, int]]:
        """Return host -> when its server stopped and started last, in microseconds since boot."""
        return {name: self.started_of(name, server) for name in NODES}

    def started_of(self, name: str, server: str = SERVER) -> tuple[int, int]:
        """Return the same of one host."""
        times = "InactiveEnterTimestampMonotonic,ActiveEnterTimestampMonotonic"
        values = sorted(
            int(word) for word in self.on(name, f"systemctl show --value --property={times} {server}").split()
        )
        return values[0], values[1]

    def engine(self, command: str, name: str) -> None:
        """Tell the engine to stop or to start a host.

        Raises:
            AssertionError: what the engine said, when it could not.
        """
        done = subprocess.run(["docker", command, f"{self.prefix}-{name}"], check=False, capture_output=True, text=True)
        assert not done.returncode, done.stderr
