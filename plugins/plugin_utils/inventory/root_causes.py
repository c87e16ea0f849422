# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hides consequences of other mistakes: a default derived from an unreadable value is wrong as well."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import KINDS
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology import derived
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_keys import KEYS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import OURS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import SOURCES
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.queue_names import is_queue

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence, Set


#: What a list or a longest time is gathered from: that a rule finds one of many, which can be read, to be unwise
#: makes what comes of all of them no less right.
_GATHERED = frozenset(source for sources in derived.SOURCES.values() for source in sources)
#: A name in a template: what a host sees of the others, by its key, or a variable.
_NAME = re.compile(rf"\bceleryops_stack\.(\w+)|\b((?:{'|'.join(OURS)})\w+)")


def root(variable: str) -> str:
    """Return the variable's name in a path such as ``celery_worker_classes.high.queues[0]``."""
    return re.split(r"[.\[ :]", variable)[0]


def without_consequences(problems: Sequence[Problem], defaults: Mapping[str, Any], given: Set[str]) -> list[Problem]:
    """Return the problems that somebody can mend where they are.

    A value that is handed on whole (a port in a URL) is wrong wherever it arrives. Of what is gathered from many values
    only one that cannot be read spoils the result: that two classes share a queue, say, must not hide that a queue ends
    in the name of another.

    Arguments:
        problems: all of them.
        defaults: the defaults of all roles' variables and the variables that join the roles, as they are written.
        given: names of the variables that the inventory sets: what is written there is a mistake of its own.
    """
    found = {(_path(problem), problem.readable) for problem in problems}
    spoilt = {
        variable
        for variable in {root(path) for path, _readable in found} - given
        for cause in causes(variable, defaults, given)
        if any(_spoils(path, cause, readable=readable) for path, readable in found)
    }
    return [problem for problem in problems if root(_path(problem)) not in spoilt]


def where_written(problems: Sequence[Problem], places: Mapping[str, str]) -> list[Problem]:
    """Return problems in which a queue that only a worker class names is told where that class names it.

    Arguments:
        problems: those of an app whose ``celery_app_queues`` nobody sets: it lists what the classes name.
        places: queue -> the variable, with its path, in which a class names it.
    """
    return [
        replace(problem, variable=places[problem.value])
        # What is no name of a queue the class itself tells of.
        if problem.variable == "celery_app_queues" and is_queue(problem.value) and problem.value in places
        else problem
        for problem in problems
    ]


def _spoils(path: str, cause: str, *, readable: bool) -> bool:
    """Whether what is wrong at ``path`` makes wrong whatever is worked out from what stands at ``cause``."""
    return not (readable and cause in _GATHERED) and _concerns(path, cause)


def _path(problem: Problem) -> str:
    """Return the variable of a problem with the path inside it."""
    return re.split(r"[\[ :]", problem.variable)[0]


def _concerns(path: str, cause: str) -> bool:
    """Whether what is wrong at ``path`` is what stands at ``cause``, all that it is part of, or meant to be it."""
    variable, *keys = path.split(".")
    known: Collection[str] = KINDS if variable == "celery_app_settings" else KEYS
    name, *wanted = cause.split(".")
    return variable == name and all(
        right in ("*", key) or (key not in known and closest(_modern(key), known, 0.6) == right)
        for key, right in zip(keys, wanted, strict=False)
    )


def _modern(key: str) -> str:
    """Return a key as it is spelt today: Celery's settings had capitals once."""
    return key.lower().removeprefix("celery_")


def causes(start: str, defaults: Mapping[str, Any], given: Set[str]) -> set[str]:
    """Return the variables, or keys in them, that the value of ``start``, which nobody sets, is worked out from."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name in given and name != start:
            continue
        for key, variable in _NAME.findall(str(defaults.get(name, ""))):
            new = {*SOURCES.get(key, ()), variable} - found - {""}
            found |= new
            ahead += new
    return found - {start}
