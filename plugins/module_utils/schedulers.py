# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Celery schedulers on a host that the collection did not start. Read-only."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.listeners import unit_of
from ansible_collections.celeryops.stack.plugins.module_utils.ours import app_of_unit, role_of
from ansible_collections.celeryops.stack.plugins.module_utils.paths import UNITS
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The options before Celery's subcommand that have a value (celery/bin/celery.py, 5.4 to 5.7).
_WITH_VALUE = frozenset(
    {"-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir", "-l", "--loglevel"}
)
#: A worker's option for a scheduler in it, alone or among others of one letter, such as -EB or -Bl; those before it
#: have no value (celery/bin/worker.py, 5.4 to 5.7: -D, -E).
_IN_A_WORKER = re.compile(r"-[DE]*B|--beat$")
#: Celery's program, by the names that it is started with.
_CELERY = {"celery": "celery", "celery.__main__": "celery", "celery.bin.celery": "celery", "celerybeat": "celerybeat"}
#: Programs that run the one behind them, and words of theirs. One that is not here does no harm: whether it becomes
#: the program behind it or starts it, that one has a command line without it.
_LAUNCHERS = frozenset({
    "bash", "catatonit", "chpst", "chrt", "coverage", "cProfile", "dash", "ddtrace-run", "debugpy", "docker-init",
    "dumb-init", "env", "exec", "ionice", "newrelic-admin", "nice", "nohup", "numactl", "opentelemetry-instrument",
    "pipenv", "poetry", "run", "run-program", "runuser", "setpriv", "setsid", "sh", "stdbuf", "sudo", "systemd-run",
    "taskset", "timeout", "tini", "uv",
})  # fmt: skip
#: Options of theirs, and of Python's, whose value is the next word; of long ones nobody can tell. Not -c and -m: what
#: follows them is a program or a number.
_BEFORE_VALUE = frozenset({"-C", "-D", "-W", "-X", "-g", "-k", "-n", "-o", "-s", "-u"})
_OPTION_OR_VARIABLE = re.compile(r"-|\w+=")
_NUMBER = re.compile(r"[0-9][0-9a-fx.,:-]*[smhd]?")


def scheduler_of(words: Sequence[str]) -> str | None:
    """Return which app a command line schedules for, empty when it does not say, and None when it schedules nothing.

    Arguments:
        words: of the process. Celery may have given it a title, in which its name stands in brackets
            (celery/apps/beat.py, ``set_process_title``).
    """
    plain = [word.strip("[]:") for one in words for word in one.split()]
    for at, word in enumerate(plain):
        name = _CELERY.get(_program(word))
        app = _scheduled(name, plain[at + 1 :]) if name else None
        # What is called celery may be an account, of sudo -u.
        if app is not None or not _leads_on(word, plain[at - 1] if at else ""):
            return app
    return None


def _program(word: str) -> str:
    """Return the name of the program that a word may be, or of the package that a file is the main one of."""
    if _OPTION_OR_VARIABLE.match(word):
        return ""
    folder, name = os.path.split(word)
    return os.path.basename(folder) if name == "__main__.py" else name


def _leads_on(word: str, before: str) -> bool:
    """Whether the program that a command line is about may stand behind a word, when it may behind those before it.

    Arguments:
        word: of the command line.
        before: the word before it; empty for the first one.
    """
    name, interpreter = _program(word), ("python", "pypy")
    if name in _LAUNCHERS or name.startswith(interpreter):
        return True
    if not before:
        return False
    return bool(
        _OPTION_OR_VARIABLE.match(word)
        or _NUMBER.fullmatch(word)
        or before in _BEFORE_VALUE
        or (before.startswith("--") and before != "--" and "=" not in before)
        # A script such as manage.py, whatever it is called.
        or word.endswith(".py")
        or _program(before).startswith(interpreter)
    )


def _scheduled(name: str, rest: Sequence[str]) -> str | None:
    """Return which app Celery schedules for when it is started with these words, as ``scheduler_of`` does.

    Arguments:
        name: ``celery``, or ``celerybeat``, which had no subcommand.
        rest: what stands behind it.
    """
    command, skip = ("beat" if name == "celerybeat" else ""), False
    for word in rest:
        if command or skip:
            skip = False
        elif word.startswith("-"):
            skip = word in _WITH_VALUE
        else:
            command = word
    # A worker may have a scheduler in it.
    if command != "beat" and not (command == "worker" and any(map(_IN_A_WORKER.match, rest))):
        return None
    text = " ".join(rest)
    match = re.search(r"(?:^| )(?:-A[ =]?|--app[ =])(\S+)", text)
    return match[1] if match else ""


def look(proc: str = "/proc", units: str = UNITS) -> list[dict[str, Any]]:
    """Return the schedulers: ``pid``, ``unit`` (empty without) and ``app``, as the command line names it."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in sorted((name for name in os.listdir(proc) if name.isdigit()), key=int):
        # It may end while it is looked at, and has neither words nor a unit then.
        app = scheduler_of(text_of(f"{proc}/{name}/cmdline").rstrip("\0").split("\0"))
        if app is None:
            continue
        group = text_of(f"{proc}/{name}/cgroup")
        unit = unit_of(group)
        if group and not _is_ours(unit, units):
            # The processes of a worker have its command line.
            found.setdefault((unit, app), {"pid": int(name), "unit": unit, "app": app})
    return list(found.values())


def _is_ours(unit: str, units: str) -> bool:
    """Whether a unit is of this collection; one whose file somebody has removed is told by its name."""
    path = f"{units}/{unit}"
    return bool(unit) and bool(role_of(path) or (app_of_unit(unit) and not os.path.lexists(path)))
