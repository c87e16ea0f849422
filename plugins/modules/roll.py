# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: roll
short_description: Replace the running workers of a host, class by class, without interrupting the work
version_added: 0.1.0
description:
  - Restarts the units of worker classes one by one. The old worker drains (what it has not begun goes back to its
    queue, running tasks get the class's C(stop_timeout)), then the new one starts. When it consumes, the next class
    follows.
  - For a class in O(hand_over), a stand-in does the work meanwhile. It is a transient copy of the class's unit in
    C(/run/systemd/system), started from the release that is current, and must consume before the old worker is touched.
    So a release whose worker does not start stops no work. When the new worker consumes, the stand-in stops
    consuming, ends its tasks within O(drain_seconds), and its unit file is removed. A transient unit on the host does
    that; the module waits ten seconds for it. If the new worker does not consume, the stand-in keeps working.
  - Stand-ins that an aborted run left are removed first.
  - Can first switch to another release, so that the switch and the restarts are one remote call.
extends_documentation_fragment: [celeryops.stack.attributes]
options:
  app:
    description: The app's short name.
    type: str
    required: true
  classes:
    description: The worker classes, in the order of their replacement.
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
        description: The report file of its worker.
        type: path
        required: true
      queues:
        description: The queues that it must consume.
        type: list
        elements: str
        required: true
  hand_over:
    description: Names of the classes that get a stand-in. In mode V(drain) all classes do.
    type: list
    elements: str
    default: []
  units:
    description: More units of the app (the scheduler), restarted after the workers.
    type: list
    elements: str
    default: []
  reload_units:
    description: The user's own units that run the release (web servers), reloaded or restarted after the switch.
    type: list
    elements: str
    default: []
  release:
    description: The release to switch to before anything is restarted. If empty, the current one stays.
    type: str
    default: ""
  after:
    description: Whether to record that commands must run on this host after the switch, until they have run.
    type: bool
    default: false
  only_moved:
    description: Whether to skip units that already run from the current release.
    type: bool
    default: false
  mode:
    description:
      - V(wait) returns when every old worker has stopped.
      - V(drain) returns when the stand-ins work. Old workers finish their tasks within O(drain_seconds), then
        the new ones start and the stand-ins stop; a transient unit on the host does that.
    type: str
    choices: [wait, drain]
    default: wait
  drain_seconds:
    description: >-
      How long running tasks may go on, instead of the class's C(stop_timeout): those of a stand-in, and in mode
      V(drain) those of the old worker.
    type: int
    default: 86400
  timeout:
    description: How many seconds a started worker may take until it reports that it consumes.
    type: int
    default: 60
  discard:
    description: A failed release, removed at the end unless a process runs from it.
    type: str
    default: ""
  tolerate:
    description: Whether to return a failure as RV(problem), so that the play can roll back.
    type: bool
    default: false
attributes:
  check_mode:
    details: Reports which workers would be replaced.
  diff_mode:
    details: Shows the release before and after.
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Restart the workers, with a stand-in for the class high
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
  description: What went wrong; empty on success.
  type: str
  returned: always
"""

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import handover, paths
from ansible_collections.celeryops.stack.plugins.module_utils.releases.lock import LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store
from ansible_collections.celeryops.stack.plugins.module_utils.stand_ins import PAUSE, RollError, StandIns
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import runs_in, show
from ansible_collections.celeryops.stack.plugins.module_utils.workers import no_answer, read_report

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Status


class Roll:
    """One call of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.asked: dict[str, Any] = module.params
        self.app: str = self.asked["app"]
        self.store = Store(self.app, check_mode=bool(module.check_mode))
        self.transient = StandIns(module, self.app, self.asked["drain_seconds"])
        self.actions: list[str] = []
        self.rolled: list[str] = []
        self.stand_ins: list[str] = []
        self.previous = self.store.current

    def run(self) -> None:
        """Replace what is to be replaced."""
        if self.asked["release"]:
            self._switch(self.asked["release"])
        units = [entry["unit"] for entry in self.asked["classes"]] + self.asked["units"]
        statuses = show(self.module, units)
        active = {entry["name"]: statuses[entry["unit"]].active for entry in self.asked["classes"]}
        self.transient.clear(active, self.actions)
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
        before, after = self.previous, self.store.current
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

    def _switch(self, release: str) -> None:
        if release == self.previous:
            return
        if not self.module.check_mode and not os.path.exists(f"{self.store.path(release)}/bin/python"):
            raise RollError(f"the release {release} of {self.app} is not on this host")
        self.actions.append(f"switch to {release}")
        self.store.switch(release, after=self.asked["after"])

    def _wanted(self) -> str:
        """Return the directory that every process of the app is to run from."""
        release = self.asked["release"]
        return os.path.realpath(self.store.path(release) if release else self.store.paths.current)

    def _must(self, status: Status) -> bool:
        running = runs_in(status.pid) if status.pid else None
        return handover.must_roll(
            running, self._wanted(), active=status.active, only_moved=self.asked["only_moved"]
        ) and not (self.asked["only_moved"] and not status.loaded)

    def _discard(self, release: str) -> None:
        if self.store.may_discard(release):
            self.actions.append(f"remove the release {release}")
            # It may be removed by the next run as well.
            with contextlib.suppress(OSError):
                self.store.remove(release)

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
        if self.transient.hands_over(name):
            # Its old worker still drains behind a stand-in, and its new one will start from the release that is current
            # then. So only the stand-in is to be replaced.
            old = self.transient.slots(name)
            self._start_stand_in(entry)
            self.transient.end(name, old)
            return
        if hands_over:
            self._start_stand_in(entry)
        if hands_over and drain:
            unit = handover.transient(self.app, name, handover.HANDOVER)
            self._leave_time(entry["report"])
            self.transient.write(unit, handover.handover(self.app, name, self.asked["drain_seconds"]))
            self.transient.systemctl("daemon-reload")
            self.transient.systemctl("start", [unit], "--no-block")
            return
        try:
            self._restart(unit)
            self._consumes(entry, unit, entry["report"])
        except RollError as error:
            # Or nobody would consume. The next run takes it away, once the class's own worker consumes.
            working = "\nIts stand-in goes on working." if self.transient.slots(name) else ""
            raise RollError(f"{error}{working}") from error
        self.transient.end(name, self.transient.slots(name))

    def _start_stand_in(self, entry: dict[str, Any]) -> None:
        """Start a second worker of the class and wait until it consumes."""
        name = entry["name"]
        free = [slot for slot in handover.SLOTS if slot not in self.transient.slots(name, ending=True)]
        if not free:
            raise RollError(
                f"{len(handover.SLOTS)} stand-ins of the class {name} still end their tasks; wait for them, or end "
                f"them now: systemctl kill 'celery-{self.app}-{name}_standin*.service'"
            )
        slot = free[0]
        stand_in = handover.transient(self.app, name, slot)
        fragment, *drop_ins = show(self.module, [entry["unit"]])[entry["unit"]].files
        with open(fragment, encoding="utf-8") as stream:
            try:
                text = handover.stand_in(stream.read(), self.app, name, slot)
            except ValueError as error:
                raise RollError(str(error)) from error
        self.transient.write(stand_in, text)
        for path in drop_ins:
            # Somebody's own additions to the class's unit are meant for this one as well.
            if os.path.dirname(path).endswith(f"/{entry['unit']}.d"):
                os.makedirs(f"{paths.TRANSIENT_UNITS}/{stand_in}.d", exist_ok=True)
                shutil.copyfile(path, f"{paths.TRANSIENT_UNITS}/{stand_in}.d/{os.path.basename(path)}")
        self.transient.systemctl("daemon-reload")
        try:
            self.transient.systemctl("start", [stand_in])
            report = os.path.join(os.path.dirname(os.path.dirname(entry["report"])), f"{name}{slot}", "worker.json")
            self._consumes(entry, stand_in, report)
        except RollError as error:
            # It never had a task, and what it runs from may have to go.
            self.transient.end(name, [slot], patience=self.asked["timeout"])
            raise RollError(f"{error}\nThe old worker of the class {name} was not touched.") from error

    def _restart(self, unit: str) -> None:
        if self.module.check_mode:
            return
        # Clears a start limit; a unit that never failed is no error to us.
        self.module.run_command(["systemctl", "reset-failed", unit])
        self.transient.systemctl("restart", [unit])

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
                why = handover.not_as_wanted(entry, report)
            running = runs_in(status.pid) if status.pid else None
            if not why and running not in (None, self._wanted()):
                why = f"it runs from {running}, and not from {self._wanted()}"
            if not why:
                return
            if time.monotonic() > deadline:
                raise RollError(f"{unit} does not work after its start: {why}" + self.transient.journal([unit]))
            time.sleep(PAUSE)

    def _leave_time(self, report: str) -> None:
        """Leave word for the old worker how long its tasks may take; the directory is the app's, so follow no link."""
        try:
            folder = os.open(os.path.dirname(report), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.path.lexists(f"{os.path.dirname(report)}/{handover.DRAIN_FILE}"):
                os.unlink(handover.DRAIN_FILE, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(handover.DRAIN_FILE, flags, 0o644, dir_fd=folder), "w", encoding="ascii") as stream:
                stream.write(f"{self.asked['drain_seconds']}\n")
        finally:
            os.close(folder)

    # Others

    def _reload_others(self) -> None:
        units = self.asked["reload_units"]
        if not units:
            return
        for unit in units:
            self._note(unit, f"reload or restart {unit}")
        if not self.module.check_mode:
            self.transient.systemctl("reload-or-restart", units)

    def _note(self, unit: str, action: str) -> None:
        self.rolled.append(unit)
        self.actions.append(action)


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
