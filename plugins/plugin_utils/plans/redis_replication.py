# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis or Valkey server that is one of several with the same data: who logs in to whom, and what it is told.

Who of them is the primary is in no variable and in no file of the role's: Sentinel decides that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import ANNOUNCED, is_reachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: What a replica runs on its primary (redis.io, "ACL": rules for Sentinel and replicas).
_REPLICA_RULES = "resetkeys resetchannels -@all +psync +replconf +ping"
#: What Sentinel runs on a server (as above; Redis 8.0 and Valkey 9.1 were run with it, and ACL LOG stayed empty).
_SENTINEL_RULES = (
    "resetkeys resetchannels &__sentinel__:hello -@all +multi +slaveof +replicaof +ping +exec +subscribe "
    "+config|rewrite +role +publish +info +client|setname +client|kill +script|kill"
)
_MIB = 1024**2
#: What a replica missed is sent again from there when it comes back: without it, all data are.
_MOST_BACKLOG = 64 * _MIB


def is_replicated(variables: Mapping[str, Any]) -> bool:
    """Whether a server is one of several."""
    return len(variables["redis_nodes"]) > 1


def replication_users(variables: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the users of the other servers and of Sentinel; in this order their passwords are hashed (tasks)."""
    if not is_replicated(variables):
        return []
    return [
        {"name": str(variables["redis_replication_user"]), "rules": _REPLICA_RULES},
        {"name": str(variables["redis_sentinel_user"]), "rules": _SENTINEL_RULES},
    ]


def first_primary(found: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``host`` and ``port`` of the server from which one that is new gets its data.

    Arguments:
        found: what the hosts of this run say of theirs (``redis_info``, ``replication``).
        nodes: all servers, in the order of the inventory.

    Raises:
        ValueError: where a server that was not looked at may be the one.
    """
    primaries = [one for one in found if one["role"] == "primary" and one["established"]]
    if primaries:
        # One that comes back from a failure is a primary for some seconds, and nobody follows it.
        best = max(primaries, key=lambda one: int(one["followers"]))
        return {"host": best["host"], "port": best["port"]}
    following = [one["primary"] for one in found if one["role"] == "replica" and one["established"]]
    if following:
        return dict(following[0])
    if len(found) < len(nodes):
        raise ValueError(
            "which of the servers in redis_nodes is the primary is not known, as not all of them were looked at: run "
            "this for all hosts of the group redis at once"
        )
    # None of them runs: the one with data, else the first.
    best = max(found, key=lambda one: (bool(one["established"]), bool(one["data"])))
    return {"host": best["host"], "port": best["port"]}


def replication_lines(variables: Mapping[str, Any], memory: int) -> list[tuple[str, object]]:
    """Return what the configuration of one of several servers has beside the others; nothing of a server that is alone.

    Arguments:
        variables: the role's variables.
        memory: ``maxmemory`` in bytes; 0 where it is not known yet.
    """
    if not is_replicated(variables):
        return []
    return [
        ("replica-announce-ip", variables[ANNOUNCED["redis"]]),
        ("replica-read-only", True),
        ("repl-diskless-sync", True),
        ("repl-timeout", 60),
        ("repl-backlog-size", min(_MOST_BACKLOG, max(_MIB, memory // 16 // _MIB * _MIB))),
        # A primary that has lost its replicas goes on: what is not stored is lost for certain (measured: an error that
        # Celery does not retry).
        ("min-replicas-to-write", 0),
    ]


def replication_problems(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what keeps a server from being one of several.

    Arguments:
        variables: the role's variables.
        facts: what is known of the host; empty before it was looked at.
    """
    if not is_replicated(variables):
        return
    variable = ANNOUNCED["redis"]
    nodes = [(str(node["host"]), str(node["port"])) for node in variables["redis_nodes"]]
    own = (str(variables[variable]), str(variables["redis_port"]))
    if not is_reachable(own[0]):
        reason = "is where the other servers and Sentinel would have to find this one" if own[0] else "is not known"
        instead = "an IP address of this host that they reach, or one in redis_bind"
        yield Problem("address-not-known", variable, own[0], reason, instead)
    elif facts and own not in nodes:
        instead = f"{own[0]} as well, with the port {own[1]}, or leave it out"
        yield Problem("does-not-name-this-server", "redis_nodes", nodes, f"does not name this server, {own}", instead)
    if len(set(nodes)) != len(nodes) and all(host for host, _port in nodes):
        instead = f"another {variable} or redis_port"
        yield Problem("names-a-server-twice", "redis_nodes", nodes, "names a server twice", instead)
    names = [str(user["name"]) for user in [*variables["redis_users"], *variables["redis_extra_users"]]]
    names.append(str(variables["redis_admin_user"]))
    for name in ("redis_replication_user", "redis_sentinel_user"):
        user = str(variables[name])
        if user in names:
            yield Problem("user-twice", name, user, "is another user's name already", "a name of its own")
        names.append(user)
