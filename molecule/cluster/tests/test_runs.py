"""A run changes the servers of a cluster one after the other, and goes on without one that is lost."""

from __future__ import annotations

import itertools

from cluster import APP, NODES, SERVER, STATE, WORKERS, Cluster
from hosts import wait

#: Of a second each: enough for two hosts while the servers are restarted.
TASKS = 120


def test_a_change_restarts_one_server_after_the_other_and_loses_nothing(cluster: Cluster) -> None:
    before, held = cluster.primary(), cluster.keys(cluster.primary())
    servers = (SERVER, f"{cluster.engine_of_redis}-server.service")
    began = {server: cluster.started(server) for server in servers}
    for name in WORKERS:
        cluster.on(name, f"rm -f {STATE}/notes")
    cluster.send(TASKS, seconds=1.0)
    run = cluster.play(rabbitmq_config={"heartbeat": 50}, redis_settings={"hz": "11"})
    assert not run.failed, run.output
    for server in servers:
        after = cluster.started(server)
        assert all(after[name][1] > began[server][name][1] for name in NODES)
        # Stopped, started; the next one stops when this one runs.
        turns = sorted(after.values())
        assert all(early[1] <= late[0] for early, late in itertools.pairwise(turns))
    assert cluster.whole("mq1")
    # The primary was the last one, and had handed its duty over before.
    assert max(NODES, key=after.__getitem__) == before
    assert cluster.primary() != before
    assert cluster.replicated()
    assert cluster.keys(cluster.primary()) >= held
    wait(lambda: len(cluster.done()) == TASKS, 60, "tasks were lost")
    # Its worker left each node before that was restarted.
    assert set(cluster.done(event="begun").values()) == {1}
    assert cluster.result(10) < 5
    assert {cluster.on(name, f"systemctl is-active celery-{APP}-default.service") for name in WORKERS} == {"active"}


# The last one, as it does not put back what it has changed.
def test_a_run_goes_on_without_a_dead_host_and_the_next_one_puts_it_right(cluster: Cluster) -> None:
    before = {name: cluster.started_of(name) for name in ("mq1", "mq2")}
    cluster.engine("stop", "mq3")
    try:
        run = cluster.play(rabbitmq_config={"heartbeat": 49}, celery_worker_defaults={"concurrency": 1, "nice": 3})
    finally:
        cluster.engine("start", "mq3")
    # The connection to a container that is stopped fails like a module.
    bad = {name: host["unreachable"] + host["failures"] for name, host in run.stats.items()}
    assert bad == {"mq1": 0, "mq2": 0, "mq3": 1, "app1": 0, "app2": 0}
    assert run.output.count("These hosts are not as the inventory says") == 1
    # The others have the change, and would cost the queues their quorum if they took it into use.
    assert "these queues would lose their quorum" in run.output
    for name, started in before.items():
        assert cluster.on(name, "grep -c 'heartbeat = 49' /etc/rabbitmq/rabbitmq.conf") == "1"
        assert cluster.started_of(name) == started
    assert cluster.on("app1", f"grep -c Nice=3 /etc/systemd/system/celery-{APP}-default.service") == "1"
    wait(lambda: cluster.whole("mq1"), 90, "the node did not come back")
    wait(cluster.replicated, 60, "its Redis did not come back as a replica")
    again = cluster.play(rabbitmq_config={"heartbeat": 49}, celery_worker_defaults={"concurrency": 1, "nice": 3})
    assert not again.failed, again.output
    assert all(cluster.started_of(name)[1] > started[1] for name, started in before.items())
    assert cluster.whole("mq1")
    assert cluster.replicated()
