# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: roll
short_description: Replace the running workers of a host, one class after the other, without a pause in the work
version_added: 0.1.0
description:
  - Restarts the units of worker classes one by one. The old worker drains (what it has not begun goes back to its
    queue, what runs has the class's C(stop_timeout)), the new one starts, and only when it consumes is the next class
    taken.
  - For a class that hands over, a stand-in takes the work meanwhile. It is a transient copy of the class's unit in
    C(/run/systemd/system), started from the release that is current, and must consume before the old worker is touched.
    So a release whose worker does not start stops nobody. When the new worker consumes it takes nothing more, ends its
    tasks in its own time, for at most O(drain_seconds), and its unit file goes; a transient unit on the host sees to
    that, for which this waits ten seconds. It goes on working when the new worker does not consume.
  - What an aborted run left of this is removed first.
  - Can switch to another release before, so that this and the restarts are one remote call.
options:
  app:
    description: The app's short name.
    type: str
    required: true
  classes:
    description: The worker classes, in the order in which they are taken.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The class.
        type: str
        required: true
      unit:
        description: Its unit.
        type: str
        required: true
      report:
        description: The file in which its worker says what it does.
        type: path
        required: true
      queues:
        description: The queues that it has to consume.
        type: list
        elements: str
        required: true
  hand_over:
    description: Names of the classes that get a stand-in. In mode V(drain) all of them do.
    type: list
    elements: str
    default: []
  units:
    description: Further units of the app (the scheduler), restarted after the workers.
    type: list
    elements: str
    default: []
  reload_units:
    description: Units of others that run the release (web servers), reloaded or restarted after the switch.
    type: list
    elements: str
    default: []
  release:
    description: The release to switch to before anything is restarted; what is current stays when this is empty.
    type: str
    default: ""
  after:
    description: Whether something has to be done on this host after the switch, which is noted until it is.
    type: bool
    default: false
  only_moved:
    description: Whether units that run from the current release already are left alone.
    type: bool
    default: false
  mode:
    description:
      - V(wait) returns when every old worker has ended.
      - V(drain) returns when the stand-ins work. Old workers end in their own time, for at most O(drain_seconds), then
        the new ones start and the stand-ins go; a transient unit on the host sees to that.
    type: str
    choices: [wait, drain]
    default: wait
  drain_seconds:
    description: >-
      How long running tasks may go on, in place of the class's C(stop_timeout): those of a stand-in, and in mode
      V(drain) those of the old worker.
    type: int
    default: 86400
  timeout:
    description: How many seconds a worker that was started may take until its report says that it consumes.
    type: int
    default: 60
  discard:
    description: A release that failed, removed at the end unless something runs from it.
    type: str
    default: ""
  tolerate:
    description: Whether a failure is returned as RV(problem), so that the play can undo what was done.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says which workers would be replaced.
    support: full
  diff_mode:
    description: Shows the release before and after.
    support: full
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Restart the workers, with somebody in their place where they work alone
  celeryops.stack.roll:
    app: shop
    classes:
      - name: high
        unit: celery-shop-high.service
        report: /run/celeryops/shop/high/worker.json
        queues: [payments, mails]
    hand_over: [high]
"""

RETURN = r"""
rolled:
  description: The units that were restarted, or would be.
  type: list
  elements: str
  returned: always
stand_ins:
  description: The classes that had a stand-in, or would have.
  type: list
  elements: str
  returned: always
previous:
  description: The release that was current before.
  type: str
  returned: always
problem:
  description: What went wrong; empty when nothing did.
  type: str
  returned: always
"""

import glob
import os
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import roll as decide
from ansible_collections.celeryops.stack.plugins.module_utils.current import (
    leads_to,
    read_history,
    save_history,
    switch,
)
from ansible_collections.celeryops.stack.plugins.module_utils.journal import last_lines
from ansible_collections.celeryops.stack.plugins.module_utils.lock import LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.look import runs_in, show
from ansible_collections.celeryops.stack.plugins.module_utils.workers import no_answer, read_report

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Status

ROOT = "/opt/celeryops"
#: Seconds between two looks at a worker's report.
PAUSE = 0.2
#: Seconds that are waited for a stand-in to end, as most do at once; it does so without us as well.
PATIENCE = 10.0


class RollError(Exception):
    """Something that ends the run; the text is for the user."""


class Roll:
    """One call of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.asked: dict[str, Any] = module.params
        self.app: str = self.asked["app"]
        self.base = f"{ROOT}/{self.app}"
        self.actions: list[str] = []
        self.rolled: list[str] = []
        self.stand_ins: list[str] = []
        self.previous = leads_to(self.base)

    def run(self) -> None:
        """Replace what is to be replaced."""
        if self.asked["release"]:
            self._switch(decide.target_of(self.asked["release"]))
        units = [entry["unit"] for entry in self.asked["classes"]] + self.asked["units"]
        statuses = show(self.module, units)
        self._clear({entry["name"]: statuses[entry["unit"]].active for entry in self.asked["classes"]})
        for entry in self.asked["classes"]:
            if self._must(statuses[entry["unit"]]):
                self._replace(entry, statuses[entry["unit"]])
        for unit in self.asked["units"]:
            if self._must(statuses[unit]):
                self._note(unit, f"restart {unit}")
                self._restart(unit)
        self._reload_others()
        if self.asked["discard"]:
            self._discard(self.asked["discard"])

    def result(self, problem: str) -> dict[str, Any]:
        """Return the module's result."""
        before, after = decide.release_of(self.previous), decide.release_of(leads_to(self.base))
        if self.module.check_mode:
            after = self.asked["release"] or before
        return {
            "changed": bool(self.actions),
            "rolled": self.rolled,
            "stand_ins": self.stand_ins,
            "previous": before,
            "actions": self.actions,
            "problem": problem,
            "diff": {
                "before": f"current -> {before}\n" if before != after else "",
                "after": "".join(f"# {action}\n" for action in self.actions)
                + (f"current -> {after}\n" if before != after else ""),
            },
        }

    # The release

    def _switch(self, target: str) -> None:
        if target == self.previous:
            return
        folder = os.path.join(self.base, target)
        if not self.module.check_mode and not os.path.exists(f"{folder}/bin/python"):
            raise RollError(f"the release {self.asked['release']} of {self.app} is not on this host")
        self.actions.append(f"switch to {decide.release_of(target)}")
        if not self.module.check_mode:
            history = read_history(self.base)
            switch(self.base, target, history)
            # Who ends before that was done leaves the note, and the next run of site.yml or deploy does it.
            history["after"] = target if self.asked["after"] else ""
            save_history(self.base, history)

    def _wanted(self) -> str:
        """Return the directory that every process of the app is to run from."""
        target = decide.target_of(self.asked["release"]) if self.asked["release"] else "current"
        return os.path.realpath(os.path.join(self.base, target))

    def _must(self, status: Status) -> bool:
        running = runs_in(status.pid) if status.pid else None
        return decide.must_roll(
            running, self._wanted(), active=status.active, only_moved=self.asked["only_moved"]
        ) and not (self.asked["only_moved"] and not status.loaded)

    def _discard(self, release: str) -> None:
        folder = os.path.join(self.base, decide.target_of(release))
        if release.startswith("/") or not os.path.isdir(folder) or os.path.realpath(f"{self.base}/current") == folder:
            return
        if any(runs_in(int(os.path.basename(process))) == folder for process in glob.glob("/proc/[0-9]*")):
            return
        self.actions.append(f"remove the release {release}")
        if not self.module.check_mode:
            shutil.rmtree(folder, ignore_errors=True)

    # One class

    def _replace(self, entry: dict[str, Any], status: Status) -> None:
        """Put a new worker in the place of the old one."""
        name, unit, drain = entry["name"], entry["unit"], self.asked["mode"] == "drain"
        if not status.loaded:
            raise RollError(f"there is no unit {unit} on this host; run site.yml first")
        hands_over = status.active and (drain or name in self.asked["hand_over"])
        self._note(unit, f"restart {unit}" + (", with a stand-in" if hands_over else ""))
        if hands_over:
            self.stand_ins.append(name)
        if self.module.check_mode:
            return
        if self._hands_over_already(name):
            # Its old worker still drains behind a stand-in, and its new one will start from the release that is current
            # then. So only the stand-in is to be replaced.
            old = self._slots(name)
            self._start_stand_in(entry)
            self._end_stand_ins(name, old)
            return
        if hands_over:
            self._start_stand_in(entry)
        if hands_over and drain:
            unit = decide.transient(self.app, name, decide.HANDOVER)
            self._leave_time(entry["report"])
            self._write(unit, decide.handover(self.app, name, self.asked["drain_seconds"]))
            self._systemctl("daemon-reload")
            self._systemctl("start", [unit], "--no-block")
            return
        try:
            self._restart(unit)
            self._consumes(entry, unit, entry["report"])
        except RollError as error:
            # Or nobody would consume. The next run takes it away, once the class's own worker consumes.
            working = "\nIts stand-in goes on working." if self._slots(name) else ""
            raise RollError(f"{error}{working}") from error
        self._end_stand_ins(name, self._slots(name))

    def _start_stand_in(self, entry: dict[str, Any]) -> None:
        """Start a second worker of the class and wait until it consumes."""
        name = entry["name"]
        free = [slot for slot in decide.SLOTS if slot not in self._slots(name, ending=True)]
        if not free:
            raise RollError(
                f"{len(decide.SLOTS)} stand-ins of the class {name} still end their tasks; wait for them, or end them "
                f"now: systemctl kill 'celery-{self.app}-{name}_standin*.service'"
            )
        slot = free[0]
        stand_in = decide.transient(self.app, name, slot)
        fragment, *drop_ins = show(self.module, [entry["unit"]])[entry["unit"]].files
        with open(fragment, encoding="utf-8") as stream:
            try:
                text = decide.stand_in(stream.read(), self.app, name, slot)
            except ValueError as error:
                raise RollError(str(error)) from error
        self._write(stand_in, text)
        for path in drop_ins:
            # Somebody's own additions to the class's unit are meant for this one as well.
            if os.path.dirname(path).endswith(f"/{entry['unit']}.d"):
                os.makedirs(f"{decide.TRANSIENT_DIR}/{stand_in}.d", exist_ok=True)
                shutil.copyfile(path, f"{decide.TRANSIENT_DIR}/{stand_in}.d/{os.path.basename(path)}")
        self._systemctl("daemon-reload")
        try:
            self._systemctl("start", [stand_in])
            report = os.path.join(os.path.dirname(os.path.dirname(entry["report"])), f"{name}{slot}", "worker.json")
            self._consumes(entry, stand_in, report)
        except RollError as error:
            # It never had a task, and what it runs from may have to go.
            self._end_stand_ins(name, [slot], patience=self.asked["timeout"])
            raise RollError(f"{error}\nThe old worker of the class {name} was not touched.") from error

    def _restart(self, unit: str) -> None:
        if self.module.check_mode:
            return
        # Clears a start limit; a unit that never failed is no error to us.
        self.module.run_command(["systemctl", "reset-failed", unit])
        self._systemctl("restart", [unit])

    def _consumes(self, entry: dict[str, Any], unit: str, report_path: str) -> None:
        """Wait until the worker of ``unit`` says that it consumes what it has to, from the release that is wanted."""
        if self.module.check_mode:
            return
        deadline = time.monotonic() + self.asked["timeout"]
        while True:
            status = show(self.module, [unit])[unit]
            report, changed = read_report(report_path)
            why = no_answer(report, status.pid, time.time() - changed)
            if not why and report is not None:
                why = decide.not_as_wanted(entry, report)
            running = runs_in(status.pid) if status.pid else None
            if not why and running not in (None, self._wanted()):
                why = f"it runs from {running}, and not from {self._wanted()}"
            if not why:
                return
            if time.monotonic() > deadline:
                raise RollError(f"{unit} does not work after its start: {why}" + self._journal([unit]))
            time.sleep(PAUSE)

    def _leave_time(self, report: str) -> None:
        """Leave word for the old worker how long its tasks may take; the directory is the app's, so follow no link."""
        try:
            folder = os.open(os.path.dirname(report), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.path.lexists(f"{os.path.dirname(report)}/{decide.DRAIN_FILE}"):
                os.unlink(decide.DRAIN_FILE, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(decide.DRAIN_FILE, flags, 0o644, dir_fd=folder), "w", encoding="ascii") as stream:
                stream.write(f"{self.asked['drain_seconds']}\n")
        finally:
            os.close(folder)

    # Stand-ins

    def _slots(self, name: str, *, ending: bool = False) -> list[str]:
        """Return which stand-ins of a class are there; those that end already only when asked for."""
        return [
            slot
            for slot in decide.SLOTS
            if os.path.lexists(f"{decide.TRANSIENT_DIR}/{decide.transient(self.app, name, slot)}")
            and (ending or not self._is_active(decide.ending(self.app, name, slot)))
        ]

    def _hands_over_already(self, name: str) -> bool:
        unit = decide.transient(self.app, name, decide.HANDOVER)
        return os.path.lexists(f"{decide.TRANSIENT_DIR}/{unit}") and self._is_active(unit)

    def _is_active(self, unit: str) -> bool:
        """Whether a unit does its work, which of one without a lasting process means that it is about to be active."""
        code, output, _errors = self.module.run_command(
            ["systemctl", "show", "--property=ActiveState", "--value", unit]
        )
        return code == 0 and output.strip() in ("active", "activating")

    def _end_stand_ins(self, name: str, slots: Sequence[str], patience: float | None = None) -> None:
        """Let stand-ins end in their own time. Those without long tasks have ended when this returns."""
        for slot in slots:
            command = decide.end(self.app, name, slot, self.asked["drain_seconds"])
            self.module.run_command(["/bin/sh", "-c", command])
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        for slot in slots:
            while self._is_active(decide.ending(self.app, name, slot)) and time.monotonic() < deadline:
                time.sleep(PAUSE)
        self._forget_handover(name)

    def _forget_handover(self, name: str) -> None:
        """Remove a handover that failed, since its class's new worker did not start then."""
        unit = decide.transient(self.app, name, decide.HANDOVER)
        if os.path.lexists(f"{decide.TRANSIENT_DIR}/{unit}") and not self._is_active(unit):
            os.unlink(f"{decide.TRANSIENT_DIR}/{unit}")
            self._systemctl("daemon-reload")
            self.module.run_command(["systemctl", "reset-failed", "--", unit])

    def _clear(self, active: dict[str, bool]) -> None:
        """End what an aborted run left, unless nothing else works for its class: then the new worker comes first."""
        paths = glob.glob(f"{decide.TRANSIENT_DIR}/celery-{self.app}-*.service")
        known = [decide.class_of(self.app, os.path.basename(path)) for path in paths]
        for name in sorted({one[0] for one in known if one}):
            if self._hands_over_already(name) or not active.get(name, True):
                continue
            slots = self._slots(name)
            handover = decide.transient(self.app, name, decide.HANDOVER)
            left = [decide.transient(self.app, name, slot) for slot in slots]
            left += [handover] if os.path.lexists(f"{decide.TRANSIENT_DIR}/{handover}") else []
            if left:
                self.actions.append(f"end {' and '.join(left)}, left by an aborted run")
            if not self.module.check_mode:
                self._end_stand_ins(name, slots)

    # Others

    def _reload_others(self) -> None:
        units = self.asked["reload_units"]
        if not units:
            return
        for unit in units:
            self._note(unit, f"reload or restart {unit}")
        if not self.module.check_mode:
            self._systemctl("reload-or-restart", units)

    def _note(self, unit: str, action: str) -> None:
        self.rolled.append(unit)
        self.actions.append(action)

    def _write(self, unit: str, text: str) -> None:
        os.makedirs(decide.TRANSIENT_DIR, exist_ok=True)
        path = f"{decide.TRANSIENT_DIR}/{unit}"
        with open(f"{path}.new", "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(f"{path}.new", 0o644)
        os.replace(f"{path}.new", path)

    def _systemctl(self, verb: str, units: Sequence[str] = (), *options: str) -> None:
        command = ["systemctl", *options, verb, *(["--", *units] if units else [])]
        code, _output, errors = self.module.run_command(command)
        if code != 0:
            raise RollError(f"systemctl {verb} {' '.join(units)} failed: {errors.strip()}" + self._journal(units))

    def _journal(self, units: Sequence[str]) -> str:
        """Return what units said last."""
        return "".join(f"\n--- last lines of {unit}:\n{last_lines(self.module.run_command, unit)}" for unit in units)


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    texts: dict[str, Any] = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "app": text,
            "classes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": text,
                    "unit": text,
                    "report": {"type": "path", "required": True},
                    "queues": {**texts, "required": True},
                },
            },
            "hand_over": {**texts, "default": []},
            "units": {**texts, "default": []},
            "reload_units": {**texts, "default": []},
            "release": {"type": "str", "default": ""},
            "after": {"type": "bool", "default": False},
            "only_moved": {"type": "bool", "default": False},
            "mode": {"type": "str", "choices": ["wait", "drain"], "default": "wait"},
            "drain_seconds": {"type": "int", "default": 86400},
            "timeout": {"type": "int", "default": 60},
            "discard": {"type": "str", "default": ""},
            "tolerate": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    roll = Roll(module)
    problem = ""
    try:
        with locked(roll.app):
            roll.run()
    except (LockError, OSError, RollError) as error:
        problem = str(error)
    result = roll.result(problem)
    if problem and not module.params["tolerate"]:
        module.fail_json(msg=problem, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
