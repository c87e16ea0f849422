# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The setting ``beat_schedule``: entries with which beat does not start, or that reach no worker.

It reaches the processes as JSON, so a schedule is a number of seconds here; ``crontab()`` only code can have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.patterns import pattern_fault
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import MAX_SECONDS, parse_duration

#: What an entry is made of (ScheduleEntry in celery/beat.py, 5.7.0; its other arguments are beat's own).
KEYS = ("args", "kwargs", "options", "relative", "schedule", "task")
#: Further ones that RedBeat takes, or the scheduler with a database (django-celery-beat 2.8), which may be the app's.
OF_OTHERS = ("description", "enabled", "expires", "one_off", "start_time")
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str, str]] = {
    "args": ((list, tuple), "is not a list", "a list such as [1, two]"),
    "kwargs": (Mapping, "is not a dictionary", "key: value pairs"),
    "options": (Mapping, "is not a dictionary", "key: value pairs such as {queue: mails}"),
    "relative": (bool, "is not true or false", "true or false, without quotes"),
}
#: What people write into ``options`` (Celery.send_task in celery/app/base.py, 5.7.0). A task's class may take more.
OPTIONS = (
    "compression", "countdown", "delivery_mode", "eta", "exchange", "expires", "headers", "ignore_result", "link",
    "link_error", "priority", "queue", "retry", "retry_policy", "routing_key", "serializer", "shadow",
    "soft_time_limit", "task_id", "time_limit",
)  # fmt: skip
#: Without which nothing is sent, and what to write there.
_NEEDED = {
    "task": "the name of a task, such as shop.mails.send",
    "schedule": "a number of seconds such as 300, or the whole schedule in the app's own code, where crontab() is",
}


def schedule_problems(variable: str, schedule: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the mistakes in all entries.

    Arguments:
        variable: where the schedule is written.
        schedule: name -> entry.
    """
    for name, entry in schedule.items():
        where = f"{variable}.{name}"
        if not isinstance(entry, Mapping):
            yield Problem(
                "not-an-entry", where, entry, "is not an entry of a schedule", "{task: shop.mails.send, schedule: 300}"
            )
            continue
        meant: set[str] = set()
        for key in entry:
            if key not in KEYS and key not in OF_OTHERS:
                meant.add(closest(str(key), KEYS, 0.6))
                reason = "is not a key of an entry, and beat would not start"
                yield Problem("no-key-of-an-entry", f"{where}.{key}", entry[key], reason, did_you_mean(str(key), KEYS))
        for key, (kind, reason, instead) in _KINDS.items():
            if entry.get(key) is not None and not isinstance(entry[key], kind):
                yield Problem("no-key-of-an-entry", f"{where}.{key}", entry[key], reason, instead)
        for key, missing in _NEEDED.items():
            # Not what stands there under another name.
            if entry.get(key) is None and key not in meant:
                yield Problem("missing", f"{where}.{key}", None, "is missing", missing)
        yield from _task_problems(f"{where}.task", entry.get("task"))
        yield from _time_problems(f"{where}.schedule", entry.get("schedule"))
        options = entry.get("options")
        yield from _option_problems(f"{where}.options", options if isinstance(options, Mapping) else {})


def sent_to(schedule: object) -> Iterator[tuple[str, str]]:
    """Yield the name of each entry that names a queue, and the queue; what is no entry is passed over."""
    for name, entry in schedule.items() if isinstance(schedule, Mapping) else ():
        options = entry.get("options") if isinstance(entry, Mapping) else None
        queue = options.get("queue") if isinstance(options, Mapping) else None
        if isinstance(queue, str):
            yield str(name), queue


def _task_problems(variable: str, task: Any) -> Iterator[Problem]:
    if task is not None and (not isinstance(task, str) or "*" in task or any(pattern_fault(task))):
        yield Problem("not-the-name", variable, task, "is not the name of a task", _NEEDED["task"])


def _time_problems(variable: str, seconds: Any) -> Iterator[Problem]:
    if seconds is None:
        return
    instead = _NEEDED["schedule"]
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        with contextlib.suppress(ValueError):
            instead = str(parse_duration(seconds))
        yield Problem("not-a-number-of-seconds", variable, seconds, "is not a number of seconds", instead)
    elif seconds <= 0:
        reason = "is due at every moment: beat would send without a pause"
        yield Problem("due-at-every-moment", variable, seconds, reason, instead)
    elif seconds > MAX_SECONDS:
        yield Problem("more-than-a-hundred-years", variable, seconds, "is more than a hundred years", instead)


def _option_problems(variable: str, options: Mapping[Any, Any]) -> Iterator[Problem]:
    for key, value in options.items():
        close = closest(str(key), OPTIONS)
        if close and key not in OPTIONS:
            reason = "is not an option of a task"
            yield Problem("no-option-of-a-task", f"{variable}.{key}", value, reason, f"{close} (did you mean that?)")
    queue, expires = options.get("queue"), options.get("expires")
    if queue is not None and not isinstance(queue, str):
        reason = "is not the name of a queue"
        yield Problem("not-the-name", f"{variable}.queue", queue, reason, "one that a worker class consumes")
    if isinstance(expires, (int, float)) and expires <= 0:
        reason = "expires before a worker can begin: all of these tasks would be dropped"
        instead = "a number of seconds such as 300, or leave it out"
        yield Problem("expires-before-it-starts", f"{variable}.expires", expires, reason, instead)
