"""The stack on several hosts: each has its duties and nothing else, and they find each other over the network."""

from __future__ import annotations

from fleet import APP, CLASSES, Fleet
from hosts import tcp_listeners, udp_services

LOOPBACK = {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"}
EVERYWHERE = {"0.0.0.0"}  # noqa: S104 - what the inventory says
#: Host -> every port that may listen, with the addresses that it may listen on.
PORTS = {
    "servers": {
        5672: EVERYWHERE,  # AMQP
        6379: EVERYWHERE,  # Redis
        4369: LOOPBACK,  # epmd, through which RabbitMQ's tools find the node
        15672: LOOPBACK,  # RabbitMQ's management API and page
        25672: LOOPBACK,  # Erlang distribution, for rabbitmqctl
    },
    "app1": {},
    "app2": {5555: LOOPBACK},  # Flower
}
DUTIES = {"app1": {"default", "beat"}, "app2": {"default", "bulk", "flower"}}


def test_each_host_has_its_duties_and_no_other(fleet: Fleet) -> None:
    listed = fleet.each(f"systemctl list-units --plain --no-legend --state=running 'celery-{APP}-*.service'")
    running = {
        host: {line.split()[0].removeprefix(f"celery-{APP}-").removesuffix(".service") for line in text.splitlines()}
        for host, text in listed.items()
    }
    assert running == DUTIES
    units = {
        host: set(text.split())
        for host, text in fleet.each("cd /etc/systemd/system && ls -d celery-*.service celery-*.target").items()
    }
    assert units == {
        host: {f"celery-{APP}.target", *(f"celery-{APP}-{name}.service" for name in names)}
        for host, names in DUTIES.items()
    }
    assert not fleet.hosts["servers"].file(f"/opt/celeryops/{APP}").exists
    assert not [host for host in CLASSES if fleet.hosts[host].package("rabbitmq-server").is_installed]


def test_nothing_listens_beyond_what_the_inventory_says(fleet: Fleet) -> None:
    for name, ports in PORTS.items():
        listeners = tcp_listeners(fleet.hosts[name])
        undeclared = {(address, port) for address, port in listeners if address not in ports.get(port, set())}
        assert (name, undeclared) == (name, set())
        assert (name, {port for _other, port in listeners}) == (name, set(ports))
        assert (name, udp_services(fleet.hosts[name])) == (name, set())


def test_both_hosts_run_what_the_producer_sends_and_it_reads_the_results(fleet: Fleet) -> None:
    sent = "[app.send_task('default.work', args=(f'n{number}', 0.1)) for number in range(30)]"
    ran = fleet.produce(f"print(json.dumps([one.get(timeout=60) for one in {sent}]))")
    assert set(ran) == {fleet.container("app1"), fleet.container("app2")}
    assert len(ran) == 30
    bulk = fleet.produce("print(json.dumps(app.send_task('bulk.work', args=('b',)).get(timeout=60)))")
    assert bulk == fleet.container("app2")


def test_the_servers_refuse_a_neighbour_without_a_password(fleet: Fleet) -> None:
    refused = fleet.produce(
        f"import amqp, redis\nserver = {fleet.container('servers')!r}\n"
        "def refusal(attempt):\n"
        "    try:\n        attempt()\n"
        "    except Exception as error:\n        return type(error).__name__\n"
        "print(json.dumps([refusal(redis.Redis(server).ping), refusal(amqp.Connection(server).connect)]))"
    )
    assert refused == ["AuthenticationError", "AccessRefused"]
