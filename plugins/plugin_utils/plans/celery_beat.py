# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of role celery_beat: the one scheduler of an app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.app.files import BEAT, read_by
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.shapes import Process, Unit
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.sandbox import sandbox
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import (
    IMPORT_APP,
    IMPORT_PATH,
    START_AFTER,
    check_environment,
    check_host,
    check_identity,
    command_line,
    read_at_start,
    read_duration,
    target_unit,
    trial,
    with_environment,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Neither skips nor doubles a task over a restart (celeryops_runtime.beat); the app's own choice wins over it.
_DEFAULT_SCHEDULER = "celeryops_runtime.beat:Scheduler"
#: What may keep a file of what ran when.
_FILE_SCHEDULERS = ("", _DEFAULT_SCHEDULER, "celery.beat:PersistentScheduler", "celery.beat.PersistentScheduler")

#: Finds a scheduler as beat does (celery/beat.py, ``Service.get_scheduler``).
_FIND_SCHEDULER = (
    "from celery.utils.imports import load_extension_class_names, symbol_by_name; "
    'symbol_by_name(sys.argv[2], aliases=dict(load_extension_class_names("celery.beat_schedulers")))'
)


class Plan(Process, total=False):
    """What the tasks and templates of the role read. ``service`` is what its unit is rendered from."""

    present: bool
    unit: str
    service: dict[str, Any]
    prerequisite: str


def plan(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """Return what the unit is rendered from, and every mistake in the variables.

    Arguments:
        variables: the role's variables.
        facts: facts of the host; empty when only the inventory is checked.
    """
    try:
        layout = app_layout(variables["celery_beat_app"])
    except UnreadableError as error:
        return {}, [error.of("celery_beat_app", variables["celery_beat_app"])]
    problems = check_identity("celery_beat", variables)
    problems += check_host(facts)
    times: dict[str, int] = {}
    for name, minimum in (("start_timeout", 5), ("stop_timeout", 1), ("max_interval", 0)):
        times[name], found = read_duration(variables, f"celery_beat_{name}", minimum)
        problems += found
    scheduler = str(variables["celery_beat_scheduler"])
    if scheduler and not IMPORT_PATH.fullmatch(scheduler):
        instead = "one such as django_celery_beat.schedulers:DatabaseScheduler, or nothing for the collection's own"
        problems.append(
            Problem("not-an-import-path", "celery_beat_scheduler", scheduler, "is not an import path", instead)
        )
    if scheduler.startswith("redbeat") and not times["max_interval"]:
        # The lock is renewed, and a standby looks for it, at this pace: a fifth of celeryops_runtime.beat.LOCK_SECONDS.
        times["max_interval"] = 5
    environment, found = check_environment(variables["celery_beat_environment"], "celery_beat_environment")
    problems += found
    lines, found = sandbox(variables["celery_beat_hardening"], "celery_beat_hardening")
    problems += found

    present = variables["celery_beat_state"] == "present"
    state = f"{layout['state']}/beat"
    optional = {
        "--scheduler": scheduler,
        "--schedule": f"{state}/schedule" if scheduler in _FILE_SCHEDULERS else "",
        "--max-interval": times["max_interval"],
    }
    arguments = [
        f"--app={variables['celery_beat_import']}",
        "beat",
        f"--loglevel={variables['celery_beat_log_level']}",
        *[f"{option}={value}" for option, value in optional.items() if value],
    ]
    restart_on = [*read_at_start(layout), *read_by(variables.get("celery_beat_files") or (), layout, BEAT)]
    running: Unit = {"enabled": True, "state": "started"}
    return {
        "app": layout["app"],
        "present": present,
        "unit": layout["beat_unit"],
        "target": {"name": layout["target"], "content": target_unit(layout["app"])},
        "service": {
            "app": layout["app"],
            "user": str(variables["celery_beat_user"]),
            "group": str(variables["celery_beat_group"]),
            "command": command_line(with_environment(environment, [f"{layout['current']}/bin/celery", *arguments])),
            "validate": _trial(environment, scheduler, layout, str(variables["celery_beat_import"])),
            "environment_file": layout["environment"],
            "default_scheduler": _DEFAULT_SCHEDULER,
            "directory": layout["current"],
            "target": layout["target"],
            "start_after": START_AFTER,
            "state_directory": f"celeryops/{layout['app']}/beat",
            "runtime_directory": f"celeryops/{layout['app']}/beat",
            # The scheduler imports the app, which may open its log then, as it does in a worker.
            "writable": [layout["state"], layout["log"]],
            "start_timeout": times["start_timeout"],
            "stop_timeout": times["stop_timeout"],
            "sandbox": lines,
        },
        "units": [
            {"name": layout["target"], **running},
            {"name": layout["beat_unit"], **running, "restart_on": restart_on, "runs_from": layout["current"]},
        ]
        if present
        else [],
        "prune": {"glob": layout["beat_unit"], "markers": ["role celery_beat"]},
        "prerequisite": layout["environment"],
    }, problems


def _trial(environment: Mapping[str, str], scheduler: str, layout: Mapping[str, Any], imported: str) -> str:
    """Return the command that imports the app and finds the scheduler as the unit would; empty without either.

    It runs when the unit has changed, before the new one is placed. What beat shares with the workers was tried before.
    """
    if not (environment or scheduler):
        return ""
    program = f"{IMPORT_APP}; {_FIND_SCHEDULER}" if scheduler else IMPORT_APP
    arguments = [imported, *([scheduler] if scheduler else [])]
    return trial(layout["app"], layout["current"], environment, program, arguments)
