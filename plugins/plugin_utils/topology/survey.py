# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers and apps of an inventory as plain data for a fact, and the view of one host."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.newer_features import Need, worker_options
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import default_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.rabbitmq import choose_node
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology import derived
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import (
    SHORTEST_CONSUMER_TIMEOUT,
    UNKNOWN_TASK,
    consumer_timeout,
    longest_task,
    prefetch_multiplier,
    queues,
    rabbitmq_connections,
    redis_connections,
    visibility_timeout,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import (
    ANY,
    Given,
    Groups,
    listen_addresses,
    loopback,
    machine,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.members import (
    Members,
    app_hosts,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The variable with the address on which RabbitMQ's nodes reach each other.
CLUSTER_ADDRESS = "rabbitmq_cluster_listen_address"
#: The variables with the address that the others are told of a server with replicas, and of a Sentinel.
ANNOUNCED = {"redis": "redis_announce_ip", "sentinel": "sentinel_announce_ip"}


class Management(TypedDict):
    """Where RabbitMQ's management API listens."""

    listen: str
    port: Any


class ClusterMember(TypedDict):
    """What the other nodes of a RabbitMQ cluster know of one.

    ``name`` is empty while neither its host nor the others have been looked at; ``address`` is that of its
    distribution, an IPv4 address, or empty where its name has to be resolved.
    """

    host: str
    name: str
    address: str


class Node(TypedDict):
    """A server of the inventory: its host, one name for its machine, how others reach that, and where it listens.

    Whether its port is a number is told when the server is planned. ``announces`` is the IP address that the others are
    told of a server with replicas, or of a Sentinel; empty where none is known.
    """

    host: str
    machine: str
    reached_as: str
    listen: list[str]
    port: Any
    management: NotRequired[Management]
    member: NotRequired[ClusterMember]
    announces: NotRequired[str]


class Surveyed(TypedDict):
    """What is known of an app: the queues that its classes name, sorted; times in seconds, an empty one for none.

    The options of workers are those that not every Celery has.
    """

    broker: str
    key_prefix: str
    dead_letter_queue: str
    queue_type: str
    queues: list[str]
    longest_task: int
    visibility_timeout: int | str
    prefetch_multiplier: int
    worker_options: list[Need]


class Survey(TypedDict):
    """What the site playbook needs to join the roles, for all hosts: plain data, as it travels as a fact.

    ``connections`` are those that the hosts may have to the servers of a kind at a time.
    ``app_of`` and ``machines`` are of the hosts with an app: its name, and one name for their machine. The check adds
    ``look`` (host -> the accounts and groups that its app needs) and ``made_up`` (folder of passwords -> their files).
    ``sentinel`` is by what name the Sentinels know the servers, which engine these are, and their clients' account.
    """

    apps: dict[str, Surveyed]
    app_of: dict[str, str]
    machines: dict[str, str]
    servers: dict[str, list[Node]]
    consumer_timeout: int
    connections: dict[str, int]
    sentinel: dict[str, str]
    look: NotRequired[dict[str, dict[str, list[str]]]]
    made_up: NotRequired[dict[str, list[str]]]


class Reached(TypedDict, total=False):
    """A server as a host reaches it."""

    host: str
    address: str
    port: Any


class Place(TypedDict):
    """Where the other hosts find a server with replicas, or a Sentinel: ``host`` is an IP address."""

    host: str
    port: Any


class View(Surveyed):
    """What one host has to know of the others, and of its own app (an empty name where there is none).

    ``management`` is where the API of the nodes is reached; ``rabbitmq_wanted`` is whether any app asks for RabbitMQ;
    ``rabbitmq_cluster`` are the nodes of the cluster, none where there is only one, and ``cluster_address`` is that of
    the host itself, if it is one of them.

    ``redis_nodes`` are the Redis servers that have one another's data, and ``sentinels`` the Sentinels that watch them
    under the name ``sentinel_master_name``: none of all that where there is one server. ``redis_engine`` is what these
    servers are; ``redis_address`` and ``sentinel_address`` are what the others are told of the host itself.
    """

    app: str
    apps: list[dict[str, str]]
    rabbitmq: list[Reached]
    redis: list[Reached]
    sentinel_user: str
    management: list[Reached]
    consumer_timeout: int
    rabbitmq_connections: int
    redis_connections: int
    rabbitmq_wanted: bool
    rabbitmq_cluster: list[ClusterMember]
    cluster_address: str
    redis_nodes: list[Place]
    redis_engine: str
    redis_address: str
    sentinels: list[Place]
    sentinel_master_name: str
    sentinel_address: str


def survey(
    apps: Mapping[str, Members],
    groups: Groups,
    given: Given,
    facts: Callable[[str], Mapping[str, Any]] = lambda _host: {},
) -> Survey:
    """Return how the hosts fit together.

    Values that cannot be read are passed over: the role whose variable it is tells of them.

    Arguments:
        apps: the apps of the inventory (``members``).
        groups: group name -> its hosts.
        given: returns a variable of a host.
        facts: returns what is known of the machine of a host; empty before it was looked at.
    """
    app_of = {host: app.name for app in apps.values() for host in app.hosts}
    app_of = {host: app_of[host] for host in app_hosts(groups)}
    return {
        "apps": {
            name: {
                "broker": app.broker,
                "queues": queues(app),
                "longest_task": longest_task(app),
                "visibility_timeout": visibility_timeout(app),
                "prefetch_multiplier": prefetch_multiplier(app),
                "key_prefix": app.first("celery_app_key_prefix").replace("{{ celery_app_name }}", name),
                "dead_letter_queue": app.first("celery_app_dead_letter_queue"),
                "queue_type": "classic" if app.first("celery_app_queue_type") == "classic" else "quorum",
                "worker_options": worker_options(app.all_classes),
            }
            for name, app in apps.items()
        },
        "app_of": app_of,
        "machines": {host: machine(host, given) for host in app_of},
        "servers": {group: _nodes(group, groups.get(group, []), given, facts) for group in SERVERS},
        "consumer_timeout": max([SHORTEST_CONSUMER_TIMEOUT, *map(consumer_timeout, apps.values())]),
        "connections": {
            "rabbitmq": sum(map(rabbitmq_connections, apps.values())),
            "redis": sum(map(redis_connections, apps.values())),
        },
        "sentinel": {
            "name": _first(groups, "sentinel", "sentinel_master_name", given),
            "user": _first(groups, "sentinel", "sentinel_client_user", given),
            "engine": _first(groups, "redis", "redis_implementation", given),
        },
    }


def _first(groups: Groups, group: str, variable: str, given: Given) -> str:
    """Return what a variable that is the same on all hosts of a group means on the first of them."""
    default = default_of(variable)
    return str(next((given(host, variable, None) for host in groups.get(group, ())), None) or default)


def _nodes(group: str, hosts: Sequence[str], given: Given, facts: Callable[[str], Mapping[str, Any]]) -> list[Node]:
    nodes = [_node(group, host, given) for host in hosts]
    if group == "rabbitmq" and len(nodes) > 1:
        for node in nodes:
            node["member"] = _member(node, given, facts(node["host"]))
        _name_by_the_others(nodes, [facts(host).get("celeryops_rabbitmq") or {} for host in hosts])
    if group in ANNOUNCED and (group == "sentinel" or len(nodes) > 1):
        for node in nodes:
            node["announces"] = _announced(group, node, given)
    return nodes


def _name_by_the_others(nodes: Sequence[Node], found: Sequence[Mapping[str, Any]]) -> None:
    """Name the nodes whose hosts cannot be looked at as the others of their cluster know them, where that is certain.

    Arguments:
        nodes: of the cluster.
        found: what each of their hosts holds (``rabbitmq_found.found``).
    """
    nameless = [node for node in nodes if not node["member"]["name"]]
    taken = {node["member"]["name"] for node in nodes}
    known: set[str] = set()
    for node, one in zip(nodes, found, strict=True):
        name = node["member"]["name"]
        if name in one.get("nodes", ()):
            known.update((one.get("peers") or {}).get(name) or one.get("configured") or ())
    left = sorted(known - taken)
    for node in nameless:
        alike = [name for name in left if name.partition("@")[2].partition(".")[0] == node["host"].partition(".")[0]]
        if alike or len(nameless) == len(left) == 1:
            node["member"]["name"] = (alike or left)[0]


def _announced(group: str, node: Node, given: Given) -> str:
    """Return the IP address of a server that the other hosts are told."""
    host = node["host"]
    listens = node["listen"]
    if group == "sentinel" and given(host, "sentinel_bind", None) is None:
        listens = listen_addresses(given(host, "redis_bind", None))
    said = str(given(host, ANNOUNCED[group], None) or "")
    return next(filter(is_reachable, (said, *listens, node["reached_as"])), "")


def is_reachable(address: str) -> bool:
    """Whether an address is an IP address by which other hosts can reach a server."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not parsed.is_loopback and not parsed.is_unspecified


def _member(node: Node, given: Given, facts: Mapping[str, Any]) -> ClusterMember:
    """Return what the other nodes of its cluster know of a node of RabbitMQ."""
    said = str(given(node["host"], "rabbitmq_node_name", None) or "")
    default = f"rabbit@{facts['hostname']}" if facts.get("hostname") else ""
    abandoned = given(node["host"], "rabbitmq_abandoned_nodes", None) or []
    name, _problems = choose_node(said, default, facts.get("celeryops_rabbitmq") or {}, abandoned)
    listens = str(given(node["host"], CLUSTER_ADDRESS, None) or "")
    own = [address for address in (listens, *node["listen"], node["reached_as"]) if _is_own(address)]
    return {"host": node["host"], "name": name, "address": own[0] if own else ""}


def _is_own(address: str) -> bool:
    """Whether an address is one by which the other hosts of a cluster reach a node."""
    try:
        return not loopback(address) and ipaddress.IPv4Address(address).packed != bytes(4)
    except ValueError:
        return False


def _node(group: str, host: str, given: Given) -> Node:
    listens, *further = SERVERS[group].listens
    node: Node = {
        "host": host,
        "machine": machine(host, given),
        "reached_as": str(given(host, "ansible_host", None) or host),
        "listen": listen_addresses(given(host, listens.address, default_of(listens.address))),
        "port": given(host, listens.port, None) or default_of(listens.port),
    }
    for management in further:
        node["management"] = {
            "listen": str(given(host, management.address, None) or default_of(management.address)),
            "port": given(host, management.port, None) or default_of(management.port),
        }
    return node


def _listen(group: str, number: int) -> tuple[str, ...]:
    """Return the variables of an address and a port of a server."""
    listens = SERVERS[group].listens[number]
    return (listens.port, listens.address)


#: Key of what a host sees (``view``) -> the variables, down to the key, that it follows from.
SOURCES: dict[str, tuple[str, ...]] = {
    **derived.SOURCES,
    "app": ("celery_app_name",),
    # What a server is there for is held against the accounts of the apps.
    "apps": (
        "celery_app_name",
        "celery_app_broker",
        "celery_app_key_prefix",
        "celery_app_dead_letter_queue",
        "redis_purpose",
    ),
    "broker": ("celery_app_broker",),
    "rabbitmq": _listen("rabbitmq", 0),
    "redis": _listen("redis", 0),
    "sentinel_user": ("sentinel_client_user",),
    "management": _listen("rabbitmq", 1),
    "rabbitmq_wanted": ("celery_app_broker",),
    "rabbitmq_cluster": (CLUSTER_ADDRESS, "rabbitmq_node_name", *_listen("rabbitmq", 0)),
    "cluster_address": (CLUSTER_ADDRESS, *_listen("rabbitmq", 0)),
    "redis_nodes": (ANNOUNCED["redis"], *_listen("redis", 0)),
    "redis_engine": ("redis_implementation",),
    "redis_address": (ANNOUNCED["redis"], *_listen("redis", 0)),
    "sentinels": (ANNOUNCED["sentinel"], *_listen("sentinel", 0), "redis_bind"),
    "sentinel_master_name": ("sentinel_master_name",),
    "sentinel_address": (ANNOUNCED["sentinel"], *_listen("sentinel", 0), "redis_bind"),
    "worker_options": (),
}
_NO_APP: Surveyed = {
    "broker": "redis",
    "key_prefix": "",
    "dead_letter_queue": "",
    "queue_type": "quorum",
    "queues": [],
    "longest_task": UNKNOWN_TASK,
    "visibility_timeout": "",
    "prefetch_multiplier": 1,
    "worker_options": [],
}


def view(found: Survey, host: str) -> View:
    """Return what ``host`` has to know of the others.

    Arguments:
        found: what ``survey`` returned.
        host: the host that looks.
    """
    apps = [
        {
            "name": name,
            "broker": app["broker"],
            "key_prefix": app["key_prefix"],
            "dead_letter_queue": app["dead_letter_queue"],
            "queue_type": app["queue_type"],
        }
        for name, app in found["apps"].items()
        if name
    ]
    name = found["app_of"].get(host) or next((app["name"] for app in apps), "")
    rabbitmq, redis = found["servers"]["rabbitmq"], found["servers"]["redis"]
    # With one server there is nothing to watch.
    sentinels = found["servers"]["sentinel"] if len(redis) > 1 else []
    place = (host, found["machines"].get(host, ""))
    return {
        "app": name,
        **found["apps"].get(name, _NO_APP),
        "apps": apps,
        "rabbitmq": [_reached(node, place) for node in rabbitmq],
        "redis": [_reached(node, place) for node in redis],
        "sentinel_user": found["sentinel"]["user"] if sentinels else "",
        "management": [reached for node in rabbitmq if (reached := _management(node, place))],
        "consumer_timeout": found["consumer_timeout"],
        "rabbitmq_connections": found["connections"]["rabbitmq"],
        "redis_connections": found["connections"]["redis"],
        "rabbitmq_wanted": not apps or any(app["broker"] == "rabbitmq" for app in apps),
        "rabbitmq_cluster": [node["member"] for node in rabbitmq if "member" in node],
        "cluster_address": next(
            (node["member"]["address"] for node in rabbitmq if node["host"] == host and "member" in node), ""
        ),
        "redis_nodes": _places(redis),
        "redis_engine": found["sentinel"]["engine"],
        "redis_address": _own_address(redis, host),
        "sentinels": _places(sentinels),
        "sentinel_master_name": found["sentinel"]["name"] if sentinels else "",
        "sentinel_address": _own_address(found["servers"]["sentinel"], host),
    }


def _places(nodes: Sequence[Node]) -> list[Place]:
    """Return where those of some servers are that announce themselves."""
    return [{"host": node["announces"], "port": node["port"]} for node in nodes if "announces" in node]


def _own_address(nodes: Sequence[Node], host: str) -> str:
    return next((node["announces"] for node in nodes if node["host"] == host and "announces" in node), "")


def _reached(node: Node, viewer: tuple[str, str]) -> Reached:
    """Return how ``viewer`` (name and machine) reaches a server; on its own machine on loopback, where that listens.

    One machine may stand in the inventory under several names, one for each of its apps.
    """
    own = [address for address in node["listen"] if not loopback(address) and address not in ANY]
    if _same_machine(node, viewer):
        everywhere = any(loopback(address) or address in ANY for address in node["listen"])
        address = "127.0.0.1" if everywhere or not own else own[0]
    else:
        address = own[0] if own else node["reached_as"]
    return {"host": node["host"], "address": address, "port": node["port"]}


def _same_machine(node: Node, viewer: tuple[str, str]) -> bool:
    return bool(node["host"] == viewer[0] or node["machine"] == viewer[1])


def _management(node: Node, viewer: tuple[str, str]) -> Reached:
    address, port = node["management"]["listen"], node["management"]["port"]
    if _same_machine(node, viewer):
        return {"address": "127.0.0.1" if address in ANY else address, "port": port}
    if loopback(address):
        return {}
    return {"address": _reached(node, viewer)["address"] if address in ANY else address, "port": port}
