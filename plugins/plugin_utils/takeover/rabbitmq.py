# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node name that keeps the RabbitMQ data of a host in use. Pure functions.

A node of another name starts empty beside them: so the name that is in use is kept, whatever the host is called now,
and a name that would leave data behind is refused, before anything is changed on any host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_found import PLACES
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import FilePath, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: By which variable the data of nodes may be left behind.
ABANDONED = "rabbitmq_abandoned_nodes"
_NODE_NAME = "rabbitmq_node_name"
#: The unit's sandbox (ProtectHome=) has no such directories.
_OUT_OF_REACH = ("/home/", "/root/", "/run/user/")


def choose_node(
    given: str, default: str, found: Mapping[str, Any], abandoned: Sequence[str]
) -> tuple[str, list[Problem]]:
    """Return the name of the node, and why it cannot be had.

    Arguments:
        given: what the inventory says, empty without it.
        default: the name that a host without data gets.
        found: what the host holds (``rabbitmq_found.found``); empty where nothing is known, or nothing there.
        abandoned: the names whose data may be left behind.
    """
    held = [name for name in found.get("nodes") or [] if name not in abandoned]
    current, forced = str(found.get("node") or ""), str(found.get("forced") or "")
    current = current if current in held else ""
    one = held[0] if len(held) == 1 else ""
    name = given or forced or current or one or default
    if forced and name != forced:
        reason = (
            f"is not what RABBITMQ_NODENAME in the environment of rabbitmq-server.service says, {forced}, which wins"
        )
        return name, [
            Problem(
                "node-name-of-the-unit-differs", _NODE_NAME, name, reason, f"{forced}, or take that out of the unit"
            )
        ]
    elsewhere = [other for other in found.get("elsewhere") or [] if other not in abandoned]
    if elsewhere:
        reason = f"would start empty in {found['data']}, and leave behind the data of {', '.join(elsewhere)}"
        instead = f"nothing, and take that place out of rabbitmq-env.conf or of the unit; or {ABANDONED}: {elsewhere}"
        return name, [Problem("data-left-behind", _NODE_NAME, name, reason, instead)]
    if name in abandoned and name in (found.get("nodes") or []):
        reason = f"is the name of the node to run, {name}, whose data would stay in use"
        instead = f"other names there, or another {_NODE_NAME}"
        return name, [Problem("name-of-the-node", ABANDONED, list(abandoned), reason, instead)]
    chosen = bool(given or forced) and name in held and not current
    if not held or chosen or name in (current, one):
        return name, []
    if not given and not forced:
        reason = f"does not say which of the nodes is meant whose data this host holds: {', '.join(held)}"
        return name, [
            Problem(
                "several-nodes-with-data", _NODE_NAME, given, reason, f"one of them, and the others into {ABANDONED}"
            )
        ]
    left = [current] if current else held
    reason = f"would start empty, and leave behind the data of {', '.join(left)}"
    if name in held:
        reason = f"would leave behind the data of {current}, which is in use"
    keep = f"{left[0]} to keep them" if len(left) == 1 else "one of these to keep its data"
    instead = f"{keep}, or {ABANDONED}: [{', '.join(left)}] to leave them"
    return name, [Problem("leave-behind-the-data", _NODE_NAME, name, reason, instead)]


def place_problems(
    found: Mapping[str, Any], node: str, config: Mapping[str, Any], nodes: Sequence[str] = ()
) -> list[Problem]:
    """Return why the role's server could not go on with the data where they are, or as what it is.

    Arguments:
        found: what the host holds; empty where nothing is known, or nothing there.
        node: the name of the node to run.
        config: the user's settings of rabbitmq.conf.
        nodes: the names of all nodes of the cluster; an empty one while it is not known.
    """
    problems = []
    for name, files in (found.get("leading") or {}).items():
        reason = f"would not be read: the environment of rabbitmq-server.service says {name}={files['now']}, which wins"
        instead = f"the lines of that file into {files['own']}, and take the variable out of the unit"
        problems.append(Problem("environment-of-the-unit", "rabbitmq_config", FilePath(files["own"]), reason, instead))
    known = (found.get("peers") or {}).get(node) or (found.get("configured") if node in found.get("nodes", ()) else ())
    peers = [peer for peer in known or () if peer not in (*nodes, node)]
    if peers and "" not in nodes:
        reason = f"lacks {', '.join(peers)}, with which {node} is in a cluster"
        instead = (
            "the hosts of all nodes into the group rabbitmq; or have those that are to go leave the cluster first "
            f"(celeryops.stack.remove_node with -e celeryops_remove_node={peers[0]})"
        )
        problems.append(Problem("member-of-a-cluster", "rabbitmq_nodes", list(nodes) or [node], reason, instead))
    for key, place in (found.get("stores") or {}).items():
        wanted = str(config.get(key) or place["kept"])
        if wanted.rstrip("/") != place["now"].rstrip("/"):
            where = place["now"] or "the directory of the node"
            reason = f"would leave behind the queues that are in {where}"
            instead = place["now"] or "nothing"
            if wanted:
                instead += f", or move them to {wanted} while RabbitMQ is stopped"
            problems.append(
                Problem("leave-behind-the-queues", f"rabbitmq_config.{key}", FilePath(wanted), reason, instead)
            )
    for data in found.get("real") or ():
        if data.startswith(_OUT_OF_REACH):
            reason = f"cannot run with its data in {data}, which its unit's sandbox hides"
            instead = "nothing, and move that directory below /srv or /var/lib, and its setting, or link, with it"
            problems.append(Problem("cannot-run-with-its-data", _NODE_NAME, "", reason, instead))
    return problems


def data_settings(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what rabbitmq-env.conf has to say so that the data stay where they are."""
    return {variable: str(found[key]) for key, variable in PLACES.items() if found.get(key)}


def enabled(named: Sequence[str], found: Mapping[str, Any], *, prune: bool) -> list[str]:
    """Return the plugins that are to be enabled: those that are named, and unless ``prune`` those that are there."""
    return sorted({*named, *(() if prune else found.get("plugins") or ())})
