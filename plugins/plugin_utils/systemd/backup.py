# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup of a server: its variable, the program that runs on the host, and the two units that run it.

The roles of the servers share all of it. Pure functions.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from ansible_collections.celeryops.stack.plugins.module_utils.masking import looks_like_a_secret
from ansible_collections.celeryops.stack.plugins.module_utils.paths import STATE, UNITS
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, holds_password
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.sandbox import SANDBOX
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import check_writable_paths, command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEEP = 14
#: Hosts that have one schedule do not all begin at once. The same on each day, so that intervals stay what they are.
_SPREAD = "5min"
#: A command that hangs must not keep the next backups from being made. A choice.
_LONGEST = "6h"
#: What is not for a unit that runs as the account of another one, whose shared memory would go with the first one that
#: ends; and the rights of files, which are for their owner alone here.
_NOT_SHARED = ("RemoveIPC", "UMask")
#: What the tool of the server cannot do without: Erlang compiles at run time.
_WITHOUT: Mapping[str, tuple[str, ...]] = {"rabbitmq": ("MemoryDenyWriteExecute",)}
#: Directories that others have things in, and where servers keep what is backed up.
_SHARED = frozenset({"/var/backups", "/var/cache", "/var/lib", "/var/local", "/var/log", "/var/mail", "/var/spool"})
_OF_SERVERS = ("/var/lib/rabbitmq", "/var/lib/redis", "/var/lib/valkey", STATE)

_WORDS = ("minutely", "hourly", "daily", "monthly", "weekly", "yearly", "annually", "quarterly", "semiannually")
_DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*"
_DAYS = rf"{_DAY}(?:(?:\.\.|-|,){_DAY})*"
#: Of a date or a time: a number, a range, with a step, or a list of them.
_PART = r"(?:\*|[0-9]{1,4}(?:\.\.[0-9]{1,4})?)(?:/[0-9]{1,4})?"
_PARTS = rf"{_PART}(?:,{_PART})*"
_DATE = rf"(?:{_PARTS}-)?{_PARTS}[-~]{_PARTS}"
_TIME = rf"{_PARTS}:{_PARTS}(?::{_PARTS})?"
_ZONE = r"(?:UTC|[A-Za-z]+(?:/[A-Za-z0-9_+-]+)+)"
_CALENDAR = re.compile(
    rf"(?:{'|'.join(_WORDS)}|{_DAYS}|(?:{_DAYS}\s+)?{_DATE}|(?:{_DAYS}\s+)?(?:{_DATE}\s+)?{_TIME})(?:\s+{_ZONE})?",
    re.IGNORECASE,
)
#: The hour and the minute of a time, where they are plain numbers.
_CLOCK = re.compile(r"(?:^|\s)([0-9]{1,4}):([0-9]{1,4})(?::([0-9]{1,4}))?(?:\s|$)")


class Server(NamedTuple):
    """Whose backup it is.

    Arguments:
        role: that the variable is of.
        title: of the server.
        kind: of backup (``backup_program.KINDS``).
        unit: of the server.
        user: that the server runs as; the backup does too.
        group: of that account.
        program: where the program is placed, without its ending; a file with its environment lies beside it.
        arguments: of the program, beside what the variable says.
        password: whether its environment has a password.
    """

    role: str
    title: str
    kind: str
    unit: str
    user: str
    group: str
    program: str
    arguments: tuple[str, ...] = ()
    password: bool = False


class Backup(TypedDict):
    """What the tasks of a role read; lists are empty where nothing is backed up.

    ``directory`` is empty where nothing is backed up, and ``service`` is the unit that makes a backup. The contents of
    ``programs`` and ``passwords`` are the role's to give, those of ``files`` their ``text``; ``stale`` is what goes.
    ``units`` and ``prune`` are as in the modules ``files`` and ``units``.
    """

    directory: str
    service: str
    directories: list[dict[str, str]]
    programs: list[dict[str, str]]
    passwords: list[dict[str, str]]
    files: list[dict[str, str]]
    stale: list[dict[str, str]]
    units: list[dict[str, Any]]
    prune: dict[str, Any]


def directory_of(role: str, given: Mapping[str, Any]) -> str:
    """Return where the backups of a role go.

    Arguments:
        role: ``rabbitmq`` or ``redis``.
        given: its variable, not empty.
    """
    return str(given.get("directory") or f"/var/backups/celeryops-{role}")


def backup_of(server: Server, given: Mapping[str, Any]) -> tuple[Backup, list[Problem]]:
    """Return the backup of a server, and what is wrong with its variable.

    Arguments:
        server: whose backup it is.
        given: the variable; empty when nothing is to be backed up.
    """
    variable = f"{server.role}_backup"
    stem = f"celeryops-backup-{server.role}"
    program, password = f"{server.program}.py", f"{server.program}.env"
    result: Backup = {
        "directory": "",
        "service": f"{stem}.service",
        "directories": [],
        "programs": [],
        "passwords": [],
        "files": [],
        "stale": [{"path": program}, *([{"path": password}] if server.password else [])],
        "units": [],
        "prune": {"glob": f"{stem}.*", "markers": [f"role {server.role})"]},
    }
    if not given:
        return result, []
    problems = [*_problems(variable, given)]
    if problems:
        return result, problems
    directory = directory_of(server.role, given)
    words = [
        "/usr/bin/python3", program, "--kind", server.kind, "--directory", directory,
        "--keep", given.get("keep", KEEP), *server.arguments,
    ]  # fmt: skip
    words += ["--", *given["command"]] if given.get("command") else []
    schedule = str(given["schedule"]).strip()
    return {
        **result,
        "directory": directory,
        "directories": [{"path": directory}],
        "programs": [{"path": program}],
        "passwords": [{"path": password}] if server.password else [],
        "files": [
            {"path": f"{UNITS}/{stem}.service", "text": _service(server, command_line(words), directory, password)},
            {
                "path": f"{UNITS}/{stem}.timer",
                "text": _timer(server, schedule),
                "validate": shlex.join(["systemd-analyze", "calendar", schedule]),
            },
        ],
        "stale": [],
        "units": [{"name": f"{stem}.timer", "enabled": True, "state": "started"}, {"name": f"{stem}.service"}],
    }, []


def _head(server: Server, what: str) -> list[str]:
    return ["[Unit]", f"Description={what} {server.title}"]


def _service(server: Server, command: str, directory: str, password: str) -> str:
    """Return the unit that makes one backup."""
    sandbox = [
        f"{name}={value}"
        for name, values in SANDBOX.items()
        if name not in (*_NOT_SHARED, *_WITHOUT.get(server.kind, ()))
        for value in (values if isinstance(values, list) else [values])
    ]
    return _text(
        [
            *_head(server, "Backup of"),
            f"After={server.unit}",
            "",
            "[Service]",
            "Type=oneshot",
            f"User={server.user}",
            f"Group={server.group}",
            *([f"EnvironmentFile={password}"] if server.password else []),
            f"ExecStart={command}",
            f"TimeoutStartSec={_LONGEST}",
            "Nice=10",
            "IOSchedulingClass=idle",
            *sandbox,
            "UMask=0077",
            f"ReadWritePaths={command_line([directory])}",
        ]
    )


def _timer(server: Server, schedule: str) -> str:
    return _text(
        [
            *_head(server, "Regular backups of"),
            "",
            "[Timer]",
            f"OnCalendar={schedule}",
            f"RandomizedDelaySec={_SPREAD}",
            "FixedRandomDelay=true",
            # One that was due while the host was off is made when it is on again.
            "Persistent=true",
            "",
            "[Install]",
            "WantedBy=timers.target",
        ]
    )


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _problems(variable: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    schedule = str(given.get("schedule") or "").strip()
    if not schedule:
        reason, instead = "is missing", "one such as daily, or leave the whole variable out to make no backups"
        yield Problem("no-schedule", f"{variable}.schedule", None, reason, instead)
    elif not is_calendar(schedule):
        reason = "is not a time of systemd's calendar"
        instead = 'one such as daily, "03:30" or "Mon..Fri *-*-* 03:30" (systemd.time(7))'
        yield Problem("not-a-calendar-time", f"{variable}.schedule", schedule, reason, instead)
    keep = given.get("keep", KEEP)
    if not re.fullmatch("[0-9]{1,6}", str(keep)) or int(keep) < 1:
        yield Problem("keeps-no-backup", f"{variable}.keep", keep, "is not a number of backups", "1 or more")
    if given.get("directory"):
        yield from _directory_problems(f"{variable}.directory", str(given["directory"]))
    yield from _command_problems(f"{variable}.command", [str(word) for word in given.get("command") or ()])


def is_calendar(text: str) -> bool:
    """Whether systemd would take a text as OnCalendar= (systemd.time(7)); it looks more closely on the host."""
    if not _CALENDAR.fullmatch(text):
        return False
    clock = _CLOCK.search(text)
    return not clock or (int(clock[1]) < 24 and int(clock[2]) < 60 and int(clock[3] or 0) < 60)


def _directory_problems(where: str, directory: str) -> Iterator[Problem]:
    # The variable is one directory, not a list of them.
    found = [
        Problem(one.id, where, one.value, one.reason, one.instead)
        for one in check_writable_paths([directory], where)[1]
    ]
    yield from found
    clean = posixpath.normpath(directory)
    instead = "a directory for these backups alone, such as /srv/backups/redis"
    if not found and (clean in _SHARED or clean.count("/") < 2):
        reason = "has other things in it, and would become the server's own"
        yield Problem("shared-directory", where, directory, reason, instead)
    elif not found and any(f"{clean}/".startswith(f"{one}/") for one in _OF_SERVERS):
        reason = "is where the data are that a backup has to outlive"
        yield Problem("backup-beside-the-data", where, directory, reason, instead)


def _command_problems(where: str, words: list[str]) -> Iterator[Problem]:
    if words and not re.fullmatch(r"(/[A-Za-z0-9_.+-]+)+", words[0]):
        instead = (
            'a list that begins with its absolute path, such as [/usr/bin/rclone, copy, "{file}", "store:backups"]'
        )
        yield Problem("not-a-command", where, words[0], "is not the path of a program", instead)
    for word in words[1:]:
        if named_like_a_secret(word.partition("=")[0]) or holds_password(word) or looks_like_a_secret(word):
            reason = "would be readable by everyone on the host"
            instead = "it into a file that only the server's account may read"
            yield Problem("readable-by-everyone", where, NOT_SHOWN, reason, instead)
