# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about accounts, ports and directories of a host that a role cannot use, before anything is changed.

Pure functions of what celeryops.stack.facts saw (``module_utils/listeners.py`` and ``places.py``). What was not looked
at is no finding: whoever needs it says so later.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.account import FIRST_PERSON, complaint
from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import bracketed
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Found
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_node import DISTRIBUTION_PORT
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import is_app_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MIB = 1024**2
#: A release of a small app, with its packages, takes 60 to 300 MiB; with less than this none can be built.
ROOM = 100 * _MIB
_RABBITMQ = frozenset({"rabbitmq-server.service"})
_EPMD = frozenset({"epmd.service", "epmd.socket", *_RABBITMQ})
#: Debian's two packages, and the name by which the first has a second one. A change of engine is that role's own check.
_REDIS = frozenset({"redis-server.service", "redis.service", "valkey-server.service", "valkey.service"})
_SENTINEL = frozenset({"redis-sentinel.service", "valkey-sentinel.service", "sentinel.service"})
#: Plugin -> (key of rabbitmq.conf, the port that it has without that key): RabbitMQ 3.10 to 4.3, their schemas.
PLUGIN_PORTS = {
    "rabbitmq_prometheus": ("prometheus.tcp.port", 15692),
    "rabbitmq_mqtt": ("mqtt.listeners.tcp.default", 1883),
    "rabbitmq_stomp": ("stomp.listeners.tcp.default", 61613),
    "rabbitmq_stream": ("stream.listeners.tcp.default", 5552),
    "rabbitmq_web_stomp": ("web_stomp.tcp.port", 15674),
    "rabbitmq_web_mqtt": ("web_mqtt.tcp.port", 15675),
}
#: What has no owner that the system knows (user_namespaces(7), NFS).
_NOBODY = 65534


@dataclass(frozen=True)
class Listener:
    """Where a service of a role listens.

    Arguments:
        variable: that says so, or that is nearest to it.
        address: the IP address.
        port: its number.
        units: the systemd units that may hold the port: those of the role.
    """

    variable: str
    address: str
    port: int
    units: frozenset[str]


def unusable(
    role: str,
    values: Mapping[str, Any],
    plan: Mapping[str, Any],
    machine: Mapping[str, Any],
    host: str,
    leaving: Iterable[str] = (),
) -> Iterator[Found]:
    """Yield what keeps a host from carrying a role.

    Arguments:
        role: such as ``celery_app``.
        values: its variables.
        plan: its plan; empty when there is none.
        machine: the fact ``celeryops_machine``.
        host: its name, for the reader.
        leaving: the units that this run ends on the host (``leaving.units_of``).
    """
    if role == "celery_app":
        yield from _account(values, machine, host)
    for listener in wanted(role, values, plan):
        # The servers come before some of what leaves; Flower comes behind all of it.
        units = listener.units.union(leaving) if role == "flower" else listener.units
        yield from _port(replace(listener, units=units), machine.get("listeners") or (), host)
    yield from _directories(role, values, machine, host)


# Accounts


def _account(values: Mapping[str, Any], machine: Mapping[str, Any], host: str) -> Iterator[Found]:
    user, group = str(values.get("celery_app_user")), str(values.get("celery_app_group"))
    accounts, groups = machine.get("accounts") or {}, machine.get("groups") or {}
    if user not in accounts:
        return
    manage = bool(values.get("celery_app_user_manage", True))
    # A group that was not asked for may be somewhere else than in the host's own file.
    reason = complaint(user, group, accounts[user], groups.get(group, True), manage=manage)
    if reason:
        sentence, _semicolon, instead = reason.partition("; ")
        yield Found(
            "account-unsuitable",
            "celery_app_user",
            host,
            sentence,
            instead or "make it, or leave celery_app_user_manage out",
        )


# Ports


def wanted(role: str, values: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[Listener]:
    """Yield where the services of a role are to listen."""
    if role == "redis":
        port = _port_number(values.get("redis_port"))
        for address in values.get("redis_bind") or ():
            yield Listener("redis_port", str(address).removeprefix("-"), port, _REDIS)
    if role == "sentinel":
        port = _port_number(values.get("sentinel_port"))
        for address in values.get("sentinel_bind") or ():
            yield Listener("sentinel_port", str(address).removeprefix("-"), port, _SENTINEL)
    if role == "flower" and plan.get("present"):
        units = frozenset({str(plan["unit"])})
        yield Listener("flower_port", str(values.get("flower_address")), _port_number(values.get("flower_port")), units)
    if role == "rabbitmq" and plan:
        yield from _rabbitmq(values, plan)


def _rabbitmq(values: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[Listener]:
    settings = {str(entry["key"]): str(entry["value"]) for entry in plan.get("settings") or ()}
    for key, value in settings.items():
        if key.startswith("listeners.tcp."):
            address, _colon, port = value.rpartition(":")
            yield Listener("rabbitmq_port", address.strip("[]") or "::", _port_number(port), _RABBITMQ)
    management = _port_number(settings.get("management.tcp.port"))
    yield Listener("rabbitmq_management_port", settings.get("management.tcp.ip", "::"), management, _RABBITMQ)
    inside = str(values.get("rabbitmq_cluster_listen_address"))
    yield Listener("rabbitmq_cluster_listen_address", inside, DISTRIBUTION_PORT, _RABBITMQ)
    for entry in plan.get("epmd_listen") or ():
        address, _colon, port = str(entry).rpartition(":")
        yield Listener("rabbitmq_cluster_listen_address", address or "::", _port_number(port), _EPMD)
    for plugin in plan.get("plugins") or ():
        if plugin in PLUGIN_PORTS:
            key, port_number = PLUGIN_PORTS[plugin]
            own = settings.get(key, "").rpartition(":")[2]
            address = settings.get(key.replace(".port", ".ip"), "::") if key.endswith(".port") else "::"
            yield Listener("rabbitmq_plugins", address, _port_number(own) or port_number, _RABBITMQ)


def _port(listener: Listener, listening: Iterator[Mapping[str, Any]] | Any, host: str) -> Iterator[Found]:
    for socket in listening:
        if socket["port"] != listener.port or not meet(listener.address, str(socket["address"])):
            continue
        unit, perhaps = str(socket["unit"]), set(socket["perhaps"])
        if unit in listener.units or perhaps & listener.units:
            continue
        who = str(socket["process"]) or "a process that cannot be seen"
        place = ", ".join(filter(None, [f"pid {socket['pid']}" if socket["pid"] else "", unit or ", ".join(perhaps)]))
        taken = f"{bracketed(str(socket['address']))}:{listener.port}"
        yield Found(
            "port-taken-by-another",
            listener.variable,
            host,
            f"{taken} is taken by {who}{f' ({place})' if place else ''}, which is not what the role manages",
            "stop that, or write another port or address"
            if listener.variable.endswith("_port")
            else "stop that: this port cannot be another",
        )
        return


def meet(wanted_address: str, taken: str) -> bool:
    """Whether a socket on one address keeps another from listening on the same port of ``wanted_address``.

    ``::`` takes IPv4 as well, unless its owner says otherwise, which cannot be seen (ipv6(7), IPV6_V6ONLY): Linux'
    servers on ``0.0.0.0`` and ``::`` at once exist, so two families meet in the open address of IPv6 alone.
    """
    try:
        one, other = ipaddress.ip_address(wanted_address), ipaddress.ip_address(taken)
    except ValueError:
        # A name: it may be any address of the host.
        return taken in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    if one.version == other.version:
        return one == other or one.is_unspecified or other.is_unspecified
    six = one if one.version == 6 else other
    mapped = getattr(six, "ipv4_mapped", None)
    four = other if one.version == 6 else one
    return six.is_unspecified or (mapped is not None and (mapped == four or four.is_unspecified))


def _port_number(value: object) -> int:
    text = str(value)
    return int(text) if text.isdigit() else 0


# Directories


def _directories(role: str, values: Mapping[str, Any], machine: Mapping[str, Any], host: str) -> Iterator[Found]:
    known = machine.get("directories") or {}
    accounts = machine.get("accounts") or {}
    for path, owners in _needed(role, values):
        entry = known.get(path)
        if entry is None:
            continue
        if entry["kind"] not in ("directory", "absent"):
            what = "a link that leads to no directory" if entry["kind"] == "link" else "no directory"
            yield Found(
                "not-a-directory", path, host, f"this is {what}", "move it away: the role needs a directory there"
            )
        elif entry["read_only"]:
            yield Found(
                "read-only-file-system", path, host, "this is on a file system that is read only", "make it writable"
            )
        elif entry["kind"] == "directory" and _is_anothers(entry, owners, accounts):
            reason = f"this belongs to the account {entry['owner']} (uid {entry['uid']}), which looks like a person's"
            yield Found(
                "owned-by-a-person", path, host, reason, "move it away, or give it to root if the role may have it"
            )
        elif role == "celery_app" and owners and _is_nobodys(entry, accounts.get(str(values.get("celery_app_user")))):
            reason = (
                f"this belongs to uid {entry['uid']}, which has no name here: an account that was deleted, or one of a "
                "directory service that does not answer. The app could not write to what is in there"
            )
            there = accounts.get(str(values.get("celery_app_user")))
            to = f"{values.get('celery_app_user')}:{values.get('celery_app_group')}" if there else "root:root"
            yield Found(
                "owned-by-nobody", path, host, reason, f"move it away, or give it to the app with: chown -R {to} {path}"
            )
        elif path.startswith(paths.PROGRAMS) and entry["noexec"]:
            reason = "this is on a file system without execution (noexec), and programs are to run from there"
            yield Found(
                "noexec-file-system", path, host, reason, "mount it without noexec, or another file system there"
            )
    yield from _room(role, values, known, host)


def _needed(role: str, values: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """Yield the directories that a role uses, outer ones first, each with the accounts beside root that may own it."""
    yield paths.UNITS, set()
    if role == "rabbitmq":
        yield from (("/etc/rabbitmq", {"rabbitmq"}), ("/var/lib/rabbitmq", {"rabbitmq"}))
    if role == "redis":
        kind = str(values.get("redis_implementation") or "redis")
        yield from ((paths.CONFIG, set()), (f"/var/lib/{kind}", {kind}))
    name = values.get("celery_app_name" if role == "celery_app" else f"{role}_app")
    if role in ("celery_app", "flower") and is_app_name(name):
        its = paths.AppPaths(str(name))
        yield from ((path, set()) for path in (paths.PROGRAMS, its.base, paths.CONFIG, its.config))
        if role == "flower":
            yield its.flower_base, set()
            return
        user = str(values.get("celery_app_user"))
        for parent, path in ((paths.STATE, its.state), (paths.LOG, its.log)):
            yield from ((parent, set()), (path, {user}))


def _is_anothers(entry: Mapping[str, Any], owners: set[str], accounts: Mapping[str, Any]) -> bool:
    """Whether a directory is a person's: what the system's accounts or one that is gone left, the role takes over."""
    uid = int(entry["uid"])
    allowed = {(accounts.get(name) or {}).get("uid") for name in owners}
    return (
        uid >= FIRST_PERSON
        and uid != _NOBODY
        and bool(entry["owner"])
        and entry["owner"] not in owners
        and uid not in allowed
    )


def _is_nobodys(entry: Mapping[str, Any], account: Mapping[str, Any] | None) -> bool:
    """Whether what is in an app's directory is somebody's without a name, and would stay so.

    A new account takes over what one of the system's left (``account.take_over``); one that is there takes over
    nothing.

    Arguments:
        entry: the directory.
        account: the app's; None when it is still to be made.
    """
    uid = int(entry["uid"])
    if entry["kind"] != "directory" or entry["owner"] or uid in (0, _NOBODY):
        return False
    return uid >= FIRST_PERSON or account is not None


def _room(role: str, values: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]], host: str) -> Iterator[Found]:
    """Yield that no release fits; a host that has one goes on with it, and says so when it builds another."""
    name = values.get("celery_app_name")
    if role != "celery_app" or not is_app_name(name):
        return
    outer = known.get(paths.PROGRAMS)
    if (
        paths.AppPaths(str(name)).base not in known
        and outer
        and outer["size"]
        and outer["free"] < ROOM
        and not outer["read_only"]
    ):
        reason = f"only {outer['free'] // _MIB} MiB are free there, and a release takes {ROOM // _MIB} at least"
        yield Found("disk-full", paths.PROGRAMS, host, reason, "make room, or mount a file system there")
