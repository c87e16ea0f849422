# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the hosts of an inventory fit together: who serves, who is served, and by which address.

Roles do not read each other's variables and know no groups. The site playbook knows the groups; what it has to work
out from them is here, pure and without secrets, in two steps: ``survey`` reads the whole inventory once, ``view`` tells
what it means for one host.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.celery_versions import DELAYS_WITH_KOMBU
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery_needs import worker_options
from ansible_collections.celeryops.stack.plugins.plugin_utils.class_layers import DEFAULTS, LEVELS
from ansible_collections.celeryops.stack.plugins.plugin_utils.layout import is_app_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import parse_duration
from ansible_collections.celeryops.stack.plugins.plugin_utils.requirements import in_force, lines_of, rules_out
from ansible_collections.celeryops.stack.plugins.plugin_utils.roles import APP_GROUPS, SERVERS
from ansible_collections.celeryops.stack.plugins.plugin_utils.spec import default_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.worker_classes import (
    WorkerClass,
    prefetch_of,
    read_classes,
)

_LOOPBACK = re.compile(r"127\.|::1$|localhost\.?$|localhost\.localdomain", re.IGNORECASE)
ANY = ("0.0.0.0", "::", "*")  # noqa: S104 - addresses that are looked for, not bound
#: The policy that keeps what was delivered too often, in the virtual host of each app.
DEAD_LETTERS = "celeryops-dead-letters"
#: A class without a limit has tasks of unknown length; half an hour is RabbitMQ's own guess of what is too long
#: (consumer_timeout, RabbitMQ 4.3).
UNKNOWN_TASK = 1800
#: Messages per process that a worker of RabbitMQ may take in advance: enough for its processes never to wait for the
#: broker (`make bench`: 8 does nearly twice as many tasks as 1, 16 no more). The runtime takes one unless tasks are
#: short (celeryops_runtime.prefetch).
PREFETCH = 8

Groups = Mapping[str, Sequence[str]]
#: (host, variable, default) -> what the variable means on that host
Given = Callable[[str, str, Any], Any]


def app_hosts(groups: Groups) -> list[str]:
    """Return the hosts that carry an app, each once, in the order of the inventory."""
    return list(dict.fromkeys(host for group in APP_GROUPS for host in groups.get(group, [])))


@dataclass(frozen=True)
class Members:
    """The hosts of one app, and what they say of it.

    Arguments:
        name: of the app; empty where it cannot be one, which the role celery_app tells.
        hosts: in the order of the inventory.
        classes: host -> the worker classes that it has, of those among them that are workers.
        given: returns a variable of a host.
        groups: the inventory's groups and their hosts.
    """

    name: str
    hosts: Sequence[str]
    classes: Mapping[str, Sequence[WorkerClass]]
    given: Given
    groups: Groups

    @property
    def all_classes(self) -> Iterator[WorkerClass]:
        """Every class of every host."""
        for classes in self.classes.values():
            yield from classes

    def said(self, name: str) -> list[Any]:
        """Return what each host says of a variable; None where it says nothing."""
        return [self.given(host, name, None) for host in self.hosts]

    def durations(self, name: str) -> list[int]:
        """Return a duration as each host says it, or by its default, in seconds; 0 where it cannot be read."""
        return [_seconds(self.given(host, name, default_of(name))) for host in self.hosts]

    def first(self, name: str) -> str:
        """Return a variable as the first host says it, or its default."""
        return str(self.given(self.hosts[0], name, None) or default_of(name))

    @property
    def settings(self) -> list[Mapping[str, Any]]:
        """The Celery settings that the inventory gives on each host."""
        return [value if isinstance(value, Mapping) else {} for value in self.said("celery_app_settings")]

    @property
    def broker(self) -> str:
        """``rabbitmq`` or ``redis``."""
        return broker(self.groups, self.said("celery_app_broker"))


def members(groups: Groups, given: Given) -> dict[str, Members]:
    """Return the apps of the inventory by their names, in the order in which their hosts name them."""
    hosts: dict[str, list[str]] = {}
    for host in app_hosts(groups):
        name = given(host, "celery_app_name", None)
        # A name that is none must not end in the path of a password; the role celery_app tells of it.
        hosts.setdefault(str(name) if is_app_name(name) else "", []).append(host)
    workers = set(groups.get("celery_workers", []))
    read: dict[tuple[int, ...], list[WorkerClass]] = {}
    return {
        name: Members(name, own, {host: _classes(given, host, read) for host in own if host in workers}, given, groups)
        for name, own in hosts.items()
    }


def _classes(given: Given, host: str, read: dict[tuple[int, ...], list[WorkerClass]]) -> list[WorkerClass]:
    """Return the classes that a worker has; what is wrong with them, the role celery_worker tells.

    Arguments:
        given: returns a variable of a host.
        host: the worker.
        read: what came of it on others; hosts that are alike share their values.
    """
    said = {name: given(host, name, None) for name in (DEFAULTS, *LEVELS)}
    key = tuple(map(id, said.values()))
    if key not in read:
        sound = {name: value for name, value in said.items() if isinstance(value, Mapping)}
        classes, _problems = read_classes(sound, "", 0)
        read[key] = [one for one in classes.values() if one.present]
    return read[key]


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


def broker(groups: Groups, said: Iterable[object]) -> str:
    """Return an app's broker: what its hosts say (``celery_app_broker``), else what the groups suggest."""
    chosen = next((str(value) for value in said if value in ("rabbitmq", "redis")), "")
    return chosen or ("rabbitmq" if groups.get("rabbitmq") else "redis")


def machine(host: str, given: Given) -> str:
    """Return one name for a machine of the inventory, which may stand in it under several."""
    return machine_at(str(given(host, "ansible_host", None) or host), given(host, "ansible_port", None))


def machine_at(address: str, port: object = None) -> str:
    """Return one name for the machine that Ansible connects to.

    Behind one address there may be several, each with a port of its own (Vagrant, tunnels): they are written as
    known_hosts does.

    Arguments:
        address: of whatever spelling: names know no capitals, and a dot at their end changes nothing.
        port: of SSH; 22 where it is not given.
    """
    name = address.lower().rstrip(".")
    return name if str(port or 22) == "22" else f"[{name}]:{port}"


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


def listen_addresses(listen: object) -> list[str]:
    """Return the addresses that a server listens on; Redis lets one begin with "-": no error when it is missing."""
    given = listen if isinstance(listen, (list, tuple)) and listen else ["127.0.0.1"]
    return [str(address).lstrip("-") for address in given]


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


def queue_places(app: Members) -> dict[str, str]:
    """Return queue -> the variable, with its path, in which a worker class of an app names it first."""
    places: dict[str, str] = {}
    for one in app.all_classes:
        for queue in one.named_queues:
            places.setdefault(queue, one.written.where("queues"))
    return places


def queues(app: Members) -> list[str]:
    """Return every queue that a worker class of an app names, sorted.

    They end in the shared configuration, which restarts all classes when it changes: the order of the classes must not.
    """
    return sorted({queue for one in app.all_classes for queue in one.named_queues})


def longest_task(app: Members) -> int:
    """Return how long the longest task may take in seconds, from every variable that says so; at least half an hour."""
    limits = [one.time_limit or 0 for one in app.all_classes]
    # Set by hand only: its default is what is worked out here.
    return max([UNKNOWN_TASK, *limits, *(_seconds(settings.get("task_time_limit")) for settings in app.settings)])


def class_times(app: Members) -> set[tuple[int, int]]:
    """Return (seconds that a task may take, messages in advance) of each class, and of one that sets neither.

    The latter is always there, so that a class with nothing of its own, or with shorter tasks, changes no timeout.
    """
    usual = max([UNKNOWN_TASK, *map(_seconds, _said_of_all(app))])
    derived = prefetch_multiplier(app)
    written = [
        settings.get("worker_prefetch_multiplier", own)
        for settings, own in zip(app.settings, app.said("celery_app_prefetch_multiplier"), strict=True)
    ]
    prefetch = max([1, *(_count(number, derived) for number in written)])
    said = any(number is not None for number in written)
    times = {(usual, prefetch)}
    for one in app.all_classes:
        own = one.prefetch_multiplier or (None if said else prefetch_of(one.time_limit))
        times.add((one.time_limit or usual, own or prefetch))
    return times


def _said_of_all(app: Members) -> Iterator[object]:
    """Yield how long a task may take by what the inventory says of the app, not of one of its classes."""
    yield from app.said("celery_app_longest_task")
    yield from (settings.get("task_time_limit") for settings in app.settings)


def _count(value: object, otherwise: int) -> int:
    """Return a whole number; another one for what is none, which its role tells."""
    return int(str(value)) if re.fullmatch(r"[0-9]{1,9}", str(value)) else otherwise


def _seconds(value: object) -> int:
    """Return a duration in seconds; 0 for one that is not given, or that cannot be read, which its role tells."""
    with contextlib.suppress(ValueError):
        return parse_duration(value)
    return 0


def consumer_timeout(app: Members) -> int:
    """Return how long RabbitMQ has to wait for an acknowledgement of a task of an app, in seconds.

    A message waits behind as many others as a process prefetches, then runs itself; delayed tasks wait in the broker
    (Celery 5.7 and RabbitMQ 3.10, measured: a message that is held longer closes the channel, and its task runs again).
    Rounded up to 2, 4, 8, ... hours, so that few changes of a class change it.
    """
    held = 0
    for host, eta in zip(app.hosts, app.durations("celery_app_longest_eta"), strict=True):
        if app.given(host, "celery_app_queue_type", None) == "classic" or _kombu_cannot_delay(app.given, host):
            # Nothing delays messages in the broker then, so a worker holds them.
            held = max(held, eta)
    needed = max(held_for(longest, prefetch, held) for longest, prefetch in class_times(app))
    return 3600 << ((needed - 1) // 3600).bit_length()


def _kombu_cannot_delay(given: Given, host: str) -> bool:
    """Whether the requirements of the app of ``host`` keep its kombu below what delays messages in RabbitMQ."""
    extra = given(host, "celery_app_extra_packages", None)
    lines = lines_of(given(host, "celery_app_source", None), extra if isinstance(extra, (list, tuple)) else ())
    return any(rules_out(line, "kombu", DELAYS_WITH_KOMBU) for _variable, line in in_force(lines))


def prefetch_multiplier(app: Members) -> int:
    """Return how many messages a process of this app's workers may take in advance, where nothing else is said.

    How many hosts and classes there are has no part in it: what changed when one joins would restart all others. On
    Redis a message that a killed worker had taken waits for the visibility timeout, so as few as possible are at stake;
    and of a RabbitMQ elsewhere the consumer timeout is not known.
    """
    long = any(prefetch_of(_seconds(time)) for time in _said_of_all(app))
    return PREFETCH if _on_rabbitmq(app) and not long else 1


def _on_rabbitmq(app: Members) -> bool:
    """Whether the broker of an app is RabbitMQ, and a server of this inventory."""
    return app.broker == "rabbitmq" and not any(app.said("celery_app_broker_url"))


def visibility_timeout(app: Members) -> int | str:
    """Return how long Redis has to wait for an acknowledgement of a task of an app, in seconds.

    Nothing (an empty text) with RabbitMQ, and where a process takes one message in advance, which is what the role
    celery_app itself reckons with.
    """
    times = class_times(app)
    if _on_rabbitmq(app) or all(prefetch == 1 for _longest, prefetch in times):
        return ""
    eta = max(app.durations("celery_app_longest_eta"))
    return max(held_for(longest, prefetch, eta) for longest, prefetch in times)


def held_for(longest: int, prefetch: int, eta: int) -> int:
    """Return for how many seconds a message may stay unacknowledged, with ten minutes to spare.

    Arguments:
        longest: seconds that a task may take.
        prefetch: messages that a process takes in advance.
        eta: seconds that a worker holds a delayed task; 0 where the broker does.
    """
    return (prefetch + 1) * longest + eta + 600


def loopback(address: object) -> bool:
    """Whether only the host itself can reach ``address``."""
    return _LOOPBACK.match(str(address)) is not None


def rabbitmq_objects(
    apps: Iterable[Mapping[str, Any]], passwords: Mapping[str, str], flower_passwords: Mapping[str, str]
) -> dict[str, Any]:
    """Return what RabbitMQ has to hold for the apps that use it, in the words of the role rabbitmq's variables.

    Arguments:
        apps: ``name``, ``broker``, ``dead_letter_queue`` and ``queue_type`` of each app. A client that does not read
            the shared configuration names no type, and RabbitMQ refuses it where it takes another one for meant.
        passwords: app -> password of its account.
        flower_passwords: app -> password of the account of its Flower.
    """
    served = [app for app in apps if app["broker"] == "rabbitmq"]
    names = [str(app["name"]) for app in served]
    users: list[dict[str, Any]] = []
    for name in names:
        own = {"vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
        users.append({"name": name, "password": passwords[name], "permissions": [own]})
        watching = {"vhost": name, "configure": _FLOWER_CONFIGURE, "write": _FLOWER_WRITE, "read": _FLOWER_READ}
        flower = {"name": f"{name}-flower", "password": flower_passwords[name], "tags": ["monitoring"]}
        users.append({**flower, "permissions": [watching]})
    return {
        "vhosts": [
            {"name": str(app["name"]), "default_queue_type": str(app.get("queue_type") or "quorum")} for app in served
        ],
        "users": users,
        "policies": [_dead_letters(str(app["name"]), str(app["dead_letter_queue"])) for app in served],
    }


def _dead_letters(vhost: str, queue: str) -> dict[str, Any]:
    """Return the policy by which a message that cannot be processed is kept in a queue of its own, never dropped.

    The queues in which delayed tasks wait have dead-letter settings of their own, and the dead letters need none.
    """
    escaped = queue.replace(".", r"\.")
    return {
        "vhost": vhost,
        "name": DEAD_LETTERS,
        "pattern": rf"^(?!celery_delayed_|celeryev|{escaped}$|.*pidbox$).*",
        "apply_to": "queues",
        "priority": 0,
        "definition": {"delivery-limit": 20, "dead-letter-exchange": "", "dead-letter-routing-key": queue},
    }


#: Flower listens to events and asks workers; it cannot publish a task or an event, read a task, or delete an exchange
#: of the workers'. It binds queues of its own to these exchanges; flowerconfig.py has it declare none.
_FLOWER_CONFIGURE = r"^(celeryev\..+|.+\.reply\.celery\.pidbox)$"
_FLOWER_WRITE = r"^(celeryev\..+|.+\.reply\.celery\.pidbox|celery\.pidbox)$"
_FLOWER_READ = r"^(celeryev(\..+)?|(.+\.)?reply\.celery\.pidbox)$"


def redis_users(apps: Iterable[Mapping[str, Any]], passwords: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the accounts that Redis has to hold for the apps, in the words of the role redis's variables.

    Arguments:
        apps: ``name``, ``broker`` and ``key_prefix`` of each app.
        passwords: app -> password of its account.
    """
    return [
        {
            "name": str(app["name"]),
            "password": passwords[str(app["name"])],
            "purpose": "both" if app["broker"] == "redis" else "results",
            "key_prefix": str(app["key_prefix"]),
        }
        for app in apps
    ]
