"""What tests ask of a host, whichever scenario it belongs to."""

from __future__ import annotations

import time
from collections.abc import Callable

from testinfra.host import Host

#: Docker's own resolver listens inside each container.
DOCKER_RESOLVER = "127.0.0.11"


def run_in_app(host: Host, app: str, program: str, *, account: str = "") -> str:
    """Run Python as the app's web process would: its account, and the one line in its unit; return what it prints."""
    out: str = host.check_output(
        f"systemd-run --quiet --pipe --wait --collect --property=User={account or app} --property=WorkingDirectory=/"
        f" --property=EnvironmentFile=/etc/celeryops/{app}/celery.env"
        f" /opt/celeryops/{app}/current/bin/python -B - <<'END'\n{program}\nEND"
    )
    return out


def tcp_listeners(host: Host) -> set[tuple[str, int]]:
    """Address and port of everything that listens."""
    found = set()
    for line in host.check_output("ss --listening --tcp --numeric --no-header").splitlines():
        address, port = line.split()[3].rsplit(":", 1)
        if address != DOCKER_RESOLVER:
            found.add((address.split("%")[0], int(port)))
    return found


def udp_services(host: Host) -> set[str]:
    """Address and port of every datagram service.

    A client's socket, such as a resolver's or that of the syslog client in RabbitMQ 3.10, has a port that the kernel
    chose; a service has one that others know.
    """
    first_chosen = int(host.check_output("cut -f 1 /proc/sys/net/ipv4/ip_local_port_range"))
    lines = host.check_output("ss --listening --udp --numeric --no-header").splitlines()
    served = {line.split()[3] for line in lines if DOCKER_RESOLVER not in line}
    return {address for address in served if int(address.rsplit(":", 1)[1]) < first_chosen}


def standing_in(host: Host, app: str) -> str:
    """Whatever stands in for a worker of the app, or is about to: units and their files."""
    units = f"systemctl list-units --all --plain --no-legend 'celery-{app}-*_*'"
    return str(host.check_output(f"{units}; find /run/systemd/system -name 'celery-{app}-*_*'"))


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something is the case; fail with what is not.

    A look at a host is a process of the engine, which costs: what takes longer is looked at less often.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, what
        time.sleep(min(1.0, max(0.2, waited / 10)))
