"""Three nodes are one broker, whatever happens to one of them."""

from __future__ import annotations

from cluster import NODES, SERVER, STATE, WORKERS, Cluster
from hosts import wait

#: Enough for two hosts while one of them looks for another node.
TASKS = 400


def test_three_hosts_are_one_cluster(cluster: Cluster) -> None:
    for name in NODES:
        assert cluster.whole(name)
        assert {one["partitions"] == [] for one in cluster.ask(name, "nodes") if "partitions" in one} == {True}


def test_leaders_are_on_all_nodes(cluster: Cluster) -> None:
    assert {one["leader"] for one in cluster.queues("mq1")} == {cluster.node(name) for name in NODES}


def test_a_worker_goes_on_while_its_node_is_away(cluster: Cluster) -> None:
    for name in WORKERS:
        cluster.on(name, f"rm -f {STATE}/notes")
    lost = cluster.connected_to(f"default@{cluster.prefix}-app1")
    others = [name for name in NODES if name != lost]
    cluster.send(TASKS)
    wait(lambda: bool(cluster.done("app1")), 10, "nothing is run")
    # Kept down: a restart by systemd would hide what a worker cannot do without its node.
    cluster.on(lost, f"systemctl mask --runtime --quiet {SERVER}; systemctl kill --signal=KILL {SERVER}")
    try:
        # What it had before the kill is not what comes from another node, nor is what the other host does.
        assert cluster.seconds_until_done("app1", 11) < 8
        wait(lambda: len(cluster.done()) == TASKS, 60, "tasks were lost")
        # What was in flight may run twice: one for each process.
        assert sum(cluster.done().values()) <= TASKS + len(WORKERS)
        assert not any(cluster.whole(name) for name in others)
    finally:
        cluster.on(lost, f"systemctl unmask --runtime --quiet {SERVER}; systemctl start --no-block {SERVER}")
    wait(lambda: cluster.whole(others[0]), 60, "the node did not come back with its members")
