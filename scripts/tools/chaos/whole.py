"""Whether a cluster is whole: the nodes of RabbitMQ and the members of its queues, Redis and its Sentinels."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MASTER = "celeryops"
PORTS = {"redis": 6379, "sentinel": 26379}


def rabbitmq_faults(node: str, number: int, status: str, queues: str) -> list[str]:
    """Return how RabbitMQ is not whole, as one of its nodes sees it.

    Arguments:
        node: its host.
        number: how many nodes there should be.
        status: what ``rabbitmqctl cluster_status`` printed, as JSON.
        queues: the same of ``list_queues name type members online``.
    """
    try:
        cluster, listed = json.loads(status), json.loads(queues)
    except ValueError:
        return [f"{node} does not answer"]
    faults = [f"{node} sees a partition: {cluster['partitions']}"] if cluster["partitions"] else []
    if len(cluster["running_nodes"]) != number or len(cluster["disk_nodes"]) != number:
        faults.append(f"{node} sees {sorted(cluster['running_nodes'])} of {sorted(cluster['disk_nodes'])}")
    quorum = [queue for queue in listed if queue["type"] in ("quorum", "rabbit_quorum_queue")]
    lacking = [queue["name"] for queue in quorum if len(queue["online"]) != number or len(queue["members"]) != number]
    if lacking or not quorum:
        faults.append(f"{node} lacks members of {len(lacking)} of {len(quorum)} queues")
    return faults


def ask(node: str, server: str, tool: str, secrets: Path, *command: str) -> str:
    """Return what Redis or Sentinel of a host answers; nothing where it does not.

    The password is in the environment of the two programs, not among their arguments.

    Arguments:
        node: the container.
        server: ``redis`` or ``sentinel``.
        tool: ``redis-cli``, or that of Valkey.
        secrets: where the passwords of the inventory are.
    """
    password = (secrets / f"{server}_admin_password").read_text().split()[0]
    call = ["docker", "exec", "--env=REDISCLI_AUTH", node, "timeout", "5", tool, "--user", "admin", "--no-auth-warning"]
    done = subprocess.run(
        [*call, "-p", str(PORTS[server]), *command],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "REDISCLI_AUTH": password},
    )
    return done.stdout


def address_of_primary(answer: str) -> str:
    """Return what ``SENTINEL GET-MASTER-ADDR-BY-NAME`` says, or nothing."""
    return next(iter(answer.split()), "")


def tilted(primaries: Mapping[str, str], states: Mapping[str, str]) -> list[str]:
    """Return how the Sentinels do not watch.

    One that was frozen, or whose clock jumped, takes part in nothing for 30 seconds (sentinel.c, TILT mode).

    Arguments:
        primaries: as in ``redis_faults``.
        states: node -> ``INFO sentinel``.
    """
    return [
        f"the Sentinel of {node} does not watch yet"
        for node in primaries
        if primaries[node] and "sentinel_tilt:0" not in states[node]
    ]


def redis_faults(
    primaries: Mapping[str, str], replication: Mapping[str, str], addresses: Mapping[str, str]
) -> list[str]:
    """Return how Redis is not whole.

    Arguments:
        primaries: node -> the address of the primary, as its Sentinel says; nothing where it does not answer.
        replication: node -> ``INFO replication`` of its server; nothing where it does not answer.
        addresses: node -> its address.
    """
    told = set(primaries.values())
    faults = [f"the Sentinels name the primaries {sorted(told)}"] if len(told) != 1 or "" in told else []
    for node, text in replication.items():
        if addresses[node] in told:
            if "role:master" not in text or f"connected_slaves:{len(addresses) - 1}" not in text:
                faults.append(f"{node} is not the primary of {len(addresses) - 1} replicas")
        elif "role:slave" not in text or "master_link_status:up" not in text:
            faults.append(f"{node} is no replica that follows")
    return faults


def all_redis_faults(nodes: Sequence[str], addresses: Mapping[str, str], tool: str, secrets: Path) -> list[str]:
    """Ask all servers and Sentinels, and return how they are not whole."""
    command = ("sentinel", "get-master-addr-by-name", MASTER)
    primaries = {node: address_of_primary(ask(node, "sentinel", tool, secrets, *command)) for node in nodes}
    replication = {node: ask(node, "redis", tool, secrets, "info", "replication") for node in nodes}
    states = {node: ask(node, "sentinel", tool, secrets, "info", "sentinel") for node in nodes}
    return [*redis_faults(primaries, replication, addresses), *tilted(primaries, states)]
