"""Three nodes are one broker, whatever happens to one of them."""

from __future__ import annotations

import itertools
import time

from cluster import NODES, SERVER, STATE, Cluster
from hosts import wait


def test_three_hosts_are_one_cluster(cluster: Cluster) -> None:
    for name in NODES:
        assert cluster.whole(name)
        assert {one["partitions"] == [] for one in cluster.ask(name, "nodes") if "partitions" in one} == {True}


def test_leaders_are_on_all_nodes(cluster: Cluster) -> None:
    assert {one["leader"] for one in cluster.queues("mq1")} == {cluster.node(name) for name in NODES}


def test_a_worker_goes_on_while_its_node_is_away(cluster: Cluster) -> None:
    cluster.on("app1", f"rm -f {STATE}/notes")
    lost = cluster.connected_to("default")
    others = [name for name in NODES if name != lost]
    cluster.send(150)
    wait(lambda: bool(cluster.done()), 10, "nothing is run")
    # Kept down: a restart by systemd would hide what a worker cannot do without its node.
    cluster.on(lost, f"systemctl mask --runtime --quiet {SERVER}; systemctl kill --signal=KILL {SERVER}")
    killed, before = time.monotonic(), len(cluster.done())
    # What it had before the kill is not what comes from another node.
    wait(lambda: len(cluster.done()) > before + 10, 10, "the worker stands still")
    assert time.monotonic() - killed < 8
    wait(lambda: len(cluster.done()) == 150, 60, "tasks were lost")
    # What was in flight may run twice: one for each process.
    assert sum(cluster.done().values()) <= 151
    assert not any(cluster.whole(name) for name in others)
    cluster.on(lost, f"systemctl unmask --runtime --quiet {SERVER}; systemctl start --no-block {SERVER}")
    wait(lambda: cluster.whole(others[0]), 60, "the node did not come back with its members")


def test_a_change_restarts_one_node_after_the_other(cluster: Cluster) -> None:
    before = cluster.started()
    run = cluster.play(rabbitmq_config={"heartbeat": 50})
    assert not run.failed, run.output
    after = cluster.started()
    assert all(after[name][1] > before[name][1] for name in NODES)
    # Stopped, started; the next one stops when this one runs.
    turns = sorted(after.values())
    assert all(early[1] <= late[0] for early, late in itertools.pairwise(turns))
    assert cluster.whole("mq1")
