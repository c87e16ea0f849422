# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an app's own routes name queues that a worker class consumes. No I/O here.

Runs on managed hosts as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: How many routes and tasks a message names.
SHOWN = 8


def refusal(routes: Mapping[str, Any], consumed: Iterable[str]) -> str:
    """Return why an app cannot be taken into use with its own routes, or an empty text.

    Arguments:
        routes: where they lead (``celeryops_runtime.own.routes``).
        consumed: the queues that a worker class consumes, or that the inventory says somebody else does.
    """
    known = set(consumed)
    lost = {f"{name} to {_shown(queue)}": queue for name, queue in routes["named"].items() if queue not in known}
    told = set(lost.values())
    # A task that goes where a route leads is told with that route.
    for task, queue in routes["tasks"].items():
        if queue not in known and (queue is None or queue not in told):
            lost[f"{task} to {_shown(queue)}"] = queue
    if not lost:
        return ""
    names = sorted({queue for queue in lost.values() if queue is not None})
    text = "celery_app_routes: from-app keeps the app's own routes, and no worker class consumes where these lead: "
    text += f"{some_of(sorted(lost), SHOWN)}. Consumed are {', '.join(sorted(known)) or 'none'}. Write "
    if names:
        text += f"{', '.join(names)} into the queues of a class in celery_worker_classes (or into celery_app_queues, "
        text += "if workers outside of this inventory consume them; or as celery_app_default_queue, if it is the "
        text += "app's), or "
    return f"{text}celery_app_routes as a list"


def strays(queues: Mapping[str, str], consumed: Iterable[str]) -> list[str]:
    """Return which tasks name a queue in their own code that nobody consumes, as warnings.

    Such a queue comes before the routes of the inventory, and Celery makes it when the first task is sent.

    Arguments:
        queues: task -> queue (``celeryops_runtime.own.queues_of_tasks``).
        consumed: as for :func:`refusal`.
    """
    known = set(consumed)
    lost = sorted(f"{task} to {queue}" for task, queue in queues.items() if queue not in known)
    if not lost:
        return []
    names = sorted({queue for queue in queues.values() if queue not in known})
    text = "tasks of the app name a queue in their own code, which comes before celery_app_routes, and no worker class "
    text += f"consumes where these lead: {some_of(lost, SHOWN)}. Their messages wait there for ever. Write "
    text += f"{', '.join(names)} into the queues of a class in celery_worker_classes, or into celery_app_queues, if "
    return [f"{text}workers outside of this inventory consume them"]


def _shown(queue: str | None) -> str:
    return queue or "no queue that it names"


def doubts(routes: Mapping[str, Any]) -> list[str]:
    """Return what cannot be known of an app's own routes, as warnings."""
    found = []
    asked, failed = routes["asked"], routes["failed"]
    if asked:
        text = f"celery_app_routes: from-app: the app routes by {', '.join(asked)}, which was asked for each task "
        text += "without its arguments; a queue that it names for other arguments and that no class consumes cannot be "
        text += "known"
        if failed:
            shown = ", ".join(f"{task} ({how})" for task, how in sorted(failed.items())[:SHOWN])
            text += f", and it failed for {shown}"
        found.append(text)
    if not asked and not routes["named"]:
        instead = "a task goes to the default queue, unless it says another one itself"
        found.append(f"celery_app_routes: from-app, and the app has no task_routes: {instead}")
    return found
