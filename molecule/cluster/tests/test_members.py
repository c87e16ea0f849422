"""A cluster that stopped for good with one of its nodes shrinks to one node and grows again, and keeps its messages."""

from __future__ import annotations

from cluster import APP, NODES, SERVER, STATE, WORKERS, Cluster
from hosts import wait

WAITING = 100
LAST = "mq3"
#: Where a node has everything.
DATA = "/var/lib/rabbitmq/mnesia"


def test_messages_outlast_the_last_stopped_node_one_node_alone_and_three_again(cluster: Cluster) -> None:
    for name in WORKERS:
        cluster.on(name, f"systemctl stop celery-{APP}-bulk.service; rm -f {STATE}/notes")
    cluster.send(WAITING, "bulk.work")
    for name in NODES:
        cluster.on(name, f"systemctl stop {SERVER}")
    # It has stopped last, and is gone: the others wait for it.
    cluster.on(LAST, f"systemctl mask --runtime --quiet {SERVER}; rm -r {DATA}")
    recovered = cluster.play(playbook="playbooks/recover.yml", celeryops_recover_without=LAST)
    assert not recovered.failed, recovered.output
    assert cluster.members("mq1") == {cluster.node(name): True for name in ("mq1", "mq2")}
    # Of two members one can leave only while it runs.
    left = cluster.play(playbook="playbooks/remove_node.yml", celeryops_remove_node="mq2")
    assert not left.failed, left.output
    assert cluster.members("mq1") == {cluster.node("mq1"): True}
    assert {tuple(one["members"]) for one in cluster.queues("mq1")} == {(cluster.node("mq1"),)}
    assert cluster.on("mq2", "ls /var/lib/rabbitmq/celeryops-aside")
    assert cluster.on("mq2", f"systemctl is-enabled {SERVER} || true") == "disabled"
    cluster.on(LAST, f"systemctl unmask --runtime --quiet {SERVER}")
    again = cluster.play()
    assert not again.failed, again.output
    assert all(cluster.whole(name) for name in NODES)
    wait(lambda: len(cluster.done()) == WAITING, 30, "messages were lost")
    assert sum(cluster.done().values()) == WAITING
