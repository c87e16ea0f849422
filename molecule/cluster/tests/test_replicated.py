"""Three servers of Redis have the same data, and Sentinel replaces the one that takes writes."""

from __future__ import annotations

from cluster import NODES, REDIS_PORT, SENTINEL_PORT, Cluster
from hosts import wait


def test_three_servers_have_the_same_data(cluster: Cluster) -> None:
    assert cluster.replicated()
    for name in NODES:
        assert cluster.redis(name, "sentinel ckquorum celeryops", port=26379).startswith("OK 3 usable Sentinels")
    cluster.result(10)
    wait(lambda: len({cluster.keys(name) for name in NODES}) == 1, 10, "the replicas lack data")


def test_results_and_schedules_go_on_without_the_primary(cluster: Cluster) -> None:
    lost = cluster.primary()
    server = f"{cluster.engine_of_redis}-server.service"
    wait(lambda: cluster.ticks() > 0, 30, "no scheduler sends")
    # Kept down: it must not be the primary again because it is back at once.
    cluster.on(lost, f"systemctl mask --runtime --quiet {server}; systemctl kill --signal=KILL {server}")
    try:
        assert cluster.result(30) < 12
        others = [name for name in NODES if name != lost]
        primary = cluster.primary(others[0])
        assert primary in others
        sent = cluster.ticks()
        wait(lambda: cluster.ticks() > sent + 1, 20, "no scheduler sends any more")
    finally:
        cluster.on(lost, f"systemctl unmask --runtime --quiet {server}; systemctl start {server}")
    # Its own file still says that it is the primary.
    wait(cluster.replicated, 60, "the server did not come back as a replica")
    assert cluster.primary() == primary


def test_servers_whose_address_comes_late_after_a_boot_start_all_the_same(cluster: Cluster) -> None:
    ports = {f"{cluster.engine_of_redis}-server": REDIS_PORT, f"{cluster.engine_of_redis}-sentinel": SENTINEL_PORT}
    host = next(name for name in NODES if name != cluster.primary())
    hold = "import signal, socket; taken = socket.create_server(('', %d)); signal.pause()"
    holders = [
        f'systemd-run --quiet --collect --unit=test-{unit} timeout 8 python3 -c "{hold % port}"'
        for unit, port in ports.items()
    ]
    units = " ".join(ports)
    # An address that somebody else has is to a server what one is that does not exist yet.
    taken = "; ".join(holders)

    def states() -> list[str]:
        return cluster.on(host, f"systemctl is-active {units} || true").split()

    cluster.on(host, f"systemctl stop {units}; {taken}; sleep 0.5; systemctl start --no-block {units}; sleep 4")
    assert states() == ["activating", "activating"]
    wait(lambda: states() == ["active", "active"], 20, "a server was given up")
    wait(cluster.replicated, 30, "the server did not come back as a replica")
