# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: remove
short_description: Remove an app, or all apps and servers of this collection, from a host
version_added: 0.1.0
description:
  - Stops, disables and removes units, and removes configuration, runtime, releases, and the account that was made for
    an app. Units stop as usual, so running tasks get the C(stop_timeout) of their class.
  - Data stay unless O(data) is set - the app's files in C(/var/lib/celeryops), its logs, and the data of the
    servers. The kept data of an app then belong to root; the next installation gives them to the app's
    new account.
  - What this collection did not make is never changed. It recognises units by their first line, accounts by their
    comment, servers by the configuration that a role wrote.
extends_documentation_fragment: [celeryops.stack.attributes]
options:
  app:
    description: The app. If empty, all apps, with O(servers).
    type: str
    default: ""
  servers:
    description: Whether to remove RabbitMQ, Redis and Valkey too, if a role of this collection set them up.
    type: bool
    default: false
  data:
    description: Whether to remove data too. They cannot be restored.
    type: bool
    default: false
  phase:
    description:
      - V(all) does everything on this host. V(stop) only stops the units. If one does not stop, it restarts those
        that ran, and returns RV(refused). V(start) starts O(units).
      - With several hosts, stop the units on all, then count in check mode, then remove, as the playbook does. A
        worker returns what it holds when it stops, so only then is the number of waiting tasks known.
    type: str
    choices: [all, stop, start]
    default: all
  units:
    description: The units that V(start) starts; pass RV(running) of V(stop).
    type: list
    elements: str
    default: []
  messages:
    description: Whether to remove an app although tasks wait in its queues, or their number is unknown.
    type: bool
    default: false
attributes:
  check_mode: {details: Reports what would be removed.}
  diff_mode: {details: Shows what is removed.}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Remove an app, and keep its data
  celeryops.stack.remove:
    app: shop
"""

RETURN = r"""
removed:
  description: Units, paths, accounts and packages that were removed, or would be in check mode.
  type: list
  elements: str
  returned: always
kept:
  description: >-
    Directories with data, and files of the app that were changed since they were placed, that existed
    before, or that another app of the host has too.
  type: list
  elements: str
  returned: always
running:
  description: Units that ran before V(stop).
  type: list
  elements: str
  returned: with O(phase=stop)
refused:
  description: Why units still run, or run again; empty if all have stopped.
  type: str
  returned: with O(phase=stop)
waiting:
  description: Messages in the queues of each app, or a text if the host could not count them.
  type: dict
  returned: always
"""

import contextlib
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import ours, paths
from ansible_collections.celeryops.stack.plugins.module_utils.releases.lock import LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import delete
from ansible_collections.celeryops.stack.plugins.module_utils.removal import (
    DATA,
    PROGRAMS,
    SERVERS,
    Removal,
    of_app,
    of_server,
    refusal,
)
from ansible_collections.celeryops.stack.plugins.module_utils.removal_guards import brokers_of, in_rabbitmq, users_of
from ansible_collections.celeryops.stack.plugins.module_utils.runtime import waiting
from ansible_collections.celeryops.stack.plugins.module_utils.server_contents import contents
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import entries_of, text_of

#: Made by the roles around the apps; they go when nothing is in them any more.
PARENTS = (*PROGRAMS, *DATA)
_APP = re.compile(r"[a-z][a-z0-9_]{0,24}")


class Remover:
    """Looks first, at everything, and then removes."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options = module.params
        self.found: list[Removal] = []
        self.waiting: dict[str, Any] = {}

    def run(self) -> None:
        """Decide and act; ends the module."""
        if self.options["phase"] == "start":
            if not self.module.check_mode:
                self._start(self.options["units"])
            self.module.exit_json(changed=bool(self.options["units"]), removed=[], kept=[], waiting={})
        name, data = self.options["app"], self.options["data"]
        if bool(name) == self.options["servers"] or (name and not _APP.fullmatch(name)):
            self.module.fail_json(msg="write the name of one app, or servers: true for all apps and servers")
        apps = [name] if name else self._apps()
        marked = self._marked()
        users = {unit: user for unit in marked if (user := _user(f"{paths.UNITS}/{unit}"))}
        with open("/etc/passwd", encoding="utf-8", errors="replace") as stream:
            passwd = stream.read()
        for app in apps:
            removal = of_app(app, marked, users, passwd, data=data)
            self.found.append(removal)
            if removal.units:
                self.waiting[app] = self._waiting(app, users)
        used: list[str] = []
        for app, its in zip(apps, self.found):  # noqa: B905 - a host with Python 3.9 is refused by name, not by a traceback
            used += [f"{process} uses {app}" for process in users_of(app, its.accounts, its.units)]
        if used:
            why = f"{'; '.join(used[:4])}. Nothing was removed. Stop what is not a unit of this collection first"
            self.module.fail_json(msg=why, removed=[], kept=[], waiting={})
        if self.options["servers"]:
            servers = {kind: of_server(kind, data=data) for kind in SERVERS}
            self.found += servers.values()
            if data:
                self._ask_servers([kind for kind, removal in servers.items() if removal.any()])
        why = refusal(self.waiting, messages=self.options["messages"])
        if why:
            self.module.fail_json(msg=why, removed=[], kept=[], waiting=self.waiting)
        if self.options["phase"] == "stop":
            self._only_stop(apps)
        if not self.module.check_mode:
            with contextlib.ExitStack() as locks:
                for app in apps:
                    locks.enter_context(locked(app))
                self._end_workers(apps, users)
                for removal in self.found:
                    self._remove(removal)
                self._tidy()
        removed = [name for one in self.found for name in (*one.units, *one.paths, *one.accounts, *one.packages)]
        self.module.exit_json(
            changed=any(one.any() for one in self.found),
            removed=removed,
            kept=[path for one in self.found for path in (*one.kept, *one.changed)],
            waiting=self.waiting,
            diff={"before": "".join(f"{name}\n" for name in removed), "after": ""},
        )

    # What is there

    def _apps(self) -> list[str]:
        """Return every app that the host carries, or has programs, configuration or data of."""
        names = set(ours.look()["apps"])
        names |= {entry.removesuffix("-flower") for folder in PARENTS for entry in entries_of(folder)}
        return sorted(name for name in names if _APP.fullmatch(name) and name not in ("uv", *SERVERS))

    @staticmethod
    def _marked() -> list[str]:
        names = (name for name in entries_of(paths.UNITS) if name.startswith("celery-"))
        return [name for name in names if ours.role_of(f"{paths.UNITS}/{name}")]

    def _waiting(self, app: str, users: dict[str, str]) -> Any:
        """Return the messages in each queue of an app, or why they are not known."""
        return waiting(app, next((users[unit] for unit in users if unit.startswith(f"celery-{app}-")), app))

    def _ask_servers(self, kinds: list[str]) -> None:
        """Note what servers hold whose data are to go, also for apps that this host does not carry."""
        if "rabbitmq" in kinds:
            unit = {"unit": SERVERS["rabbitmq"]["units"][0], "kind": "rabbitmq"}
            self.waiting["rabbitmq"] = in_rabbitmq(contents(unit, lambda words: self._call(*words)[1]).get("text", ""))
        for kind in kinds:
            if kind in ("rabbitmq", "sentinel"):
                continue
            acl = text_of(f"{paths.CONFIG}/{kind}/users.acl")
            # An app on this host has counted with its own account; nobody else's password is here.
            silent = [user for user in brokers_of(acl) if not isinstance(self.waiting.get(user), dict)]
            if silent:
                self.waiting[kind] = f"nobody on this host can ask it for the queues of {', '.join(silent)}"

    # Removing

    def _only_stop(self, apps: list[str]) -> None:
        """End all units, or none; ends the module."""
        running: list[str] = []
        why = ""
        if not self.module.check_mode:
            with contextlib.ExitStack() as locks:
                for app in apps:
                    locks.enter_context(locked(app))
                running, why = self._stop()
        self.module.exit_json(
            changed=bool(running), removed=[], kept=[], waiting=self.waiting, running=running, refused=why
        )

    def _stop(self) -> tuple[list[str], str]:
        """Stop all units; return those that ran, and why they were started again if one did not end."""
        units = [unit for removal in self.found if not removal.packages for unit in removal.units]
        # One that starts, or waits to be started again, says "activating" and a code that is not 0.
        states = {unit: self._call("systemctl", "is-active", unit)[1].strip() for unit in units}
        running = [unit for unit in units if states[unit] in ("active", "activating", "reloading", "refreshing")]
        for unit in units:
            code, _output, errors = self._call("systemctl", "stop", unit)
            if code != 0:
                self._start(running)
                return running, f"{unit} could not be stopped: {errors.strip()}; nothing was removed"
        return running, ""

    def _start(self, units: list[str]) -> None:
        if units:
            # A worker may take minutes until it is ready; nothing here depends on it.
            self._call("systemctl", "start", "--no-block", *units)

    def _end_workers(self, apps: list[str], users: dict[str, str]) -> None:
        """Stop all units, and look again: what a worker had taken and not begun it has given back."""
        running, why = self._stop()
        if why:
            self.module.fail_json(msg=why, removed=[], kept=[], waiting=self.waiting)
        if self.options["messages"] or not running:
            return
        self.waiting |= {app: self._waiting(app, users) for app in apps if app in self.waiting}
        why = refusal(self.waiting, messages=False)
        if why:
            self._start(running)
            self.module.fail_json(msg=why, removed=[], kept=[], waiting=self.waiting)

    def _remove(self, removal: Removal) -> None:
        # One after the other: the scheduler is first, and sends nothing any more when the workers end.
        present = [unit for unit in removal.units if os.path.exists(f"{paths.UNITS}/{unit}") or removal.packages]
        for unit in present:
            code, _output, errors = self._call("systemctl", "disable", "--now", "--no-reload", unit)
            # A unit of a package may not be there; one of ours is.
            if code != 0 and not removal.packages:
                self.module.fail_json(msg=f"{unit} could not be stopped: {errors.strip()}; nothing more was removed")
        if removal.packages:
            # Their scripts ask nobody, and stop what runs. A purge would take the data with it.
            verb = "purge" if self.options["data"] else "remove"
            code, output, errors = self._call("apt-get", "--yes", verb, *removal.packages, noninteractive=True)
            if code != 0:
                self.module.fail_json(msg=f"apt-get {verb}: {(errors or output).strip()}")
        for path in removal.paths:
            delete(path)
            if path.startswith(paths.UNITS) and path.count("/") > 4:
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(path))
        for account in removal.accounts:
            for kept in removal.kept:
                _give_to_root(kept)
            code, _output, errors = self._call("userdel", "--", account)
            if code != 0:
                self.module.fail_json(msg=f"the account {account} could not be removed: {errors.strip()}")
        if present:
            self._call("systemctl", "daemon-reload")
            self._call("systemctl", "reset-failed", *present)

    def _tidy(self) -> None:
        if set(entries_of(paths.PROGRAMS)) <= {os.path.basename(paths.UV)}:
            for path in (paths.UV, paths.CACHE, paths.LOCKS, paths.RECEIPTS):
                delete(path)
            # The first line of a program says what runs it.
            if ours.MARK.search("\n".join(text_of(paths.RUN_COMMAND).splitlines()[:2])):
                delete(paths.RUN_COMMAND)
        if self.options["servers"] and self.options["data"]:
            # What stays is still in it: of a file without a comment nothing else says that it is ours.
            delete(paths.PLACED)
        for folder in (*PARENTS, paths.DYNAMIC_STATE):
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    def _call(self, *words: str, noninteractive: bool = False) -> tuple[int, str, str]:
        environment = {"DEBIAN_FRONTEND": "noninteractive"} if noninteractive else {}
        path = f"/usr/sbin:/sbin:{os.environ.get('PATH', '/usr/bin:/bin')}"
        outcome: tuple[int, str, str] = self.module.run_command(
            list(words), environ_update={"PATH": path, "LC_ALL": "C.UTF-8", **environment}
        )
        return outcome


def _user(path: str) -> str:
    match = re.search(r"^User=(.+)$", text_of(path), re.MULTILINE)
    return match[1].strip() if match else ""


def _give_to_root(path: str) -> None:
    """Let root own what stays, or the next account that gets the number would."""
    os.lchown(path, 0, 0)
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            os.lchown(os.path.join(folder, name), 0, 0)


def main() -> None:
    """Run the module."""
    flag: dict[str, Any] = {"type": "bool", "default": False}
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "default": ""},
            "servers": flag,
            "data": flag,
            "messages": flag,
            "phase": {"type": "str", "choices": ["all", "stop", "start"], "default": "all"},
            "units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        Remover(module).run()
    except (LockError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
