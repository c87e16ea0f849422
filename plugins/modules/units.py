# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Bring any number of systemd units to their state in one remote call
version_added: 0.1.0
description:
  - Enables, starts, stops and restarts the units that need it, with one C(systemctl) call for all of them.
  - A running unit is restarted when its unit file, one of its drop-ins or a file of O(units[].restart_on) is newer than
    its main process. This needs no handler and is right after an aborted run as well.
  - When a unit does not come up, the message carries the last lines of its journal.
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The unit's full name, such as C(redis-server.service).
        type: str
        required: true
      state:
        description: Whether it has to run.
        type: str
        choices: [started, stopped]
      enabled:
        description: Whether it starts at boot.
        type: bool
      masked:
        description: Whether nothing may start it.
        type: bool
      restart_on:
        description: Files, links or directories that the unit reads at its start; a newer one makes it restart.
        type: list
        elements: path
        default: []
      reload_on:
        description: Files that the unit rereads on reload; one that is newer than its last change of state reloads it.
        type: list
        elements: path
        default: []
  prune:
    description: Unit files in C(/etc/systemd/system) to stop, disable and delete unless they are in O(units).
    type: dict
    suboptions:
      glob:
        description: Which file names are looked at.
        type: str
        required: true
      marker:
        description: Text that the first line of the file must contain, so that nobody else's unit is touched.
        type: str
        required: true
  pending:
    description: Paths that earlier tasks of this run changed, or would change in check mode.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: Shows the actions.
    support: full
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Run the workers
  celeryops.stack.units:
    units:
      - {name: celery-shop-high.service, enabled: true, state: started, restart_on: [/etc/celeryops/shop/celery.json]}
    prune: {glob: "celery-shop-*.service", marker: "role celery_worker"}
    pending: "{{ __celery_worker_files.changed_paths }}"
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, as C({action, list of unit names}).
  type: dict
  returned: success
"""

import fnmatch
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.systemd import (
    PROPERTIES,
    UNIT_DIR,
    Actions,
    Status,
    decide,
    parse_show,
)


class Units:
    """Reads the state of units and changes it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.wanted: list[dict[str, Any]] = module.params["units"]
        self.names = [unit["name"] for unit in self.wanted]
        self.pending: list[str] = module.params["pending"]

    def run(self) -> None:
        """Decide and act; ends the module."""
        leftovers = self._leftovers()
        statuses = self._show(self.names)
        watched = {path for unit in self.wanted for path in (*unit["restart_on"], *unit["reload_on"])}
        watched.update(path for status in statuses.values() for path in status.files)
        times = {path: last_change(path) for path in watched if os.path.lexists(path)}
        actions = decide(self.wanted, statuses, times, self.pending, time.time() - time.monotonic())
        reload_needed = bool(
            leftovers
            or any(status.stale_definition for status in statuses.values())
            or any(path.startswith(f"{UNIT_DIR}/") for path in self.pending)
        )
        done = {name: units for name, units in vars(actions).items() if units}
        if leftovers:
            done["prune"] = leftovers
        if not self.module.check_mode:
            self._act(actions, leftovers, reload_needed)
        self.module.exit_json(
            changed=bool(done),
            actions=done,
            diff={"before": "", "after": "".join(f"{name}: {' '.join(units)}\n" for name, units in done.items())},
        )

    def _act(self, actions: Actions, leftovers: list[str], reload_needed: bool) -> None:
        if leftovers:
            self._systemctl("disable", "--now", *leftovers)
            for name in leftovers:
                os.unlink(f"{UNIT_DIR}/{name}")
        if reload_needed:
            self._systemctl("daemon-reload")
        if leftovers:
            # A unit that failed would stay in the list of units after its file is gone; no other unit is concerned.
            self.module.run_command(["systemctl", "reset-failed", *leftovers])
        for verb in ("unmask", "mask", "enable", "disable"):
            names = getattr(actions, verb)
            if names:
                self._systemctl(verb, *names)
        if actions.stop:
            self._systemctl("stop", *actions.stop)
        starting = actions.restart + actions.start
        if starting:
            # Clears a start limit that was hit before the cause was mended; a unit that never ran is no error to us.
            self.module.run_command(["systemctl", "reset-failed", *starting])
        for verb in ("restart", "reload", "start"):
            names = getattr(actions, verb)
            if names:
                self._systemctl(verb, *names)
        self._must_run(starting)

    def _must_run(self, names: list[str]) -> None:
        """Fail when a unit that was just started is not up."""
        if not names:
            return
        down = [name for name, status in self._show(names).items() if not status.active]
        if down:
            self._fail(f"not running after its start: {', '.join(down)}", down)

    def _show(self, names: list[str]) -> dict[str, Status]:
        if not names:
            return {}
        command = ["systemctl", "show", "--property=" + ",".join(PROPERTIES), "--", *names]
        code, output, errors = self.module.run_command(command)
        if code != 0:
            self.module.fail_json(msg=f"systemd does not answer: {errors.strip()}", rc=code)
        return parse_show(names, output)

    def _systemctl(self, verb: str, *names: str) -> None:
        command = ["systemctl", verb, *(["--"] if names and names[0] != "--now" else []), *names]
        code, _output, errors = self.module.run_command(command)
        if code != 0:
            units = [name for name in names if not name.startswith("-")]
            down = [name for name, status in self._show(units).items() if not status.active]
            self._fail(f"systemctl {verb} {' '.join(units)} failed: {errors.strip()}", down)

    def _fail(self, text: str, down: list[str]) -> None:
        """Fail with ``text`` and what the units in ``down`` said last."""
        parts = [text]
        for name in down[:5]:
            journal = ["journalctl", "--no-pager", "--output=cat", "--lines=20", "--unit", name]
            parts.append(f"--- last lines of {name}:\n{self.module.run_command(journal)[1].strip()}")
        self.module.fail_json(msg="\n".join(parts))

    def _leftovers(self) -> list[str]:
        """Return the unit files to prune."""
        prune = self.module.params["prune"]
        if not prune or not os.path.isdir(UNIT_DIR):
            return []
        found = []
        for name in sorted(os.listdir(UNIT_DIR)):
            path = f"{UNIT_DIR}/{name}"
            if name in self.names or not fnmatch.fnmatchcase(name, prune["glob"]) or not os.path.isfile(path):
                continue
            with open(path, encoding="utf-8", errors="replace") as stream:
                if prune["marker"] in stream.readline():
                    found.append(name)
        return found


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


def main() -> None:
    """Run the module."""
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["started", "stopped"]},
                    "enabled": {"type": "bool"},
                    "masked": {"type": "bool"},
                    "restart_on": paths,
                    "reload_on": paths,
                },
            },
            "prune": {
                "type": "dict",
                "options": {"glob": {"type": "str", "required": True}, "marker": {"type": "str", "required": True}},
            },
            "pending": paths,
        },
        supports_check_mode=True,
    )
    Units(module).run()


if __name__ == "__main__":
    main()
