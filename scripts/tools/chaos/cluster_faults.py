"""What happens to a cluster, and what is done to it on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.chaos.redis_faults import cut_primary, freeze_primary, kill_primary, kill_sentinel
from tools.chaos.report import Strike
from tools.chaos.scenario import CUT, DOWN, FROZEN, ROOT, SHORT, ChaosError, Fault, Scenario, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNIT = "rabbitmq-server.service"
RABBITMQ = ("rabbitmq",)
#: A client's connection in the kernel's tables (proc_net_tcp(5)): to port 5672, established.
_CLIENTS = """cat /proc/net/tcp /proc/net/tcp6 | awk '$2 ~ /:1628$/ && $4 == "01"' | wc -l"""

#: Makes a repository of the host's package under a higher revision, and says which.
REPACK = """set -e
rm -rf /srv/chaos-repository; mkdir /srv/chaos-repository; cd /srv/chaos-repository
apt-get -qq update; apt-get -qq download rabbitmq-server
old=$(ls rabbitmq-server_*.deb); version=$(dpkg-deb --field "$old" Version)+chaos1
dpkg-deb --raw-extract "$old" package; sed --in-place "s/^Version: .*/Version: $version/" package/DEBIAN/control
dpkg-deb --root-owner-group --build package new.deb > /dev/null; rm -r package "$old"; chmod 755 .
{ dpkg-deb --field new.deb; echo "Filename: ./new.deb"; echo "Size: $(stat --format=%s new.deb)"
  echo "SHA256: $(sha256sum new.deb | cut --delimiter=' ' --fields=1)"; } > Packages
echo "deb [trusted=yes] file:/srv/chaos-repository ./" > /etc/apt/sources.list.d/chaos.list
apt-get -qq update; echo "$version"
"""


def busiest(s: Scenario) -> str:
    """Return the node with most clients, so that the fault is one for somebody."""
    return max(s.nodes, key=lambda node: int(s.on(_CLIENTS, host=node)))


def grow(s: Scenario) -> Sequence[Strike]:
    """Make the node that has all the data one of three. Web processes are the user's, who restarts them."""
    s.brokers = "cluster"
    s.play("site.yml", celery_app_source=s.source())
    s.restart_producer()
    return [Strike(s.now(), s.now())]


def kill(s: Scenario) -> Sequence[Strike]:
    """Kill a node, each in its turn, and keep it down: a start at once would hide what its clients wait for."""
    node = s.nodes[s.turn % len(s.nodes)]
    at, held = s.now(), s.all_in_flight()
    s.on(f"systemctl mask --runtime --quiet {UNIT}; systemctl kill --signal=KILL {UNIT}", host=node)
    s.wait(lambda: False, SHORT if s.short else DOWN)
    s.on(f"systemctl unmask --runtime --quiet {UNIT}; systemctl start {UNIT}", host=node)
    return [Strike(at, at, held)]


def cut(s: Scenario) -> Sequence[Strike]:
    """Drop every packet of a node, so that nobody is told that it is gone."""
    node = busiest(s)
    at, held = s.now(), s.all_in_flight()
    s.on("iptables -A INPUT ! -i lo -j DROP && iptables -A OUTPUT ! -o lo -j DROP", host=node)
    try:
        s.wait(lambda: False, SHORT if s.short else CUT)
    finally:
        s.on("iptables -F", host=node)
    return [Strike(at, at, held)]


def freeze(s: Scenario) -> Sequence[Strike]:
    """Freeze the host of a node, as a hypervisor does, and thaw it."""
    node = busiest(s)
    at, held = s.now(), s.all_in_flight()

    def frozen() -> bool:
        run(["docker", "pause", node], check=False, log=s.log)
        return "true" in run(["docker", "inspect", "--format={{.State.Paused}}", node])

    # The runtime gives up ("unable to freeze") where a busy machine has not scheduled all processes of the container
    # within a tenth of a second.
    if not s.wait(frozen, 30):
        raise ChaosError(f"{node} could not be paused")
    try:
        s.wait(lambda: False, SHORT if s.short else FROZEN)
    finally:
        run(["docker", "unpause", node], log=s.log)
    return [Strike(at, at, held)]


def kill_two(s: Scenario) -> Sequence[Strike]:
    """Kill two of three nodes: systemd starts them again."""
    at, held = s.now(), s.all_in_flight()
    for node in s.nodes[1:]:
        s.on(f"systemctl kill --signal=KILL {UNIT}", host=node)
    return [Strike(at, s.now(), held)]


def full_stop(*order: int) -> Callable[[Scenario], Sequence[Strike]]:
    """Return a strike that stops all nodes in an order, and starts them at once."""

    def strike(s: Scenario) -> Sequence[Strike]:
        held = s.all_in_flight()
        for number in order:
            s.on(f"systemctl stop {UNIT}", host=s.nodes[number])
        at = s.now()
        for node in s.nodes:
            s.on(f"systemctl start --no-block {UNIT}", host=node)
        return [Strike(at, s.now(), held)]

    return strike


def change_all(s: Scenario) -> Sequence[Strike]:
    """Change the configuration of everything: every node and every worker restarts, one after the other."""
    s.variables["rabbitmq_config"] = {"channel_max": 2000 + len(s.windows)}
    s.variables["celery_worker_defaults"] = {**s.defaults, "nice": 1 + len(s.windows) % 5}
    s.play("site.yml", celery_app_source=s.source())
    return [Strike(s.now(), s.now())]


def upgrade(s: Scenario) -> Sequence[Strike]:
    """Give all nodes a package of a higher revision, which is all that can be rehearsed with one series."""
    new = ""
    for node in s.nodes:
        new = s.on(REPACK, host=node).splitlines()[-1]
    s.variables["rabbitmq_version"] = new
    s.play("site.yml", celery_app_source=s.source())
    return [Strike(s.now(), s.now())]


def replace(s: Scenario) -> Sequence[Strike]:
    """Lose a node with its data, and put an empty host of its name in its place."""
    node, at, held = s.nodes[-1], s.now(), s.all_in_flight()
    run([ROOT / "scripts" / "lab.py", "down", node], log=s.log)
    s.wait(lambda: False, 10)
    s.on(f"rabbitmqctl --quiet forget_cluster_node rabbit@{node}", host=s.nodes[0])
    s.new_node(node)
    s.play("site.yml", celery_app_source=s.source())
    return [Strike(at, at, held)]


def lose_workers(s: Scenario) -> Sequence[Strike]:
    """Lose a host with workers, and have it again."""
    host, at, held = s.workers[-1], s.now(), s.all_in_flight()
    run(["docker", "kill", host], log=s.log)
    s.wait(lambda: False, SHORT)
    run([ROOT / "scripts" / "lab.py", "restart", host], log=s.log)
    return [Strike(at, at, held)]


def fault(key: str, title: str, planned: bool, strike: Callable[[Scenario], Sequence[Strike]], **own: float) -> Fault:
    """Return a fault of clusters."""
    times, short = int(own.get("times", 1)), int(own.get("short", 0))
    return Fault(key, title, planned, strike, times, RABBITMQ, short, cluster=True, within=own.get("within", 0.0))


CLUSTER_FAULTS = (
    fault("grow", "growth from one node to three", True, grow),
    fault("node-kill", "kill -9 of a node, kept down", False, kill, times=3, short=1, within=5),
    fault("node-cut", "a node cut off", False, cut, short=1, within=20),
    fault("node-freeze", "a node frozen, and thawed", False, freeze, short=1, within=30),
    fault("two-nodes-kill", "kill -9 of two of three nodes", False, kill_two, short=1),
    fault("full-stop", "all nodes stopped and started", False, full_stop(0, 1, 2)),
    fault("full-stop-back", "the same in the other order", False, full_stop(2, 1, 0)),
    fault("change-all", "a changed configuration of everything", True, change_all),
    # A machine that is gone closes no connection.
    fault("node-replaced", "a node replaced by an empty one", False, replace, within=20),
    fault("redis-kill", "kill -9 of the primary of Redis, kept down", False, kill_primary, short=1, within=10),
    fault("redis-freeze", "the primary of Redis frozen, and thawed", False, freeze_primary, short=1, within=10),
    fault("redis-cut", "the primary of Redis cut off", False, cut_primary, short=1, within=10),
    fault("sentinel-kill", "kill -9 of a Sentinel", False, kill_sentinel, short=1, within=5),
    fault("workers-lost", "a host of workers lost", False, lose_workers, short=1),
    # The last one: an empty host would not have the package.
    fault("upgrade", "a package upgrade, rehearsed with a higher revision", True, upgrade),
)
