# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""What the units of an app have in common: the target, the sandbox, command lines and environments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import DURATION_HELP, parse_duration
from ansible_collections.celeryops.stack.plugins.plugin_utils.render import quote_systemd_word

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
_DIRECTIVE = re.compile(r"[A-Z][A-Za-z0-9]+")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:=,@+%-]+")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(
    r"PASSW(OR)?D|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|(^|_)(API|PRIVATE|ACCESS)?KEY$|(^|_)(DSN|PW)$", re.IGNORECASE
)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^\s@]+@", re.IGNORECASE)

#: An import path: package.module, or package.module:attribute.
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
#: A Linux account, as useradd accepts it.
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
#: Who can become root: Debian's groups (base-passwd), and those whose members hold a daemon that runs as root.
ALMIGHTY = frozenset({"root", "sudo", "wheel", "admin", "adm", "disk", "shadow", "docker", "lxd", "libvirt"})
_ABSOLUTE_PATH = re.compile(r"/[^\s:\"'\\%$]*")

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

#: Local servers that must be up first, and go down last. A unit that does not exist is ignored in After=.
START_AFTER = "network-online.target rabbitmq-server.service redis-server.service valkey-server.service"


def target_unit(app: str) -> str:
    """Return the target that holds all units of ``app``.

    The same text comes from three roles (workers, beat, Flower), whichever a host has, so that none undoes another's.
    """
    return "\n".join(
        [
            "# Managed by celeryops.stack (roles celery_worker, celery_beat, flower). Local changes are overwritten.",
            "[Unit]",
            f"Description=All Celery units of {app}",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def command_line(words: Iterable[object]) -> str:
    """Return ``words`` as the value of ExecStart=; only what needs quotes gets them."""
    return " ".join(
        str(word).replace("%", "%%") if _PLAIN_WORD.fullmatch(str(word)) else quote_systemd_word(word) for word in words
    )


def read_at_start(layout: Mapping[str, Any]) -> list[str]:
    """Return what a process of an app reads when it starts, beside its unit and its release: a newer one restarts it.

    Arguments:
        layout: the app's paths (``layout.app_layout``).
    """
    return [
        layout["settings"],
        layout["environment"],
        f"{layout['runtime']}/celeryops_runtime",
    ]


def with_environment(environment: Mapping[str, Any], words: Sequence[object]) -> list[object]:
    """Return the words of a command that gets ``environment`` on top of the app's.

    env(1) sets it and becomes the command, since a variable of EnvironmentFile= wins over one of Environment=, whatever
    their order (systemd.exec(5), version 257), and what is said of one class has to win over what is said of the app.
    """
    return (
        ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items()), *words]
        if environment
        else [*words]
    )


def sandbox(overrides: Mapping[str, Any], variable: str) -> tuple[list[str], list[Problem]]:
    """Return the lines of the sandbox, and the mistakes in what the user changes about it.

    Arguments:
        overrides: directive -> value; a list gives several lines, null removes the directive.
        variable: name of the variable that ``overrides`` comes from.
    """
    problems: list[Problem] = []
    merged: dict[str, Any] = dict(SANDBOX)
    for name, value in overrides.items():
        where = f"{variable}.{name}"
        if not isinstance(name, str) or not _DIRECTIVE.fullmatch(name):
            problems.append(Problem(where, name, "is not a systemd directive", "one such as MemoryDenyWriteExecute"))
        elif name in _OWN or name.endswith("Directory"):
            instead = _OWN.get(name, "the role's variables for directories")
            problems.append(Problem(where, value, "is set by the role itself", instead))
        elif any(not isinstance(entry, (str, int, float)) or "\n" in str(entry) for entry in _listed(value)):
            problems.append(Problem(where, value, "is not a value of a directive", "a text, number, boolean or list"))
        else:
            merged[str(name)] = value
    lines = [f"{name}={_directive_value(entry)}" for name, value in merged.items() for entry in _listed(value)]
    return lines, problems


def check_environment(environment: Mapping[Any, Any], variable: str) -> tuple[dict[str, str], list[Problem]]:
    """Return the environment of a unit as text, and its mistakes.

    A unit file can be read by everyone on the host, and systemd shows it over D-Bus, so nothing secret may be in it.

    Arguments:
        environment: name -> value.
        variable: name of the variable that it comes from.
    """
    problems: list[Problem] = []
    result: dict[str, str] = {}
    for name, value in environment.items():
        where = f"{variable}.{name}"
        if not isinstance(name, str) or not _ENVIRONMENT_NAME.fullmatch(name):
            problems.append(Problem(where, name, "is not a name of an environment variable", "letters, digits and _"))
        elif name == "C_FORCE_ROOT":
            problems.append(Problem(where, value, "lets Celery run as root", "nothing here: nothing runs as root"))
        elif name.startswith(("CELERY_", "CELERYOPS_", "NOTIFY_", "WATCHDOG_")) or name == "PYTHONPATH":
            problems.append(
                Problem(where, "(hidden)", "belongs to the shared configuration", "it with role celery_app")
            )
        elif _SECRET_NAME.search(name) or _URL_WITH_PASSWORD.search(str(value)):
            reason = "looks like a secret, and everyone on the host can read a unit file"
            problems.append(Problem(where, "(hidden)", reason, "it into celery_app_environment"))
        elif not isinstance(value, (str, int, float)) or "\n" in str(value):
            problems.append(Problem(where, value, "is not one line of text", "a text or a number"))
        else:
            result[str(name)] = _directive_value(value) if isinstance(value, bool) else str(value)
    return result, problems


def check_identity(prefix: str, variables: Mapping[str, Any]) -> list[Problem]:
    """Return the mistakes in the variables that name the app, its import path, its user and its group.

    Arguments:
        prefix: the role's prefix, such as ``celery_worker``.
        variables: the role's variables.
    """
    problems: list[Problem] = []
    target = variables.get(f"{prefix}_import")
    if target is not None and not IMPORT_PATH.fullmatch(str(target)):
        problems.append(
            Problem(f"{prefix}_import", target, "is not an import path", "one such as shop.celery:app (what -A takes)")
        )
    for kind in ("user", "group"):
        name = variables.get(f"{prefix}_{kind}")
        if name is None:
            continue
        if str(name) in ALMIGHTY:
            problems.append(Problem(f"{prefix}_{kind}", name, "has all rights", "an account that only this app uses"))
        elif not ACCOUNT.fullmatch(str(name)):
            problems.append(Problem(f"{prefix}_{kind}", name, "is not an account name", "one such as shop"))
    return problems


def check_writable_paths(paths: Iterable[Any], variable: str) -> tuple[list[str], list[Problem]]:
    """Return the extra directories that a unit may write to, and the mistakes among them."""
    good: list[str] = []
    problems: list[Problem] = []
    for position, path in enumerate(paths):
        text = str(path)
        where = f"{variable}[{position}]"
        if not _ABSOLUTE_PATH.fullmatch(text) or ".." in text.split("/"):
            problems.append(Problem(where, path, "is not an absolute path", "a directory such as /srv/media"))
        elif any(_within(text, protected) for protected in ("/etc", "/usr", "/opt/celeryops")) or text == "/":
            reason = "holds code or configuration, which no worker may write to"
            problems.append(Problem(where, path, reason, "a directory that holds data only"))
        else:
            good.append(text)
    return good, problems


def check_host(facts: Mapping[str, Any]) -> list[Problem]:
    """Return why a host cannot carry the units; nothing is said about a host whose facts are not known."""
    problems: list[Problem] = []
    family, manager = facts.get("os_family"), facts.get("service_mgr")
    if family is not None and family != "Debian":
        name = facts.get("distribution", family)
        problems.append(
            Problem("ansible_facts['distribution']", name, "is not supported", "a host with Debian 12 or newer")
        )
    if manager is not None and manager != "systemd":
        problems.append(Problem("ansible_facts['service_mgr']", manager, "cannot run the units", "a host with systemd"))
    return problems


def read_duration(variables: Mapping[str, Any], name: str, minimum: int) -> tuple[int, list[Problem]]:
    """Return the variable ``name`` in seconds, and what is wrong with it."""
    value = variables[name]
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        reason, _separator, instead = str(error).partition("; write ")
        return minimum, [Problem(name, value, reason, instead)]
    if seconds < minimum:
        return minimum, [Problem(name, value, f"is shorter than {minimum}s", DURATION_HELP)]
    return seconds, []


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _directive_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
