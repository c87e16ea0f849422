# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the role redis: names, settings and users of a Redis or Valkey server for Celery. Pure functions."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.paths import CONFIG
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import Engine, engine_names
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_configuration import (
    memory_limit,
    sections,
    setting_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_replication import (
    is_replicated,
    replication_problems,
    replication_users,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_users import (
    account_problems,
    acl_rules,
    user_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.backup import Backup, Server, backup_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import check_platform
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.redis import VARIABLE, takeover_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import enough_clients
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: Clients need descriptors, the server some for itself (server.h: CONFIG_MIN_RESERVED_FDS is 32).
_OWN_DESCRIPTORS = 64
#: LimitNOFILE= of Debian's unit.
_PACKAGED_DESCRIPTORS = 65535
_PERSISTENCE = {"results": "rdb", "broker": "aof", "both": "aof"}


class Plan(Engine, total=False):
    """What the tasks and templates of the role read, with the names that go with the engine."""

    persistence: str
    leave_data: bool
    sections: list[dict[str, Any]]
    users: list[dict[str, str]]
    replicated: bool
    includes: list[str]
    limit_nofile: int
    kernel: list[dict[str, Any]]
    apt_release: str
    upgrade: bool
    backup: Backup


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return the plan for one host, and every mistake in its variables.

    Arguments:
        variables: the role's variables (``meta/argument_specs.yml``), already of the right types.
        facts: the host's ``ansible_facts``; empty when no host may be contacted, then nothing is said about it.
    """
    problems: list[Problem] = list(_client_problems(variables))
    variables = {**variables, "redis_maxclients": _clients(variables)}
    names = engine_names(str(variables["redis_implementation"]))
    problems += _platform_problems(variables, facts)
    problems += _bind_problems(variables)
    problems += _purpose_problems(variables)
    problems += _number_problems(variables)
    users = list(variables["redis_users"]) + list(variables["redis_extra_users"])
    remote = reaches_beyond_loopback([str(address) for address in variables["redis_bind"]])
    problems += user_problems(variables, users, remote=remote)
    problems += replication_problems(variables, facts)
    if is_replicated(variables):
        for account in ("redis_replication", "redis_sentinel"):
            problems += account_problems(account, variables, remote=True)
    persistence = _persistence(variables)
    problems += takeover_problems(names["engine"], persistence, facts, variables)
    memory, memory_problems = memory_limit(variables, facts, forks=persistence != "none")
    problems += memory_problems
    timeout = _quantity(parse_duration, "redis_timeout", variables, problems)
    keepalive = _quantity(parse_duration, "redis_tcp_keepalive", variables, problems)
    problems += _timeout_problems(variables, timeout)
    problems += setting_problems(variables["redis_settings"])
    backup, backup_problems = backup_of(_server(names, variables), variables["redis_backup"])
    problems += backup_problems
    if variables["redis_backup"] and persistence == "none":
        reason, instead = "says that nothing has to outlive a restart", "rdb or aof, or leave redis_backup out"
        problems.append(Problem("backup-of-nothing", "redis_persistence", "none", reason, instead))
    if problems:
        return {}, problems
    return {
        **names,
        "persistence": persistence,
        "leave_data": variables[VARIABLE] == "leave",
        "sections": sections(variables, names, persistence, memory, timeout, keepalive),
        "users": [
            {"name": variables["redis_admin_user"], "rules": "~* &* +@all"},
            *({"name": str(user["name"]), "rules": acl_rules(user)} for user in users),
            *replication_users(variables),
        ],
        "replicated": is_replicated(variables),
        "includes": [names["config"], *([names["replication"]] if is_replicated(variables) else [])],
        "limit_nofile": max(_PACKAGED_DESCRIPTORS, int(variables["redis_maxclients"]) + _OWN_DESCRIPTORS),
        "kernel": _kernel(variables),
        "apt_release": _apt_release(variables, facts),
        "upgrade": _true(variables["redis_upgrade"]),
        "backup": backup,
    }, []


def _server(names: Engine, variables: Mapping[str, Any]) -> Server:
    """Return whose backup is made."""
    return Server(
        role="redis",
        title=names["title"],
        kind=names["engine"],
        unit=names["unit"],
        user=names["user"],
        group=names["group"],
        # It stays where it is when the engine changes.
        program=f"{CONFIG}/redis-backup",
        arguments=("--user", str(variables["redis_admin_user"]), "--socket", names["socket"]),
        password=True,
    )


def _persistence(variables: Mapping[str, Any]) -> str:
    wanted = str(variables["redis_persistence"])
    return _PERSISTENCE[str(variables["redis_purpose"])] if wanted == "auto" else wanted


def _quantity(parse: Callable[[object], int], name: str, variables: Mapping[str, Any], problems: list[Problem]) -> int:
    try:
        return parse(variables[name])
    except UnreadableError as error:
        problems.append(error.of(name, variables[name]))
        return 0


def _platform_problems(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what the host's distribution cannot do."""
    backports = _true(variables["redis_backports"])
    if backports and not variables["redis_backports_mirror"]:
        reason, instead = "is needed with redis_backports", "the address of the Debian mirror that your hosts use"
        yield Problem("valkey-from-backports", "redis_backports_mirror", "", reason, instead)
        return
    problems = check_platform(facts)
    yield from problems
    on_debian = not problems and facts.get("distribution") == "Debian"
    # Testing and unstable may not have a number.
    twelve = str(facts.get("distribution_major_version", "")) == "12"
    if on_debian and twelve and variables["redis_implementation"] == "valkey" and not backports:
        reason = "is not in Debian 12, only in its backports"
        instead = "redis, or redis_backports: true and redis_backports_mirror beside it"
        yield Problem("only-in-backports", "redis_implementation", "valkey", reason, instead)


def _apt_release(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the suite to install from when it is not the host's own, "" otherwise."""
    return f"{facts.get('distribution_release', '')}-backports" if _true(variables["redis_backports"]) else ""


def _bind_problems(variables: Mapping[str, Any]) -> Iterator[Problem]:
    addresses = [str(address) for address in variables["redis_bind"]]
    if not addresses:
        instead = "at least one address, such as 127.0.0.1"
        yield Problem("listens-nowhere", "redis_bind", addresses, "listens nowhere", instead)
    for address in addresses:
        if address != "*" and _address(address) is None:
            instead = "addresses such as 127.0.0.1, 10.0.0.5 or -::1"
            yield Problem("not-an-ip-address", "redis_bind", address, "is not an IP address", instead)


def _number_problems(variables: Mapping[str, Any]) -> list[Problem]:
    """Return numbers that the server would not start with, or would serve nobody with."""
    ranges = {"redis_port": (1, 65535), "redis_maxclients": (32, 10_000_000), "redis_databases": (1, 10_000)}
    return [
        Problem("out-of-range", name, variables[name], "is out of range", f"a number from {low} to {high}")
        for name, (low, high) in ranges.items()
        if not low <= int(variables[name]) <= high
    ]


def _clients(variables: Mapping[str, Any]) -> int:
    """Return how many clients are served: what is written, or enough for those that are known."""
    return int(variables["redis_maxclients"]) or enough_clients(_connections(variables) or 0)


def _connections(variables: Mapping[str, Any]) -> int | None:
    """Return how many connections clients may have; None for what is no number."""
    text = str(variables["redis_connections"])
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _client_problems(variables: Mapping[str, Any]) -> Iterator[Problem]:
    needed, clients = _connections(variables), _clients(variables)
    if needed is None:
        instead = "a number such as 500, or leave it out"
        value = variables["redis_connections"]
        yield Problem("not-a-number", "redis_connections", value, "is not a whole number", instead)
    elif 32 <= clients < needed:
        reason = f"is too low for {needed} connections"
        yield Problem("too-few-for-clients", "redis_maxclients", clients, reason, f"{needed} or more, or leave it out")


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


def _purpose_problems(variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield combinations that lose messages.

    The server's policy is ``noeviction`` for results too unless the user says otherwise. An evicted result is a chord
    that never fires and a caller that waits for ever, without a word anywhere; a full server that evicts nothing makes
    the worker log an error, and results leave by themselves when they expire. For a broker there is no choice: of 20
    tasks that were waiting when the memory was full, allkeys-lru lost 12, and even the volatile-* policies evict the
    expiring queues of remote control and events.
    """
    purpose = str(variables["redis_purpose"])
    policy, persistence = str(variables["redis_maxmemory_policy"]), str(variables["redis_persistence"])
    if purpose != "results" and policy != "noeviction":
        reason = f"would delete waiting tasks on a server with redis_purpose: {purpose}"
        instead = "noeviction, or leave it out"
        yield Problem("delete-waiting-tasks", "redis_maxmemory_policy", policy, reason, instead)
    if purpose != "results" and persistence == "none":
        reason = f"would lose all waiting tasks at each restart of a server with redis_purpose: {purpose}"
        instead = "auto (which is aof here) or rdb"
        yield Problem("lose-all-waiting-tasks", "redis_persistence", persistence, reason, instead)


def _timeout_problems(variables: Mapping[str, Any], timeout: int) -> Iterator[Problem]:
    if timeout and variables["redis_purpose"] != "results":
        reason = "would cut off workers that wait for work in an empty queue"
        instead = "0 (dead peers are found by redis_tcp_keepalive)"
        yield Problem("timeout-cuts-waiting-workers", "redis_timeout", variables["redis_timeout"], reason, instead)


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
