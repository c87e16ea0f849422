# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the role ``redis``: names, settings and users of a Redis or Valkey server for Celery. Pure functions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import Engine, engine_names
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.passwords import weakness
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import (
    SIZE_HELP,
    parse_duration,
    parse_size,
    show_size,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.redis_takeover import VARIABLE, takeover_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.service_units import check_platform

#: What the ACL of a user is made of. Celery 5.7 with kombu 5.7 was run with exactly these rules on Redis 7.0 and
#: Valkey 8.0 (priorities, ETA, chord, group, retry, revoke, inspect, events, purge) and ACL LOG stayed empty.
#: Scripting is part of it: chords and expiring queues use EVALSHA. +@connection instead of single commands, since
#: "client setinfo", which clients send, is unknown to Redis 7.0 and an unknown command name is an error.
_COMMON_COMMANDS = "-@all +@connection +@transaction +publish +subscribe +unsubscribe"
_SCRIPTING = "+evalsha +eval +script|load +script|exists"
_BROKER_COMMANDS = (
    "+psubscribe +punsubscribe -@dangerous +lpush +rpush +rpop +brpop +llen +sadd +srem +smembers +set +get +del "
    "+exists +hset +hget +hdel +zadd +zrem +zrange +zrevrangebyscore +zrangebyscore +pexpire " + _SCRIPTING + " +time"
)
_RESULT_COMMANDS = (
    "-@dangerous +get +mget +set +setex +del +exists +expire +incr +incrby +zadd +zcount +zrange +rpush +lrange +llen "
    "+sadd +sismember +hincrby +hgetall +pttl " + _SCRIPTING
)
_RESULT_KEYS = ("celery-task-meta-", "celery-taskset-meta-", "chord-unlock-")
#: What the runtime keeps beside the results: who ran a task of celery_app_once, and how many duplicates were dropped.
_ONCE_KEYS = "celeryops-once"
#: RedBeat's schedule and lock, and what it does with them (celery-redbeat 2.4.2). Whether an app uses it may stand in
#: its own settings, which nobody here sees.
_SCHEDULE_KEYS = "redbeat:"
_SCHEDULE_COMMANDS = (
    "-@dangerous +smembers +sadd +srem +zadd +zrem +zrangebyscore +zrank +hset +hsetnx +hget +get +set +del +pexpire "
    "+pttl " + _SCRIPTING
)
#: Keys of kombu's own in a broker database: bindings, unacknowledged messages, replies to "inspect", event queues.
_BROKER_KEYS = ("_kombu.binding*", "unacked*", "*.reply.celery.pidbox*", "celeryev.*", "*.celery.pidbox*")

_PURPOSES = ("results", "broker", "both")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
#: Text that goes into an ACL pattern as it is: nothing that Redis reads as a wildcard or as the end of the rule.
_PATTERN_TEXT = re.compile(r"[A-Za-z0-9_.:@/-]+")
_DIRECTIVE = re.compile(r"[a-z][a-z0-9-]*")
#: tls-key-file-pass, tls-client-key-file-pass, and what later servers may add.
_SECRET_DIRECTIVE = re.compile(r"pass|secret|token|credential")
_PERCENTAGE = re.compile(r"(\d{1,3})\s*%")
#: Rules that would undo what this role promises: passwords come from "password" only, and every user has one.
_FORBIDDEN_RULES = re.compile(r"on|off|nopass|reset|resetpass|sanitize-payload|skip-sanitize-payload|[<>#!].*")

#: Passwords of servers that others can reach: Redis answers hundreds of thousands of guesses a second.
_SHORTEST_REMOTE_PASSWORD = 16

#: Part of the memory that the data may take at most. Writing an RDB file or rewriting the AOF forks, and every page
#: that changes meanwhile exists twice: in the worst case that is all of them. The rest is for the system and for the
#: buffers of connections, which maxmemory does not count in full.
_MEMORY_SHARE = {True: 60, False: 80}
_SMALLEST_MEMORY = 16 * 1024**2

#: Clients need descriptors, the server some for itself (server.h: CONFIG_MIN_RESERVED_FDS is 32).
_OWN_DESCRIPTORS = 64
#: LimitNOFILE= of Debian's unit.
_PACKAGED_DESCRIPTORS = 65535

_SNAPSHOTS = "3600 1 300 100 60 10000"
_PERSISTENCE = {"results": "rdb", "broker": "aof", "both": "aof"}

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
    "masterauth": "nothing: a password does not belong into redis_settings, which is shown in diffs",
    "masteruser": "nothing: it belongs to replication",
    "maxclients": "redis_maxclients",
    "maxmemory": "redis_maxmemory",
    "maxmemory-policy": "redis_maxmemory_policy",
    "pidfile": "nothing: systemd knows the process",
    "port": "redis_port",
    "primaryauth": "nothing: a password does not belong into redis_settings, which is shown in diffs",
    "primaryuser": "nothing: it belongs to replication",
    "protected-mode": "nothing: it stays on",
    "replicaof": "nothing: the state file holds it, since a failover changes it",
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


class Plan(Engine, total=False):
    """What the tasks and templates of the role read, with the names that go with the engine."""

    persistence: str
    leave_data: bool
    sections: list[dict[str, Any]]
    users: list[dict[str, str]]
    limit_nofile: int
    kernel: list[dict[str, Any]]
    apt_release: str
    upgrade: bool


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return the plan for one host, and every mistake in its variables.

    Arguments:
        variables: the role's variables (``meta/argument_specs.yml``), already of the right types.
        facts: the host's ``ansible_facts``; empty when no host may be contacted, then nothing is said about it.
    """
    problems: list[Problem] = []
    names = engine_names(str(variables["redis_implementation"]))
    problems += _platform_problems(variables, facts)
    problems += _bind_problems(variables)
    problems += _purpose_problems(variables)
    problems += _number_problems(variables)
    users = list(variables["redis_users"]) + list(variables["redis_extra_users"])
    problems += _user_problems(variables, users)
    persistence = _persistence(variables)
    problems += takeover_problems(names["engine"], persistence, facts, variables)
    memory, memory_problems = _memory(variables, facts, forks=persistence != "none")
    problems += memory_problems
    timeout = _quantity(parse_duration, "redis_timeout", variables, problems)
    keepalive = _quantity(parse_duration, "redis_tcp_keepalive", variables, problems)
    problems += _timeout_problems(variables, timeout)
    problems += _setting_problems(variables["redis_settings"])
    if problems:
        return {}, problems
    return {
        **names,
        "persistence": persistence,
        "leave_data": variables[VARIABLE] == "leave",
        "sections": _sections(variables, names, persistence, memory, timeout, keepalive),
        "users": [
            {"name": variables["redis_admin_user"], "rules": "~* &* +@all"},
            *({"name": str(user["name"]), "rules": acl_rules(user)} for user in users),
        ],
        "limit_nofile": max(_PACKAGED_DESCRIPTORS, int(variables["redis_maxclients"]) + _OWN_DESCRIPTORS),
        "kernel": _kernel(variables),
        "apt_release": _apt_release(variables, facts),
        "upgrade": _true(variables["redis_upgrade"]),
    }, []


def acl_rules(user: Mapping[str, Any]) -> str:
    """Return the rules of a user, without its name and password.

    Arguments:
        user: an item of ``redis_users``: ``purpose``, ``key_prefix``, ``databases``, ``queues``, ``rules``.
    """
    purpose, prefix = user.get("purpose") or "results", str(user.get("key_prefix") or "")
    own_rules = " ".join(str(user.get("rules") or "").split())
    if purpose == "custom":
        # Without a category of its own a new user may run nothing and see nothing.
        return f"resetkeys resetchannels -@all {own_rules}".strip()
    databases = [int(database) for database in user.get("databases") or [0]]
    broker, results = purpose in ("broker", "both"), purpose in ("results", "both")
    keys: list[str] = []
    channels: list[str] = []
    commands = [_COMMON_COMMANDS]
    if broker:
        keys += [f"{prefix}*"] if prefix else [*_BROKER_KEYS, *(f"{queue}*" for queue in _queues(user))]
        # PSUBSCRIBE is allowed only for a pattern that is in the list word for word, so all three are needed.
        channels += [
            f"{prefix}/{database}.{channel}"
            for database in databases
            for channel in ("celery.pidbox", "celeryev/*", "celeryev/worker.*")
        ]
        commands.append(_BROKER_COMMANDS)
    if results:
        keys += [] if broker and prefix else [f"{prefix}{key}*" for key in (*_RESULT_KEYS, _ONCE_KEYS, _SCHEDULE_KEYS)]
        channels += [f"{prefix}{key}*" for key in _RESULT_KEYS[:2]]
        commands += [_RESULT_COMMANDS, _SCHEDULE_COMMANDS]
    return " ".join(
        [
            *(f"~{key}" for key in keys),
            "resetchannels",
            *(f"&{channel}" for channel in channels),
            *_without_repetition(commands),
            *([own_rules] if own_rules else []),
        ]
    )


def _without_repetition(commands: Iterable[str]) -> list[str]:
    """Return the command rules, each once and at its first place, all denials before the single commands.

    ``-@dangerous`` takes away what came before it, so it has to stand before what is granted by name.
    """
    words = list(dict.fromkeys(word for text in commands for word in text.split()))
    categories = [word for word in words if "@" in word]
    return [*categories, *(word for word in words if "@" not in word)]


def _queues(user: Mapping[str, Any]) -> list[str]:
    return [str(queue) for queue in user.get("queues") or []]


def _persistence(variables: Mapping[str, Any]) -> str:
    wanted = str(variables["redis_persistence"])
    return _PERSISTENCE[str(variables["redis_purpose"])] if wanted == "auto" else wanted


def _quantity(parse: Callable[[object], int], name: str, variables: Mapping[str, Any], problems: list[Problem]) -> int:
    try:
        return parse(variables[name])
    except UnreadableError as error:
        problems.append(error.of(name, variables[name]))
        return 0


def _platform_problems(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Problem]:
    """Return what the host's distribution cannot do."""
    if _true(variables["redis_backports"]) and not variables["redis_backports_mirror"]:
        instead = "the address of the Debian mirror that your hosts use"
        return [Problem("redis_backports_mirror", "", "is needed with redis_backports", instead)]
    problems = check_platform(facts)
    if problems or facts.get("distribution") != "Debian":
        return problems
    version = _debian(facts)
    if variables["redis_implementation"] == "valkey" and version == 12 and not _true(variables["redis_backports"]):
        return [
            Problem(
                "redis_implementation",
                "valkey",
                "is not in Debian 12, only in its backports",
                "redis, or redis_backports: true and redis_backports_mirror beside it",
            )
        ]
    return []


def _debian(facts: Mapping[str, Any]) -> int | None:
    """Return Debian's major version; None for testing and unstable, which may not have a number."""
    version = str(facts.get("distribution_major_version", ""))
    return int(version) if version.isdigit() else None


def _apt_release(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the suite to install from when it is not the host's own, "" otherwise."""
    return f"{facts.get('distribution_release', '')}-backports" if _true(variables["redis_backports"]) else ""


def _bind_problems(variables: Mapping[str, Any]) -> list[Problem]:
    addresses = [str(address) for address in variables["redis_bind"]]
    if not addresses:
        return [Problem("redis_bind", addresses, "listens nowhere", "at least one address, such as 127.0.0.1")]
    return [
        Problem("redis_bind", address, "is not an IP address", "addresses such as 127.0.0.1, 10.0.0.5 or -::1")
        for address in addresses
        if address != "*" and _address(address) is None
    ]


def _number_problems(variables: Mapping[str, Any]) -> list[Problem]:
    """Return numbers that the server would not start with, or would serve nobody with."""
    ranges = {"redis_port": (1, 65535), "redis_maxclients": (32, 10_000_000), "redis_databases": (1, 10_000)}
    return [
        Problem(name, variables[name], "is out of range", f"a number from {low} to {high}")
        for name, (low, high) in ranges.items()
        if not low <= int(variables[name]) <= high
    ]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address of ``redis_bind``; a dash in front of it means that it may be missing on the host."""
    try:
        return ipaddress.ip_address(text.removeprefix("-"))
    except ValueError:
        return None


def reaches_beyond_loopback(addresses: Sequence[str]) -> bool:
    """Whether one of the addresses of ``redis_bind`` can be reached from another host."""
    parsed = [_address(str(address)) for address in addresses]
    return any(address is None or not address.is_loopback for address in parsed)


def _purpose_problems(variables: Mapping[str, Any]) -> list[Problem]:
    """Return combinations that lose messages.

    The server's policy is ``noeviction`` for results too unless the user says otherwise. An evicted result is a chord
    that never fires and a caller that waits for ever, without a word anywhere; a full server that evicts nothing makes
    the worker log an error, and results leave by themselves when they expire. For a broker there is no choice: of 20
    tasks that were waiting when the memory was full, allkeys-lru lost 12, and even the volatile-* policies evict the
    expiring queues of remote control and events.
    """
    purpose = str(variables["redis_purpose"])
    if purpose == "results":
        return []
    problems = []
    policy, persistence = str(variables["redis_maxmemory_policy"]), str(variables["redis_persistence"])
    if policy != "noeviction":
        problems.append(
            Problem(
                "redis_maxmemory_policy",
                policy,
                f"would delete waiting tasks on a server with redis_purpose: {purpose}",
                "noeviction, or leave it out",
            )
        )
    if persistence == "none":
        problems.append(
            Problem(
                "redis_persistence",
                persistence,
                f"would lose all waiting tasks at each restart of a server with redis_purpose: {purpose}",
                "auto (which is aof here) or rdb",
            )
        )
    return problems


def _timeout_problems(variables: Mapping[str, Any], timeout: int) -> list[Problem]:
    if timeout == 0 or variables["redis_purpose"] == "results":
        return []
    return [
        Problem(
            "redis_timeout",
            variables["redis_timeout"],
            "would cut off workers that wait for work in an empty queue",
            "0 (dead peers are found by redis_tcp_keepalive)",
        )
    ]


def _memory(variables: Mapping[str, Any], facts: Mapping[str, Any], *, forks: bool) -> tuple[int, list[Problem]]:
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
            return 0, [Problem("redis_maxmemory", wanted, "of the host's memory is not a usable part", advice)]
        # Whole mebibytes: readable, and the kernel's own share may move by some kilobytes from boot to boot.
        return (host * part // 100) // 1024**2 * 1024**2, []
    try:
        size = parse_size(wanted)
    except ValueError:
        instead = f"{SIZE_HELP}, or a percentage of the host's memory such as 25%"
        return 0, [Problem("redis_maxmemory", wanted, "is not a size", instead)]
    if size < _SMALLEST_MEMORY:
        reason = "would mean no limit at all" if size == 0 else "is too little to work with"
        return 0, [Problem("redis_maxmemory", wanted, reason, "at least 16M, or a percentage such as 25%")]
    if host and 100 * size > share * host:
        reason = f"is too much for a host with {show_size(host)} of memory"
        return 0, [Problem("redis_maxmemory", wanted, reason, advice)]
    return size, []


def _user_problems(variables: Mapping[str, Any], users: Sequence[Mapping[str, Any]]) -> list[Problem]:
    problems: list[Problem] = []
    remote = reaches_beyond_loopback([str(address) for address in variables["redis_bind"]])
    admin = str(variables["redis_admin_user"])
    problems += _name_problems("redis_admin_user", admin)
    problems += _password_problems("redis_admin_password", variables["redis_admin_password"], admin, remote=remote)
    own = len(variables["redis_users"])
    seen = {admin: "redis_admin_user"}
    for index, user in enumerate(users):
        where = f"redis_users[{index}]" if index < own else f"redis_extra_users[{index - own}]"
        name = str(user["name"])
        problems += _name_problems(f"{where}.name", name)
        if name in seen:
            told, other = f"{where}.name", seen[name]
            if index >= own and other.startswith("redis_users"):
                # People write the one, and the playbook the other.
                told, other = (
                    f"{other}.name",
                    "an account in redis_extra_users, where the playbook has those of the apps,",
                )
            problems.append(Problem(told, name, f"is the name of {other} too", "another name"))
        seen.setdefault(name, where)
        problems += _password_problems(f"{where}.password", user["password"], name, remote=remote)
        problems += _scope_problems(where, user, variables)
        problems += _rule_problems(where, user)
    return problems


def _name_problems(where: str, name: str) -> list[Problem]:
    if not _NAME.fullmatch(name):
        return [Problem(where, name, "is not a user's name", "1 to 64 of A-Z, a-z, 0-9, _, . and -")]
    if name == "default":
        return [Problem(where, name, "is the user of clients that name none, and is switched off", "another name")]
    return []


def _password_problems(where: str, password: object, user: str, *, remote: bool) -> list[Problem]:
    """Return what is wrong with a user's password, without showing it."""
    text = str(password or "")
    if not text:
        reason = "is empty, and redis_bind lets other hosts in" if remote else "is empty"
        return [Problem(where, "", reason, "a password: no user is without one")]
    reason = weakness(text, user, _SHORTEST_REMOTE_PASSWORD) if remote else ""
    if not reason:
        return []
    told = f"{reason}, and redis_bind lets other hosts guess"
    return [Problem(where, NOT_SHOWN, told, f"at least {_SHORTEST_REMOTE_PASSWORD} random characters")]


def _scope_problems(where: str, user: Mapping[str, Any], variables: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with what a user may reach."""
    purpose = str(user.get("purpose") or "results")
    prefix = str(user.get("key_prefix") or "")
    problems: list[Problem] = []
    if purpose in _PURPOSES:
        served = str(variables["redis_purpose"])
        if served not in (purpose, "both"):
            problems.append(
                Problem(
                    f"{where}.purpose",
                    purpose,
                    f"is not what this server is set up for (redis_purpose: {served})",
                    "redis_purpose: both, or another purpose for the user",
                )
            )
        if purpose != "results" and not prefix and not _queues(user):
            problems.append(
                Problem(
                    f"{where}.queues",
                    _queues(user),
                    "leaves a broker's user without a queue",
                    "the names of the app's queues, or a key_prefix",
                )
            )
    # Celery puts an underscore between prefix and key of results unless the prefix ends in one of : _ - . and kombu
    # puts nothing: with ":" both agree.
    if prefix and (not prefix.endswith(":") or not _PATTERN_TEXT.fullmatch(prefix)):
        problems.append(
            Problem(f"{where}.key_prefix", prefix, "is not a prefix", "letters, digits, _ . - and a : at its end")
        )
    problems += [
        Problem(f"{where}.queues", queue, "cannot be part of an ACL", "letters, digits and _ . : @ / - only")
        for queue in _queues(user)
        if not _PATTERN_TEXT.fullmatch(queue)
    ]
    count = int(variables["redis_databases"])
    problems += [
        Problem(f"{where}.databases", database, "is not a database of this server", f"numbers from 0 to {count - 1}")
        for database in user.get("databases") or [0]
        if not 0 <= int(database) < count
    ]
    return problems


def _rule_problems(where: str, user: Mapping[str, Any]) -> list[Problem]:
    rules = str(user.get("rules") or "")
    if str(user.get("purpose") or "results") == "custom" and not rules.strip():
        return [Problem(f"{where}.rules", rules, "lets a custom user do nothing", "rules such as ~cache:* +@read")]
    return [
        Problem(
            f"{where}.rules",
            NOT_SHOWN if rule[0] in "<>#!" else rule,
            "is not for rules",
            "keys, channels and commands there, and the password in password",
        )
        for rule in rules.split()
        if _FORBIDDEN_RULES.fullmatch(rule)
    ]


def _setting_problems(settings: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for name, value in settings.items():
        # To Redis capitals mean nothing.
        where, plain = f"redis_settings.{name}", str(name).lower()
        if name == "cluster-enabled":
            if _scalar(value) != "no":
                reason = "cannot work: Celery does not support Redis Cluster"
                problems.append(Problem(where, value, reason, "no, and spread apps over servers"))
        elif plain in _TAKEN:
            problems.append(Problem(where, NOT_SHOWN, "is set in another way", _TAKEN[plain]))
        elif _SECRET_DIRECTIVE.search(plain):
            reason = "is a secret, and redis_settings is shown in diffs"
            problems.append(
                Problem(where, NOT_SHOWN, reason, "nothing, and a key without one that only the server reads")
            )
        elif not _DIRECTIVE.fullmatch(str(name)):
            problems.append(Problem(where, value, "is not a directive", "lower-case names such as slowlog-max-len"))
        problems += [
            Problem(where, entry, "is not a value", "text, a number, true, false or a list of these")
            for entry in (value if isinstance(value, list) else [value])
            if entry is None or isinstance(entry, (dict, list)) or "\n" in str(entry)
        ]
    return problems


def _scalar(value: object) -> str:
    """Return a value as the configuration file has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or '""'


def _true(value: object) -> bool:
    """Return a truth value, which ``-e name=false`` on the command line delivers as text."""
    return str(value).lower() in ("true", "yes", "on", "1", "y", "t")


def _kernel(variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the kernel settings that the server needs."""
    if not _true(variables["redis_manage_kernel"]):
        return []
    return [
        # Or the fork that saves the data is refused when more than half of the memory is in use.
        {"key": "vm.overcommit_memory", "value": 1, "minimum": False},
        # The queue of connections that wait to be accepted; the kernel silently shortens tcp-backlog to it.
        {"key": "net.core.somaxconn", "value": 4096, "minimum": True},
    ]


def _sections(
    variables: Mapping[str, Any],
    names: Mapping[str, Any],
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
