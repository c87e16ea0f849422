# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""How the hosts of an inventory fit together: who serves, who is served, and by which address.

Roles do not read each other's variables and know no groups. The site playbook knows the groups; what it has to work out
from them is here, pure and without secrets.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import parse_duration

#: A group per duty (the interface of the inventory), and the roles that its hosts get.
ROLES_OF_GROUP: dict[str, tuple[str, ...]] = {
    "rabbitmq": ("rabbitmq",),
    "redis": ("redis",),
    "celery_workers": ("celery_app", "celery_worker"),
    "celery_producers": ("celery_app",),
    "celery_beat": ("celery_app", "celery_beat"),
    "flower": ("celery_app", "flower"),
}
_APP_GROUPS = ("celery_workers", "celery_producers", "celery_beat", "flower")
_CLASS_LEVELS = ("celery_worker_classes", "celery_worker_group_classes", "celery_worker_host_classes")
_LOOPBACK = ("127.", "::1", "localhost")
_ANY = ("0.0.0.0", "::", "*")  # noqa: S104 - addresses that are looked for, not bound
#: server group -> (variable with the addresses it listens on, its default port, variable with the port)
_SERVERS = {
    "rabbitmq": ("rabbitmq_listen_addresses", "rabbitmq_port", 5672),
    "redis": ("redis_bind", "redis_port", 6379),
}

Groups = Mapping[str, Sequence[str]]
HostVars = Mapping[str, Mapping[str, Any]]


def app_hosts(groups: Groups) -> list[str]:
    """Return the hosts that carry the app, each once, in the order of the inventory."""
    return list(dict.fromkeys(host for group in _APP_GROUPS for host in groups.get(group, [])))


def nodes(group: str, groups: Groups, hostvars: HostVars, viewer: str) -> list[dict[str, Any]]:
    """Return how ``viewer`` reaches the servers of ``group``: ``[{"host": ..., "address": ..., "port": ...}]``.

    Arguments:
        group: ``rabbitmq`` or ``redis``.
        groups: group name -> its hosts.
        hostvars: host -> its variables.
        viewer: the host that connects; a server on the same host is reached on loopback where it listens there.
    """
    listen, port_variable, default_port = _SERVERS[group]
    found = []
    for host in groups.get(group, []):
        variables = hostvars[host]
        addresses = _addresses(variables.get(listen))
        own = [address for address in addresses if not _loopback(address) and address not in _ANY]
        if host == viewer:
            everywhere = any(_loopback(address) or address in _ANY for address in addresses)
            address = "127.0.0.1" if everywhere or not own else own[0]
        else:
            address = own[0] if own else str(variables.get("ansible_host") or host)
        # Whether it is a number is told when the server is planned.
        found.append({"host": host, "address": address, "port": variables.get(port_variable) or default_port})
    return found


def _addresses(listen: object) -> list[str]:
    """Return the addresses that a server listens on; Redis lets one begin with "-": no error when it is missing."""
    given = listen if isinstance(listen, (list, tuple)) and listen else ["127.0.0.1"]
    return [str(address).lstrip("-") for address in given]


def management(groups: Groups, hostvars: HostVars, viewer: str) -> dict[str, Any]:
    """Return ``address`` and ``port`` of RabbitMQ's management API as ``viewer`` reaches it; empty when it does not."""
    for node in nodes("rabbitmq", groups, hostvars, viewer)[:1]:
        variables = hostvars[node["host"]]
        address = str(variables.get("rabbitmq_management_listen_address") or "127.0.0.1")
        port = variables.get("rabbitmq_management_port") or 15672
        if node["host"] == viewer:
            return {"address": "127.0.0.1" if address in _ANY else address, "port": port}
        if not _loopback(address):
            return {"address": node["address"] if address in _ANY else address, "port": port}
    return {}


def queues(groups: Groups, hostvars: HostVars) -> list[str]:
    """Return every queue that a worker class on any host names, sorted.

    They end in the shared configuration, which restarts all classes when it changes: the order of the classes must not.
    """
    names: set[str] = set()
    for worker_class in _worker_classes(groups, hostvars):
        declared = worker_class.get("queues")
        if isinstance(declared, (list, tuple)):
            names.update(str(name) for name in declared)
    return sorted(names)


def _worker_classes(groups: Groups, hostvars: HostVars) -> Iterable[Mapping[str, Any]]:
    """Yield what each level says of each class on each host; what is no class at all is told when it is planned."""
    for host in groups.get("celery_workers", []):
        variables = hostvars[host]
        levels = [variables.get(name) for name in _CLASS_LEVELS]
        classes = [entry for level in levels if isinstance(level, Mapping) for entry in level.values()]
        for entry in (*classes, variables.get("celery_worker_defaults")):
            if isinstance(entry, Mapping):
                yield entry


def longest_task(groups: Groups, hostvars: HostVars) -> int:
    """Return how long the longest task may take in seconds, from every variable that says so; at least half an hour.

    A class without a limit has tasks of unknown length; half an hour is RabbitMQ's own guess of what is too long
    (consumer_timeout, RabbitMQ 4.3). A limit that cannot be read is told when its class is planned.
    """
    said = [worker_class.get("time_limit") for worker_class in _worker_classes(groups, hostvars)]
    for host in app_hosts(groups):
        # Set by hand only: its default is what is worked out here.
        said += [_settings(hostvars[host]).get("task_time_limit")]
    return max([1800, *(_seconds(limit) for limit in said)])


def _seconds(value: object) -> int:
    """Return a duration in seconds; 0 for one that is not given, or that cannot be read, which its role tells."""
    with contextlib.suppress(ValueError):
        return parse_duration(value or 0)
    return 0


def _settings(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = variables.get("celery_app_settings")
    return settings if isinstance(settings, Mapping) else {}


def consumer_timeout(groups: Groups, hostvars: HostVars) -> int:
    """Return how long RabbitMQ has to wait for an acknowledgement, in seconds.

    A message waits behind as many others as a process prefetches, then runs itself; delayed tasks wait in the broker
    (Celery 5.7 and RabbitMQ 3.10, measured: a message that is held longer closes the channel, and its task runs again).
    Rounded up to 2, 4, 8, ... hours, because RabbitMQ restarts when it changes.
    """
    prefetched = [worker_class.get("prefetch_multiplier") for worker_class in _worker_classes(groups, hostvars)]
    longest, held = longest_task(groups, hostvars), 0
    for host in app_hosts(groups):
        variables = hostvars[host]
        prefetched.append(_settings(variables).get("worker_prefetch_multiplier"))
        longest = max(longest, _seconds(variables.get("celery_app_longest_task")))
        if variables.get("celery_app_queue_type") == "classic":
            # Nothing delays messages in the broker then, so a worker holds them.
            held = max(held, _seconds(variables.get("celery_app_longest_eta") or "1h"))
    most = max([1, *(int(str(number)) for number in prefetched if str(number).isdigit())])
    needed = (most + 1) * longest + held + 600
    hours = 2
    while hours * 3600 < needed:
        hours *= 2
    return hours * 3600


def stack(groups: Groups, hostvars: HostVars, viewer: str) -> dict[str, Any]:
    """Return what the site playbook needs to join the roles, as seen from the host ``viewer``.

    Returns:
        A dict with ``app`` (its name, or an empty string when no host carries an app), ``broker`` (``rabbitmq`` or
        ``redis``), ``rabbitmq`` and ``redis`` (the nodes, see ``nodes``), ``management``, ``queues``, and, in seconds,
        ``longest_task`` and ``consumer_timeout``.
    """
    hosts = app_hosts(groups)
    return {
        "app": str(hostvars[hosts[0]].get("celery_app_name") or "") if hosts else "",
        "broker": "rabbitmq" if groups.get("rabbitmq") else "redis",
        "rabbitmq": nodes("rabbitmq", groups, hostvars, viewer),
        "management": management(groups, hostvars, viewer),
        "redis": nodes("redis", groups, hostvars, viewer),
        "queues": queues(groups, hostvars),
        "longest_task": longest_task(groups, hostvars),
        "consumer_timeout": consumer_timeout(groups, hostvars),
    }


def problems(groups: Groups, hostvars: HostVars) -> list[Problem]:
    """Return the mistakes that no single host's variables show."""
    found = [
        Problem(group, list(groups[group]), "has more than one host, and clusters are not supported yet", "one host")
        for group in _SERVERS
        if len(groups.get(group, [])) > 1
    ]
    beats = [host for host in groups.get("celery_beat", []) if hostvars[host].get("celery_beat_state") != "absent"]
    if len(beats) > 1:
        found.append(Problem("celery_beat", beats, "would send every due task once per host", "one host"))
    found += [
        Problem("a group of the inventory", name, "is not one that this collection knows", right)
        for right in ROLES_OF_GROUP
        if not groups.get(right)
        for name in groups
        if name not in ROLES_OF_GROUP and difflib.get_close_matches(name, [right], cutoff=0.9)
    ]
    found += _unread(groups, hostvars)
    hosts = app_hosts(groups)
    names = {str(hostvars[host].get("celery_app_name") or "") for host in hosts}
    if len(names) > 1:
        found.append(
            Problem(
                "celery_app_name", sorted(names), "differs between hosts", "one name; another app has a run of its own"
            )
        )
    for group, (listen, _port, _default) in _SERVERS.items():
        for server in groups.get(group, []):
            remote = [host for host in hosts if host != server]
            addresses = _addresses(hostvars[server].get(listen))
            if remote and all(_loopback(entry) for entry in addresses):
                reason = f"on {server} cannot be reached from {', '.join(remote[:3])}{', ...' if remote[3:] else ''}"
                found.append(Problem(listen, list(addresses), reason, f'an address of {server}, or ["0.0.0.0"]'))
    return found


def _unread(groups: Groups, hostvars: HostVars) -> list[Problem]:
    """Return a problem for each queue that tasks are sent to and that no class on any host reads."""
    workers, read = groups.get("celery_workers", []), set[str]()
    for host in workers:
        variables = hostvars[host]
        default = str(variables.get("celery_app_default_queue") or "default")
        merged: dict[str, dict[str, Any]] = {}
        for level in _CLASS_LEVELS:
            given = variables.get(level, {"default": {}} if level == _CLASS_LEVELS[0] else {})
            for name, entry in given.items() if isinstance(given, Mapping) else ():
                merged.setdefault(str(name), {}).update(entry if isinstance(entry, Mapping) else {})
        inherited = variables.get("celery_worker_defaults")
        common = inherited if isinstance(inherited, Mapping) else {}
        for entry in merged.values():
            names = {**common, **entry}.get("queues") or [default]
            if {**common, **entry}.get("state") != "absent" and isinstance(names, (list, tuple)):
                read.update(str(name) for name in names)
    found: list[Problem] = []
    for host in app_hosts(groups) if workers else []:
        variables = hostvars[host]
        declared = variables.get("celery_app_queues")
        named = declared if isinstance(declared, (list, tuple)) else []
        known = read | {str(entry.get("name") if isinstance(entry, Mapping) else entry) for entry in named}
        instead = "a queue that a class reads (" + ", ".join(sorted(read)) + "), or add it to a class"
        default = str(variables.get("celery_app_default_queue") or "default")
        if default not in known:
            reason = "is the queue of every task without a route, and no worker class reads it"
            found.append(Problem("celery_app_default_queue", default, reason, instead))
        routes = variables.get("celery_app_routes")
        for route in routes if isinstance(routes, (list, tuple)) else ():
            queue = route.get("queue") if isinstance(route, Mapping) else None
            if isinstance(queue, str) and queue not in known:
                found.append(Problem("celery_app_routes", queue, "is read by no worker class", instead))
    return found


def broker_url(
    scheme: str, reached: Iterable[Mapping[str, Any]], user: str, password: str, path: str, separator: str = ";"
) -> str:
    """Return the URL of all nodes, separated by ``;`` as kombu's failover wants it (kombu 5.7, Connection).

    Arguments:
        scheme: ``amqp`` or ``redis``.
        reached: the nodes, as ``nodes`` returns them.
        user: account name; percent-encoded here, as are password and path.
        password: its password.
        path: RabbitMQ's virtual host or Redis's database number.
        separator: what stands between the nodes.
    """
    user, password, path = quote(user, safe=""), quote(password, safe=""), quote(str(path), safe="")
    places = (f"{bracketed(str(node['address']))}:{node['port']}" for node in reached)
    return separator.join(f"{scheme}://{user}:{password}@{place}/{path}" for place in places)


def bracketed(address: str) -> str:
    """Return an address as it stands in a URL: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def _loopback(address: object) -> bool:
    return str(address).startswith(_LOOPBACK)
