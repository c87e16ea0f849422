# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the model of a deployment from the plans of the roles on each host."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.account import PRIVILEGED_GROUPS
from ansible_collections.celeryops.stack.plugins.module_utils.celery_versions import DELAYS_WITH_KOMBU
from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import Cluster, scheme_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.app_servers import OTHER_BACKENDS
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.tls_options import lax_in_url
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    URLS,
    App,
    Deployment,
    Duty,
    Login,
    Machine,
    Route,
    RunningClass,
    Server,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_queues import FROM_APP, listed_routes
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import ACCOUNT
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import LEVELS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import UNKNOWN_TASK
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import listen_addresses, loopback
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.members import broker, seconds
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import SENTINELS, SERVERS
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.addresses import places
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.passwords import weakness
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_size
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    Line,
    in_force,
    lines_of,
    rules_out,
)

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app import Configuration
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import Given, Groups
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import Classes, WorkerClass

#: What Debian's releases bring (apt-cache policy rabbitmq-server, November 2026).
_DEBIANS_RABBITMQ = {"12": (3, 10), "13": (4, 0)}
_TESTING_RABBITMQ = (4, 3)
_MIB = 1024**2


@dataclass(frozen=True)
class Planned:
    """What came of planning a role for one kind of host.

    Arguments:
        values: the role's variables, of the right types as far as they could be read.
        plan: the role's plan; empty when it could not be made.
        given: names of the variables that the inventory sets.
        secret: names of the variables that must not be shown.
        unusable: names of the variables whose values could not be used; others stand in for them.
        lines: of requirements that the source of an app has, as far as it is on the control machine.
        locked: what its lock files say, which the installation does not read.
        read: what the role's module in ``plans`` reads the variables as: the configuration of an app, or the worker
            classes and the mistakes in them; None of other roles.
    """

    values: Mapping[str, Any]
    plan: Mapping[str, Any]
    given: frozenset[str]
    secret: frozenset[str]
    unusable: frozenset[str] = frozenset()
    lines: tuple[Line, ...] = ()
    locked: tuple[Line, ...] = ()
    read: Any = None

    @property
    def shown(self) -> dict[str, Any]:
        """The variables that are no secrets."""
        return {name: value for name, value in self.values.items() if name not in self.secret}


def assemble(
    groups: Groups,
    planned: Mapping[tuple[str, str], Planned],
    facts: Callable[[str], Mapping[str, Any]],
    given: Given,
) -> Deployment:
    """Return the model.

    Arguments:
        groups: the inventory's groups and their hosts.
        planned: (role, host) -> what came of planning it.
        facts: returns what is known of a machine.
        given: returns a variable of any host of the inventory, worked out, or a default.
    """
    site = Deployment(
        machines={host: _machine(host, facts(host), given) for host in dict.fromkeys(host for _role, host in planned)},
        servers=tuple(
            _server(role, host, found, facts(host)) for (role, host), found in planned.items() if role in SERVERS
        ),
        groups=groups,
    )
    carriers: dict[str, list[tuple[str, Planned]]] = {}
    for (role, host), found in planned.items():
        if role == "celery_app":
            carriers.setdefault(str(found.values.get("celery_app_name") or ""), []).append((host, found))
    apps = {name: _app(name, hosts, site, planned) for name, hosts in carriers.items()}
    unplaced = _unplaced(groups, apps.values(), given)
    return replace(
        site,
        apps=apps,
        duties=tuple(
            Duty(role, str(found.values.get(f"{role}_app") or ""), host, found.shown)
            for (role, host), found in planned.items()
            if role in ("celery_beat", "flower") and found.values.get(f"{role}_state") != "absent"
        ),
        unplaced=unplaced,
        replaced=frozenset(_replaced(groups, unplaced, given)),
        unusable=frozenset().union(*(found.unusable for found in planned.values())),
        strays=tuple(_strays(planned)),
        accounts=tuple(_accounts(planned)),
    )


def _on_the_host(url: object) -> bool:
    """Whether a URL leads to a server of the host itself, whichever that is."""
    return any(node.scheme.endswith("+socket") or loopback(node.host) for node in Cluster.read(url).nodes)


def _logins(found: Planned, viewer: str, site: Deployment) -> Iterable[Login]:
    """Yield how the addresses that the inventory gives ask servers of the inventory to be let in."""
    watching = {site.machines[host].identity for host in site.groups.get(SENTINELS, ()) if host in site.machines}
    for name in found.given.intersection(URLS):
        for node in Cluster.read(found.values.get(name)).nodes:
            kind = node.server
            # The servers of the inventory do not speak TLS by themselves.
            if not kind or not node.host or node.tls:
                continue
            machine = site.machine_of(viewer, node.host.rstrip("."))
            direct = node.scheme != "sentinel"
            for server in site.servers:
                place = (site.machines[server.host].identity, server.port)
                # Sentinels lead to any of the servers that they watch over.
                if server.kind == kind and (place == (machine, node.real_port) if direct else machine in watching):
                    # What kombu and redis-py take where an address names none (kombu 5.7, redis-py 5 to 8).
                    user = node.user or ("guest" if kind == "rabbitmq" else "default")
                    yield Login(name, kind, server.host, user, node.space if kind == "rabbitmq" else "", direct=direct)


def _strays(planned: Mapping[tuple[str, str], Planned]) -> Iterable[tuple[str, str, str, str]]:
    """Yield (variable, app, host, app that the host carries) where a role is to run another app than that."""
    for (role, host), found in planned.items():
        if f"{role}_app" in found.given and ("celery_app", host) in planned:
            run = str(found.values.get(f"{role}_app") or "")
            carried = str(planned["celery_app", host].values.get("celery_app_name") or "")
            if run != carried:
                yield f"{role}_app", run, host, carried


def _accounts(planned: Mapping[tuple[str, str], Planned]) -> Iterable[tuple[str, str, str, str, str]]:
    """Yield (variable, account, host, app, account of the app) where a process has another account than its app."""
    for (role, host), found in planned.items():
        if role not in ("celery_worker", "celery_beat") or ("celery_app", host) not in planned:
            continue
        app = planned["celery_app", host]
        for kind in ("user", "group"):
            variable, of_app = f"{role}_{kind}", f"celery_app_{kind}"
            own, common = found.values.get(variable), app.values.get(of_app)
            # One that no process may have is told by its role.
            if str(own) in PRIVILEGED_GROUPS or not ACCOUNT.fullmatch(str(own)):
                continue
            if own != common and not {variable, of_app} & (found.unusable | app.unusable):
                yield variable, str(own), host, str(app.values.get("celery_app_name") or ""), str(common)


def _machine(name: str, facts: Mapping[str, Any], given: Given) -> Machine:
    """Return a host, with what is known of it; what the inventory says counts where no facts were gathered."""
    # Text that is a number is one to the role as well: quoted, or the outcome of a template.
    cores = re.fullmatch(r"[0-9]{1,9}", str(given(name, "celery_worker_host_cores", None)).strip())
    memory = 0
    with contextlib.suppress(ValueError):
        memory = parse_size(given(name, "celery_worker_host_memory", None))
    release = f"{facts.get('distribution', '')} {facts.get('distribution_major_version', '')}"
    return Machine(
        name,
        # Names of hosts know no capitals, and a dot at their end changes nothing.
        str(given(name, "ansible_host", None) or name).lower().rstrip("."),
        # Celery's nodes have the whole name; facts that were gathered earlier may know its beginning only.
        hostname=str(facts.get("nodename") or facts.get("hostname") or "") or None,
        cores=int(facts.get("processor_vcpus") or (cores and cores[0]) or 0) or None,
        memory=int(facts.get("memtotal_mb") or 0) * _MIB or memory or None,
        distribution=release.strip(),
        port=str(given(name, "ansible_port", None) or ""),
    )


def _app(
    name: str, carriers: Sequence[tuple[str, Planned]], site: Deployment, planned: Mapping[tuple[str, str], Planned]
) -> App:
    """Return an app.

    Arguments:
        name: its name.
        carriers: its hosts, and what came of planning the role celery_app for each.
        site: the machines and the servers.
        planned: (role, host) -> what came of planning it.
    """
    variants: dict[str, dict[str, Any]] = {}
    logins: set[Login] = set()
    kinds: dict[int, Planned] = {}
    for host, own in carriers:
        # Hosts that are alike mean different servers by 127.0.0.1.
        if id(own) not in kinds or any(_on_the_host(own.values.get(url)) for url in URLS):
            machine = functools.partial(site.machine_of, host)
            variants[host] = {**own.shown, **{url: places(own.values.get(url), machine) for url in URLS}}
            logins.update(_logins(own, host, site))
        kinds[id(own)] = own
    found = carriers[0][1]
    read: Configuration = found.read
    values = read.values
    if not values["broker_url"]:
        read = replace(read, broker=broker(site.groups, [values["broker"]]))
    settings, durations = read.settings, read.durations[0]
    options = settings.get("broker_transport_options")
    timeout = options.get("visibility_timeout", 0) if isinstance(options, Mapping) else 0
    lines = in_force([*lines_of(values.get("source"), values.get("extra_packages") or ()), *found.lines])
    return App(
        name,
        hosts=tuple(host for host, _own in carriers),
        broker=read.broker,
        broker_addresses=variants[carriers[0][0]]["celery_app_broker_url"],
        default_queue=str(values.get("default_queue")),
        queues={queue["name"]: queue.get("type", "classic") for queue in read.queues[0]},
        declared=tuple(_declared(values, found.given)),
        routes=tuple(Route(str(route["task"]), str(route["queue"])) for route in listed_routes(values)),
        own_routes=values.get("routes") == FROM_APP,
        files=tuple(
            {"number": number, **{key: entry.get(key) for key in ("path", "groups", "restarts")}}
            for number, entry in enumerate(values.get("files") or ())
        ),
        settings=settings,
        own_settings=values["settings"],
        longest_eta=durations["longest_eta"],
        # What is derived is the longest of all classes, and one without a limit is none of the others.
        longest_task=durations["longest_task"] if "celery_app_longest_task" in found.given else UNKNOWN_TASK,
        visibility_timeout=_number(timeout, 0),
        has_results=bool(str(values.get("result_backend") or "").strip()),
        results_at=_results_at(values, found.given),
        requirements=tuple(lines),
        locked=found.locked,
        kombu_delays=not any(rules_out(line, "kombu", DELAYS_WITH_KOMBU) for _variable, line in lines),
        weak_passwords=_weak_passwords(found.values),
        lax_urls={name: lax for name in URLS if any(lax := lax_in_url(found.values.get(name)))},
        classes=tuple(_running(name, settings, carriers, planned)),
        logins=frozenset(logins),
        variables=found.shown,
        variants=tuple(variants.items()),
        given=frozenset().union(*(own.given for own in kinds.values())),
        accepted=frozenset(str(entry) for entry in values.get("accept") or ()),
    )


def _declared(values: Mapping[str, Any], given: frozenset[str]) -> Iterable[str]:
    """Return the queues that ``celery_app_queues`` names; where nobody sets it, it is derived from the classes."""
    if "celery_app_queues" in given:
        for entry in values.get("queues") or ():
            yield str(entry.get("name") if isinstance(entry, Mapping) else entry)


def _weak_passwords(values: Mapping[str, Any]) -> dict[str, str]:
    """Return which URL of a server that others can reach has a password that they find."""
    found: dict[str, str] = {}
    for name in URLS:
        # What cannot be read, the role tells.
        for node in Cluster.read(values.get(name)).nodes:
            other = name == "celery_app_result_backend" and node.scheme in OTHER_BACKENDS and node.password
            if (node.server or other) and node.host and not loopback(node.host):
                reason = weakness(node.password, node.user)
                if reason:
                    found[name] = reason
    return found


def _results_at(values: Mapping[str, Any], given: frozenset[str]) -> str:
    """Return the store of results that the inventory names itself, as a person reads it; empty where it names none."""
    if "celery_app_result_backend" not in given:
        return ""
    address = str(values.get("result_backend") or "").strip()
    places = ", ".join(
        f"{node.host}:{node.port or ''}{node.path and '/'}{node.path}"
        for node in Cluster.read(address).nodes
        if node.host
    )
    scheme = scheme_of(address) or address
    kind = {"redis": "Redis", "rediss": "Redis", "sentinel": "Redis"}.get(scheme, scheme.removeprefix("db+"))
    return f"{kind} at {places}" if places else kind


def _running(
    app: str,
    settings: Mapping[str, Any],
    carriers: Iterable[tuple[str, Planned]],
    planned: Mapping[tuple[str, str], Planned],
) -> Iterable[RunningClass]:
    """Yield the classes of an app on each host: what they leave open, its settings say."""
    # Hosts that are alike share what was planned for them.
    known: dict[int, list[RunningClass]] = {}
    for host, _own in carriers:
        found = planned.get(("celery_worker", host))
        if found is None:
            continue
        if id(found) not in known:
            classes: Classes = found.read
            known[id(found)] = [_in_force(app, settings, one) for one in classes[0].values() if one.present]
        yield from (replace(one, host=host) for one in known[id(found)])


def _in_force(app: str, settings: Mapping[str, Any], one: WorkerClass) -> RunningClass:
    settled = {
        "prefetch": one.prefetch_multiplier or _prefetch(settings),
        "time_limit": one.time_limit or max(_number(settings.get("task_time_limit"), 0), 0) or None,
        "soft_time_limit": one.soft_time_limit or max(_number(settings.get("task_soft_time_limit"), 0), 0) or None,
        "late": bool(settings["task_acks_late"]) if one.acknowledgement is None else one.acknowledgement == "late",
    }
    return RunningClass(**{**{name: getattr(one, name) for name in one.__slots__}, **settled, "app": app})


def _prefetch(settings: Mapping[str, Any]) -> int | None:
    """Return the app's prefetch multiplier; 0 is no limit, to Redis as well unless workers prefetch nothing there."""
    value = _number(settings.get("worker_prefetch_multiplier"), 1)
    if settings.get("worker_disable_prefetch") is True and "visibility_timeout" in str(
        settings.get("broker_transport_options")
    ):
        return value or 1
    return None if value == 0 else max(value, 1)


def _number(value: object, otherwise: int) -> int:
    """Return a whole number; another one for what is none, or has no end, which its role tells."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if number and isinstance(value, (int, float)) else otherwise


def _server(kind: str, host: str, found: Planned, facts: Mapping[str, Any]) -> Server:
    values = found.values
    server = Server(
        kind,
        host,
        listen=tuple(listen_addresses(values.get(SERVERS[kind].listens[0].address))),
        port=_number(values.get(f"{kind}_port"), 0),
        variables=found.shown,
        given=found.given,
    )
    if kind != "rabbitmq":
        return server
    return replace(server, version=_rabbitmq_version(values, facts), consumer_timeout=_consumer_timeout(values))


def _consumer_timeout(values: Mapping[str, Any]) -> int:
    own = values.get("rabbitmq_config")
    if isinstance(own, Mapping) and re.fullmatch(r"[0-9]{1,18}", str(own.get("consumer_timeout"))):
        # Milliseconds there (rabbit.schema, RabbitMQ 3.10 to 4.3).
        return int(str(own["consumer_timeout"])) // 1000
    return seconds(values.get("rabbitmq_consumer_timeout"))


def _rabbitmq_version(values: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[int, int] | None:
    pinned = re.match(r"(?:\d+:)?(\d+)\.(\d+)", str(values.get("rabbitmq_version") or ""))
    if pinned:
        return int(pinned[1]), int(pinned[2])
    if values.get("rabbitmq_repository") or facts.get("distribution") != "Debian":
        return None
    return _DEBIANS_RABBITMQ.get(str(facts.get("distribution_major_version")), _TESTING_RABBITMQ)


def _unplaced(groups: Groups, apps: Iterable[App], given: Given) -> dict[str, tuple[str, ...]]:
    placed = {worker.name for app in apps for worker in app.classes}
    workers = set(groups.get("celery_workers", []))
    found: dict[str, list[str]] = {}
    for host in groups.get("all", []):
        if host in workers:
            continue
        for level in LEVELS:
            classes = given(host, level, None)
            for name, keys in classes.items() if isinstance(classes, Mapping) else ():
                absent = isinstance(keys, Mapping) and keys.get("state") == "absent"
                if str(name) not in placed and not absent and host not in found.setdefault(str(name), []):
                    found[str(name)].append(host)
    return {name: tuple(hosts) for name, hosts in found.items()}


def _replaced(groups: Groups, unplaced: Mapping[str, Sequence[str]], given: Given) -> Iterable[str]:
    """Yield the classes for all hosts that dictionaries nearer to the workers, which Ansible takes instead, lack."""
    workers = [given(host, LEVELS[0], None) for host in groups.get("celery_workers", [])]
    for name, hosts in unplaced.items():
        common = given(hosts[0], LEVELS[0], None)
        if isinstance(common, Mapping) and name in common and any(isinstance(own, Mapping) for own in workers):
            yield name
