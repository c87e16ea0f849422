# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes to tasks that no running worker has registered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def unregistered(
    answers: Sequence[Mapping[str, Any]], elsewhere: Iterable[str], hosts: int, limited: bool
) -> list[str]:
    """Return a warning for each route whose task or pattern no worker of any host has registered.

    Arguments:
        answers: what module ``workers`` returned for each host: ``tasks``, ``routes``, ``complete``.
        elsewhere: names and patterns of tasks that other workers run.
        hosts: how many hosts should have answered.
        limited: whether the run leaves hosts of the inventory out.
    """
    registered = {str(task) for answer in answers for task in answer.get("tasks", [])}
    if not registered:
        # A dry run before the first one: there is nobody to ask.
        return []
    routes = dict.fromkeys(str(route) for answer in answers for route in answer.get("routes", []))
    partial = limited or len(answers) < hosts or not all(answer.get("complete") for answer in answers)
    known = [*elsewhere]
    found = []
    for route in routes:
        if any(_matches(route, task) for task in registered) or any(_matches(entry, route) for entry in known):
            continue
        close = closest(route, registered, 0.6)
        instead = f"{close} (did you mean that?)" if close else "the name of a task that the app has"
        reason = "is a pattern that no task of a worker matches" if "*" in route else "is a task that no worker has"
        problem = Problem("route-matches-no-task", "celery_app_routes", route, reason, instead)
        more = "; list it in celery_worker_tasks_elsewhere if workers outside of this inventory run it"
        only = f" (not every worker was asked: {len(answers)} of {hosts} hosts)" if partial else ""
        found.append(f"{problem}{more}{only}")
    return found


def _matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is meant by ``pattern``, in which ``*`` stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name, re.DOTALL) is not None
