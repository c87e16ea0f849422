# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manages the stand-in units of workers during a replacement (``handover`` has their names and texts)."""

from __future__ import annotations

import glob
import os
import time
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import handover, paths
from ansible_collections.celeryops.stack.plugins.module_utils.journal import last_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.basic import AnsibleModule

#: Seconds between two looks at a unit.
PAUSE = 0.2
#: Seconds that are waited for a stand-in to end, as most do at once; it does so without us as well.
PATIENCE = 10.0


class RollError(Exception):
    """Something that ends the run; the text is for the user."""


class StandIns:
    """The transient units of one app.

    Arguments:
        module: runs commands.
        app: its short name.
        drain_seconds: how long the tasks of a stand-in may go on.
    """

    def __init__(self, module: AnsibleModule, app: str, drain_seconds: int) -> None:
        self.module = module
        self.app = app
        self.drain_seconds = drain_seconds

    def slots(self, name: str, *, ending: bool = False) -> list[str]:
        """Return which stand-ins of a class are there; those that end already only when asked for."""
        return [
            slot
            for slot in handover.SLOTS
            if os.path.lexists(f"{paths.TRANSIENT_UNITS}/{handover.transient(self.app, name, slot)}")
            and (ending or not self.is_active(handover.ending(self.app, name, slot)))
        ]

    def hands_over(self, name: str) -> bool:
        """Whether the old worker of a class still drains behind its stand-in."""
        unit = handover.transient(self.app, name, handover.HANDOVER)
        return os.path.lexists(f"{paths.TRANSIENT_UNITS}/{unit}") and self.is_active(unit)

    def is_active(self, unit: str) -> bool:
        """Whether a unit does its work, which of one without a lasting process means that it is about to be active."""
        code, output, _errors = self.module.run_command(
            ["systemctl", "show", "--property=ActiveState", "--value", unit]
        )
        return code == 0 and output.strip() in ("active", "activating")

    def end(self, name: str, slots: Sequence[str], patience: float | None = None) -> None:
        """Let stand-ins end in their own time. Those without long tasks have ended when this returns."""
        for slot in slots:
            command = handover.end(self.app, name, slot, self.drain_seconds)
            self.module.run_command(["/bin/sh", "-c", command])
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        for slot in slots:
            while self.is_active(handover.ending(self.app, name, slot)) and time.monotonic() < deadline:
                time.sleep(PAUSE)
        self._forget_handover(name)

    def _forget_handover(self, name: str) -> None:
        """Remove a handover that failed, since its class's new worker did not start then."""
        unit = handover.transient(self.app, name, handover.HANDOVER)
        if os.path.lexists(f"{paths.TRANSIENT_UNITS}/{unit}") and not self.is_active(unit):
            os.unlink(f"{paths.TRANSIENT_UNITS}/{unit}")
            self.systemctl("daemon-reload")
            self.module.run_command(["systemctl", "reset-failed", "--", unit])

    def clear(self, active: dict[str, bool], actions: list[str]) -> None:
        """End what an aborted run left, unless nothing else works for its class: then the new worker comes first.

        Arguments:
            active: class -> whether its own worker runs.
            actions: gets what is done, or would be in check mode.
        """
        found = glob.glob(f"{paths.TRANSIENT_UNITS}/celery-{self.app}-*.service")
        known = [handover.class_of(self.app, os.path.basename(path)) for path in found]
        for name in sorted({one[0] for one in known if one}):
            if self.hands_over(name) or not active.get(name, True):
                continue
            slots = self.slots(name)
            own = handover.transient(self.app, name, handover.HANDOVER)
            left = [handover.transient(self.app, name, slot) for slot in slots]
            left += [own] if os.path.lexists(f"{paths.TRANSIENT_UNITS}/{own}") else []
            if left:
                actions.append(f"end {' and '.join(left)}, left by an aborted run")
            if not self.module.check_mode:
                self.end(name, slots)

    def write(self, unit: str, text: str) -> None:
        """Write the file of a transient unit."""
        os.makedirs(paths.TRANSIENT_UNITS, exist_ok=True)
        path = f"{paths.TRANSIENT_UNITS}/{unit}"
        with open(f"{path}.new", "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(f"{path}.new", 0o644)
        os.replace(f"{path}.new", path)

    def systemctl(self, verb: str, units: Sequence[str] = (), *options: str) -> None:
        """Call systemctl.

        Raises:
            RollError: it failed; with what the units said last.
        """
        command = ["systemctl", *options, verb, *(["--", *units] if units else [])]
        code, _output, errors = self.module.run_command(command)
        if code != 0:
            raise RollError(f"systemctl {verb} {' '.join(units)} failed: {errors.strip()}" + self.journal(units))

    def journal(self, units: Sequence[str]) -> str:
        """Return what units said last."""
        return "".join(f"\n--- last lines of {unit}:\n{last_lines(self.module.run_command, unit)}" for unit in units)
