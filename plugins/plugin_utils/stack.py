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
from typing import Any
from urllib.parse import quote

from ansible_collections.celeryops.stack.plugins.module_utils.celery_versions import DELAYS_WITH_KOMBU
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery_needs import worker_options
from ansible_collections.celeryops.stack.plugins.plugin_utils.layout import is_app_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import parse_duration
from ansible_collections.celeryops.stack.plugins.plugin_utils.requirements import in_force, lines_of, rules_out
from ansible_collections.celeryops.stack.plugins.plugin_utils.roles import APP_GROUPS, SERVERS
from ansible_collections.celeryops.stack.plugins.plugin_utils.spec import role_options

#: What is laid over each other makes a class (role celery_worker); weakest first.
CLASS_LEVELS = ("celery_worker_classes", "celery_worker_group_classes", "celery_worker_host_classes")
_LOOPBACK = re.compile(r"127\.|::1$|localhost\.?$|localhost\.localdomain", re.IGNORECASE)
ANY = ("0.0.0.0", "::", "*")  # noqa: S104 - addresses that are looked for, not bound
#: The policy that keeps what was delivered too often, in the virtual host of each app.
DEAD_LETTERS = "celeryops-dead-letters"
#: A class without a limit has tasks of unknown length; half an hour is RabbitMQ's own guess of what is too long
#: (consumer_timeout, RabbitMQ 4.3).
UNKNOWN_TASK = 1800
#: Messages per process that a worker takes in advance where no other one could do them meanwhile: enough for its
#: processes never to wait for the broker (`make bench`: 8 does nearly twice as many tasks as 1, 16 no more).
PREFETCH_ALONE = 8
#: Where tasks may take longer, in seconds, taking more than one in advance gains nothing.
LONG_TASK = 3600

Groups = Mapping[str, Sequence[str]]
#: (host, variable, default) -> what the variable means on that host
Given = Callable[[str, str, Any], Any]


def app_hosts(groups: Groups) -> list[str]:
    """Return the hosts that carry an app, each once, in the order of the inventory."""
    return list(dict.fromkeys(host for group in APP_GROUPS for host in groups.get(group, [])))


def survey(groups: Groups, given: Given) -> dict[str, Any]:
    """Return what the site playbook needs to join the roles, for all hosts; plain data, as it travels as a fact.

    Values that cannot be read are passed over: the role whose variable it is tells of them.

    Arguments:
        groups: group name -> its hosts.
        given: returns a variable of a host.

    Returns:
        A dict with ``apps`` (name -> ``broker``: ``rabbitmq`` or ``redis``; ``queues``: every queue that a class of it
        names, sorted; ``longest_task`` in seconds; ``visibility_timeout`` in seconds, or empty;
        ``prefetch_multiplier``; ``key_prefix`` in Redis; ``dead_letter_queue``; ``queue_type`` in RabbitMQ;
        ``worker_options`` that not every Celery has), ``app_of`` (host -> name of its app), ``machines`` (of these
        hosts), ``servers`` (group -> the nodes and how they listen) and ``consumer_timeout`` in seconds.
    """
    hosts: dict[str, list[str]] = {}
    app_of: dict[str, str] = {}
    for host in app_hosts(groups):
        name = given(host, "celery_app_name", None)
        # A name that is none must not end in the path of a password; the role celery_app tells of it.
        app_of[host] = str(name) if is_app_name(name) else ""
        hosts.setdefault(app_of[host], []).append(host)
    apps = {
        name: {
            "broker": broker(groups, [given(host, "celery_app_broker", None) for host in members]),
            "queues": queues(groups, given, members),
            "longest_task": longest_task(groups, given, members),
            "visibility_timeout": visibility_timeout(groups, given, members),
            "prefetch_multiplier": prefetch_multiplier(groups, given, members),
            "key_prefix": str(given(members[0], "celery_app_key_prefix", None) or f"{name}:"),
            "dead_letter_queue": str(given(members[0], "celery_app_dead_letter_queue", None) or "dead-letters"),
            "queue_type": "classic" if given(members[0], "celery_app_queue_type", None) == "classic" else "quorum",
            "worker_options": worker_options(class_places(groups, given, members)),
        }
        for name, members in hosts.items()
    }
    return {
        "apps": apps,
        "app_of": app_of,
        "machines": {host: machine(host, given) for host in app_of},
        "servers": {group: [_server(group, host, given) for host in groups.get(group, [])] for group in SERVERS},
        "consumer_timeout": max([7200, *(consumer_timeout(groups, given, members) for members in hosts.values())]),
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
        "listen": listen_addresses(given(host, listens.address, None)),
        "reached_as": str(given(host, "ansible_host", None) or host),
        "machine": machine(host, given),
        # Whether it is a number is told when the server is planned.
        "port": given(host, listens.port, None) or role_options(group)[listens.port]["default"],
    }
    if group == "rabbitmq":
        server["management"] = {
            "listen": str(given(host, "rabbitmq_management_listen_address", None) or "127.0.0.1"),
            "port": given(host, "rabbitmq_management_port", None) or 15672,
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


def worker_classes(groups: Groups, given: Given, hosts: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    """Yield what each level says of each class on the workers among ``hosts``; what is no class is passed over."""
    workers = set(groups.get("celery_workers", []))
    seen: set[int] = set()
    for host in hosts:
        levels = [given(host, name, None) for name in (*CLASS_LEVELS, "celery_worker_defaults")]
        # Hosts that are alike share their values, and saying the same again tells nothing new.
        if host not in workers or seen.issuperset(map(id, levels)):
            continue
        seen.update(map(id, levels))
        classes = [entry for level in levels[:-1] if isinstance(level, Mapping) for entry in level.values()]
        yield from (entry for entry in (*classes, levels[-1]) if isinstance(entry, Mapping))


def class_places(groups: Groups, given: Given, hosts: Iterable[str]) -> Iterator[tuple[str, object]]:
    """Yield each worker class on one of ``hosts`` behind the variable, with its path, in which it is written."""
    workers = set(groups.get("celery_workers", []))
    for host in (host for host in hosts if host in workers):
        for level in CLASS_LEVELS:
            entries = given(host, level, None)
            for name, keys in entries.items() if isinstance(entries, Mapping) else ():
                yield f"{level}.{name}", keys
        yield "celery_worker_defaults", given(host, "celery_worker_defaults", None)


def queue_places(groups: Groups, given: Given, hosts: Iterable[str]) -> dict[str, str]:
    """Return queue -> the variable, with its path, in which a worker class on one of ``hosts`` names it first."""
    places: dict[str, str] = {}
    for place, keys in class_places(groups, given, hosts):
        for queue in _queues_of(keys):
            places.setdefault(queue, f"{place}.queues")
    return places


def queues(groups: Groups, given: Given, hosts: Iterable[str]) -> list[str]:
    """Return every queue that a worker class on one of ``hosts`` names, sorted.

    They end in the shared configuration, which restarts all classes when it changes: the order of the classes must not.
    """
    return sorted({name for keys in worker_classes(groups, given, hosts) for name in _queues_of(keys)})


def longest_task(groups: Groups, given: Given, hosts: Sequence[str]) -> int:
    """Return how long the longest task may take in seconds, from every variable that says so; at least half an hour."""
    said = [worker_class.get("time_limit") for worker_class in worker_classes(groups, given, hosts)]
    # Set by hand only: its default is what is worked out here.
    said += [settings(given, host).get("task_time_limit") for host in hosts]
    return max([UNKNOWN_TASK, *(_seconds(limit) for limit in said)])


def longest_run(groups: Groups, given: Given, hosts: Sequence[str]) -> int:
    """Return the same, with what the inventory says outright (``celery_app_longest_task``)."""
    said = (_seconds(given(host, "celery_app_longest_task", None)) for host in hosts)
    return max([longest_task(groups, given, hosts), *said])


def _seconds(value: object) -> int:
    """Return a duration in seconds; 0 for one that is not given, or that cannot be read, which its role tells."""
    with contextlib.suppress(ValueError):
        return parse_duration(value)
    return 0


def settings(given: Given, host: str) -> Mapping[str, Any]:
    """Return the Celery settings that the inventory gives for the app of ``host``."""
    value = given(host, "celery_app_settings", None)
    return value if isinstance(value, Mapping) else {}


def consumer_timeout(groups: Groups, given: Given, hosts: Sequence[str]) -> int:
    """Return how long RabbitMQ has to wait for an acknowledgement of a task of this app, in seconds.

    A message waits behind as many others as a process prefetches, then runs itself; delayed tasks wait in the broker
    (Celery 5.7 and RabbitMQ 3.10, measured: a message that is held longer closes the channel, and its task runs again).
    Rounded up to 2, 4, 8, ... hours, because RabbitMQ restarts when it changes.
    """
    longest, held = longest_run(groups, given, hosts), 0
    for host in hosts:
        if given(host, "celery_app_queue_type", None) == "classic" or _kombu_cannot_delay(given, host):
            # Nothing delays messages in the broker then, so a worker holds them.
            held = max(held, _seconds(given(host, "celery_app_longest_eta", None) or "1h"))
    needed = held_for(longest, most_prefetched(groups, given, hosts), held)
    return 3600 << ((needed - 1) // 3600).bit_length()


def _kombu_cannot_delay(given: Given, host: str) -> bool:
    """Whether the requirements of the app of ``host`` keep its kombu below what delays messages in RabbitMQ."""
    extra = given(host, "celery_app_extra_packages", None)
    lines = lines_of(given(host, "celery_app_source", None), extra if isinstance(extra, (list, tuple)) else ())
    return any(rules_out(line, "kombu", DELAYS_WITH_KOMBU) for _variable, line in in_force(lines))


def prefetch_multiplier(groups: Groups, given: Given, hosts: Sequence[str]) -> int:
    """Return how many messages a process of this app's workers may take in advance, where nothing else is said.

    What one worker has taken waits there although another one may be idle, so more than one message is taken only
    where no other can be: with one host of workers, and one class for each queue. On Redis a message that a killed
    worker had taken waits for the visibility timeout, so as few as possible are at stake.
    """
    workers = [host for host in hosts if host in set(groups.get("celery_workers", []))]
    elsewhere = any(given(host, "celery_app_broker_url", None) for host in hosts)
    said = (given(host, "celery_app_broker", None) for host in hosts)
    alone = len(workers) == 1 and not _shares_a_queue(given, workers[0])
    if not alone or elsewhere or broker(groups, said) != "rabbitmq" or longest_run(groups, given, hosts) > LONG_TASK:
        return 1
    return PREFETCH_ALONE


def _shares_a_queue(given: Given, host: str) -> bool:
    """Whether two classes of a host consume the same queue, as far as can be read."""
    common = _queues_of(given(host, "celery_worker_defaults", None))
    consumed: dict[str, list[str]] = {}
    for level in CLASS_LEVELS:
        classes = given(host, level, None)
        for name, keys in classes.items() if isinstance(classes, Mapping) else ():
            # The last level that speaks of them decides.
            consumed[str(name)] = _queues_of(keys) or consumed.get(str(name)) or common or [str(name)]
    every = [queue for names in consumed.values() for queue in set(names)]
    return len(every) != len(set(every)) or _several_workers(given, host)


def _several_workers(given: Given, host: str) -> bool:
    """Whether a class of a host has, by any level, more than one worker, all of which consume the same queues."""
    levels = [given(host, level, None) for level in CLASS_LEVELS]
    classes = [keys for level in levels if isinstance(level, Mapping) for keys in level.values()]
    said = [
        keys.get("workers")
        for keys in (*classes, given(host, "celery_worker_defaults", None))
        if isinstance(keys, Mapping)
    ]
    return any(number not in (None, 1, "1") for number in said)


def _queues_of(keys: object) -> list[str]:
    """Return the queues that a class names; none where it names none, or nothing that can be read."""
    declared = keys.get("queues") if isinstance(keys, Mapping) else None
    return [str(name) for name in declared] if isinstance(declared, (list, tuple)) else []


def most_prefetched(groups: Groups, given: Given, hosts: Sequence[str]) -> int:
    """Return how many messages a process may take in advance, by every variable that says so; at least one."""
    said = [worker_class.get("prefetch_multiplier") for worker_class in worker_classes(groups, given, hosts)]
    derived = prefetch_multiplier(groups, given, hosts)
    for host in hosts:
        own = given(host, "celery_app_prefetch_multiplier", derived)
        said.append(settings(given, host).get("worker_prefetch_multiplier", own))
    return max([1, *(int(str(number)) for number in said if re.fullmatch(r"[0-9]{1,9}", str(number)))])


def visibility_timeout(groups: Groups, given: Given, hosts: Sequence[str]) -> int | str:
    """Return how long Redis has to wait for an acknowledgement of a task of this app, in seconds.

    Nothing (an empty text) where a process takes one message in advance, which is what the role celery_app itself
    reckons with.
    """
    most = most_prefetched(groups, given, hosts)
    if most == 1:
        return ""
    eta = max(_seconds(given(host, "celery_app_longest_eta", None) or "1h") for host in hosts)
    return held_for(longest_run(groups, given, hosts), most, eta)


def held_for(longest: int, prefetch: int, eta: int) -> int:
    """Return for how many seconds a message may stay unacknowledged, with ten minutes to spare.

    Arguments:
        longest: seconds that a task may take.
        prefetch: messages that a process takes in advance.
        eta: seconds that a worker holds a delayed task; 0 where the broker does.
    """
    return (prefetch + 1) * longest + eta + 600


def broker_url(
    scheme: str, reached: Iterable[Mapping[str, Any]], user: str, password: str, path: str, separator: str = ";"
) -> str:
    """Return the URL of all nodes, separated by ``;`` as kombu's failover wants it (kombu 5.7, Connection).

    Arguments:
        scheme: ``amqp`` or ``redis``.
        reached: the nodes, as ``view`` returns them.
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
