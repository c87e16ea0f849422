# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of units in systemd, and what must be done to them: pure functions, no I/O.

Facts used here: ``systemctl show`` prints the properties of several units as blocks separated by an empty line
(systemctl(1), version 252); ``*TimestampMonotonic`` properties are microseconds of CLOCK_MONOTONIC
(org.freedesktop.systemd1(5)).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

UNIT_DIR = "/etc/systemd/system"

#: What ``systemctl show`` is asked for.
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "MainPID",
    "ExecMainStartTimestampMonotonic",
    "ActiveEnterTimestampMonotonic",
    "StateChangeTimestampMonotonic",
)


@dataclass(frozen=True)
class Status:
    """The state of one unit as systemd sees it.

    Arguments:
        name: the unit's name as it was asked for.
        loaded: whether a unit file was found.
        active: whether it runs (``active`` or ``reloading``).
        failed: whether its last run failed.
        file_state: ``enabled``, ``disabled``, ``masked``, ``static``, ... or empty.
        files: the paths of its unit file and drop-ins.
        stale_definition: whether systemd asks for a daemon-reload.
        started: seconds of CLOCK_MONOTONIC at which the main process started, or at which the unit became active when
            its kind has no process (a socket); 0.0 when it never did.
        changed: seconds of CLOCK_MONOTONIC of the last change of state, a reload included.
        pid: of its main process; 0 when it has none.
        starting: whether it is about to run: it starts, or waits for its next start after a failure.
    """

    name: str
    loaded: bool
    active: bool
    failed: bool
    file_state: str
    files: tuple[str, ...]
    stale_definition: bool
    started: float
    changed: float
    pid: int
    starting: bool = False


@dataclass
class Actions:
    """What has to be done, in the order in which it is done; each a list of unit names."""

    unmask: list[str] = field(default_factory=list)
    mask: list[str] = field(default_factory=list)
    enable: list[str] = field(default_factory=list)
    disable: list[str] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    reload: list[str] = field(default_factory=list)
    start: list[str] = field(default_factory=list)

    def any(self) -> bool:
        """Whether there is anything to do."""
        return any(vars(self).values())


def parse_show(names: Sequence[str], output: str) -> dict[str, Status]:
    """Return the status of each unit in ``names`` from the output of ``systemctl show`` for them, in that order.

    Raises:
        ValueError: when the number of blocks is not the number of units.
    """
    blocks = [block for block in output.strip().split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise ValueError(f"systemd told of {len(blocks)} units when asked about {len(names)}")
    return {name: _status(name, blocks[position]) for position, name in enumerate(names)}


def _status(name: str, block: str) -> Status:
    values = dict(line.partition("=")[::2] for line in block.splitlines())
    fragment = values.get("FragmentPath", "")
    process = "ExecMainStartTimestampMonotonic"
    started = process if process in values else "ActiveEnterTimestampMonotonic"
    return Status(
        name=name,
        loaded=values.get("LoadState") == "loaded",
        active=values.get("ActiveState") in ("active", "reloading"),
        failed=values.get("ActiveState") == "failed",
        file_state=values.get("UnitFileState", ""),
        files=tuple(([fragment] if fragment else []) + values.get("DropInPaths", "").split()),
        stale_definition=values.get("NeedDaemonReload") == "yes",
        started=int(values.get(started) or 0) / 1e6,
        changed=int(values.get("StateChangeTimestampMonotonic") or 0) / 1e6,
        pid=int(values.get("MainPID") or 0),
        starting=values.get("ActiveState") == "activating",
    )


def decide(
    wanted: Iterable[Mapping[str, object]],
    statuses: Mapping[str, Status],
    file_times: Mapping[str, float],
    pending: Iterable[str],
    offset: float,
    moved: Mapping[str, bool] | None = None,
) -> Actions:
    """Return what has to be done to bring ``wanted`` units from ``statuses`` to what is wanted.

    A running unit is restarted when a file that it reads is newer than its main process. That needs no memory of what
    changed: it also holds after a run that was aborted between writing a file and restarting the unit.

    A link to a release (``runs_from``) says more than its time: where the process really runs is known. So a link that
    was switched and switched back restarts only what was started in between.

    Arguments:
        wanted: dicts with ``name`` and optionally ``state``, ``enabled``, ``masked``, ``restart_on``, ``reload_on``,
            ``runs_from``.
        statuses: what systemd says of them.
        file_times: path -> time of the last change (ctime, seconds since the epoch) of files that exist.
        pending: paths that this run changes (in check mode they have not changed yet).
        offset: seconds to add to CLOCK_MONOTONIC to get seconds since the epoch.
        moved: unit -> whether its main process runs from another directory than ``runs_from`` leads to now; for a unit
            of which that cannot be told, which is not in here, the time of the link decides.
    """
    known = moved or {}
    actions = Actions()
    about_to_change = set(pending)
    for unit in wanted:
        name = str(unit["name"])
        status = statuses[name]
        _decide_file_state(unit, status, actions)
        state = unit.get("state")
        if state == "stopped" and (status.active or status.starting):
            actions.stop.append(name)
        if state != "started":
            continue
        if not status.active:
            actions.start.append(name)
            continue
        own = set(status.files) | {path for path in about_to_change if is_file_of(name, path)}
        if not name.endswith((".service", ".socket")):
            # A target or a timer has no process that could run with old contents.
            own = set()
        link = str(unit.get("runs_from") or "")
        if link and name not in known:
            own = own | {link}
        newer = _newer(own | _paths(unit, "restart_on"), status.started + offset, file_times, about_to_change)
        if newer or (link and known.get(name)):
            actions.restart.append(name)
        elif _newer(_paths(unit, "reload_on"), status.changed + offset, file_times, about_to_change):
            actions.reload.append(name)
    return actions


def _decide_file_state(unit: Mapping[str, object], status: Status, actions: Actions) -> None:
    name = status.name
    masked = status.file_state.startswith("masked")
    if unit.get("masked") is True and not masked:
        actions.mask.append(name)
    if unit.get("masked") is False and masked:
        actions.unmask.append(name)
    if unit.get("enabled") is True and not status.file_state.startswith(("enabled", "static", "alias")):
        actions.enable.append(name)
    if unit.get("enabled") is False and status.file_state.startswith("enabled"):
        actions.disable.append(name)


def _paths(unit: Mapping[str, object], key: str) -> set[str]:
    value = unit.get(key) or ()
    return {str(path) for path in value} if isinstance(value, (list, tuple, set)) else set()


def _newer(paths: set[str], since: float, file_times: Mapping[str, float], pending: set[str]) -> bool:
    return bool(paths & pending) or any(file_times[path] > since for path in paths & file_times.keys())


def is_file_of(unit: str, path: str) -> bool:
    """Whether ``path`` is the unit file or a drop-in of ``unit`` in /etc (where this collection writes them)."""
    return path == f"{UNIT_DIR}/{unit}" or path.startswith(f"{UNIT_DIR}/{unit}.d/")
