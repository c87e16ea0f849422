# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Set the state of any number of systemd units in one remote call
version_added: 0.1.0
description:
  - Enables, starts, stops and restarts the units that need it, with one C(systemctl) call for all of them.
  - A running unit is restarted when its unit file, one of its drop-ins or a file of O(units[].restart_on) is newer than
    its main process. This needs no handler and also works after an aborted run.
  - If a unit does not start, the message has the last lines of its journal.
extends_documentation_fragment: [celeryops.stack.units, celeryops.stack.servers, celeryops.stack.attributes]
options:
  units:
    description: The units.
    required: true
  prune:
    description:
      - Unit files in C(/etc/systemd/system) to stop, disable and delete unless they are in O(units).
      - They keep running until all of O(units) have started, and stay if one does not start. If the
        memory limits of both add up to more than the host has, they stop first, and start again if
        a unit does not start.
  pending:
    description: Paths that earlier tasks of this run changed, or would change in check mode.
    type: list
    elements: path
    default: []
  servers:
    description:
      - The servers among O(units). After a restart of one of them, its contents are compared with those before,
        and the module fails if something is missing.
  restart:
    description: Whether running units are restarted or reloaded. If not, O(units) that do not run are still started.
    type: bool
    default: true
  wait:
    description: Whether to wait until the units that are started run.
    type: bool
    default: true
  prerequisite:
    description: What must exist before a unit is started.
    type: dict
    suboptions:
      path:
        description: A file.
        type: path
        required: true
      missing:
        description: The message if it is missing.
        type: str
        required: true
attributes:
  check_mode: {details: Reports what would be done.}
  diff_mode: {details: Shows the actions.}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Run the workers
  celeryops.stack.units:
    units:
      - {name: celery-shop-high.service, enabled: true, state: started, restart_on: [/etc/celeryops/shop/celery.json]}
    prune: {glob: "celery-shop-*.service", markers: ["role celery_worker"]}
    pending: "{{ __celery_worker_files.changed_paths }}"
  when: not __celery_worker_files.settled
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, as C({action, list of unit names}).
  type: dict
  returned: success
"""

import os
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import server_contents
from ansible_collections.celeryops.stack.plugins.module_utils.journal import last_lines
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import UNIT_DIR
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import OPTIONS, Outlook, look, show
from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The commands that only make and remove links, in their order.
LINKS = ("unmask", "mask", "enable", "disable")


class Units:
    """Changes the state of units."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        #: units that would have been restarted next
        self.untouched: list[str] = []
        #: units that leave, as long as they are there, and whether they were stopped to make room for others
        self.leaving: list[str] = []
        self.made_room = False

    def run(self) -> None:
        """Decide and act; ends the module."""
        options = self.module.params
        outlook = look(self.module, options["units"], options["prune"], options["pending"])
        if not options["restart"]:
            outlook.actions.restart.clear()
            outlook.actions.reload.clear()
        done = {name: units for name, units in vars(outlook.actions).items() if units}
        if outlook.leftovers:
            done["prune"] = outlook.leftovers
        if not self.module.check_mode:
            self._act(outlook)
        self.module.exit_json(
            changed=bool(done),
            actions=done,
            diff={"before": "", "after": "".join(f"{name}: {' '.join(units)}\n" for name, units in done.items())},
        )

    def _act(self, outlook: Outlook) -> None:
        actions, leftovers = outlook.actions, outlook.leftovers
        starting = actions.restart + actions.start
        self.leaving = leftovers
        # Each of these would have systemd read all of its units again, which takes longest: once, below, is enough.
        links = [(verb, names) for verb in LINKS if (names := getattr(actions, verb))]
        for verb, names in links:
            self._systemctl(verb, names, "--no-reload")
        if links or (outlook.reload_needed and (starting or not leftovers)):
            self._systemctl("daemon-reload")
        if actions.stop:
            self._systemctl("stop", actions.stop)
        servers = [server for server in self.module.params["servers"] if server["unit"] in actions.restart]
        before = {
            server["unit"]: server["before"] or server_contents.contents(server, self._output) for server in servers
        }
        if starting:
            self._must_be_there(self.module.params.get("prerequisite"))
            # Clears a start limit that was hit before the cause was mended; a unit that never ran is no error to us.
            self.module.run_command(["systemctl", "reset-failed", *starting])
            if leftovers and self._too_much():
                self.made_room = True
                self._systemctl("stop", leftovers)
        # One after the other, each when the one before says that it is ready: what one cannot start with would take
        # down the others as well.
        for position, name in enumerate(actions.restart):
            self.untouched = actions.restart[position + 1 :]
            self._systemctl("restart", [name])
            self._must_run([name])
        self.untouched = []
        if actions.reload:
            self._systemctl("reload", actions.reload)
        if actions.start and self.module.params["wait"]:
            self._systemctl("start", actions.start)
            self._must_run(actions.start)
        elif actions.start:
            self._systemctl("start", actions.start, "--no-block")
        # Last: the same queues may be theirs, under another name of the class or with other numbers, and what does not
        # start leaves nobody else to consume them.
        self._remove(leftovers)
        for server in servers:
            self._must_hold(server, before[server["unit"]])

    def _remove(self, leftovers: list[str]) -> None:
        """Stop, disable and delete units."""
        if not leftovers:
            return
        self._systemctl("disable", leftovers, "--no-reload", "--now")
        for name in leftovers:
            os.unlink(f"{UNIT_DIR}/{name}")
        self.leaving = []
        self._systemctl("daemon-reload")
        # A unit that failed would stay in the list of units after its file is gone; no other unit is concerned.
        self.module.run_command(["systemctl", "reset-failed", *leftovers])

    def _too_much(self) -> bool:
        """Whether the memory limits of all units and of those that leave add up to more than the host has.

        A unit without a limit does not say how much it takes; those of other roles are not looked at.
        """
        names = [*self.leaving, *(unit["name"] for unit in self.module.params["units"])]
        output = self._output(["systemctl", "show", "--property=MemoryMax", "--value", "--", *names])
        return sum(int(word) for word in output.split() if word.isdigit()) > _memory()

    def _must_be_there(self, options: dict[str, Any] | None) -> None:
        """Fail when the units have nothing to run: systemd would say so less clearly."""
        if options and not os.path.exists(options["path"]):
            self.module.fail_json(msg=options["missing"])

    def _output(self, command: Sequence[str]) -> str:
        return str(self.module.run_command(list(command))[1])

    def _must_hold(self, server: dict[str, Any], before: dict[str, Any]) -> None:
        """Fail when a server that was restarted lacks what it held before."""
        missing = server_contents.lost_by_restart(server, before, self._output)
        if missing:
            self.module.fail_json(
                msg=f"{server['unit']} was restarted and lacks what it held before: {some_of(missing, 10)}. "
                + server_contents.advice(server)
            )

    def _must_run(self, names: list[str]) -> None:
        """Fail when a unit that was just started is not up."""
        if not names:
            return
        down = [name for name, status in show(self.module, names).items() if not status.active]
        if down:
            self._fail(f"not running after its start: {', '.join(down)}", down)

    def _systemctl(self, verb: str, names: Sequence[str] = (), *options: str) -> None:
        command = ["systemctl", *options, verb, *(["--", *names] if names else [])]
        code, _output, errors = self.module.run_command(command)
        if code != 0:
            down = [name for name, status in show(self.module, names).items() if not status.active]
            self._fail(f"systemctl {verb} {' '.join(names)} failed: {errors.strip()}", down)

    def _fail(self, text: str, down: list[str]) -> None:
        """Fail with ``text`` and what the units in ``down`` said last."""
        parts = [text]
        if self.untouched:
            parts.append(f"not touched, and running as before: {', '.join(self.untouched)}")
        if self.leaving:
            if self.made_room:
                self.module.run_command(["systemctl", "start", "--", *self.leaving])
            again = "started again" if self.made_room else "running as before"
            parts.append(f"not removed, and {again}: {', '.join(self.leaving)}")
        run = self.module.run_command
        parts += [f"--- last lines of {name}:\n{last_lines(run, name)}" for name in down[:5]]
        self.module.fail_json(msg="\n".join(parts))


def _memory() -> int:
    """Return how much memory the host has, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        **OPTIONS,
        "units": {**OPTIONS["units"], "required": True},
        "servers": server_contents.OPTION,
        "restart": {"type": "bool", "default": True},
        "wait": {"type": "bool", "default": True},
        "prerequisite": {
            "type": "dict",
            "options": {"path": {"type": "path", "required": True}, "missing": {"type": "str", "required": True}},
        },
    }
    Units(AnsibleModule(argument_spec=spec, supports_check_mode=True)).run()


if __name__ == "__main__":
    main()
