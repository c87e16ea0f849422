# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore does to a server: which objects RabbitMQ lacks, and whether Redis may be given other data.

Pure functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_differences import (
    KEYS,
    Credentials,
    Index,
    compare,
    index,
    label,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The account whose password everybody knows, and the parameter that names the cluster that the backup is of.
_GUEST, _CLUSTER = "guest", "internal_cluster_id"
_DATABASE = re.compile(r"^db\d+:keys=(\d+)", re.MULTILINE)
#: What redis-check-rdb and valkey-check-rdb say at their end.
_READ = re.compile(r"\[info\] (\d+) keys read")
_LOADED = re.compile(r"^rdb_last_load_keys_(?:loaded|expired):(\d+)", re.MULTILINE)


@dataclass
class Additions:
    """What RabbitMQ lacks of a backup.

    Arguments:
        document: of definitions, to be imported.
        added: the objects in it, in words.
        kept: the objects that the server has otherwise than the backup.
    """

    document: dict[str, list[Any]] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def additions(backup: Mapping[str, Any], present: Mapping[str, Any]) -> Additions:
    """Return what to add to RabbitMQ.

    Nothing that it has is changed: its queues hold messages, and the passwords of its users are those that the
    inventory has now.

    Arguments:
        backup: a document of definitions.
        present: that of the server.
    """
    wanted = {kind: [entry for entry in backup.get(kind, []) if not _of_guest(kind, entry)] for kind in KEYS}
    have, result = index(present), Additions()
    named = index(wanted)
    for kind, objects in named.items():
        absent = {key: entry for key, entry in objects.items() if key not in have[kind]}
        if kind == "bindings":
            absent = {key: entry for key, entry in absent.items() if _leads_somewhere(entry, named, have)}
        if absent:
            result.document[kind] = list(absent.values())
            result.added += [label(kind, key) for key in absent]
    names = {entry["name"] for entry in present.get("global_parameters", [])} | {_CLUSTER}
    parameters = [entry for entry in backup.get("global_parameters", []) if entry["name"] not in names]
    if parameters:
        result.document["global_parameters"] = parameters
        result.added += [f"global parameter {entry['name']}" for entry in parameters]
    hashes = {str(user["name"]): str(user.get("password_hash") or "") for user in wanted["users"]}
    comparison = compare(wanted, present, Credentials({}, hashes))
    for change in (*comparison.changes, *comparison.conflicts):
        # Each run of a server salts a password anew, so a hash says nothing.
        before = change.before
        if before is not None and (change.kind != "users" or before["tags"] != change.after["tags"]):
            result.kept.append(label(change.kind, change.key))
    return result


def _leads_somewhere(binding: Mapping[str, Any], *documents: Index) -> bool:
    """Whether a binding leads to a queue or an exchange that there is, or will be.

    RabbitMQ exports the bindings of exclusive queues, but not these queues, such as those by which workers are asked.
    An import refuses such a binding, and with it all that comes after it.
    """
    kind = "queues" if binding["destination_type"] == "queue" else "exchanges"
    name = str(binding["destination"])
    return name.startswith("amq.") or any((str(binding["vhost"]), name) in document[kind] for document in documents)


def _of_guest(kind: str, entry: Mapping[str, Any]) -> bool:
    return str(entry.get("name" if kind == "users" else "user")) == _GUEST and kind in (
        "users",
        "permissions",
        "topic_permissions",
    )


def keys_in(keyspace: str) -> int:
    """Return how many keys a server has in all of its databases, from ``INFO keyspace``."""
    return sum(int(number) for number in _DATABASE.findall(keyspace))


def why_not(found: Mapping[str, Any], keys: int, *, over: bool, watched: bool) -> str:
    """Return why a server of Redis is not given other data; empty when it may be.

    Arguments:
        found: what it says of its replication (``redis_engine.replication``).
        keys: how many the server has.
        over: whether the user has said that they may go.
        watched: whether there are Sentinels that can be told to leave it in its place.
    """
    if found["role"] != "primary":
        return "is a replica, which takes over the data of its primary whatever is restored here"
    if found["followers"] and not watched:
        return (
            f"has {found['followers']} replicas; it stops during the restore, and one of them may take its place "
            "meanwhile. Stop the replicas first, and start them afterwards: they take over what was restored"
        )
    if keys and not over:
        return f"holds {keys} keys, which would be gone; with celeryops_restore_over: true they are put aside instead"
    return ""


def keys_of_file(report: str) -> int:
    """Return how many keys a data file has, from what redis-check-rdb says of it; -1 when it does not say."""
    read = _READ.search(report)
    return int(read[1]) if read else -1


def keys_read(persistence: str) -> int:
    """Return how many keys a server read when it started, from ``INFO persistence`` (Redis 7.0, Valkey 8.0).

    Those that had expired by then are among them, and those that clients have taken since then.
    """
    return sum(int(number) for number in _LOADED.findall(persistence))
