# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of role celery_worker: one unit per worker class."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.app.files import read_by
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.shapes import Process, Unit
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import (
    IMPORT_APP,
    START_AFTER,
    check_host,
    check_identity,
    command_line,
    read_at_start,
    started_through,
    target_unit,
    trial,
    with_environment,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout, worker_unit
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.members import seconds
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import (
    Classes,
    WorkerClass,
    prefetch_of,
    read_classes,
    stop_timeout_of,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import (
    SIZE_HELP,
    parse_size,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.queue_names import QUEUE_HELP, is_queue

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds that a worker has, when its tasks' time is up, to return them to the queue before systemd ends it.
RETURN_GRACE = 30

#: Looks for the program of ``command_prefix``, in one line of Python: without it systemd says 203/EXEC and no more.
_FIND_PROGRAM = "import os; os.access(sys.argv[2], os.X_OK) or sys.exit(sys.argv[2] + ' is no program on this host')"

#: Settings of one process, which the runtime lays over the shared ones (celeryops_runtime.config). A task that is
#: acknowledged late and whose process was killed goes back to the queue.
_ACKNOWLEDGEMENT: Mapping[str | None, dict[str, bool]] = {
    None: {},
    "late": {"task_acks_late": True, "task_reject_on_worker_lost": True},
    "early": {"task_acks_late": False},
}


class Plan(Process, total=False):
    """What the tasks and templates of the role read.

    ``classes`` are the units to render, one for each worker; ``promises`` what each running worker is compared with,
    ``running`` the part of it that a rolling restart waits for; ``settings`` the path of the shared configuration.
    """

    classes: list[dict[str, Any]]
    promises: list[dict[str, Any]]
    running: list[dict[str, Any]]
    settings: str
    queues: str
    rotation: dict[str, Any]
    prerequisite: str


def plan(
    variables: Mapping[str, Any], facts: Mapping[str, Any], known: Classes | None = None
) -> tuple[Plan, list[Problem]]:
    """Return what the units are rendered from, and every mistake in the variables.

    Arguments:
        variables: the role's variables.
        facts: facts of the host; empty when only the inventory is checked.
        known: what ``read`` returned, where somebody has asked it already.
    """
    problems: list[Problem] = []
    try:
        layout = app_layout(variables["celery_worker_app"])
    except UnreadableError as error:
        return {}, [error.of("celery_worker_app", variables["celery_worker_app"])]
    problems += check_identity("celery_worker", variables)
    problems += check_host(facts)
    queue = str(variables["celery_worker_default_queue"])
    if not is_queue(queue):
        reason = "cannot be the name of a queue"
        problems.append(Problem("cannot-be-the-name", "celery_worker_default_queue", queue, reason, QUEUE_HELP))
    problems += _host_problems(variables)
    found_classes, found = known or read(variables)
    problems += found
    workers = [(name, one) for one in found_classes.values() if one.present for name in one.names]
    classes = [_unit(name, one, layout, variables) for name, one in workers]
    promises = [_promise(name, one, layout) for name, one in workers]
    log_files = [entry["log_file"] for entry in classes if entry["log_file"]]
    rotation, found = _rotation(log_files, layout, variables)
    problems += found
    tried: set[str] = set()
    for entry in classes:
        # The workers of one class have one environment: it is tried once.
        entry["validate"] = "" if entry["validate"] in tried else entry["validate"]
        tried.add(entry["validate"])
    restart_on = read_at_start(layout)
    files = variables.get("celery_worker_files") or ()
    #: worker -> the files of the app's own that its class reads
    read_too = {worker_unit(layout["app"], worker): read_by(files, layout, one.name) for worker, one in workers}
    running: Unit = {"enabled": True, "state": "started"}
    units: list[Unit] = [
        {
            "name": entry["unit"],
            **running,
            "restart_on": [*restart_on, *read_too[entry["unit"]]],
            "runs_from": layout["current"],
        }
        for entry in classes
    ]
    return {
        "app": layout["app"],
        "classes": classes,
        "target": {"name": layout["target"], "content": target_unit(layout["app"])},
        "units": [
            {"name": layout["target"], **running},
            *units,
        ],
        "prune": {"glob": f"celery-{layout['app']}-*.service", "markers": ["role celery_worker"]},
        "promises": promises,
        "running": [{key: entry[key] for key in ("name", "unit", "report", "queues")} for entry in promises],
        "settings": layout["settings"],
        "queues": layout["queues"],
        "rotation": rotation,
        "prerequisite": layout["environment"],
    }, problems


def _host_problems(variables: Mapping[str, Any]) -> list[Problem]:
    """Return the mistakes in what is said of a machine for a check without facts."""
    problems: list[Problem] = []
    value = variables.get("celery_worker_host_memory") or 0
    try:
        parse_size(value)
    except UnreadableError as error:
        problems.append(error.of("celery_worker_host_memory", value))
    cores = variables.get("celery_worker_host_cores")
    if int(cores or 0) < 0:
        problems.append(
            Problem("negative", "celery_worker_host_cores", cores, "must not be negative", "a number such as 4")
        )
    return problems


def read(variables: Mapping[str, Any], said: Classes | None = None) -> Classes:
    """Return the classes of one host, with what they leave open to the role, and the mistakes in them.

    Arguments:
        variables: the role's variables.
        said: what ``read_classes`` made of them, where somebody has asked it already.
    """
    classes, problems = said or read_classes(variables)
    try:
        limit = int(float(str(variables.get("celery_worker_default_time_limit"))))
    except (OverflowError, ValueError):
        # None is given; or a mistake in celery_app_settings, which is told there.
        limit = 0
    queue = str(variables["celery_worker_default_queue"])
    of_all = variables.get("celery_worker_default_prefetch_multiplier") not in (None, "")
    return {
        name: replace(
            one,
            queues=one.queues or (queue,),
            stop_timeout=one.stop_timeout or stop_timeout_of(limit),
            # In the class's own unit: that it is there changes nothing for the others.
            prefetch_multiplier=one.prefetch_multiplier or (None if of_all else prefetch_of(one.time_limit)),
        )
        for name, one in classes.items()
    }, problems


def _unit(name: str, one: WorkerClass, layout: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the unit of one worker is rendered from.

    Arguments:
        name: of the worker: its class's, and a number where the class has several.
        one: its class.
        layout: the app's paths.
        variables: the role's variables.
    """
    log_file = f"{layout['log']}/{name}.log" if one.log == "file" else ""
    resources = {
        "Nice": one.nice,
        "CPUWeight": one.cpu_weight,
        "IOWeight": one.io_weight,
        "MemoryHigh": one.memory_high,
        "MemoryMax": one.memory_max,
        "TasksMax": one.tasks_max,
    }
    own_settings = _ACKNOWLEDGEMENT[one.acknowledgement]
    environment = {
        **one.environment,
        **({"CELERYOPS_SETTINGS": json.dumps(own_settings)} if own_settings else {}),
        **({"CELERYOPS_LOG_RECEIVED": "1"} if one.log_received else {}),
        **({"CELERYOPS_PREFETCH": "fixed"} if one.prefetch_multiplier else {}),
    }
    celery = [f"{layout['current']}/bin/celery", *_arguments(name, one, log_file, variables)]
    command = started_through(one.command_prefix, layout["current"], celery)
    return {
        "unit": worker_unit(layout["app"], name),
        "name": name,
        "queues": [*one.queues],
        "user": str(variables["celery_worker_user"]),
        "group": str(variables["celery_worker_group"]),
        "command": command_line(with_environment(environment, command)),
        "longest_task": 0 if one.time_limit else seconds(variables.get("celery_worker_longest_task")),
        "validate": _trial(one, command[0] if one.command_prefix else "", layout, variables),
        "environment_file": layout["environment"],
        "directory": layout["current"],
        "target": layout["target"],
        "flower_unit": layout["flower_unit"],
        "start_after": START_AFTER,
        "runtime_directory": f"celeryops/{layout['app']}/{name}",
        "writable": [layout["state"], layout["log"], *one.writable_paths],
        "start_timeout": one.start_timeout,
        # The tasks have the class's time; what is left of them then goes back to the queue, which takes a moment too.
        "drain_seconds": one.stop_timeout,
        "stop_timeout": one.stop_timeout + RETURN_GRACE,
        "watchdog": one.watchdog,
        "resources": {directive: value for directive, value in resources.items() if value is not None},
        "sandbox": [*one.sandbox],
        "log_file": log_file,
    }


def _trial(one: WorkerClass, wrapper: object, layout: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    """Return the command that tries what a class has of its own, or an empty one for a class that has nothing.

    The app is imported as the class does it; what starts the worker has to be there, and what its pool is made of. It
    runs when the class's unit has changed, before the new one is placed. What all classes share was tried before.

    Arguments:
        one: the class.
        wrapper: the program that the worker is started through; empty without one.
        layout: the app's paths.
        variables: the role's variables.
    """
    program, arguments = IMPORT_APP, [str(variables["celery_worker_import"])]
    if wrapper:
        program += f"; {_FIND_PROGRAM}"
        arguments.append(str(wrapper))
    if one.pool == "gevent":
        program += "; import gevent"
    if program == IMPORT_APP and not one.environment:
        return ""
    return trial(layout["app"], layout["current"], one.environment, program, arguments)


def _promise(name: str, one: WorkerClass, layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a running worker is compared with; what is not said is left out."""
    late = _ACKNOWLEDGEMENT[one.acknowledgement].get("task_acks_late")
    return {
        "name": name,
        "unit": worker_unit(layout["app"], name),
        "report": f"{layout['run']}/{name}/worker.json",
        "queues": [*one.queues],
        "pool": one.pool,
        "concurrency": str(one.concurrency),
        **_limits(one),
        **({} if late is None else {"acks_late": late}),
    }


def _limits(one: WorkerClass) -> dict[str, int]:
    """Return what a class says of its tasks, by the names that Celery's options and reports have; sizes in KiB."""
    said = {
        "prefetch_multiplier": one.prefetch_multiplier,
        "time_limit": one.time_limit,
        "soft_time_limit": one.soft_time_limit,
        "max_tasks_per_child": one.max_tasks_per_child,
        "max_memory_per_child": one.max_memory_per_child and one.max_memory_per_child // 1024,
    }
    return {name: value for name, value in said.items() if value is not None}


def _arguments(name: str, one: WorkerClass, log_file: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the arguments of ``celery``; what nobody asked for is left to the app's shared configuration."""
    return [
        f"--app={variables['celery_worker_import']}",
        "worker",
        # Celery, not systemd, is to expand %h.
        f"--hostname={name}@%h",
        f"--queues={','.join(one.queues)}",
        f"--pool={one.pool}",
        f"--concurrency={one.concurrency}",
        f"--loglevel={one.log_level}",
        # Every worker would listen to the heartbeats of every other one, for elections that nobody holds.
        "--without-gossip",
        *[f"--{name.replace('_', '-')}={value}" for name, value in _limits(one).items()],
        *([f"--logfile={log_file}"] if log_file else []),
        *one.extra_arguments,
    ]


def _rotation(
    log_files: list[str], layout: Mapping[str, Any], variables: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return what logrotate is told; ``files`` is empty when every class logs to the journal."""
    problems: list[Problem] = []
    max_size = 0
    try:
        max_size = parse_size(variables["celery_worker_log_max_size"])
    except UnreadableError as error:
        problems.append(error.of("celery_worker_log_max_size", variables["celery_worker_log_max_size"]))
    else:
        if not max_size:
            value = variables["celery_worker_log_max_size"]
            problems.append(
                Problem("zero-size", "celery_worker_log_max_size", value, "must be larger than 0", SIZE_HELP)
            )
    keep = variables["celery_worker_log_keep"]
    if not 0 <= int(keep) <= 3650:
        instead = "how many old files to keep, 0 to 3650"
        problems.append(Problem("out-of-range", "celery_worker_log_keep", keep, "is out of range", instead))
    return {
        "path": f"/etc/logrotate.d/celery-{layout['app']}-workers",
        "files": log_files,
        "user": str(variables["celery_worker_user"]),
        "group": str(variables["celery_worker_group"]),
        "max_size": max_size,
        "keep": int(keep),
    }, problems
