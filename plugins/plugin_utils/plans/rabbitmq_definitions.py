# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declared objects of RabbitMQ: virtual hosts, users and their permissions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_differences import KEYS
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_password import ALGORITHMS, DEFAULT_ALGORITHM
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    did_you_mean,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_policies import (
    exchange_of,
    operator_policy_of,
    policy_of,
    queue_of,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import loopback
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.object_names import faulty, told_apart_by_blanks
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.passwords import SHORTEST, weakness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_variables import Variables

#: "No password shorter" is a floor against slips, and it keeps words like "shop" out of what Ansible masks in outputs.
MIN_PASSWORD = 8
#: A header of the API has room for 4,096 bytes (Cowboy), and so has a connection's first frame before RabbitMQ 4.1.
MAX_PASSWORD = 1024
_USER_NAME = re.compile(r"[^\s/\x00-\x1f]{1,128}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
#: What the inventory declares -> the kind in RabbitMQ's document, the key there, in the words of the inventory.
_DECLARED = {
    "vhosts": ("name",),
    "users": ("name",),
    "policies": ("vhost", "name"),
    "operator_policies": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key"),
}
#: What people misspell among names that plugins and other programs may add to.
_TAGS = ("administrator", "impersonator", "management", "monitoring", "policymaker")


def definitions_of(given: Variables) -> dict[str, Any]:
    """Return RabbitMQ's definitions document without passwords."""
    declared = {kind: _merged(given, kind) for kind in _DECLARED}
    _check_names(given, declared)
    admin = given.values["admin_user"]
    _check_admin(given, admin, declared["users"])
    vhosts = {entry["name"] for entry in declared["vhosts"]}
    permissions = [
        {"vhost": vhost, "user": admin, "configure": ".*", "write": ".*", "read": ".*"} for vhost in sorted(vhosts)
    ]
    topic_permissions: list[dict[str, str]] = []
    for user in declared["users"]:
        permissions += _permissions(given, user, vhosts, "permissions", ("configure", "write", "read"))
        topic_permissions += _permissions(given, user, vhosts, "topic_permissions", ("exchange", "write", "read"))
    for kind in ("policies", "operator_policies", "exchanges", "queues", "bindings"):
        for entry in declared[kind]:
            _known_vhost(given, kind, entry, vhosts)
    document: dict[str, Any] = {
        "vhosts": [_vhost(entry) for entry in declared["vhosts"]],
        "users": [
            {"name": admin, "tags": ["administrator"]},
            *(_user(given, entry) for entry in declared["users"]),
        ],
        "permissions": permissions,
        "topic_permissions": topic_permissions,
        "parameters": [
            *(_vhost_limits(entry) for entry in declared["vhosts"] if _limits(entry, "queues", "connections")),
            *(operator_policy_of(given, entry) for entry in declared["operator_policies"]),
        ],
        "policies": [policy_of(given, "policies", entry) for entry in declared["policies"]],
        "exchanges": [exchange_of(given, entry) for entry in declared["exchanges"]],
        "queues": [queue_of(given, entry) for entry in declared["queues"]],
        "bindings": [_binding(entry) for entry in declared["bindings"]],
        "global_parameters": [],
    }
    if given.values["cluster_name"]:
        document["global_parameters"] = [{"name": "cluster_name", "value": given.values["cluster_name"]}]
    for kind in given.values["prune"]:
        if kind not in KEYS:
            given.problem("no-kind-of-object", "prune", kind, "is not a kind of object", did_you_mean(kind, KEYS))
    return document


def _check_names(given: Variables, declared: Mapping[str, list[dict[str, Any]]]) -> None:
    for kind in ("vhosts", "policies", "operator_policies", "exchanges", "queues"):
        for name, reason, instead in faulty(entry["name"] for entry in declared[kind]):
            given.problem("not-an-object-name", f"{kind}.name", name, reason, instead)
    for name, other in told_apart_by_blanks([str(entry["name"]) for entry in declared["vhosts"]]):
        given.problem(
            "differs-in-blanks-only",
            "vhosts.name",
            name,
            f"differs from {other!r} only in its blanks",
            "one of the two",
        )


def _merged(given: Variables, kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind from both variables; the role's own variable wins over the extra one."""
    extra = given.values["extra_definitions"].get(kind) or []
    objects: dict[tuple[str, ...], dict[str, Any]] = {}
    for name, entries in ((f"extra_definitions.{kind}", extra), (kind, given.values[kind])):
        seen: set[tuple[str, ...]] = set()
        for entry in entries:
            key = (*(str(entry.get(part) or "") for part in _DECLARED[kind]), str(entry.get("arguments") or ""))
            identity = key if kind == "bindings" else key[:-1]
            if identity in seen and kind != "vhosts":
                given.problem("declared-twice", name, "/".join(filter(None, identity)), "is declared twice", "it once")
            seen.add(identity)
            objects[identity] = {**objects.get(identity, {}), **_given(entry)}
    return list(objects.values())


def _check_admin(given: Variables, admin: str, users: Iterable[Mapping[str, Any]]) -> None:
    if admin == "guest" or not _USER_NAME.fullmatch(admin):
        reason = "cannot be the administrator's name"
        instead = "a name of your own such as admin"
        given.problem("cannot-be-the-administrators-name", "admin_user", admin, reason, instead)
    if any(user["name"] == admin for user in users):
        reason = "is the administrator, who is declared already"
        given.problem("administrator-declared-twice", "users", admin, reason, "another name")
    _check_password(given, "admin_password", given.values["admin_password"], admin)
    if not re.fullmatch(r"[A-Za-z0-9]{16,255}", str(given.values["erlang_cookie"])):
        reason = "is not an Erlang cookie"
        given.problem("not-an-erlang-cookie", "erlang_cookie", NOT_SHOWN, reason, "16 to 255 letters and digits")


def _check_password(given: Variables, name: str, password: Any, user: str) -> None:
    if len(str(password)) < MIN_PASSWORD:
        given.problem("too-short", name, NOT_SHOWN, "is too short", f"at least {MIN_PASSWORD} characters")
        return
    if len(str(password).encode()) > MAX_PASSWORD:
        told = f"is longer than {MAX_PASSWORD} bytes, and RabbitMQ refuses a header or a handshake with it"
        given.problem("password-too-long", name, NOT_SHOWN, told, "a shorter password")
        return
    listen = [*given.values["listen_addresses"], given.values["management_listen_address"]]
    reason = "" if all(map(loopback, listen)) else weakness(password, user)
    if reason:
        told = f"{reason}, and the server listens where other hosts can guess"
        given.problem("weak-password", name, NOT_SHOWN, told, f"at least {SHORTEST} random characters")


def _user(given: Variables, entry: Mapping[str, Any]) -> dict[str, Any]:
    name = entry["name"]
    where = f"users.{name}"
    if name == "guest" or not _USER_NAME.fullmatch(name):
        reason = "is not a user's name here"
        given.problem("user-name-not-allowed", "users", name, reason, "a name without spaces and /, other than guest")
    result: dict[str, Any] = {"name": name, "tags": sorted(entry.get("tags") or [])}
    for tag in result["tags"]:
        given.misspelt(f"{where}.tags", tag, "gives no right", _TAGS)
    if "password" in entry and "password_hash" in entry:
        given.problem("password-and-hash", where, NOT_SHOWN, "has both a password and a hash", "one of the two")
    elif "password" in entry:
        _check_password(given, f"{where}.password", entry["password"], name)
    elif "password_hash" in entry:
        algorithm = entry.get("hashing_algorithm") or DEFAULT_ALGORITHM
        result["hashing_algorithm"] = algorithm
        if algorithm not in ALGORITHMS:
            instead = did_you_mean(algorithm, ALGORITHMS)
            given.problem("unknown-hash-algorithm", f"{where}.hashing_algorithm", algorithm, "is unknown", instead)
        if not _BASE64.fullmatch(str(entry["password_hash"])):
            reason = "is not a hash of RabbitMQ's"
            instead = "base64, as rabbitmqctl prints it"
            given.problem("not-a-password-hash", f"{where}.password_hash", NOT_SHOWN, reason, instead)
    else:
        given.problem("password-missing", where, name, "has neither a password nor a hash", "one of the two")
    limits = _limits(entry, "connections", "channels")
    if limits:
        result["limits"] = limits
    return result


def _permissions(
    given: Variables, user: Mapping[str, Any], vhosts: set[str], kind: str, fields: tuple[str, ...]
) -> list[dict[str, str]]:
    result: list[dict[str, str]] = []
    for entry in user.get(kind) or []:
        where = f"users.{user['name']}.{kind}"
        if entry["vhost"] not in vhosts:
            instead = did_you_mean(entry["vhost"], vhosts)
            given.problem("no-declared-virtual-host", where, entry["vhost"], "is not a declared virtual host", instead)
        known = {(other["vhost"], other.get("exchange")) for other in result}
        if (entry["vhost"], entry.get("exchange")) in known:
            given.problem("declared-twice", where, entry["vhost"], "is declared twice", "it once")
        values = {name: str(entry.get(name) or "") for name in fields}
        for name in ("configure", "write", "read"):
            if name in values:
                given.check_pattern(f"{where}.{name}", values[name])
        result.append({"vhost": entry["vhost"], "user": user["name"], **values})
    return result


def _known_vhost(given: Variables, kind: str, entry: Mapping[str, Any], vhosts: set[str]) -> None:
    if entry["vhost"] not in vhosts:
        name = entry.get("name", entry.get("source"))
        instead = did_you_mean(entry["vhost"], vhosts)
        given.problem("not-declared", f"{kind}.{name}.vhost", entry["vhost"], "is not declared", instead)


def _given(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an item that the user wrote: validation fills in ``None`` for the others."""
    return {str(key): value for key, value in entry.items() if value is not None}


def _limits(entry: Mapping[str, Any], *names: str) -> dict[str, int]:
    limits = {f"max-{name}": entry.get(f"max_{name}") for name in names}
    return {name: int(value) for name, value in limits.items() if value is not None}


def _vhost(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a virtual host; RabbitMQ 3.10 reads its properties beside the name, 4.x below ``metadata``."""
    metadata: dict[str, Any] = {
        key: entry[key] for key in ("description", "tags", "default_queue_type") if entry.get(key)
    }
    return {"name": entry["name"], **metadata, **({"metadata": metadata} if metadata else {})}


def _vhost_limits(entry: Mapping[str, Any]) -> dict[str, Any]:
    limits = _limits(entry, "queues", "connections")
    return {"vhost": entry["name"], "component": "vhost-limits", "name": "limits", "value": limits}


def _binding(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vhost": entry["vhost"],
        "source": entry["source"],
        "destination": entry["destination"],
        "destination_type": entry.get("destination_type") or "queue",
        "routing_key": entry.get("routing_key") or "",
        "arguments": dict(entry.get("arguments") or {}),
    }
