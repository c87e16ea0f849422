# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the reports of running workers, and compares them with the plan.

The reports are written by celeryops_runtime.report, inside the workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The only ``format`` of a report that is understood here.
FORMAT = 1
#: A report of an app with ten thousand tasks has half of this.
LARGEST = 2 * 1024**2

#: The key of a report and of a plan, and the Celery setting that decides when the plan says nothing.
_SETTINGS = {
    "prefetch_multiplier": "worker_prefetch_multiplier",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
    "acks_late": "task_acks_late",
    "max_tasks_per_child": "worker_max_tasks_per_child",
    "max_memory_per_child": "worker_max_memory_per_child",
}
#: Pools in which a limit is enforced at all; the others have nothing to compare.
_POOLS = {
    "time_limit": ("prefork", "gevent"),
    "soft_time_limit": ("prefork",),
    "max_tasks_per_child": ("prefork",),
    "max_memory_per_child": ("prefork",),
}
_WORDS = {
    "queues": "consumes",
    "pool": "its pool is",
    "concurrency": "its concurrency is",
    "prefetch_multiplier": "its prefetch multiplier is",
    "time_limit": "its time limit in seconds is",
    "soft_time_limit": "its soft time limit in seconds is",
    "max_tasks_per_child": "its tasks per child are",
    "max_memory_per_child": "its memory per child in KiB is",
    "acks_late": "its acknowledgement is",
    "configuration": "its version of the shared configuration is",
}


@dataclass(frozen=True)
class Difference:
    """One thing that a worker does otherwise than planned.

    Arguments:
        name: the worker class.
        unit: its systemd unit.
        what: a key of ``_WORDS``.
        wanted: what is planned.
        found: what the worker does.
    """

    name: str
    unit: str
    what: str
    wanted: Any
    found: Any

    def __str__(self) -> str:
        return (
            f"{self.name}: {_WORDS[self.what]} {_shown(self.what, self.found)}, "
            f"planned is {_shown(self.what, self.wanted)}; {self._instead()}"
        )

    def _instead(self) -> str:
        if self.what == "configuration":
            return f"run systemctl restart {self.unit}, it started with an older file"
        return (
            f"run systemctl restart {self.unit}, somebody may have changed it while it runs (celery control); "
            "if that does not help, the app's code or extra_arguments set it: remove that"
        )


def read_report(path: str) -> tuple[dict[str, Any] | None, float]:
    """Return what a worker wrote, and when it last renewed it (seconds since the epoch); None when there is nothing.

    The directory belongs to the app's account, so the file may be anything: a link or a pipe is not followed.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None, 0.0
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return None, 0.0
        try:
            report = json.loads(stream.read(LARGEST))
        except (ValueError, RecursionError):
            return None, 0.0
    return (report if isinstance(report, dict) else None), status.st_mtime


def no_answer(report: Mapping[str, Any] | None, main_pid: int, age: float) -> str:
    """Return why a report says nothing about the worker that runs now, or an empty string.

    Arguments:
        report: what the file holds; None without a file.
        main_pid: the main process of the unit; 0 when it does not run.
        age: seconds since the worker renewed the file.
    """
    if main_pid == 0:
        return "it does not run"
    if report is None:
        return "it has not written its report"
    if report.get("format") != FORMAT:
        return f"its report has format {report.get('format')!r}, not {FORMAT}: it runs an older version of the runtime"
    if report.get("pid") != main_pid:
        return f"its report is of process {report.get('pid')!r}, and process {main_pid} runs"
    interval = report.get("interval")
    if not isinstance(interval, (int, float)) or age > 2 * interval + 5:
        return f"its last sign of life is {age:.0f} seconds old"
    if report.get("phase") != "consuming":
        return {
            "offline": "it has no connection to the broker",
            "leaving": "it is stopping",
            "draining": "it is stopping",
        }.get(str(report.get("phase")), "it does not consume yet")
    return ""


def differences(
    wanted: Mapping[str, Any], report: Mapping[str, Any], settings: Mapping[str, Any], digest: str
) -> list[Difference]:
    """Return what a worker does otherwise than planned.

    Arguments:
        wanted: the class: ``name``, ``unit``, ``queues``, ``pool``, ``concurrency`` (a number or ``auto``), and the
            keys of ``_SETTINGS``, None where the class says nothing. Times in seconds, memory in KiB.
        report: what the worker says of itself.
        settings: the Celery settings of the shared configuration, which decide what the class leaves open. What neither
            says is the app's own matter.
        digest: SHA-256 of the shared configuration on the host; empty when there is none.
    """
    pool = report.get("pool")
    pairs: list[tuple[str, Any, Any]] = [
        ("queues", sorted(wanted["queues"]), report.get("queues")),
        ("pool", wanted["pool"], pool),
    ]
    if str(wanted["concurrency"]) != "auto":
        pairs.append(("concurrency", int(wanted["concurrency"]), report.get("concurrency")))
    for key, setting in _SETTINGS.items():
        planned = settings.get(setting) if wanted.get(key) is None else wanted[key]
        if planned is None or pool not in _POOLS.get(key, (pool,)):
            continue
        found = report.get(key)
        # A limit of 0 is none, as in Celery.
        pairs.append((key, planned, found) if key == "acks_late" else (key, planned or None, found or None))
    if digest:
        pairs.append(("configuration", digest, report.get("configuration")))
    return [
        Difference(str(wanted["name"]), str(wanted["unit"]), what, planned, found)
        for what, planned, found in pairs
        if planned != found
    ]


@dataclass(frozen=True)
class Shared:
    """What the workers of an app are compared with, beside their classes.

    Arguments:
        settings: the Celery settings of the shared configuration.
        digest: its SHA-256; empty when there is none yet.
        routes: names or patterns of the tasks that its routes name.
    """

    settings: Mapping[str, Any]
    digest: str
    routes: list[str]


def shared(settings: str, queues: str) -> Shared:
    """Read what the workers of an app are compared with; nothing of what is not there yet.

    Arguments:
        settings: path of the shared configuration.
        queues: path of its queues and routes.

    Raises:
        OSError: a file cannot be read.
        ValueError: it holds something else; the text names the file.
    """
    document, content = _document(settings)
    # The app's own routes (a word in their place) are looked at when a release is tried.
    routes = _document(queues)[0].get("routes", [])
    return Shared(
        document.get("settings", {}),
        hashlib.sha256(content).hexdigest() if content else "",
        [str(route["task"]) for route in routes] if isinstance(routes, list) else [],
    )


def _document(path: str) -> tuple[dict[str, Any], bytes]:
    try:
        with open(path, "rb") as stream:
            content = stream.read()
        return json.loads(content), content
    except FileNotFoundError:
        return {}, b""
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass
class Answers:
    """What the workers of a host say at one moment.

    Arguments:
        reports: class -> its report.
        silent: unit -> why it gave no answer.
        found: all differences.
        outdated: whether a difference is in a report that was written before the question: it may have been put right.
    """

    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    found: list[Difference] = field(default_factory=list)
    outdated: bool = False

    def result(self, told: Shared) -> dict[str, Any]:
        """Return what the module workers returns of them."""
        return {"answered": list(self.reports), "tasks": tasks(self.reports.values()), "routes": told.routes}


def ask(wanted: Iterable[Mapping[str, Any]], pids: Mapping[str, int], told: Shared, started: float) -> Answers:
    """Read the report of each worker.

    Arguments:
        wanted: the classes, as in :func:`differences`, with ``report``, the path.
        pids: unit -> its main process; 0 when it does not run.
        told: what they are compared with.
        started: when the question was asked first, in seconds since the epoch.
    """
    answers = Answers()
    for worker in wanted:
        report, changed = read_report(worker["report"])
        why = no_answer(report, pids.get(worker["unit"], 0), time.time() - changed)
        if why or report is None:
            answers.silent[worker["unit"]] = why
            continue
        answers.reports[worker["name"]] = report
        other = differences(worker, report, told.settings, told.digest)
        answers.found += other
        answers.outdated = answers.outdated or bool(other and changed < started)
    return answers


def tasks(reports: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the tasks that at least one of the workers has registered, sorted."""
    names: set[str] = set()
    for report in reports:
        listed = report.get("tasks")
        names.update(str(name) for name in (listed if isinstance(listed, list) else []))
    return sorted(names)


def message(app: str, silent: Mapping[str, str], found: Iterable[Difference]) -> str:
    """Return one message that lists everything, or an empty string when all is as planned.

    Arguments:
        app: name of the app.
        silent: unit -> why it gave no answer.
        found: all differences.
    """
    lines = [f"{unit} does not answer: {why}; see journalctl --unit={unit}" for unit, why in silent.items()]
    lines += [str(difference) for difference in found]
    if not lines:
        return ""
    return "\n".join([f"the running workers of {app} are not what is planned:", *(f"  - {line}" for line in lines)])


def _shown(what: str, value: Any) -> str:
    if what == "queues":
        return ", ".join(map(str, value)) if isinstance(value, list) and value else "nothing"
    if what == "acks_late":
        return "late" if value else "early"
    if what == "configuration":
        return str(value or "unknown")[:12]
    return "none" if value is None else str(value)[:60]
