# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""The schedulers of Celery that run on a host and are none of this collection's. Looks only."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.listeners import unit_of
from ansible_collections.celeryops.stack.plugins.module_utils.ours import UNITS, app_of_unit, role_of

#: The options before Celery's subcommand that have a value (celery/bin/celery.py, 5.4 to 5.7).
_WITH_VALUE = frozenset(
    {"-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir", "-l", "--loglevel"}
)
#: A worker's option for a scheduler in it, alone or among others of one letter, such as -EB or -Bl; those before it
#: have no value (celery/bin/worker.py, 5.4 to 5.7: -D, -E).
_IN_A_WORKER = re.compile(r"-[DE]*B|--beat$")
#: How many words from the beginning Celery's own name may stand in: ``python -m celery``, ``python manage.py celery``.
_FIRST = 4


def scheduler_of(words: Sequence[str]) -> str | None:
    """Return which app a command line schedules for, empty when it does not say, and None when it schedules nothing.

    Arguments:
        words: of the process. Celery may have given it a title, in which its name stands in brackets
            (celery/apps/beat.py, ``set_process_title``).
    """
    plain = [word.strip("[]:") for one in words for word in one.split()]
    names = [os.path.basename(word) for word in plain[:_FIRST]]
    at = next((place for place, name in enumerate(names) if name in ("celery", "celerybeat")), None)
    if at is None or (at and not names[0].startswith("python")):
        return None
    rest = plain[at + 1 :]
    command, skip = ("beat" if names[at] == "celerybeat" else ""), False
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
        # It may end while it is looked at.
        with contextlib.suppress(OSError):
            with open(f"{proc}/{name}/cmdline", encoding="utf-8", errors="replace") as stream:
                app = scheduler_of(stream.read().rstrip("\0").split("\0"))
            if app is None:
                continue
            with open(f"{proc}/{name}/cgroup", encoding="utf-8", errors="replace") as stream:
                unit = unit_of(stream.read())
            if not _is_ours(unit, units):
                # The processes of a worker have its command line.
                found.setdefault((unit, app), {"pid": int(name), "unit": unit, "app": app})
    return list(found.values())


def _is_ours(unit: str, units: str) -> bool:
    """Whether a unit is of this collection; one whose file somebody has removed is told by its name."""
    path = f"{units}/{unit}"
    return bool(unit) and bool(role_of(path) or (app_of_unit(unit) and not os.path.lexists(path)))
