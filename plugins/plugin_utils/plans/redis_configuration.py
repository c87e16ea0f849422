# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of Redis or Valkey: memory, persistence, and the lines of the static file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_replication import replication_lines
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import SIZE_HELP, parse_size, show_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import Engine

_DIRECTIVE = re.compile(r"[a-z][a-z0-9-]*")
#: tls-key-file-pass, tls-client-key-file-pass, and what later servers may add.
_SECRET_DIRECTIVE = re.compile(r"pass|secret|token|credential")
_PERCENTAGE = re.compile(r"(\d{1,3})\s*%")
#: Part of the memory that the data may take at most. Writing an RDB file or rewriting the AOF forks, and every page
#: that changes meanwhile exists twice: in the worst case that is all of them. The rest is for the system and for the
#: buffers of connections, which maxmemory does not count in full.
_MEMORY_SHARE = {True: 60, False: 80}
_SMALLEST_MEMORY = 16 * 1024**2
_SNAPSHOTS = "3600 1 300 100 60 10000"
#: Directives that a variable sets, or that cannot be changed without breaking what the role promises.
_TAKEN: dict[str, str] = {
    "aclfile": "users in redis_users",
    "appenddirname": "nothing: files keep their names, so that a change of redis_persistence keeps the data",
    "appendfilename": "nothing: files keep their names, so that a change of redis_persistence keeps the data",
    "appendonly": "redis_persistence",
    "bind": "redis_bind",
    "daemonize": "nothing: systemd runs the server in the foreground",
    "databases": "redis_databases",
    "dbfilename": "nothing: files keep their names, so that a change of redis_persistence keeps the data",
    "dir": "nothing: the data directory is the package's",
    "include": "the settings themselves into redis_settings",
    "logfile": "nothing: the server logs to the journal",
    "loglevel": "redis_log_level",
    "masterauth": "nothing: a password does not belong in redis_settings, which is shown in diffs",
    "masteruser": "nothing: it belongs to replication",
    "maxclients": "redis_maxclients",
    "maxmemory": "redis_maxmemory",
    "maxmemory-policy": "redis_maxmemory_policy",
    "pidfile": "nothing: systemd knows the process",
    "port": "redis_port",
    "primaryauth": "nothing: a password does not belong in redis_settings, which is shown in diffs",
    "primaryuser": "nothing: it belongs to replication",
    "protected-mode": "nothing: it stays on",
    "replicaof": "nothing: the state file holds it, since a failover changes it",
    "replica-announce-ip": "redis_announce_ip",
    "requirepass": 'users in redis_users: the user "default" is off',
    "save": "redis_persistence",
    "slaveof": "nothing: the state file holds it, since a failover changes it",
    "supervised": "nothing: it is systemd's",
    "tcp-keepalive": "redis_tcp_keepalive",
    "timeout": "redis_timeout",
    "unixsocket": "nothing: the role uses the socket to administer the server",
    "unixsocketperm": "nothing: the role uses the socket to administer the server",
    "user": "users in redis_users",
}


def memory_limit(variables: Mapping[str, Any], facts: Mapping[str, Any], *, forks: bool) -> tuple[int, list[Problem]]:
    """Return maxmemory in bytes (0 when it depends on a host that is not known here), and what is wrong with it."""
    wanted = variables["redis_maxmemory"]
    host = int(facts.get("memtotal_mb") or 0) * 1024**2
    share = _MEMORY_SHARE[forks]
    why = "with persistence, whose fork needs the rest" if forks else "so that the system keeps the rest"
    advice = f"at most {share}%, or a size such as 2G of at most that much, {why}"
    percentage = _PERCENTAGE.fullmatch(str(wanted).strip())
    if percentage:
        part = int(percentage.group(1))
        if not 1 <= part <= share:
            reason = "of the host's memory is not a usable part"
            return 0, [Problem("memory-share-out-of-range", "redis_maxmemory", wanted, reason, advice)]
        # Whole mebibytes: readable, and the kernel's own share may move by some kilobytes from boot to boot.
        return (host * part // 100) // 1024**2 * 1024**2, []
    try:
        size = parse_size(wanted)
    except ValueError:
        instead = f"{SIZE_HELP}, or a percentage of the host's memory such as 25%"
        return 0, [Problem("not-a-size", "redis_maxmemory", wanted, "is not a size", instead)]
    if size < _SMALLEST_MEMORY:
        reason = "would mean no limit at all" if size == 0 else "is too little to work with"
        return 0, [Problem("no-limit", "redis_maxmemory", wanted, reason, "at least 16M, or a percentage such as 25%")]
    if host and 100 * size > share * host:
        reason = f"is too much for a host with {show_size(host)} of memory"
        return 0, [Problem("too-much-for-a-host", "redis_maxmemory", wanted, reason, advice)]
    return size, []


def setting_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the directives that the inventory gives."""
    for name, value in settings.items():
        # To Redis capitals mean nothing.
        where, plain = f"redis_settings.{name}", str(name).lower()
        if name == "cluster-enabled":
            if _scalar(value) != "no":
                reason = "cannot work: Celery does not support Redis Cluster"
                yield Problem("redis-cluster", where, value, reason, "no, and spread apps over servers")
        elif plain in _TAKEN:
            yield Problem("set-in-another-way", where, NOT_SHOWN, "is set in another way", _TAKEN[plain])
        elif _SECRET_DIRECTIVE.search(plain):
            reason = "is a secret, and redis_settings is shown in diffs"
            instead = "nothing, and a key without one that only the server reads"
            yield Problem("secret-in-settings", where, NOT_SHOWN, reason, instead)
        elif not _DIRECTIVE.fullmatch(str(name)):
            instead = "lower-case names such as slowlog-max-len"
            yield Problem("not-a-directive", where, value, "is not a directive", instead)
        for entry in value if isinstance(value, list) else [value]:
            if entry is None or isinstance(entry, (dict, list)) or "\n" in str(entry):
                instead = "text, a number, true, false or a list of these"
                yield Problem("not-a-value", where, entry, "is not a value", instead)


def _scalar(value: object) -> str:
    """Return a value as the configuration file has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or '""'


def sections(
    variables: Mapping[str, Any],
    names: Engine,
    persistence: str,
    memory: int,
    timeout: int,
    keepalive: int,
) -> list[dict[str, Any]]:
    """Return the static configuration: sections with a ``title`` and ``lines`` of directive and value."""
    saving: list[tuple[str, object]] = [("save", "")]
    if persistence in ("rdb", "aof"):
        saving.append(("save", _SNAPSHOTS))
    saving += [("appendonly", persistence == "aof"), ("appendfsync", "everysec"), ("dir", names["data_dir"])]
    sections: list[tuple[str, list[tuple[str, object]]]] = [
        (
            "Who may connect",
            [
                ("bind", " ".join(str(address) for address in variables["redis_bind"])),
                ("port", int(variables["redis_port"])),
                ("protected-mode", True),
                ("unixsocket", names["socket"]),
                ("unixsocketperm", "700"),
                ("aclfile", names["acl"]),
                ("maxclients", int(variables["redis_maxclients"])),
                ("timeout", timeout),
                ("tcp-keepalive", keepalive),
            ],
        ),
        (
            "Memory",
            [
                ("maxmemory", memory),
                ("maxmemory-policy", variables["redis_maxmemory_policy"]),
                ("databases", int(variables["redis_databases"])),
            ],
        ),
        # The state file may hold "save" lines that CONFIG REWRITE wrote; they add up, and an empty one clears them.
        (f"What survives a restart: {persistence}", saving),
        ("The journal has the log", [("loglevel", variables["redis_log_level"]), ("logfile", "")]),
    ]
    replication = replication_lines(variables, memory)
    if replication:
        sections.append(("One of several with the same data", replication))
    own = [
        (str(name), entry)
        for name, value in variables["redis_settings"].items()
        for entry in (value if isinstance(value, list) else [value])
    ]
    if own:
        sections.append(("From redis_settings", own))
    return [
        {"title": title, "lines": [{"name": name, "value": _scalar(value)} for name, value in lines]}
        for title, lines in sections
    ]
