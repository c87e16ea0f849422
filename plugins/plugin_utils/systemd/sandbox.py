# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of a unit, and the directives that users may change.

systemd runs a unit's file as root, and many a directive gives root back that the sandbox takes: a command before the
start, a group, a capability. So the directives that may be changed are a list, and every other one is refused.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import check_writable_paths, directive_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Directives of systemd.exec(5) under which a prefork, threads, gevent and solo worker, beat and Flower were seen to
#: work. A worker's own needs (files, memory, processor) come from the plan of its role, not from here.
SANDBOX: Mapping[str, str | list[str]] = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0027",
}

#: Directives that the roles set themselves, and the variable that a person wants instead.
_OWN = {
    "Type": "nothing: readiness depends on it",
    "NotifyAccess": "nothing: readiness depends on it",
    "ExecStart": "the variables of the role",
    "User": "the role's variable for the user",
    "Group": "the role's variable for the group",
    "DynamicUser": "the role's variable for the user",
    "Environment": "the role's variable for the environment",
    "EnvironmentFile": "the role's variable for the environment",
    "WorkingDirectory": "nothing: it must be a directory that the service cannot write to",
    "KillMode": "nothing: another value kills running tasks",
    "KillSignal": "nothing: another value kills running tasks",
    "TimeoutStartSec": "start_timeout",
    "TimeoutStopSec": "stop_timeout",
    "WatchdogSec": "watchdog",
    "Nice": "nice",
    "CPUWeight": "cpu_weight",
    "IOWeight": "io_weight",
    "MemoryHigh": "memory_high",
    "MemoryMax": "memory_max",
    "TasksMax": "tasks_max",
}
_SWITCHES = ("yes", "no")
#: Directives with a choice of words (systemd.exec(5), version 252 to 257), which make the sandbox looser or tighter.
_CHOICES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        [
            "LockPersonality", "MemoryDenyWriteExecute", "PrivateDevices", "PrivateIPC", "PrivateMounts",
            "PrivateNetwork", "ProtectClock", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
            "ProtectKernelTunables", "RemoveIPC", "RestrictRealtime", "RestrictSUIDSGID",
        ],
        _SWITCHES,
    ),
    "DevicePolicy": ("auto", "closed", "strict"),
    "KeyringMode": ("inherit", "private", "shared"),
    "PrivateTmp": (*_SWITCHES, "disconnected"),
    "PrivateUsers": (*_SWITCHES, "self", "identity"),
    "ProcSubset": ("all", "pid"),
    "ProtectControlGroups": (*_SWITCHES, "private", "strict"),
    "ProtectHome": (*_SWITCHES, "read-only", "tmpfs"),
    "ProtectProc": ("noaccess", "invisible", "ptraceable", "default"),
    "ProtectSystem": (*_SWITCHES, "full", "strict"),
}  # fmt: skip
#: Words that systemd 252, Debian 12's, does not know. It ignores a line with one of them, which would leave less of a
#: sandbox than without it; so this word comes before it, and is what holds there.
_BEFORE_NEWER: Mapping[tuple[str, str], str] = dict.fromkeys(
    [
        ("PrivateTmp", "disconnected"), ("PrivateUsers", "self"), ("PrivateUsers", "identity"),
        ("ProtectControlGroups", "private"), ("ProtectControlGroups", "strict"),
    ],
    "yes",
)  # fmt: skip
#: Lists of words, numbers or addresses: what is allowed to the unit, or how much (systemd.exec(5) and
#: systemd.resource-control(5)).
_WORDS = frozenset(
    {
        "AllowedCPUs", "AllowedMemoryNodes", "CPUAffinity", "CPUQuota", "DeviceAllow", "IOReadBandwidthMax",
        "IOReadIOPSMax", "IOWriteBandwidthMax", "IOWriteIOPSMax", "IPAddressAllow", "IPAddressDeny", "LimitAS",
        "LimitCORE", "LimitCPU", "LimitDATA", "LimitFSIZE", "LimitMEMLOCK", "LimitNOFILE", "LimitNPROC", "LimitSTACK",
        "MemoryLow", "MemoryMin", "MemorySwapMax", "OOMScoreAdjust", "RestrictAddressFamilies", "RestrictFileSystems",
        "RestrictNamespaces", "RestrictNetworkInterfaces", "SocketBindAllow", "SocketBindDeny",
        "SystemCallArchitectures", "SystemCallErrorNumber", "SystemCallFilter", "SystemCallLog", "UMask",
    }
)  # fmt: skip
#: Lists of paths that take something away.
_CLOSED_PATHS = frozenset({"ExecPaths", "InaccessiblePaths", "NoExecPaths", "ReadOnlyPaths"})
_OPEN_PATHS = "ReadWritePaths"
#: What holds the rest together: without them a task becomes root, by a setuid program such as sudo or by a capability.
#: An app that needs such a program has it done by a service of its own.
_FIXED: Mapping[str, str] = {
    "NoNewPrivileges": "lets a task become root through any setuid program",
    "AmbientCapabilities": "gives tasks rights of root",
    "CapabilityBoundingSet": "lets a task gain rights of root",
}
_WHY_NOT = (
    (
        re.compile(r"Exec.*"),
        "runs a command beside the service, with rights that the service does not have",
        "a unit of your own that is ordered before or after this one",
    ),
    (
        re.compile(r"SupplementaryGroups"),
        "gives tasks the rights of other accounts",
        "nothing here, and open the files to the app's own group (chgrp, setfacl)",
    ),
)
ALLOWED = frozenset({*_CHOICES, *_WORDS, *_CLOSED_PATHS, _OPEN_PATHS, *_FIXED})
_DIRECTIVE = re.compile(r"[A-Z][A-Za-z0-9]+")
_UMASK = re.compile(r"0?[0-7]{3}")
_TRUE, _FALSE = ("1", "yes", "y", "true", "t", "on"), ("0", "no", "n", "false", "f", "off")


def sandbox(overrides: Mapping[str, Any], variable: str) -> tuple[list[str], list[Problem]]:
    """Return the lines of the sandbox, and the mistakes in what the user changes about it.

    Arguments:
        overrides: directive -> value; a list gives several lines, null removes the directive.
        variable: name of the variable that ``overrides`` comes from.
    """
    problems: list[Problem] = []
    lines = dict(_USUAL)
    for name, value in overrides.items():
        found = list(_check(name, value, f"{variable}.{name}"))
        problems += found
        if not found:
            lines[str(name)] = _lines(name, value)
    return list(itertools.chain.from_iterable(lines.values())), problems


def _lines(name: str, value: Any) -> list[str]:
    """Return the lines of one directive."""
    lines: list[str] = []
    for entry in _listed(value):
        older = _BEFORE_NEWER.get((name, _word(entry)))
        lines += [f"{name}={word}" for word in (older, directive_value(entry)) if word is not None]
    return lines


def _check(name: Any, value: Any, where: str) -> Iterator[Problem]:
    if not isinstance(name, str) or not _DIRECTIVE.fullmatch(name):
        reason = "is not a systemd directive"
        yield Problem("not-a-systemd-directive", where, name, reason, "one such as MemoryDenyWriteExecute")
    elif name in _OWN or name.endswith("Directory"):
        instead = _OWN.get(name, "the role's variables for directories")
        yield Problem("set-by-the-role-itself", where, value, "is set by the role itself", instead)
    elif name in _FIXED:
        if value is None or [_word(entry) for entry in _listed(value)] != [_word(SANDBOX[name])]:
            instead = "nothing: what needs such rights belongs in a service of its own"
            yield Problem("directive-fixed", where, value, _FIXED[name], instead)
    elif name not in ALLOWED:
        reason, instead = next(
            ((why, what) for pattern, why, what in _WHY_NOT if pattern.fullmatch(name)),
            ("is not a directive of the sandbox that may be changed", _meant(name)),
        )
        yield Problem("directive-not-allowed", where, value, reason, instead)
    elif any(not isinstance(entry, (str, int, float)) or "\n" in str(entry) for entry in _listed(value)):
        yield Problem("not-a-value", where, value, "is not a value of a directive", "a text, number, boolean or list")
    else:
        for entry in _listed(value):
            yield from _check_entry(name, entry, where)


def _meant(name: str) -> str:
    """Return the directive that was meant; all of them would be a list that nobody reads."""
    close = did_you_mean(name, [other for other in ALLOWED if other not in _FIXED])
    return close if not close.startswith("one of") else "one such as MemoryDenyWriteExecute or ReadWritePaths"


def _check_entry(name: str, value: Any, where: str) -> Iterator[Problem]:
    """Yield what is wrong with one value of a directive that may be changed."""
    text = directive_value(value).strip()
    if name in _CHOICES:
        if _word(value) not in _CHOICES[name]:
            yield Problem("not-a-choice", where, value, "is not one of its values", did_you_mean(text, _CHOICES[name]))
    elif name == "UMask":
        if not isinstance(value, str):
            # To YAML, 0077 is the number 63, which systemd takes for 0063: whoever should read nothing reads all.
            reason = "is a number to YAML, which reads 0077 as 63"
            yield Problem("yaml-number", where, value, reason, 'it in quotes, such as "0077"')
        elif not _UMASK.fullmatch(text):
            # systemd ignores it, and every account may read what tasks write.
            instead = 'three or four digits in quotes, such as "0077"'
            yield Problem("no-mask-of-permissions", where, value, "is not a mask of permissions", instead)
    elif text.startswith(("+", "!")):
        # Before a path it means one on the host instead of one in the sandbox, before a command more rights.
        reason = "begins with a sign that lifts the sandbox"
        yield Problem("lifts-the-sandbox", where, value, reason, text.lstrip("+!"))
    elif name == _OPEN_PATHS:
        # A dash lets the path be missing.
        for path in text.split():
            _good, found = check_writable_paths([path.removeprefix("-")], where)
            yield from (Problem(problem.id, where, path, problem.reason, problem.instead) for problem in found)
    elif name in _CLOSED_PATHS:
        for path in text.split():
            if not path.removeprefix("-").startswith("/"):
                reason = "is not an absolute path"
                yield Problem("not-an-absolute-path", where, path, reason, "a directory such as /srv/media")


def _word(value: Any) -> str:
    """Return the word of a switch in one spelling (systemd.syntax(7))."""
    text = directive_value(value).strip()
    lower = text.lower()
    return "yes" if lower in _TRUE else "no" if lower in _FALSE else text


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


#: What stands in every unit that nobody changes, once for the classes of all hosts.
_USUAL: Mapping[str, list[str]] = {name: _lines(name, value) for name, value in SANDBOX.items()}
