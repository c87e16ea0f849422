# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node: its name, what its processes listen on beside rabbitmq.conf, its plugins and its environment."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_variables import CONFIG_DIR, Variables
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.rabbitmq import (
    choose_node,
    data_settings,
    enabled,
    place_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import (
    MOST_FILES,
    enough_files,
    needed_files,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_generations import stays_apart

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Distribution listens there whatever the AMQP port is (RABBITMQ_DIST_PORT's default).
DISTRIBUTION_PORT = 25672
EPMD_PORT = 4369
MANAGEMENT = "rabbitmq_management"
#: More ports than this have to be allowed to the Erlang runtime as well (RabbitMQ's scripts set 65536).
ERLANG_PORTS = 65536
_NODE_NAME = re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9._-]+")
_NUMBER = re.compile(r"[0-9]{1,9}")
_PLUGIN = re.compile(r"[a-z][a-z0-9_]*")


def node_of(given: Variables) -> dict[str, Any]:
    default = f"rabbit@{given.facts.get('hostname', 'localhost')}"
    name, problems = choose_node(given.values["node_name"], default, given.found, given.values["abandoned_nodes"])
    given.problems += problems + place_problems(given.found, name, given.values["config"], given.values["nodes"])
    if not _NODE_NAME.fullmatch(name):
        reason = "is not the name of an Erlang node"
        given.problem("not-the-name", "node_name", name, reason, "a name such as rabbit@mq1")
        name = "rabbit@localhost"
    host = name.partition("@")[2]
    _nodes_problems(given, name)
    return {"name": name, "host": host, "long": "." in host}


def cluster_of(given: Variables) -> list[str]:
    """Return the names of the nodes of the cluster; nothing when the node is the only one."""
    nodes = list(given.values["nodes"])
    return nodes if len(nodes) > 1 else []


def watched_partitions(given: Variables) -> bool:
    """Return whether a node of this cluster may stay apart from the others until somebody restarts it."""
    return bool(cluster_of(given)) and stays_apart(given.series())


def _nodes_problems(given: Variables, name: str) -> None:
    nodes = given.values["nodes"] or [name]
    if len(set(nodes)) != len(nodes) and all(nodes):
        reason = "names a node twice"
        given.problem("names-a-node-twice", "nodes", nodes, reason, "each node once, or another rabbitmq_node_name")
    if not given.facts:
        return
    if not all(nodes):
        reason = "lacks the names of nodes whose hosts were not looked at"
        instead = "nothing, and run this for all hosts of the group rabbitmq at once; or the names of all nodes"
        given.problem("nodes-not-known", "nodes", nodes, reason, instead)
    elif name not in nodes:
        reason = f"does not name this node, {name}"
        given.problem("does-not-name-this-node", "nodes", nodes, reason, f"{name} as well, or leave it out")


def peer_hosts(given: Variables) -> list[dict[str, str]]:
    """Return the hosts of a cluster whose names are resolved by RabbitMQ itself, as its ``erl_inetrc`` has them.

    A host's own name is among them: Debian's installer lets it lead to 127.0.1.1.
    """
    hosts = []
    for node, text in given.values["node_addresses"].items() if cluster_of(given) else ():
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            instead = "an address such as 10.0.0.5"
            given.problem("not-an-ipv4-address", f"node_addresses.{node}", text, "is not an IPv4 address", instead)
            continue
        # Before all hosts have been looked at, a name is missing.
        if "@" in node:
            octets = ", ".join(map(str, address.packed))
            hosts.append({"name": node.partition("@")[2], "octets": octets})
    return hosts


def plugins_of(given: Variables) -> list[str]:
    plugins = given.values["plugins"]
    for plugin in plugins:
        if not _PLUGIN.fullmatch(plugin):
            reason = "is not the name of a plugin"
            given.problem("not-the-name", "plugins", plugin, reason, "a name such as rabbitmq_prometheus")
    if MANAGEMENT not in plugins:
        reason = f"lacks {MANAGEMENT}, through which objects are compared"
        given.problem("management-plugin-missing", "plugins", plugins, reason, f"{MANAGEMENT} as well")
    return enabled(plugins, given.found, prune=bool(given.values["prune_plugins"]))


def _distribution_value(given: Variables) -> ipaddress.IPv4Address:
    value = given.values["cluster_listen_address"]
    try:
        return ipaddress.IPv4Address(value)
    except ValueError:
        return ipaddress.IPv4Address("127.0.0.1")


def distribution_is_local(given: Variables) -> bool:
    return _distribution_value(given).is_loopback


def epmd_listen(given: Variables) -> list[str]:
    address = _distribution_value(given)
    if address.is_unspecified:
        return [str(EPMD_PORT)]
    return list(dict.fromkeys([f"127.0.0.1:{EPMD_PORT}", f"{address}:{EPMD_PORT}"]))


def environment_of(given: Variables, node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what rabbitmq-env.conf, a piece of shell, sets; every value is safe inside double quotes."""
    value = given.values["cluster_listen_address"]
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        reason = "is not an IPv4 address"
        given.problem("not-an-ipv4-address", "cluster_listen_address", value, reason, "an address such as 127.0.0.1")
        address = ipaddress.IPv4Address("127.0.0.1")
    if address.is_loopback and cluster_of(given):
        reason = "is where the other nodes of the cluster would have to reach this one"
        instead = "an IPv4 address of this host, or one in rabbitmq_listen_addresses"
        given.problem("cluster-on-loopback", "cluster_listen_address", value, reason, instead)
    settings: list[dict[str, Any]] = [{"name": "NODENAME", "value": node["name"], "export": False}]
    if node["long"]:
        settings.append({"name": "USE_LONGNAME", "value": "true", "export": False})
    settings += [{"name": name, "value": place, "export": False} for name, place in data_settings(given.found).items()]
    if not address.is_unspecified:
        interface = "-kernel inet_dist_use_interface {" + ",".join(str(address).split(".")) + "}"
        settings += [
            {"name": "ERL_EPMD_ADDRESS", "value": str(address), "export": True},
            {"name": "SERVER_ADDITIONAL_ERL_ARGS", "value": interface, "export": False},
            {"name": "CTL_ERL_ARGS", "value": interface, "export": False},
        ]
    if address.is_loopback or peer_hosts(given):
        settings.append({"name": "ERL_INETRC", "value": f"{CONFIG_DIR}/erl_inetrc", "export": True})
    if open_files(given) > ERLANG_PORTS:
        settings.append({"name": "ERL_MAX_PORTS", "value": str(open_files(given)), "export": True})
    return settings


def open_files(given: Variables) -> int:
    """Return the limit of open files: what is written, or enough for the clients, as far as these are known."""
    return int(given.values["open_files"]) or enough_files(connections(given))


def open_files_problems(given: Variables) -> None:
    text = str(given.values["connections"])
    if not _NUMBER.fullmatch(text):
        given.problem(
            "not-a-number", "connections", text, "is not a whole number", "a number such as 500, or leave it out"
        )
    files, needed = open_files(given), needed_files(connections(given))
    if not 1024 <= files <= MOST_FILES:
        given.problem("out-of-range", "open_files", files, "is out of range", "a number from 1024 to 1048576")
    elif files < needed:
        reason = f"is too low for {connections(given)} connections"
        given.problem("too-few-for-clients", "open_files", files, reason, f"{needed} or more, or leave it out")


def connections(given: Variables) -> int:
    """Return how many connections clients may have; 0 where that is not known."""
    text = str(given.values["connections"])
    return int(text) if _NUMBER.fullmatch(text) else 0
