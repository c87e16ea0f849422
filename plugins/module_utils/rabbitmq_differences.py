# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares RabbitMQ's definitions: which objects two documents share, where they differ, and who made what.

Pure functions over definitions documents (the JSON of ``GET /api/definitions`` and of ``load_definitions``). An object
is known by its kind and its key, such as ``("policies", ("shop", "limits"))``. Passwords are looked at only through the
server's own salt; nothing here returns one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.celeryops.stack.plugins.module_utils.masking import without_passwords
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_password import (
    DEFAULT_ALGORITHM,
    hash_password,
    password_matches,
)
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import MASK

Key = tuple[str, ...]
Document = Mapping[str, Any]
Index = dict[str, dict[Key, dict[str, Any]]]

#: Kind -> the fields that identify an object. The order is that of creation: what is named later needs the earlier.
KEYS: dict[str, tuple[str, ...]] = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("vhost", "user"),
    "topic_permissions": ("vhost", "user", "exchange"),
    "parameters": ("vhost", "component", "name"),
    "policies": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key", "arguments"),
}
#: What the server never alters: another declaration of the same name is refused or, by an import, ignored.
IMMUTABLE = frozenset({"exchanges", "queues"})
#: Objects that hold, or lead to, other people's messages.
HOLDS_MESSAGES = frozenset({"vhosts", "queues"})

#: The global parameter with what was there before the collection came: it is not the collection's to remove.
FOUND = "celeryops_found"
_RECORD_PREFIX = "celeryops_managed_"
_VHOST_METADATA = ("description", "tags", "default_queue_type")


class Credentials(NamedTuple):
    """What users have to be able to log in with, by user name."""

    passwords: Mapping[str, str]
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """An object that has to be created or updated; the states are fit to be shown."""

    kind: str
    key: Key
    before: dict[str, Any] | None
    after: dict[str, Any]

    @property
    def action(self) -> str:
        return "create" if self.before is None else "update"


@dataclass
class Comparison:
    """How a server differs from what is declared."""

    changes: list[Change] = field(default_factory=list)
    #: The same changes as a definitions document that can be imported.
    document: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Objects that exist with another immutable property: nothing but deleting them would help.
    conflicts: list[Change] = field(default_factory=list)
    #: (user, limit) that the server enforces and nobody declares.
    stray_limits: list[tuple[str, str]] = field(default_factory=list)


def label(kind: str, key: Key) -> str:
    """Return a name for messages, such as ``policy shop/limits``."""
    singular = {"policies": "policy"}.get(kind, kind[:-1].replace("_", " "))
    parts = key[:-1] if kind == "bindings" else key
    return f"{singular} {'/'.join(part for part in parts if part)}"


def index(document: Document) -> Index:
    """Return the objects of a definitions document by kind and key."""
    return {kind: {_key(kind, entry): entry for entry in document.get(kind, [])} for kind in KEYS}


def redact(value: Any) -> Any:
    """Return ``value`` without the passwords of URLs in it."""
    if isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, Mapping):
        return {key: redact(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(entry) for entry in value]
    return value


def compare(wanted: Document, present: Document, credentials: Credentials) -> Comparison:
    """Return how the server's document ``present`` differs from ``wanted``.

    Arguments:
        wanted: what is declared; its users carry neither passwords nor hashes.
        present: the server's definitions.
        credentials: the passwords, or the hashes, of the users in ``wanted``.
    """
    result = Comparison()
    have, want = index(present), index(wanted)
    for kind, objects in want.items():
        for key, entry in objects.items():
            existing = have[kind].get(key)
            if kind == "users":
                _compare_user(key, entry, existing, credentials, result)
                continue
            after = _state(kind, entry)
            before = None if existing is None else _comparable(kind, existing, after)
            if before == after:
                continue
            change = Change(kind, key, redact(before), redact(after))
            if before is not None and kind in IMMUTABLE:
                result.conflicts.append(change)
            else:
                result.changes.append(change)
                result.document.setdefault(kind, []).append(dict(entry))
    return result


def record_name(owner: str) -> str:
    """Return the name of the global parameter that lists what ``owner`` made."""
    return _RECORD_PREFIX + owner


def record_of(document: Document, kept: Iterable[tuple[str, Key]] = ()) -> dict[str, list[list[str]]]:
    """Return the list of a document's objects that is stored in the server itself.

    Arguments:
        document: what is declared.
        kept: further objects that stay listed, because they could not be removed yet.
    """
    names: dict[str, set[Key]] = {kind: set(objects) for kind, objects in index(document).items()}
    for kind, key in kept:
        names[kind].add(key)
    return {kind: [list(key) for key in sorted(keys)] for kind, keys in names.items() if keys}


def stored_record(document: Document, owner: str) -> dict[str, Any] | None:
    """Return the record of ``owner`` that a server's document holds, if it has one."""
    for entry in document.get("global_parameters", []):
        if entry["name"] == record_name(owner) and isinstance(entry["value"], Mapping):
            return dict(entry["value"])
    return None


def found_before(document: Document) -> set[tuple[str, Key]]:
    """Return the virtual hosts and queues that were there before this collection came, as the server remembers them."""
    for entry in document.get("global_parameters", []):
        if entry["name"] == FOUND and isinstance(entry["value"], Mapping):
            return {
                (kind, tuple(str(part) for part in key))
                for kind in HOLDS_MESSAGES
                for key in entry["value"].get(kind) or []
            }
    return set()


def found_record(queues: Iterable[Key], vhosts: Iterable[str]) -> dict[str, Any]:
    """Return the global parameter that remembers what was there before."""
    value = {"vhosts": [[name] for name in sorted(vhosts)], "queues": [list(key) for key in sorted(queues)]}
    return {"name": FOUND, "value": value}


def global_parameters(wanted: Document, present: Document) -> list[dict[str, Any]]:
    """Return the global parameters in ``wanted`` that the server lacks or has otherwise."""
    have = {entry["name"]: entry["value"] for entry in present.get("global_parameters", [])}
    return [entry for entry in wanted.get("global_parameters", []) if have.get(entry["name"]) != entry["value"]]


def leftovers(
    wanted: Document, present: Document, owner: str, prune: Iterable[str], keep_users: Iterable[str] = ()
) -> list[tuple[str, Key]]:
    """Return the objects that have to go, the most dependent first.

    Those are the objects that this owner declared before and does so no more; every undeclared object of a kind in
    ``prune``; and ``guest`` unless it is declared. What another owner declares stays, and so does what lies inside a
    virtual host that goes as a whole; and what was there before the collection came, unless its kind is in ``prune``.
    """
    have, want = index(present), index(wanted)
    mine, others = _recorded(present, owner)
    pruned = set(prune)
    older = found_before(present)
    spared = {(name,) for name in keep_users}
    found: list[tuple[str, Key]] = []
    for kind in reversed(list(KEYS)):
        for key in have[kind]:
            declared = key in want[kind] or (kind, key) in others or (kind == "users" and key in spared)
            if declared or ((kind, key) in older and kind not in pruned):
                continue
            if (kind, key) in mine or kind in pruned or (kind, key) == ("users", ("guest",)):
                found.append((kind, key))
    going_vhosts = {name for kind, (name, *_rest) in found if kind == "vhosts"}
    going_users = {name for kind, (name, *_rest) in found if kind == "users"}
    return [
        (kind, key)
        for kind, key in found
        if kind in ("users", "vhosts")
        or not (key[0] in going_vhosts or (kind.endswith("permissions") and key[1] in going_users))
    ]


def exchange_in_use(key: Key, present: Document, going: Iterable[tuple[str, Key]]) -> bool:
    """Tell whether an exchange would still route messages after the removal of ``going``."""
    gone = set(going)
    return any(
        binding[:2] == key and ("bindings", binding) not in gone and ("queues", (binding[0], binding[3])) not in gone
        for binding in index(present)["bindings"]
    )


def holds_delayed(kind: str, key: Key, present: Document) -> bool:
    """Tell whether an exchange, or one in a virtual host, may hold messages itself until their time comes.

    That is the type of the plugin rabbitmq_delayed_message_exchange, which does not say how many they are.
    """
    inside = [name for name, entry in index(present)["exchanges"].items() if entry.get("type") == "x-delayed-message"]
    return any(name == key if kind == "exchanges" else kind == "vhosts" and name[:1] == key for name in inside)


def _recorded(present: Document, owner: str) -> tuple[set[tuple[str, Key]], set[tuple[str, Key]]]:
    """Return the objects that the server's records list for ``owner``, and for all others."""
    mine: set[tuple[str, Key]] = set()
    others: set[tuple[str, Key]] = set()
    for entry in present.get("global_parameters", []):
        if not str(entry["name"]).startswith(_RECORD_PREFIX) or not isinstance(entry["value"], Mapping):
            continue
        target = mine if entry["name"] == record_name(owner) else others
        for kind, keys in entry["value"].items():
            if kind in KEYS:
                target.update((kind, tuple(str(part) for part in key)) for key in keys)
    return mine, others


def _compare_user(
    key: Key, entry: Document, existing: Document | None, credentials: Credentials, result: Comparison
) -> None:
    (name,) = key
    stored = str((existing or {}).get("password_hash") or "")
    algorithm = str((existing or {}).get("hashing_algorithm") or DEFAULT_ALGORITHM)
    if name in credentials.passwords:
        same = existing is not None and password_matches(credentials.passwords[name], stored, algorithm)
        wanted_hash = stored if same else hash_password(credentials.passwords[name])
        wanted_algorithm = algorithm if same else DEFAULT_ALGORITHM
    else:
        wanted_hash = credentials.hashes.get(name, "")
        wanted_algorithm = str(entry.get("hashing_algorithm") or DEFAULT_ALGORITHM)
        same = existing is not None and (stored, algorithm) == (wanted_hash, wanted_algorithm)
    limits = dict(entry.get("limits") or {})
    present_limits = dict((existing or {}).get("limits") or {})
    after = {"tags": _tags(entry.get("tags")), "limits": limits, "password": f"{MASK} (as declared)"}
    before = None
    if existing is not None:
        before = {
            "tags": _tags(existing.get("tags")),
            "limits": present_limits,
            "password": f"{MASK} ({'as declared' if same else 'another one'})",
        }
    if before == after:
        return
    result.changes.append(Change("users", key, before, after))
    result.document.setdefault("users", []).append(
        {
            "name": name,
            "password_hash": wanted_hash,
            "hashing_algorithm": wanted_algorithm,
            "tags": _tags(entry.get("tags")),
            "limits": limits,
        }
    )
    result.stray_limits += [(name, limit) for limit in sorted(present_limits) if limit not in limits]


def _key(kind: str, entry: Document) -> Key:
    return tuple(
        json.dumps(entry.get("arguments") or {}, sort_keys=True) if name == "arguments" else str(entry[name])
        for name in KEYS[kind]
    )


def _state(kind: str, entry: Document) -> dict[str, Any]:
    """Return the properties of an object beside its key, in one spelling for all server versions."""
    if kind == "vhosts":
        metadata = {**entry, **(entry.get("metadata") or {})}
        state = {name: metadata[name] for name in _VHOST_METADATA if name in metadata}
        if "tags" in state:
            state["tags"] = sorted(state["tags"])
        return state
    if kind == "queues":
        arguments = dict(entry.get("arguments") or {})
        queue_type = arguments.pop("x-queue-type", "classic")
        return {**_flags(entry, "durable", "auto_delete"), "type": queue_type, "arguments": arguments}
    if kind == "exchanges":
        arguments = dict(entry.get("arguments") or {})
        return {**_flags(entry, "durable", "auto_delete", "internal"), "type": entry["type"], "arguments": arguments}
    if kind == "policies":
        return {
            "pattern": entry["pattern"],
            "apply-to": entry.get("apply-to", "all"),
            "priority": entry.get("priority", 0),
            "definition": dict(entry["definition"]),
        }
    if kind == "parameters":
        return {"value": entry["value"]}
    # Permissions; a binding has nothing beside its key.
    return {name: entry.get(name, "") for name in ("configure", "write", "read") if name in entry}


def _comparable(kind: str, existing: Document, after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of an existing object, reduced to what the declaration and this server's version know."""
    before = _state(kind, existing)
    if kind != "vhosts":
        return before
    if not any(name in existing for name in ("metadata", *_VHOST_METADATA)):
        return dict(after)  # RabbitMQ before 3.11 does not tell, so there is nothing to compare.
    return {name: before.get(name) for name in after}


def _tags(tags: Any) -> list[str]:
    """Return a user's tags; old servers write them as text with commas."""
    words = tags.split(",") if isinstance(tags, str) else list(tags or [])
    return sorted(str(word).strip() for word in words if str(word).strip())


def _flags(entry: Document, *names: str) -> dict[str, bool]:
    return {name: bool(entry.get(name, name == "durable")) for name in names}


def topology(present: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of the durable queues, exchanges and bindings of each virtual host.

    Replies, events and remote control have queues of their own for as long as a process lives; they do not count.

    Arguments:
        present: the server's definitions.
    """
    found: dict[str, list[Any]] = {str(entry["name"]): [] for entry in present.get("vhosts", [])}
    lasting: set[tuple[str, str, str]] = set()
    for kind, entries in (("queue", present.get("queues", [])), ("exchange", present.get("exchanges", []))):
        for entry in entries:
            if entry.get("durable"):
                lasting.add((kind, entry["vhost"], entry["name"]))
                found.setdefault(entry["vhost"], []).append([kind, entry])
    for entry in present.get("bindings", []):
        if (entry["destination_type"], entry["vhost"], entry["destination"]) in lasting:
            found.setdefault(entry["vhost"], []).append(["binding", entry])
    texts = {name: sorted(json.dumps(entry, sort_keys=True) for entry in entries) for name, entries in found.items()}
    return {name: hashlib.sha256("\n".join(text).encode()).hexdigest() for name, text in texts.items()}
