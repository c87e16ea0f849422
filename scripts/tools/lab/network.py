"""The network of the hosts, in which each has an address that it keeps, as a host in use does.

An engine gives a container that starts the lowest address that is free: after a stop that may be another one than
before, while its own now belongs to a host of another suite.
"""

from __future__ import annotations

import ipaddress
import subprocess

from tools.lab.machine import docker

NETWORK = "celeryops-hosts"
LABEL = "celeryops.address"


def options() -> list[str]:
    """With which options a new container is in the network. The caller keeps others from asking meanwhile."""
    address = next_address(subnet(), addresses())
    return [f"--network={NETWORK}", f"--ip={address}", f"--label={LABEL}={address}"]


def subnet() -> ipaddress.IPv4Network:
    """Have the network, and return its addresses."""
    ask = ("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", NETWORK)
    if NETWORK not in docker("network", "ls", "--format", "{{.Name}}").split():
        # The engine knows what is free on this machine, and fixes addresses only where the subnet was asked for.
        docker("network", "create", NETWORK)
        free = docker(*ask).strip()
        docker("network", "rm", NETWORK)
        docker("network", "create", f"--subnet={free}", NETWORK)
    return ipaddress.IPv4Network(docker(*ask).strip())


def addresses() -> set[str]:
    """Return the addresses of the hosts, running or not."""
    label = f'--format={{{{.Label "{LABEL}"}}}}'
    return set(docker("ps", "--all", f"--filter=label={LABEL}", label).split())


def address_of(name: str) -> str:
    """Return the address of a host."""
    return docker("container", "inspect", f'--format={{{{index .Config.Labels "{LABEL}"}}}}', name).strip()


def next_address(network: ipaddress.IPv4Network, taken: set[str]) -> str:
    """Return the first address that no host has; the very first is the engine's own."""
    _engines_own, *others = (str(address) for address in network.hosts())
    return next(address for address in others if address not in taken)


def forget() -> None:
    """Remove the network if no host is left in it."""
    if not docker("ps", "--all", "--quiet", f"--filter=network={NETWORK}").strip():
        subprocess.run(["docker", "network", "rm", NETWORK], check=False, capture_output=True)
