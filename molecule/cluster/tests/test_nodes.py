"""Three nodes are one broker, whatever happens to one of them."""

from __future__ import annotations

import itertools
import time

from cluster import APP, NODES, SERVER, STATE, Cluster
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


def test_a_run_goes_on_without_a_dead_host_and_the_next_one_puts_it_right(cluster: Cluster) -> None:
    before = {name: cluster.started_of(name) for name in ("mq1", "mq2")}
    cluster.engine("stop", "mq3")
    try:
        run = cluster.play(rabbitmq_config={"heartbeat": 49}, celery_worker_defaults={"concurrency": 1, "nice": 3})
    finally:
        cluster.engine("start", "mq3")
    # The connection to a container that is stopped fails like a module.
    bad = {name: host["unreachable"] + host["failures"] for name, host in run.stats.items()}
    assert bad == {"mq1": 0, "mq2": 0, "mq3": 1, "app1": 0}
    assert run.output.count("These hosts are not as the inventory says") == 1
    # The others have the change, and would cost the queues their quorum if they took it into use.
    assert "these queues would lose their quorum" in run.output
    for name, started in before.items():
        assert cluster.on(name, "grep -c 'heartbeat = 49' /etc/rabbitmq/rabbitmq.conf") == "1"
        assert cluster.started_of(name) == started
    assert cluster.on("app1", f"grep -c Nice=3 /etc/systemd/system/celery-{APP}-default.service") == "1"
    wait(lambda: cluster.whole("mq1"), 90, "the node did not come back")
    again = cluster.play(rabbitmq_config={"heartbeat": 49}, celery_worker_defaults={"concurrency": 1, "nice": 3})
    assert not again.failed, again.output
    assert all(cluster.started_of(name)[1] > started[1] for name, started in before.items())
    assert cluster.whole("mq1")
    cluster.play()
