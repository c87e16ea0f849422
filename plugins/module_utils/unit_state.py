# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares units and the files that they read, and returns what must be done; changes nothing."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.systemd import (
    PROPERTIES,
    UNIT_DIR,
    Actions,
    Status,
    decide,
    parse_show,
)
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import entries_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.basic import AnsibleModule

_PATHS = {"type": "list", "elements": "path", "default": []}

#: The options by which a module is told about units, as an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {
    "units": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped"]},
            "enabled": {"type": "bool"},
            "masked": {"type": "bool"},
            "restart_on": _PATHS,
            "reload_on": _PATHS,
            "runs_from": {"type": "path"},
        },
    },
    "prune": {
        "type": "dict",
        "options": {
            "glob": {"type": "str", "required": True},
            "markers": {"type": "list", "elements": "str", "required": True},
        },
    },
    "pending": _PATHS,
}


@dataclass(frozen=True)
class Outlook:
    """What has to be done.

    Arguments:
        actions: what the units need.
        leftovers: names of the unit files to prune.
        reload_needed: whether systemd has to read its unit files again.
    """

    actions: Actions
    leftovers: list[str]
    reload_needed: bool

    @property
    def settled(self) -> bool:
        """Whether nothing has to be done."""
        return not (self.actions.any() or self.leftovers or self.reload_needed)


def look(
    module: AnsibleModule,
    wanted: Sequence[Mapping[str, Any]],
    prune: Mapping[str, Any] | None,
    pending: Sequence[str],
) -> Outlook:
    """Return what has to be done to bring the ``wanted`` units to their state.

    Arguments:
        module: runs the one ``systemctl show``.
        wanted: the units, as in ``OPTIONS``.
        prune: which unit files go unless they are wanted, as in ``OPTIONS``.
        pending: paths that this run changes.
    """
    return outlook(wanted, prune, pending, show(module, [unit["name"] for unit in wanted]))


def outlook(
    wanted: Sequence[Mapping[str, Any]],
    prune: Mapping[str, Any] | None,
    pending: Sequence[str],
    statuses: Mapping[str, Status],
) -> Outlook:
    """Return the same from what systemd has said.

    Arguments:
        wanted: the units, as in ``OPTIONS``.
        prune: which unit files go unless they are wanted, as in ``OPTIONS``.
        pending: paths that this run changes.
        statuses: those of the units, by name; of others as well.
    """
    leftovers = _leftovers([unit["name"] for unit in wanted], prune)
    statuses = {unit["name"]: statuses[unit["name"]] for unit in wanted}
    watched = {path for unit in wanted for path in (*unit["restart_on"], *unit["reload_on"])}
    watched.update(path for status in statuses.values() for path in status.files)
    watched.update(unit["runs_from"] for unit in wanted if unit.get("runs_from"))
    times = {path: last_change(path) for path in watched if os.path.lexists(path)}
    return Outlook(
        actions=decide(wanted, statuses, times, pending, time.time() - time.monotonic(), _moved(wanted, statuses)),
        leftovers=leftovers,
        reload_needed=bool(
            leftovers
            or any(status.stale_definition for status in statuses.values())
            or any(path.startswith(f"{UNIT_DIR}/") for path in pending)
        ),
    )


def show(module: AnsibleModule, names: Sequence[str]) -> dict[str, Status]:
    """Return what systemd says of units; fails the module when it says nothing."""
    if not names:
        return {}
    code, output, errors = module.run_command(show_command(names))
    if code != 0:
        module.fail_json(msg=f"systemd does not answer: {errors.strip()}", rc=code)
    return parse_show(names, output)


def show_command(names: Sequence[str]) -> list[str]:
    """Return the command that says of units what ``parse_show`` reads."""
    return ["systemctl", "show", "--property=" + ",".join(PROPERTIES), "--", *names]


def _moved(wanted: Sequence[Mapping[str, Any]], statuses: Mapping[str, Status]) -> dict[str, bool]:
    """Return which running units run from elsewhere than the link that they were started through leads to now."""
    found = {}
    for unit in wanted:
        link, pid = unit.get("runs_from"), statuses[unit["name"]].pid
        if link and pid and (folder := runs_in(pid)) is not None:
            found[unit["name"]] = folder != os.path.realpath(link)
    return found


def runs_in(pid: int, proc: str = "/proc") -> str | None:
    """Return the virtual environment that a process runs from, or None when that cannot be told.

    A unit begins in its release (WorkingDirectory= is the link ``current``), and the kernel remembers the directory,
    not the link (proc(5), ``cwd``); one that was deleted is told by an ending that no path has. An app may go elsewhere
    while it is imported: then the interpreter tells, by the path that the first line of the program gives it.

    Arguments:
        pid: the process.
        proc: where the kernel shows processes.
    """
    try:
        folder = os.readlink(f"{proc}/{pid}/cwd")
    except OSError:
        # Root without CAP_SYS_PTRACE, as in many containers, may not look there (ptrace(2), PTRACE_MODE_READ).
        folder = ""
    if folder.endswith(" (deleted)") or (folder and os.path.lexists(f"{folder}/bin/python")):
        return folder
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as stream:
            program = os.fsdecode(stream.read().split(b"\0")[0])
    except OSError:
        return None
    match = re.fullmatch(r"(/.+)/bin/python[0-9.]*", program)
    # Through a link it would be unknown where that led when the process began.
    return match[1] if match and os.path.realpath(match[1]) == match[1] else None


def last_change(path: str) -> float:
    """Return when ``path`` changed last, in seconds since the epoch (its ctime; of a link, the link's own).

    A directory stands for the files below it. Compiled Python does not count: it comes and goes with whoever runs it.
    """
    if os.path.islink(path) or not os.path.isdir(path):
        return os.lstat(path).st_ctime
    times = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        times += [os.lstat(os.path.join(folder, name)).st_ctime for name in names]
    return max(times, default=0.0)


def _leftovers(wanted: Sequence[str], prune: Mapping[str, Any] | None) -> list[str]:
    """Return the unit files to prune."""
    if not prune:
        return []
    others = [name for name in entries_of(UNIT_DIR) if name not in wanted and fnmatch.fnmatchcase(name, prune["glob"])]
    firsts = {name: text_of(f"{UNIT_DIR}/{name}").partition("\n")[0] for name in others}
    return [name for name in others if any(marker in firsts[name] for marker in prune["markers"])]
