# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answers of RabbitMQ's management API say of a cluster. Pure functions; runs on managed hosts.

The API answers for the whole cluster, whichever node is asked (RabbitMQ 3.10.8, 4.0.5 and 4.3.6).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

#: What ``GET /api/queues`` is asked for.
QUEUE_COLUMNS = "name,vhost,type,members,online"


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
                found.setdefault(name, []).append(f"{queue['vhost']}/{queue['name']}")
    return found


def offline_members(queues: Iterable[Mapping[str, Any]], absent: Collection[str] = ()) -> list[str]:
    """Return the quorum queues of which a member is not online.

    Arguments:
        queues: the answer of ``GET /api/queues``.
        absent: nodes whose members need not be.
    """
    return [
        f"{queue['vhost']}/{queue['name']}"
        for queue in _quorum(queues)
        if set(queue.get("members") or ()) - set(queue.get("online") or ()) - set(absent)
    ]


def _quorum(queues: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [queue for queue in queues if queue.get("type") == "quorum"]
