# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers and apps of an inventory as plain data for a fact, and the view of one host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.newer_features import worker_options
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import default_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology import derived
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import (
    UNKNOWN_TASK,
    consumer_timeout,
    longest_task,
    prefetch_multiplier,
    queues,
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
    from collections.abc import Mapping, Sequence


def survey(apps: Mapping[str, Members], groups: Groups, given: Given) -> dict[str, Any]:
    """Return what the site playbook needs to join the roles, for all hosts; plain data, as it travels as a fact.

    Values that cannot be read are passed over: the role whose variable it is tells of them.

    Arguments:
        apps: the apps of the inventory (``members``).
        groups: group name -> its hosts.
        given: returns a variable of a host.

    Returns:
        A dict with ``apps`` (name -> ``broker``: ``rabbitmq`` or ``redis``; ``queues``: every queue that a class of it
        names, sorted; ``longest_task`` in seconds; ``visibility_timeout`` in seconds, or empty;
        ``prefetch_multiplier``; ``key_prefix`` in Redis; ``dead_letter_queue``; ``queue_type`` in RabbitMQ;
        ``worker_options`` that not every Celery has), ``app_of`` (host -> name of its app), ``machines`` (of these
        hosts), ``servers`` (group -> the nodes and how they listen) and ``consumer_timeout`` in seconds.
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
        "servers": {group: [_server(group, host, given) for host in groups.get(group, [])] for group in SERVERS},
        "consumer_timeout": max([7200, *map(consumer_timeout, apps.values())]),
    }


def _server(group: str, host: str, given: Given) -> dict[str, Any]:
    listens = SERVERS[group].listens[0]
    server = {
        "host": host,
        "listen": listen_addresses(given(host, listens.address, default_of(listens.address))),
        "reached_as": str(given(host, "ansible_host", None) or host),
        "machine": machine(host, given),
        # Whether it is a number is told when the server is planned.
        "port": given(host, listens.port, None) or default_of(listens.port),
    }
    if group == "rabbitmq":
        management = SERVERS[group].listens[1]
        server["management"] = {
            "listen": str(given(host, management.address, None) or default_of(management.address)),
            "port": given(host, management.port, None) or default_of(management.port),
        }
    return server


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
    "management": _listen("rabbitmq", 1),
    "rabbitmq_wanted": ("celery_app_broker",),
    "worker_options": (),
}


def view(found: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return what ``host`` has to know of the others.

    Arguments:
        found: what ``survey`` returned.
        host: the host that looks.

    Returns:
        A dict with ``app`` (an empty string where there is none), ``broker``, ``queues``, ``longest_task`` (seconds),
        ``visibility_timeout``, ``prefetch_multiplier`` and ``worker_options`` of that app; ``apps``, a list of all apps
        with what the servers have to know of them; ``rabbitmq`` and ``redis``, the nodes as this host reaches them
        (``host``, ``address``, ``port``); ``management``, ``address`` and ``port`` of RabbitMQ's management API, empty
        where it cannot be reached; ``consumer_timeout`` (seconds); and ``rabbitmq_wanted``: whether any app asks for
        that server.
    """
    apps = [
        {"name": name, **{key: app[key] for key in ("broker", "key_prefix", "dead_letter_queue", "queue_type")}}
        for name, app in found["apps"].items()
        if name
    ]
    name = found["app_of"].get(host) or next((app["name"] for app in apps), "")
    own = found["apps"].get(name) or {
        "broker": "redis",
        "queues": [],
        "longest_task": UNKNOWN_TASK,
        "visibility_timeout": "",
        "prefetch_multiplier": 1,
        "worker_options": [],
    }
    servers, place = found["servers"], (host, found["machines"].get(host, ""))
    return {
        "app": name,
        **own,
        "apps": apps,
        "rabbitmq": [_reached(server, place) for server in servers["rabbitmq"]],
        "redis": [_reached(server, place) for server in servers["redis"]],
        "management": _management(servers["rabbitmq"][:1], place),
        "consumer_timeout": found["consumer_timeout"],
        "rabbitmq_wanted": not apps or any(app["broker"] == "rabbitmq" for app in apps),
    }


def _reached(server: Mapping[str, Any], viewer: tuple[str, str]) -> dict[str, Any]:
    """Return how ``viewer`` (name and machine) reaches a server; on its own machine on loopback, where that listens.

    One machine may stand in the inventory under several names, one for each of its apps.
    """
    own = [address for address in server["listen"] if not loopback(address) and address not in ANY]
    if _same_machine(server, viewer):
        everywhere = any(loopback(address) or address in ANY for address in server["listen"])
        address = "127.0.0.1" if everywhere or not own else own[0]
    else:
        address = own[0] if own else server["reached_as"]
    return {"host": server["host"], "address": address, "port": server["port"]}


def _same_machine(server: Mapping[str, Any], viewer: tuple[str, str]) -> bool:
    return bool(server["host"] == viewer[0] or server["machine"] == viewer[1])


def _management(servers: Sequence[Mapping[str, Any]], viewer: tuple[str, str]) -> dict[str, Any]:
    for server in servers:
        address, port = server["management"]["listen"], server["management"]["port"]
        if _same_machine(server, viewer):
            return {"address": "127.0.0.1" if address in ANY else address, "port": port}
        if not loopback(address):
            return {"address": _reached(server, viewer)["address"] if address in ANY else address, "port": port}
    return {}
