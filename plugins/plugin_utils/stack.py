# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""How the hosts of an inventory fit together: who serves, who is served, and by which address.

Roles do not read each other's variables and know no groups. The site playbook knows the groups; what it has to work out
from them is here, pure and without secrets.
"""

from __future__ import annotations

import contextlib
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
        viewer: the host that connects; a server on the same host is reached on loopback.
    """
    _listen, port_variable, default_port = _SERVERS[group]
    found = []
    for host in groups.get(group, []):
        variables = hostvars[host]
        address = "127.0.0.1" if host == viewer else str(variables.get("ansible_host") or host)
        # Whether it is a number is told when the server is planned.
        found.append({"host": host, "address": address, "port": variables.get(port_variable) or default_port})
    return found


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
    """Return the largest time limit of all worker classes in seconds, and at least half an hour.

    A class without a limit has tasks of unknown length; half an hour is RabbitMQ's own guess of what is too long
    (consumer_timeout, RabbitMQ 4.3). A limit that cannot be read is told when its class is planned.
    """
    longest = 1800
    for worker_class in _worker_classes(groups, hostvars):
        with contextlib.suppress(ValueError):
            longest = max(longest, parse_duration(worker_class.get("time_limit") or 0))
    return longest


def consumer_timeout(groups: Groups, hostvars: HostVars) -> int:
    """Return how long RabbitMQ has to wait for an acknowledgement, in seconds.

    A message waits behind as many others as a process prefetches, then runs itself; delayed tasks wait in the broker
    (Celery 5.7 and RabbitMQ 3.10, measured: a message that is held longer closes the channel, and its task runs again).
    Rounded up to 2, 4, 8, ... hours, because RabbitMQ restarts when it changes.
    """
    prefetched = 1
    for worker_class in _worker_classes(groups, hostvars):
        wanted = worker_class.get("prefetch_multiplier")
        prefetched = max(prefetched, wanted if isinstance(wanted, int) else 1)
    needed = (prefetched + 1) * longest_task(groups, hostvars) + 600
    hours = 2
    while hours * 3600 < needed:
        hours *= 2
    return hours * 3600


def stack(groups: Groups, hostvars: HostVars, viewer: str) -> dict[str, Any]:
    """Return what the site playbook needs to join the roles, as seen from the host ``viewer``.

    Returns:
        A dict with ``app`` (its name, or an empty string when no host carries an app), ``broker`` (``rabbitmq`` or
        ``redis``), ``rabbitmq`` and ``redis`` (the nodes, see ``nodes``), ``queues``, and ``longest_task`` and
        ``consumer_timeout`` in seconds.
    """
    hosts = app_hosts(groups)
    return {
        "app": str(hostvars[hosts[0]].get("celery_app_name") or "") if hosts else "",
        "broker": "rabbitmq" if groups.get("rabbitmq") else "redis",
        "rabbitmq": nodes("rabbitmq", groups, hostvars, viewer),
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
    if len(groups.get("celery_beat", [])) > 1:
        found.append(
            Problem("celery_beat", list(groups["celery_beat"]), "would send every due task once per host", "one host")
        )
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
            addresses = hostvars[server].get(listen) or ["127.0.0.1"]
            if remote and isinstance(addresses, (list, tuple)) and all(_loopback(entry) for entry in addresses):
                reason = f"on {server} cannot be reached from {', '.join(remote[:3])}{', ...' if remote[3:] else ''}"
                found.append(Problem(listen, list(addresses), reason, f'an address of {server}, or ["0.0.0.0"]'))
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
    return separator.join(f"{scheme}://{user}:{password}@{node['address']}:{node['port']}/{path}" for node in reached)


def _loopback(address: object) -> bool:
    # Redis lets an address begin with "-": it is no error when the host does not have it.
    return str(address).lstrip("-").startswith(_LOOPBACK)
