# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

DOCUMENTATION = r"""
module: remove
short_description: Remove an app, or all apps and servers of this collection, from a host
version_added: 0.1.0
description:
  - Stops, disables and removes units, and removes configuration, runtime, releases, and the account that was made for
    an app. Units end as they always do, so running tasks get the time that their class gives them.
  - Data stay unless O(data) says otherwise - what an app keeps in C(/var/lib/celeryops) and its logs, and what the
    servers hold. What stays of an app belongs to root from then on; the next installation gives it to the app's
    new account.
  - What this collection did not make is never touched. Units are known by their first line, accounts by their comment,
    servers by the configuration that a role wrote.
options:
  app:
    description: The app. All of them when empty, with O(servers).
    type: str
    default: ""
  servers:
    description: Whether RabbitMQ, Redis and Valkey go as well, where a role of this collection set them up.
    type: bool
    default: false
  data:
    description: Whether data go as well. They cannot be brought back.
    type: bool
    default: false
  messages:
    description: Whether to remove an app although tasks wait in its queues, or although that is not known.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would be removed.
    support: full
  diff_mode:
    description: Shows what goes.
    support: full
author: celeryops.stack contributors
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
  description: Directories with data that stay.
  type: list
  elements: str
  returned: always
waiting:
  description: Messages in the queues of each app that the host could ask for; a text where it could not.
  type: dict
  returned: always
"""

import contextlib
import os
import re
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import ours
from ansible_collections.celeryops.stack.plugins.module_utils.lock import FOLDER, LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.removal import (
    DATA,
    DYNAMIC,
    PROGRAMS,
    SERVERS,
    UNITS,
    Removal,
    of_app,
    of_server,
    refusal,
)
from ansible_collections.celeryops.stack.plugins.module_utils.runtime import CommandError, run_runtime

#: Made by the roles around the apps; they go when nothing is in them any more.
PARENTS = (*PROGRAMS, *DATA)
#: The installer's own directory beside the apps.
INSTALLER = "/opt/celeryops/uv"
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
        name, data = self.options["app"], self.options["data"]
        if bool(name) == self.options["servers"] or (name and not _APP.fullmatch(name)):
            self.module.fail_json(msg="write the name of one app, or servers: true for all apps and servers")
        apps = [name] if name else self._apps()
        marked = self._marked()
        users = {unit: user for unit in marked if (user := _user(f"{UNITS}/{unit}"))}
        with open("/etc/passwd", encoding="utf-8", errors="replace") as stream:
            passwd = stream.read()
        for app in apps:
            removal = of_app(app, marked, users, passwd, data=data)
            self.found.append(removal)
            if removal.units:
                self.waiting[app] = self._waiting(app, users)
        if self.options["servers"]:
            self.found += [of_server(kind, data=data) for kind in SERVERS]
        why = refusal(self.waiting, messages=self.options["messages"])
        if why:
            self.module.fail_json(msg=why, removed=[], kept=[], waiting=self.waiting)
        if not self.module.check_mode:
            for app in apps:
                with locked(app):
                    pass
            self._end_workers(apps, users)
            for removal in self.found:
                self._remove(removal)
            self._tidy()
        removed = [name for one in self.found for name in (*one.units, *one.paths, *one.accounts, *one.packages)]
        self.module.exit_json(
            changed=any(one.any() for one in self.found),
            removed=removed,
            kept=[path for one in self.found for path in one.kept],
            waiting=self.waiting,
            diff={"before": "".join(f"{name}\n" for name in removed), "after": ""},
        )

    # What is there

    def _apps(self) -> list[str]:
        """Return every app that the host carries, or has programs, configuration or data of."""
        names = set(ours.look()["apps"])
        for folder in PARENTS:
            with contextlib.suppress(OSError):
                names |= {entry.removesuffix("-flower") for entry in os.listdir(folder)}
        return sorted(name for name in names if _APP.fullmatch(name) and name not in ("uv", *SERVERS))

    @staticmethod
    def _marked() -> list[str]:
        found = []
        for name in sorted(os.listdir(UNITS)) if os.path.isdir(UNITS) else []:
            path = f"{UNITS}/{name}"
            if name.startswith("celery-") and os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as stream:
                    if ours.MARK.match(stream.readline()):
                        found.append(name)
        return found

    def _waiting(self, app: str, users: dict[str, str]) -> Any:
        """Return the messages in each queue of an app, or why they are not known."""
        user = next((users[unit] for unit in users if unit.startswith(f"celery-{app}-")), app)
        try:
            report = run_runtime(
                f"/opt/celeryops/{app}/current", f"/etc/celeryops/{app}/celery.env", user, ["backlog"], timeout=60
            )
        except CommandError as error:
            return str(error)
        return str(report.get("message")) if report["failed"] else report.get("waiting", {})

    # Removing

    def _end_workers(self, apps: list[str], users: dict[str, str]) -> None:
        """Stop all units, and look again: what a worker had taken and not begun it has given back."""
        units = [unit for removal in self.found if not removal.packages for unit in removal.units]
        if not units:
            return
        running = [unit for unit in units if self._call("systemctl", "is-active", "--quiet", unit)[0] == 0]
        for unit in units:
            code, _output, errors = self._call("systemctl", "stop", unit)
            if code != 0:
                self.module.fail_json(msg=f"{unit} could not be stopped: {errors.strip()}; nothing was removed")
        if self.options["messages"]:
            return
        self.waiting = {app: self._waiting(app, users) for app in apps if app in self.waiting}
        why = refusal(self.waiting, messages=False)
        if why:
            if running:
                self._call("systemctl", "start", *running)
            self.module.fail_json(msg=why, removed=[], kept=[], waiting=self.waiting)

    def _remove(self, removal: Removal) -> None:
        # One after the other: the scheduler is first, and sends nothing any more when the workers end.
        present = [unit for unit in removal.units if os.path.exists(f"{UNITS}/{unit}") or removal.packages]
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
            _delete(path)
            if path.startswith(UNITS) and path.count("/") > 4:
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
        programs = set()
        with contextlib.suppress(OSError):
            programs = set(os.listdir(os.path.dirname(INSTALLER)))
        if programs <= {os.path.basename(INSTALLER)}:
            _delete(INSTALLER)
            _delete(FOLDER)
        for folder in (*PARENTS, DYNAMIC):
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
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        match = re.search(r"^User=(.+)$", stream.read(), re.MULTILINE)
        return match[1].strip() if match else ""
    return ""


def _delete(path: str) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


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
        },
        supports_check_mode=True,
    )
    try:
        Remover(module).run()
    except (LockError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
