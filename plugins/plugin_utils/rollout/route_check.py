# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes to tasks that no running worker has registered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def unregistered(answers: Sequence[Mapping[str, Any]], hosts: int, limited: bool) -> list[str]:
    """Return a warning for each route whose task or pattern no worker of its app has registered on any host.

    Arguments:
        answers: what module ``workers`` returned for each host: ``app``, ``tasks``, ``routes``, ``elsewhere``,
            ``complete``.
        hosts: how many hosts should have answered.
        limited: whether the run leaves hosts of the inventory out.
    """
    partial = limited or len(answers) < hosts or not all(answer.get("complete") for answer in answers)
    only = f" (not every worker was asked: {len(answers)} of {hosts} hosts)" if partial else ""
    apps: dict[str, list[Mapping[str, Any]]] = {}
    for answer in answers:
        apps.setdefault(str(answer["app"]), []).append(answer)
    found = []
    for app, its_answers in apps.items():
        of_app = f" (app {app})" if len(apps) > 1 else ""
        found += [f"{text}{of_app}{only}" for text in _of_one_app(its_answers)]
    return found


def _of_one_app(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with the routes of one app."""
    registered = {str(task) for answer in answers for task in answer.get("tasks", [])}
    if not registered:
        # A dry run before the first one: there is nobody to ask.
        return []
    routes = dict.fromkeys(str(route) for answer in answers for route in answer.get("routes", []))
    known = dict.fromkeys(str(entry) for answer in answers for entry in answer.get("elsewhere", []))
    found = []
    for route in routes:
        if any(_matches(route, task) for task in registered) or any(_matches(entry, route) for entry in known):
            continue
        close = closest(route, registered, 0.6)
        instead = f"{close} (did you mean that?)" if close else "the name of a task that the app has"
        reason = "is a pattern that no task of a worker matches" if "*" in route else "is a task that no worker has"
        problem = Problem("route-matches-no-task", "celery_app_routes", route, reason, instead)
        more = "; list it in celery_worker_tasks_elsewhere if workers outside of this inventory run it"
        found.append(f"{problem}{more}")
    return found


def _matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is meant by ``pattern``, in which ``*`` stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), name, re.DOTALL) is not None
