# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the role sentinel: names, settings and users of a Sentinel of Redis or Valkey. Pure functions."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import Sentinel, sentinel_names
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_users import account_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import check_platform
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import ANNOUNCED, is_reachable
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: What a client asks for and listens to (redis-py 8.1, kombu 5.7; run with the results and the broker of Celery 5.7).
_CLIENT_RULES = (
    "resetkeys resetchannels &* -@all +auth +hello +client|getname +client|id +client|setname +client|setinfo "
    "+command +ping +role +sentinel|get-master-addr-by-name +sentinel|master +sentinel|masters +sentinel|myid "
    "+sentinel|replicas +sentinel|sentinels +subscribe +psubscribe +unsubscribe +punsubscribe"
)
#: The same for Redis 7.0, which does not know a subcommand, and an unknown name is an error.
_UNKNOWN_ON_7_0 = "+client|setinfo "
#: What a Sentinel runs on the others (sentinel.c of Redis 7.0 to 8.0 and Valkey 9.1).
_PEER_RULES = (
    "resetkeys resetchannels &__sentinel__:hello -@all +auth +hello +client|setname +ping +info +publish +subscribe "
    "+role +sentinel|is-master-down-by-addr"
)
_ACCOUNTS = ("sentinel_admin", "sentinel_client", "sentinel_peer")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Setting of a watched group of servers -> the variable with a duration for it.
_DURATIONS = {
    "down-after-milliseconds": "sentinel_down_after",
    "failover-timeout": "sentinel_failover_timeout",
}


class Plan(Sentinel, total=False):
    """What the tasks and templates of the role read, with the names that go with the engine.

    ``settings`` are those of the watched servers, as Sentinel has them: in milliseconds.
    """

    lines: list[dict[str, str]]
    users: list[dict[str, str]]
    master: str
    quorum: int
    settings: dict[str, int]
    servers: list[dict[str, Any]]
    others: list[dict[str, Any]]
    api: dict[str, Any]


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return the plan for one host, and every mistake in its variables.

    Arguments:
        variables: the role's variables (``meta/argument_specs.yml``), already of the right types.
        facts: the host's ``ansible_facts``; empty when no host may be contacted, then nothing is said about it.
    """
    problems: list[Problem] = [*_platform_problems(variables, facts), *_address_problems(variables)]
    problems += _user_problems(variables)
    if not _NAME.fullmatch(str(variables["sentinel_master_name"])):
        instead = "1 to 64 of A-Z, a-z, 0-9, _, . and -"
        value = variables["sentinel_master_name"]
        problems.append(Problem("not-a-masters-name", "sentinel_master_name", value, "is not a name", instead))
    settings = {"parallel-syncs": int(variables["sentinel_parallel_syncs"])}
    for setting, name in _DURATIONS.items():
        try:
            settings[setting] = parse_duration(variables[name]) * 1000
            if not settings[setting]:
                problems.append(Problem("too-short", name, variables[name], "must be longer than 0s", "3s"))
        except UnreadableError as error:
            problems.append(error.of(name, variables[name]))
    if settings["parallel-syncs"] < 1:
        value = variables["sentinel_parallel_syncs"]
        problems.append(Problem("out-of-range", "sentinel_parallel_syncs", value, "is out of range", "1 or more"))
    quorum, quorum_problems = _quorum(variables)
    problems += quorum_problems
    if problems:
        return {}, problems
    names = sentinel_names(str(variables["sentinel_implementation"]))
    own = str(variables[ANNOUNCED["sentinel"]])
    debian_12 = str(facts.get("distribution_major_version", "")) == "12"
    return {
        **names,
        "lines": _lines(variables, names, own),
        "users": _users(variables, setinfo=not (debian_12 and names["engine"] == "redis")),
        "master": str(variables["sentinel_master_name"]),
        "quorum": quorum,
        "settings": settings,
        "servers": [dict(node) for node in variables["sentinel_servers"]],
        "others": [dict(node) for node in variables["sentinel_nodes"] if str(node["host"]) != own],
        "api": {"host": _own_way([str(address) for address in variables["sentinel_bind"]]), "port": _port(variables)},
    }, []


def _port(variables: Mapping[str, Any]) -> int:
    return int(variables["sentinel_port"])


def _own_way(bind: Sequence[str]) -> str:
    """Return an address by which the host itself reaches its Sentinel; one with a dash may be missing."""
    first = next((address for address in bind if not address.startswith("-")), bind[0])
    plain = first.removeprefix("-")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plain, plain)  # noqa: S104 - compared, not bound


def _platform_problems(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Problem]:
    yield from check_platform(facts)
    twelve = str(facts.get("distribution_major_version", "")) == "12"
    if twelve and variables["sentinel_implementation"] == "valkey":
        instead = "redis, on all hosts of the groups redis and sentinel, or hosts with Debian 13"
        yield Problem("only-in-backports", "sentinel_implementation", "valkey", "is not in Debian 12", instead)


def _quorum(variables: Mapping[str, Any]) -> tuple[int, list[Problem]]:
    """Return how many Sentinels have to agree that the primary is gone: more than half unless a number is written."""
    number, written = len(variables["sentinel_nodes"]), str(variables["sentinel_quorum"])
    if written == "auto":
        return number // 2 + 1, []
    if not re.fullmatch(r"[0-9]{1,3}", written) or not 1 <= int(written) <= max(number, 1):
        reason, instead = f"is no number of the {number} Sentinels", "auto, which is more than half of them"
        return 0, [Problem("not-a-quorum", "sentinel_quorum", variables["sentinel_quorum"], reason, instead)]
    return int(written), []


def _address_problems(variables: Mapping[str, Any]) -> Iterator[Problem]:
    for address in map(str, variables["sentinel_bind"]):
        try:
            ipaddress.ip_address(address.removeprefix("-"))
        except ValueError:
            instead = "addresses such as 127.0.0.1, 10.0.0.5 or -::1"
            yield Problem("not-an-ip-address", "sentinel_bind", address, "is not an IP address", instead)
    own = str(variables[ANNOUNCED["sentinel"]])
    if len(variables["sentinel_nodes"]) > 1 and not is_reachable(own):
        reason = "is where the other Sentinels would have to find this one" if own else "is not known"
        instead = "an IP address of this host that they reach, or one in sentinel_bind"
        yield Problem("address-not-known", ANNOUNCED["sentinel"], own, reason, instead)
    if not variables["sentinel_bind"]:
        yield Problem("listens-nowhere", "sentinel_bind", [], "listens nowhere", "at least one address")
    if not 1 <= _port(variables) <= 65535:
        value = variables["sentinel_port"]
        yield Problem("out-of-range", "sentinel_port", value, "is out of range", "a number from 1 to 65535")


def _user_problems(variables: Mapping[str, Any]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for account in _ACCOUNTS:
        yield from account_problems(account, variables, remote=True)
        name = str(variables[f"{account}_user"])
        if name in seen:
            told = f"is the name of {seen[name]} too"
            yield Problem("name-taken", f"{account}_user", name, told, "another name")
        seen[name] = f"{account}_user"
    yield from account_problems("sentinel_server", variables, remote=True)


def _lines(variables: Mapping[str, Any], names: Sentinel, own: str) -> list[dict[str, str]]:
    """Return the static configuration as directives and values."""
    lines: list[tuple[str, object]] = [
        ("bind", " ".join(str(address) for address in variables["sentinel_bind"])),
        ("port", _port(variables)),
        # Nobody gets in without a user, as the default one is off.
        ("protected-mode", "no"),
        ("aclfile", names["acl"]),
        ("dir", names["state_dir"]),
        ("logfile", '""'),
        ("loglevel", variables["sentinel_log_level"]),
        ("sentinel deny-scripts-reconfig", "yes"),
    ]
    if own:
        lines += [("sentinel announce-ip", own), ("sentinel announce-port", _port(variables))]
    return [{"name": name, "value": str(value)} for name, value in lines]


def _users(variables: Mapping[str, Any], *, setinfo: bool) -> list[dict[str, str]]:
    """Return the users; in the order of their passwords in the tasks."""
    client = _CLIENT_RULES if setinfo else _CLIENT_RULES.replace(_UNKNOWN_ON_7_0, "")
    return [
        {"name": str(variables["sentinel_admin_user"]), "rules": "~* &* +@all"},
        {"name": str(variables["sentinel_client_user"]), "rules": client},
        {"name": str(variables["sentinel_peer_user"]), "rules": _PEER_RULES},
    ]
