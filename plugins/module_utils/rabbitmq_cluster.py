# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answers of RabbitMQ's management API say of a cluster. Pure functions; runs on managed hosts.

The API answers for the whole cluster, whichever node is asked (RabbitMQ 3.10.8, 4.0.5 and 4.3.6).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

#: What ``GET /api/consumers`` is asked for.
CONSUMER_COLUMNS = "ack_required,channel_details,queue"
#: Celery's exchange for remote control, and the command by which workers leave a node (celeryops_runtime.leaving).
CONTROL_EXCHANGE = "celery.pidbox"
LEAVE = "celeryops_leave"
#: What ``GET /api/queues`` is asked for.
QUEUE_COLUMNS = "name,vhost,type,members,online,node,durable,exclusive,auto_delete"


def node_faults(expected: Sequence[str], nodes: Iterable[Mapping[str, Any]], absent: Collection[str] = ()) -> list[str]:
    """Return how a cluster differs from the one that is expected, in words; nothing when it is whole.

    Arguments:
        expected: the names of its nodes.
        absent: those that need not run, nor be seen by the others.
        nodes: the answer of ``GET /api/nodes``. ``partitions`` is missing of a node that is down or has just started,
            and on RabbitMQ 4.3 it is always empty.
    """
    there = {str(node["name"]): node for node in nodes}
    faults = [f"{name} is not a member" for name in expected if name not in there]
    faults += [f"{name} is a member and not in the inventory" for name in there if name not in expected]
    for name, node in there.items():
        if name in absent:
            continue
        if name in expected and not node.get("running"):
            faults.append(f"{name} does not run")
        if apart := [str(other) for other in node.get("partitions") or () if other not in absent]:
            faults.append(f"{name} does not see {', '.join(apart)} (a partition)")
    return faults


def alone(name: str, nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a node is the only member of its cluster.

    Arguments:
        name: of the node that was asked.
        nodes: the answer of ``GET /api/nodes``.
    """
    return [str(node["name"]) for node in nodes] == [name]


def member_called(name: str, nodes: Iterable[Mapping[str, Any]]) -> str:
    """Return the member that a person calls so: by its whole name, or by its host; empty when there is none.

    Arguments:
        name: such as rabbit@mq1 or mq1.
        nodes: the answer of ``GET /api/nodes``.
    """
    called = [str(node["name"]) for node in nodes if name in (node["name"], str(node["name"]).partition("@")[2])]
    return called[0] if len(called) == 1 else ""


def cannot_leave(
    leaving: str, nodes: Iterable[Mapping[str, Any]], queues: Iterable[Mapping[str, Any]], *, erlang_runs: bool = False
) -> tuple[list[str], list[str]]:
    """Return why a member cannot be removed, and what would be lost with it, both in words.

    A queue that has its last member on a node that runs gets others first, so nothing is lost with that.

    Arguments:
        leaving: the name of the member.
        nodes: the answer of ``GET /api/nodes``.
        queues: the answer of ``GET /api/queues``.
        erlang_runs: whether the member's Erlang node runs, although RabbitMQ in it may not: of two members, one whose
            removal was interrupted.
    """
    there = {str(node["name"]): node for node in nodes}
    rest = [name for name in there if name != leaving]
    stopped = [name for name in rest if not there[name].get("running")]
    alive = bool(there[leaving].get("running"))
    apart = [f"{name} is partitioned from others" for name, node in there.items() if node.get("partitions")]
    reasons = apart if rest else ["it is the only member"]
    if alive:
        reasons += [f"{name} does not run" for name in stopped]
    elif rest and not (erlang_runs and len(rest) == 1) and 2 * (len(rest) - len(stopped)) <= len(there):
        reasons.append(f"only {len(rest) - len(stopped)} of {len(there)} members run, and that is no majority")
    lost = []
    for queue in queues if not alive else ():
        members, online = set(queue.get("members") or ()), set(queue.get("online") or ())
        if leaving in members and 2 * len(online - {leaving}) <= len(members):
            lost.append(f"{_name(queue)}, which has lost its quorum")
    return reasons, lost


def kept_only_on(name: str, queues: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return virtual host and name of the queues that are on one node alone and should outlast it.

    Arguments:
        name: of the node.
        queues: the answer of ``GET /api/queues``.
    """
    return [
        (str(queue["vhost"]), str(queue["name"]))
        for queue in queues
        if queue.get("node") == name
        and not queue.get("members")
        and queue.get("durable")
        and not queue.get("exclusive")
        and not queue.get("auto_delete")
    ]


def members_on(name: str, queues: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the quorum queues and streams that have a member on a node.

    Arguments:
        name: of the node.
        queues: the answer of ``GET /api/queues``.
    """
    return [_name(queue) for queue in queues if name in (queue.get("members") or ())]


def streams_without(
    expected: Sequence[str], queues: Iterable[Mapping[str, Any]]
) -> list[tuple[tuple[str, str], list[str]]]:
    """Return virtual host and name of each stream, with the nodes on which it has no member.

    Arguments:
        expected: the names of the nodes.
        queues: the answer of ``GET /api/queues``.
    """
    return [
        (
            (str(queue["vhost"]), str(queue["name"])),
            [name for name in expected if name not in (queue.get("members") or ())],
        )
        for queue in queues
        if queue.get("type") == "stream"
    ]


def consuming_on(name: str, consumers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the connections to a node by which tasks are consumed, each with its virtual host.

    Arguments:
        name: of the node.
        consumers: the answer of ``GET /api/consumers``. Celery acknowledges tasks, and not events or remote control.
    """
    return {
        str(consumer["channel_details"]["connection_name"]): str(consumer["queue"]["vhost"])
        for consumer in consumers
        if consumer.get("ack_required") and (consumer.get("channel_details") or {}).get("node") == name
    }


def leave_command(connections: Iterable[str], seconds: int) -> dict[str, Any]:
    """Return the message to Celery's workers that has those of them leave a node that are connected to it.

    Arguments:
        connections: to the node, by the names that it gives them: ``10.0.0.8:41234 -> 10.0.0.1:5672``. The second half
            is the node, unless it is a loopback address, which each host has: there the port in the first half tells.
        seconds: for which the workers wait for the tasks that run.
    """
    addresses, ports = set(), set()
    for client, _arrow, server in (name.partition(" -> ") for name in connections):
        address = server.rpartition(":")[0].strip("[]")
        if address.startswith("127.") or address == "::1":
            ports.add(int(client.rpartition(":")[2]))
        else:
            addresses.add(address)
    arguments = {"addresses": sorted(addresses), "ports": sorted(ports), "seconds": seconds}
    return {"method": LEAVE, "arguments": arguments, "destination": None}


def missing_members(expected: Sequence[str], queues: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return node -> the quorum queues without a member on it.

    Arguments:
        expected: the names of the nodes.
        queues: the answer of ``GET /api/queues``. Whether a queue has members is known for quorum queues only.
    """
    found: dict[str, list[str]] = {}
    for queue in _quorum(queues):
        for name in expected:
            if name not in (queue.get("members") or ()):
                found.setdefault(name, []).append(_name(queue))
    return found


def offline_members(queues: Iterable[Mapping[str, Any]], absent: Collection[str] = ()) -> list[str]:
    """Return the quorum queues of which a member is not online.

    Arguments:
        queues: the answer of ``GET /api/queues``.
        absent: nodes whose members need not be.
    """
    return [
        _name(queue)
        for queue in _quorum(queues)
        if set(queue.get("members") or ()) - set(queue.get("online") or ()) - set(absent)
    ]


def _name(queue: Mapping[str, Any]) -> str:
    return f"{queue['vhost']}/{queue['name']}"


def _quorum(queues: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [queue for queue in queues if queue.get("type") == "quorum"]
