# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would do to a RabbitMQ cluster that is there. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: Series whose nodes have a file with the members of their cluster.
_WITH_MNESIA = ("3.10", "4.0")


def emptied_nodes(plans: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield the nodes whose data are gone while their cluster still knows them.

    RabbitMQ 4.0 starts such a node as a broker of its own after a minute; and a member of a queue that has lost its log
    may not vote under its old name (Raft), whatever the version.

    Arguments:
        plans: host -> the plan of the role rabbitmq for it.
        found: host -> what it holds (``rabbitmq_found.found``).
    """
    for host, plan in plans.items():
        name = plan.get("node", {}).get("name")
        knowing = [
            other
            for other, one in plans.items()
            if other != host and name in ((found.get(other) or {}).get("peers") or {}).get(one["node"]["name"], ())
        ]
        if plan.get("cluster") and plan.get("blank") and knowing:
            reason = f"has no data on {host}, and the node of {knowing[0]} still knows it as a member of its cluster"
            instead = (
                f"nothing, and have the cluster forget it first: celeryops.stack.remove_node with "
                f"-e celeryops_remove_node={host}"
            )
            yield Problem("forget-the-node-first", "rabbitmq_nodes", name, reason, instead)


def separate_brokers(
    plans: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """Yield that two hosts of one cluster have data of two brokers: neither would join the other.

    Nothing is said where Khepri has the members, of which no file tells.

    Arguments:
        plans: host -> the plan of the role rabbitmq for it.
        found: host -> what it holds (``rabbitmq_found.found``).
    """
    with_data = [
        host for host, plan in plans.items() if plan.get("cluster") and not plan.get("blank") and found.get(host)
    ]
    peers = {host: (found[host].get("peers") or {}).get(plans[host]["node"]["name"], ()) for host in with_data}
    known = {name for names in peers.values() for name in names}
    apart = [host for host in with_data if not peers[host] and plans[host]["node"]["name"] not in known]
    if apart and len(with_data) > 1 and all(plans[host].get("series") in _WITH_MNESIA for host in with_data):
        reason = f"has data on {' and '.join(with_data)}, and these are not of one cluster"
        instead = (
            f"{apart[-1]} in an inventory of its own; or, if nothing in it is needed, stop RabbitMQ there and move "
            "its data away first"
        )
        yield Problem("separate-brokers", "rabbitmq", with_data, reason, instead)


def different_series(plans: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield that the nodes of a cluster would not be of one series, as far as that is known.

    RabbitMQ lets nodes of two series run together only while a cluster is upgraded ("Upgrading RabbitMQ").

    Arguments:
        plans: host -> the plan of the role rabbitmq for it.
    """
    series = {host: str(plan.get("series") or "") for host, plan in plans.items() if plan.get("cluster")}
    known = {one for one in series.values() if one}
    if len(known) > 1:
        told = ", ".join(f"{one} on {host}" for host, one in series.items() if one)
        reason = f"would be a cluster of different versions: {told}"
        instead = "hosts with the same release of Debian, or the same rabbitmq_repository and rabbitmq_version"
        yield Problem("different-versions", "rabbitmq", list(series), reason, instead)


def spared(plans: Mapping[str, Mapping[str, Any]], playing: Collection[str], lost: Collection[str]) -> list[str]:
    """Return the lost hosts without whose nodes the cluster goes on, and a run as well: most of its nodes are there.

    None where one of the others is blank: it would join a cluster of which nobody knows whether all of it is there.

    Arguments:
        plans: host -> the plan of the role rabbitmq for it.
        playing: the hosts of this run.
        lost: those whose facts could not be gathered.
    """
    nodes = [host for host, plan in plans.items() if plan.get("cluster")]
    there = [host for host in nodes if host in playing and host not in lost]
    if not there or any(plans[host].get("blank") or "" in plans[host]["cluster"] for host in there):
        return []
    whole = len(plans[there[0]]["cluster"])
    return [host for host in nodes if host in lost] if 2 * len(there) > whole else []
