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
    result_connections,
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
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import (
    QUEUES,
    RESULTS,
    SERVER_GROUPS,
    SERVERS,
    STORES,
    store_of_results,
)

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

    ``servers`` and ``connections`` are by the servers' groups; the latter are those that the hosts may have at a time.
    ``app_of`` and ``machines`` are of the hosts with an app: its name, and one name for their machine. The check adds
    ``look`` (host -> the accounts and groups that its app needs) and ``made_up`` (folder of passwords -> their files).
    ``sentinel`` is by what ``name`` the Sentinels know the servers (``master_name``), and their clients' account;
    ``engines`` is which engine the servers of a group of Redis are.
    """

    apps: dict[str, Surveyed]
    app_of: dict[str, str]
    machines: dict[str, str]
    servers: dict[str, list[Node]]
    consumer_timeout: int
    connections: dict[str, int]
    sentinel: dict[str, str]
    engines: dict[str, str]
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


class Watched(TypedDict):
    """Servers that Sentinels watch, and by what name."""

    name: str
    servers: list[Place]


class View(Surveyed):
    """What one host has to know of the others, and of its own app (an empty name where there is none).

    ``management`` is where the API of the nodes is reached; ``rabbitmq_wanted`` is whether any app asks for RabbitMQ;
    ``rabbitmq_cluster`` are the nodes of the cluster, none where there is only one, and ``cluster_address`` is that of
    the host itself, if it is one of them.

    ``redis`` is where queues are that are in Redis, and ``results`` where results are: the same unless they have servers
    of their own (``separate_results``). ``master_names`` are the names by which Sentinels know the two; empty of one
    server. ``sentinels`` are the Sentinels, and ``watched`` what they watch: none of all that where there is one server.

    What begins with ``redis_`` is of the group of Redis that the host is in: ``redis_nodes`` are the servers that have one
    another's data, ``redis_sentinels`` the Sentinels that watch them under the name ``redis_master_name``,
    ``redis_engine`` is what they are, and ``redis_purpose`` what Celery uses them for. ``redis_address`` and
    ``sentinel_address`` are what the others are told of the host itself.
    """

    app: str
    apps: list[dict[str, str]]
    rabbitmq: list[Reached]
    redis: list[Reached]
    results: list[Reached]
    separate_results: bool
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
    redis_purpose: str
    redis_address: str
    redis_sentinels: list[Place]
    redis_master_name: str
    sentinels: list[Place]
    watched: list[Watched]
    master_names: dict[str, str]
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
        "servers": {group: _nodes(group, groups.get(group, []), given, facts) for group in SERVER_GROUPS},
        "consumer_timeout": max([SHORTEST_CONSUMER_TIMEOUT, *map(consumer_timeout, apps.values())]),
        "connections": {
            "rabbitmq": sum(map(rabbitmq_connections, apps.values())),
            QUEUES: sum(map(redis_connections, apps.values())),
            RESULTS: sum(map(result_connections, apps.values())),
        },
        "sentinel": {
            "name": _first(groups, "sentinel", "sentinel_master_name", given),
            "user": _first(groups, "sentinel", "sentinel_client_user", given),
        },
        "engines": {group: _first(groups, group, "redis_implementation", given) for group in STORES},
    }


def master_name(store: str, name: str) -> str:
    """Return by what name the Sentinels know the servers of a group of Redis.

    Arguments:
        store: the group.
        name: ``sentinel_master_name``, which is that of the first one.
    """
    return name if store == QUEUES else f"{name}-{store.rpartition('_')[2]}"


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
    role = SERVER_GROUPS[group].name
    if role in ANNOUNCED and (role == "sentinel" or len(nodes) > 1):
        for node in nodes:
            node["announces"] = _announced(role, node, given)
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


def _announced(role: str, node: Node, given: Given) -> str:
    """Return the IP address of a server that the other hosts are told."""
    host = node["host"]
    listens = node["listen"]
    if role == "sentinel" and given(host, "sentinel_bind", None) is None:
        listens = listen_addresses(given(host, "redis_bind", None))
    said = str(given(host, ANNOUNCED[role], None) or "")
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
    listens, *further = SERVER_GROUPS[group].listens
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
    "results": _listen("redis", 0),
    "separate_results": (),
    "sentinel_user": ("sentinel_client_user",),
    "management": _listen("rabbitmq", 1),
    "rabbitmq_wanted": ("celery_app_broker",),
    "rabbitmq_cluster": (CLUSTER_ADDRESS, "rabbitmq_node_name", *_listen("rabbitmq", 0)),
    "cluster_address": (CLUSTER_ADDRESS, *_listen("rabbitmq", 0)),
    "redis_nodes": (ANNOUNCED["redis"], *_listen("redis", 0)),
    "redis_engine": ("redis_implementation",),
    "redis_purpose": ("celery_app_broker",),
    "redis_address": (ANNOUNCED["redis"], *_listen("redis", 0)),
    "redis_sentinels": (ANNOUNCED["sentinel"], *_listen("sentinel", 0), "redis_bind"),
    "redis_master_name": ("sentinel_master_name",),
    "sentinels": (ANNOUNCED["sentinel"], *_listen("sentinel", 0), "redis_bind"),
    "watched": ("sentinel_master_name", ANNOUNCED["redis"], *_listen("redis", 0)),
    "master_names": ("sentinel_master_name",),
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
    rabbitmq, results = found["servers"]["rabbitmq"], store_of_results(found["servers"])
    stores = {group: found["servers"][group] for group in STORES}
    own = next((group for group, nodes in stores.items() if any(node["host"] == host for node in nodes)), QUEUES)
    # With one server there is nothing to watch.
    watched = {group: nodes for group, nodes in stores.items() if len(nodes) > 1}
    sentinels = _places(found["servers"]["sentinel"]) if watched else []
    names = {group: master_name(group, found["sentinel"]["name"]) if group in watched else "" for group in STORES}
    place = (host, found["machines"].get(host, ""))
    return {
        "app": name,
        **found["apps"].get(name, _NO_APP),
        "apps": apps,
        "rabbitmq": [_reached(node, place) for node in rabbitmq],
        "redis": [_reached(node, place) for node in stores[QUEUES]],
        "results": [_reached(node, place) for node in stores[results]],
        "separate_results": results == RESULTS,
        "sentinel_user": found["sentinel"]["user"] if sentinels else "",
        "management": [reached for node in rabbitmq if (reached := _management(node, place))],
        "consumer_timeout": found["consumer_timeout"],
        "rabbitmq_connections": found["connections"]["rabbitmq"],
        "redis_connections": found["connections"][own],
        "rabbitmq_wanted": not apps or any(app["broker"] == "rabbitmq" for app in apps),
        "rabbitmq_cluster": [node["member"] for node in rabbitmq if "member" in node],
        "cluster_address": next(
            (node["member"]["address"] for node in rabbitmq if node["host"] == host and "member" in node), ""
        ),
        "redis_nodes": _places(stores[own]),
        "redis_engine": found["engines"][own],
        "redis_purpose": _purpose(own, results, apps),
        "redis_address": _own_address(stores[own], host),
        "redis_sentinels": sentinels if own in watched else [],
        "redis_master_name": names[own],
        "sentinels": sentinels,
        "watched": [{"name": names[group], "servers": _places(nodes)} for group, nodes in watched.items()],
        "master_names": {"broker": names[QUEUES], "results": names[results]},
        "sentinel_address": _own_address(found["servers"]["sentinel"], host),
    }


def _purpose(store: str, results: str, apps: Sequence[Mapping[str, str]]) -> str:
    """Return what Celery uses the servers of a group of Redis for, in the words of ``redis_purpose``.

    Arguments:
        store: the group.
        results: the group that keeps the results.
        apps: ``broker`` of each app.
    """
    if store != results:
        return "broker"
    return "both" if store == QUEUES and any(app["broker"] == "redis" for app in apps) else "results"


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
