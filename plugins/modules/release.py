# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install one version of an app into an environment of its own and switch to it
version_added: 0.1.0
description:
  - A release is a virtual environment below C(/opt/celeryops/<app>/releases), owned by root, named after everything
    that decides its content, and never changed once it is complete. The link C(current) leads to the one in use.
  - The link is switched in one step, and only after the packages are in, Celery and kombu are recent enough, and the
    app could be imported by the account that will run it. Whatever fails before that leaves nothing behind.
  - The account is a system user without a password, a login shell or a home of its own. One that could become root, or
    that a person logs in with, is refused before anything is changed.
  - What an aborted run left incomplete is removed and built again.
  - When nothing is to be done this is one remote call. Debian packages and, for the types V(wheel) and V(path), the
    content are brought over only when a release is built.
options:
  name:
    description: The app's short name.
    type: str
    required: true
  import:
    description: What C(celery -A) takes.
    type: str
    required: true
  user:
    description: The account that the app runs as; it imports the app for the check.
    type: str
    required: true
  account:
    description: >-
      How the account is provided, with C(group), C(home) and C(manage) (whether it is created and corrected, or only
      checked). Without this it must be there.
    type: dict
  source:
    description: Where the app comes from, as described for C(celery_app_source).
    type: dict
    required: true
  extra_packages:
    description: >-
      Requirements that every release gets beside the app's own, which are installed first and win where the two
      contradict each other.
    type: list
    elements: str
    default: []
  broker:
    description: The broker that the workers speak to, since not every kombu and redis-py work together there.
    type: str
    choices: [rabbitmq, redis]
    default: rabbitmq
  needs:
    description: >-
      What the configuration counts on, each with C(package), C(since) (the first version that has it), C(says) and
      C(instead). A release with an older version is not taken into use.
    type: list
    elements: dict
    default: []
  role:
    description: Whose variables a message names.
    type: str
    choices: [celery_app, flower]
    default: celery_app
  system_packages:
    description: Debian packages that must be there; installed when they are not.
    type: list
    elements: str
    default: []
  python:
    description: The interpreter of the release, a name or a path on the host.
    type: str
    default: python3
  installer:
    description: What installs the packages.
    type: str
    choices: [uv, pip]
    default: uv
  uv_package:
    description: The requirement by which uv itself is installed.
    type: str
    default: uv
  install_environment:
    description: Variables for pip, uv and git, such as C(PIP_CERT) or C(HTTPS_PROXY).
    type: dict
    default: {}
  environment:
    description: Variables that the app needs to be imported.
    type: dict
    default: {}
  verify:
    description: Whether the app is imported before the switch.
    type: bool
    default: true
  keep:
    description: How many releases stay. The current one, and those that a process still runs from, always do.
    type: int
    default: 3
  configuration:
    description: >-
      Files, written as in M(celeryops.stack.files), that will be placed after this call. The app is imported with them,
      laid beside those in use, and again when one of them or the environment has changed.
    type: list
    elements: dict
    default: []
  hold:
    description: >-
      Do everything but the switch and the removal of old releases, so that it is known of every host that it can follow
      before the first one does. What is left is done by O(take).
    type: bool
    default: false
  take:
    description: The release that an earlier call with O(hold) has verified and that is now taken into use.
    type: str
    default: ""
  after:
    description: >-
      With O(take), note that something is left to be done once the units run the release, until
      M(celeryops.stack.commands) has done it.
    type: bool
    default: false
  switch:
    description:
      - Whether the release is taken into use.
      - Without, it is only built beside the one in use and verified, with what the following options say.
    type: bool
    default: true
  select:
    description:
      - A release that is on the host already, to be verified in place of building O(source); V(previous) is the one
        that was in use before the present one, and with O(hold) V(current) is that one.
    type: str
    default: ""
  expected:
    description: >-
      Files, written as in M(celeryops.stack.files), that have to be on the host as they are here. When one is not,
      nothing is done: a release is verified with the configuration that it will run with. Not with O(switch=true).
    type: list
    elements: dict
    default: []
  running:
    description: The units that run the app here, with C(unit) and, of a worker, C(report), the file that it writes.
    type: list
    elements: dict
    default: []
  consumed:
    description:
      - With a configuration by which the app's own routes hold, the queues that they may lead to. A release with a
        route or a task that leads elsewhere is not taken into use.
    type: list
    elements: str
    default: []
  decided:
    description:
      - Names of Celery's settings that the inventory has outright. What the app itself says of them is not told.
    type: list
    elements: str
    default: []
  accept_missing_tasks:
    description: Names of tasks, or patterns, that the running workers have and the new release need not have.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says which release would be built and switched to.
    support: full
  diff_mode:
    description: Shows the old and the new release.
    support: full
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Install the release
  celeryops.stack.release:
    name: shop
    import: shop.celery:app
    user: shop
    account: {group: shop, home: /var/lib/celeryops/shop, manage: true}
    source: {type: pip, packages: ["acme-shop==1.4.2+acme"]}
    extra_packages: ["celery[redis]"]
    system_packages: [python3-venv]
"""

RETURN = r"""
release:
  description: Name of the release that is current afterwards; the path for an existing virtual environment.
  type: str
  returned: success
previous:
  description: What was current before; empty when nothing was.
  type: str
  returned: success
switches:
  description: Whether another release was in use before this call.
  type: bool
  returned: success
due:
  description: Whether an earlier run switched to this release, and ended before what O(after) speaks of was done.
  type: bool
  returned: when O(hold=true) or O(switch=false)
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: success
moved:
  description: Whether the host has to change to run the release, in its link or in one of O(running).
  type: bool
  returned: when O(switch=false)
fresh:
  description: Whether the release was never in use on the host.
  type: bool
  returned: when O(switch=false)
kept:
  description: The other complete releases of the host, the one that was in use last first.
  type: list
  elements: str
  returned: when O(switch=false)
missing_tasks:
  description: The accepted tasks that the running workers have and the release has not.
  type: list
  elements: str
  returned: when O(switch=false)
held:
  description: Whether something is left for O(take).
  type: bool
  returned: when O(hold=true)
replaced:
  description:
    - What the app itself says of settings that the configuration decides, where the two differ. Each has C(setting),
      C(app) (what the app says) and C(here) (what holds).
  type: list
  elements: dict
  returned: when the app was imported
versions:
  description: The versions of Celery and kombu in the release.
  type: dict
  returned: when the release is there
"""

import contextlib
import fnmatch
import glob
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import (
    celery_versions,
    credentials,
    masking,
    own_routes,
    placed,
    resolve,
    trial,
)
from ansible_collections.celeryops.stack.plugins.module_utils import release as decide
from ansible_collections.celeryops.stack.plugins.module_utils.account import (
    Account,
    AccountError,
    examine,
    group_ids,
    take_over,
)
from ansible_collections.celeryops.stack.plugins.module_utils.current import (
    leads_to,
    read_history,
    save_history,
    switch,
    write_json,
)
from ansible_collections.celeryops.stack.plugins.module_utils.lock import LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.look import runs_in, show
from ansible_collections.celeryops.stack.plugins.module_utils.ours import CONFIG
from ansible_collections.celeryops.stack.plugins.module_utils.roll import kept, release_of, target_of
from ansible_collections.celeryops.stack.plugins.module_utils.workers import read_report
from ansible_collections.celeryops.stack.plugins.module_utils.workers import tasks as known_tasks

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Status

ROOT = "/opt/celeryops"
CACHE = "/var/cache/celeryops"
UV = f"{ROOT}/uv"
MANIFEST = "release.json"
IMPORT_TIMEOUT = 300
#: Says where an app waits that is not imported in that time.
WHERE = f"import faulthandler\nfaulthandler.dump_traceback_later({IMPORT_TIMEOUT - 5})\n"
#: What an app has for its loader that says nothing of one: Celery's, or that of the shared configuration.
OWN_LOADERS = ("celery.loaders.app:AppLoader", "celeryops_runtime.loader:Loader")
#: Kinds of entries of an access list (linux/posix_acl.h).
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP = 0x02, 0x04, 0x08


class ReleaseError(Exception):
    """Something that ends the run; the text is for the user."""

    #: All that a program said, of which the text has the end.
    output = ""


class Release:
    """One call of the module."""

    def __init__(self, module: AnsibleModule, request: dict[str, Any]) -> None:
        self.module = module
        self.request = request
        self.source: dict[str, Any] = request["source"]
        self.base = f"{ROOT}/{request['name']}"
        self.current = f"{self.base}/current"
        self.releases = f"{self.base}/releases"
        self.actions: list[str] = []
        self.warnings: list[str] = []
        self.work = ""
        #: of settings that the configuration decides, those for which the app itself has another value
        self.replaced: list[dict[str, str]] = []
        self.account = Account()
        #: of requirements, with the users and passwords that git is asked for
        self.repositories: list[str] = []

    # The order of things

    def run(self) -> dict[str, Any]:
        """Bring the host to the wanted release and return the module's result."""
        if self.request["take"]:
            return self._take(self.request["take"])
        missing = [] if self.request["select"] else self._missing_packages()
        self._must_have_places(to_come=self.module.check_mode or bool(missing))
        if not self.request["switch"]:
            self._must_be_configured()
        if self.request["select"] and self.request["hold"]:
            return self._try_current()
        if self.request["select"]:
            return self._prepared(self._select())
        if self.request["account"]:
            self.account = examine(self.request["user"], **self.request["account"])
        if missing and not self.module.check_mode:
            return {"changed": False, "missing_packages": missing}
        if missing:
            self.actions.append("install the packages " + ", ".join(missing))
        if self.source["type"] == "virtualenv":
            path = os.path.normpath(str(self.source["path"]))
            if not self.request["switch"]:
                return self._prepared(path)
            if not self.module.check_mode and not self._is_verified(path) and self._lacks_files():
                return {"changed": False, "needs_files": True}
            self._provide_account()
            return self._reference()
        facts = self._facts()
        name = decide.release_id(self.source, facts)
        path = f"{self.releases}/{name}"
        must_build = not _is_complete(path)
        lacks_content = self.source["type"] in ("wheel", "path") and not self.request.get("archive")
        needs = {
            "needs_content": must_build and lacks_content,
            "needs_files": (must_build or not self._is_verified(path)) and self._lacks_files(),
        }
        if any(needs.values()) and not self.module.check_mode:
            return {"changed": False, **needs}
        if self.request["switch"]:
            self._provide_account()
        if must_build:
            self.actions.append(f"build the release {name}")
            if not self.module.check_mode:
                self._build(name, path, facts)
        else:
            # Settings may have come since it was built.
            self._fits(path, f"the release {name}")
            if not self._is_verified(path):
                self.actions.append(f"import {self.request['import']} from the release {name}")
                if not self.module.check_mode:
                    self._verify(path)
        if not self.request["switch"]:
            return self._prepared(name)
        return self._finish(name, _versions(path))

    def _finish(self, name: str, versions: dict[str, str | None]) -> dict[str, Any]:
        """Take a verified release into use, or note that it could be, and return the module's result."""
        previous, target = self._previous(), target_of(name)
        if self.request["hold"] and not self.module.check_mode:
            self.target = previous or "nothing"
            if self.pending_history is not None:
                os.makedirs(self.base, exist_ok=True)
                save_history(self.base, self.pending_history)
            held = previous != target or any(self._superfluous(name))
            return {**self._result(name, previous, versions), "held": held, "due": self._due(target)}
        self._switch(target, previous)
        self._prune(name)
        # In check mode nothing was held back: what would follow is told already.
        return {**self._result(name, previous, versions), **({"held": False} if self.request["hold"] else {})}

    def _due(self, target: str) -> bool:
        """Whether a release is in use, and something was to be done after the switch to it that nobody has done."""
        return self._previous() == target and read_history(self.base).get("after") == target

    def _take(self, name: str) -> dict[str, Any]:
        """Take a release into use that was verified on all hosts a moment ago."""
        path = name if name.startswith("/") else f"{self.releases}/{name}"
        if not name.startswith("/") and not _is_complete(path):
            raise ReleaseError(f"the release {name} is not on this host any more; run the playbook again")
        return self._finish(name, _versions(path))

    def _try_current(self) -> dict[str, Any]:
        """Try the configuration with the release in use, where no other one is asked for."""
        name = release_of(self._previous())
        path = name if name.startswith("/") else f"{self.releases}/{name}"
        if not name or self._is_verified(path):
            return {"changed": False, "release": name, "actions": [], "held": False}
        if self._lacks_files() and not self.module.check_mode:
            return {"changed": False, "needs_files": True}
        self.actions.append(f"import {self.request['import']} from the release {name}")
        if not self.module.check_mode:
            self._verify(path)
            save_history(self.base, self.pending_history or read_history(self.base))
        self.target = self._previous()
        return {**self._result(name, self.target, _versions(path)), "held": False}

    def _lacks_files(self) -> bool:
        """Whether the release will be tried with files that are not on the host, and were not brought over either."""
        files = self.request["configuration"]
        return (
            bool(self.request["verify"])
            and "contents" not in self.request
            and any(_digest(entry["path"]) != entry["sha256"] or not trial.has_access(entry) for entry in files)
        )

    def _must_have_places(self, *, to_come: bool) -> None:
        """Refuse files of the app's own that cannot be put where they are to be, or that it could replace there.

        Arguments:
            to_come: whether directories and accounts may still come, with a package or, in a dry run, at all.
        """
        owned = f"{CONFIG}/{self.request['name']}"
        for entry in self.request["configuration"]:
            path, folder = entry["path"], os.path.dirname(entry["path"])
            if not entry.get("own"):
                continue
            what, instead = "", f"make it before, or write a path below {owned}/files/"
            lacks = not path.startswith(f"{owned}/") and not os.path.isdir(folder)
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
                what = f"{path} is a link on this host" if os.path.islink(path) else f"{path} is no file on this host"
                what += "; remove it, or write another path"
            # A package or a play before this one may be what makes a directory, and a dry run makes none.
            elif lacks and not (to_come and _may_be_made(folder)):
                what = f"{folder} is no directory on this host; {instead}"
            else:
                parts = folder.split("/")
                above = ("/".join(parts[:number]) for number in range(2, len(parts) + 1))
                loose = next((part for part in above if self._may_write(part)), "")
                if loose:
                    what = f"{loose} can be written by {self.request['user']}, so the app could replace {path} in it; "
                    what += f"write a path below {owned}/files/"
                unknown = "" if to_come else self._unknown_accounts(entry)
                if not loose and unknown:
                    what = f"there is no {unknown} on this host, for {path}; make it before, or write another one"
            if what:
                raise ReleaseError(f"celery_app_files: {what}")
            if lacks and self.module.check_mode:
                text = f"{folder} is not on this host yet, for {path}; unless the run itself makes it, {instead}"
                self.module.warn(f"celery_app_files: {text}")

    def _may_write(self, path: str) -> bool:
        """Whether the app's account could write to a path."""
        return _writable_by(path, self.request["user"], str((self.request["account"] or {}).get("group") or ""))

    def _unknown_accounts(self, entry: Mapping[str, Any]) -> str:
        """Return who is to have a file of the app's own and is not there; the app's account may still be to come."""
        ours = {self.request["user"], str((self.request["account"] or {}).get("group") or "")}
        owner, group = str(entry.get("owner") or "root"), str(entry.get("group") or "root")
        try:
            if owner not in ours:
                pwd.getpwnam(owner)
        except KeyError:
            return f"account {owner}"
        try:
            if group not in ours:
                grp.getgrnam(group)
        except KeyError:
            return f"group {group}"
        return ""

    def _provide_account(self) -> None:
        """Create or correct the account; not before it is sure that this call is the last one."""
        if self.account.commands:
            self.actions.append(f"provide the account {self.request['user']}")
        if not self.module.check_mode:
            new = self.account.creates
            self.account.provide()
            if new:
                take_over(self.request["directories"], self.request["user"])

    def _reference(self) -> dict[str, Any]:
        """Let ``current`` lead to a virtual environment that somebody else looks after."""
        path = os.path.normpath(str(self.source["path"]))
        versions = _versions(path)
        if os.path.exists(f"{path}/bin/python"):
            self._fits(path, f"the virtual environment {path}")
            if self._may_write(path):
                self.warnings.append(
                    f"{path} can be written by {self.request['user']}, so the app can change its own code"
                )
        elif not self.module.check_mode:
            raise ReleaseError(
                f"celery_app_source.path: there is no virtual environment {path} on the host (no bin/python)"
            )
        if not self._is_verified(path):
            self.actions.append(f"import {self.request['import']} from {path}")
            if not self.module.check_mode:
                self._verify(path)
        return self._finish(path, versions)

    def _result(self, name: str, previous: str, versions: dict[str, str | None]) -> dict[str, Any]:
        if previous != target_of(name) and not self.request["take"]:
            self._tell_of_version(previous, versions)
        for text in self.warnings:
            self.module.warn(text)
        result: dict[str, Any] = {
            "changed": bool(self.actions),
            "release": name,
            "previous": os.path.basename(previous) if previous.startswith("releases/") else previous,
            "switches": previous != target_of(name),
            "actions": self.actions,
            "diff": {
                "before": "".join(f"{line}\n" for line in self.account.before)
                + (f"current -> {previous}\n" if previous else ""),
                "after": "".join(f"# {action}\n" for action in self.actions)
                + "".join(f"{line}\n" for line in self.account.after)
                + f"current -> {self.target}\n",
            },
        }
        if not self.actions:
            result["diff"] = {"before": "", "after": ""}
        if any(versions.values()):
            result["versions"] = versions
        if self.replaced:
            result["replaced"] = self.replaced
        return result

    def _tell_of_version(self, previous: str, versions: dict[str, str | None]) -> None:
        """Warn of what another version of Celery changes, while everything still runs with the old one."""
        before = _versions(os.path.join(self.base, previous)).get("celery") if previous else None
        after = versions.get("celery")
        changes = celery_versions.changes(before, after) if before and after else []
        if changes:
            self.warnings.append(f"the release has celery {after} in place of {before}; {'; '.join(changes)}")

    # Beside the release in use

    def _must_be_configured(self) -> None:
        """Refuse a host whose configuration is another than that of the variables: both would change at once."""
        if not self._previous():
            raise ReleaseError(f"{self.request['name']} was never installed on this host; run site.yml first")
        others = [entry["path"] for entry in self.request["expected"] if _digest(entry["path"]) != entry["sha256"]]
        if others:
            shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            raise ReleaseError(
                f"{shown} on this host is not what the variables and this version of the collection say; a new release "
                "is all that this playbook changes, so run site.yml first (with the release that is in use)"
            )

    def _select(self) -> str:
        """Return the kept release that is asked for."""
        current = release_of(self._previous())
        others = self._kept(current)
        wanted = self.request["select"]
        listed = ", ".join(others) or "none"
        if wanted == "previous":
            if not others:
                raise ReleaseError(f"there is no release of {self.request['name']} on this host beside {current}")
            if not _was_used(others[0], read_history(self.base)):
                # A deploy ended between building it and taking it into use, by a migration that failed for one.
                raise ReleaseError(
                    f"no other release of {self.request['name']} was in use on this host before {current}; "
                    f"celeryops_rollback_to takes one that was built and never used all the same: {listed}"
                )
            return others[0]
        if wanted != current and wanted not in others:
            raise ReleaseError(
                f"celeryops_rollback_to: {wanted} is no release of {self.request['name']} that this host has kept; "
                f"write one of: {listed} (in use is {current})"
            )
        return str(wanted)

    def _kept(self, current: str) -> list[str]:
        names = [os.path.basename(os.path.dirname(path)) for path in glob.glob(f"{self.releases}/*/{MANIFEST}")]
        return kept(names, read_history(self.base)["activations"], current)

    def _prepared(self, name: str) -> dict[str, Any]:
        """Verify a release that is complete, and return what taking it into use would mean."""
        path = name if name.startswith("/") else f"{self.releases}/{name}"
        if os.path.exists(f"{path}/bin/python"):
            self._fits(path, f"the release {name}")
            if self.pending_history is None and not self._is_verified(path):
                # Only a note of ours is written, which is no change of the host.
                self._verify(path)
        elif not self.module.check_mode:
            raise ReleaseError(f"there is no virtual environment {path} on the host (no bin/python)")
        history = self.pending_history or read_history(self.base)
        if self.pending_history is not None and not self.module.check_mode:
            save_history(self.base, self.pending_history)
        current = release_of(self._previous())
        statuses = show(self.module, [entry["unit"] for entry in self.request["running"]])
        places = {unit: runs_in(status.pid) if status.pid else None for unit, status in statuses.items()}
        moved = current != name or any(
            status.loaded and (not status.active or places[unit] not in (None, os.path.realpath(path)))
            for unit, status in statuses.items()
        )
        tasks = (history["verified"].get(path) or {}).get("tasks")
        missing = self._missing_tasks(name, tasks, statuses) if moved and isinstance(tasks, list) else []
        self.target = target_of(name)
        if current != name:
            self.actions.append(f"the release {name} is ready to be taken into use")
        result = self._result(name, self._previous(), _versions(path))
        result["changed"] = any(action.startswith(("build", "install")) for action in self.actions)
        due = self._due(self.target)
        fresh = not _was_used(name, history)
        kept_ones = self._kept(current)
        return {**result, "moved": moved, "fresh": fresh, "due": due, "kept": kept_ones, "missing_tasks": missing}

    def _missing_tasks(self, name: str, tasks: list[str], statuses: dict[str, Status]) -> list[str]:
        """Return the tasks that somebody may send and nobody would run any more; those that are not accepted fail."""
        reports = []
        for entry in self.request["running"]:
            report = read_report(entry["report"])[0] if entry.get("report") else None
            if report and report.get("pid") == statuses[entry["unit"]].pid:
                reports.append(report)
        gone = sorted(set(known_tasks(reports)) - set(tasks))
        refused = [
            task for task in gone
            if not any(fnmatch.fnmatchcase(task, accepted) for accepted in self.request["accept_missing_tasks"])
        ]  # fmt: skip
        if refused:
            raise ReleaseError(
                f"the release {name} has no task {', '.join(refused)}, which the running workers have: what is sent or "
                "waits in a queue for it would not be run. Keep the task for one more release, or, if that is meant, "
                f"write celeryops_deploy_accept_missing_tasks: [{', '.join(refused)}]"
            )
        return gone

    # What is there

    def _missing_packages(self) -> list[str]:
        wanted = self.request["system_packages"]
        if not wanted:
            return []
        command = ["dpkg-query", "--show", f"--showformat={decide.PACKAGE_FORMAT}"]
        listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return decide.absent_packages(wanted, listing, _at_least)

    def _facts(self) -> dict[str, Any]:
        """Return what beside the source decides the content of a release."""
        facts: dict[str, Any] = {
            "machine": os.uname().machine,
            "extra_packages": self.request["extra_packages"],
            "python": self._python_version(),
            "content": self.request.get("content"),
        }
        if self.source["type"] == "git":
            facts["commit"] = self._commit()
        return facts

    def _python_version(self) -> str | None:
        """Return major.minor: a security update of the interpreter is taken over by the links of the environment."""
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            return subprocess.run(
                [self.request["python"], "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            if self.module.check_mode:
                return None
            raise ReleaseError(
                f"celery_app_python: {self.request['python']} cannot be run on the host: {error}"
            ) from error

    def _commit(self) -> str | None:
        version = str(self.source["version"])
        if decide.is_commit(version):
            return version
        if self.module.check_mode and not shutil.which("git"):
            return None
        repository, environment = self._git()
        listing = self._command(["git", "ls-remote", "--", repository], environment, f"cannot read {repository}")
        commit = decide.pick_commit(listing, version)
        if commit is None:
            raise ReleaseError(f"celery_app_source.version: {repository} has neither a tag nor a branch {version}")
        return commit

    def _previous(self) -> str:
        return leads_to(self.base)

    def _is_verified(self, path: str) -> bool:
        if not self.request["verify"]:
            return True
        known = read_history(self.base)["verified"].get(path) or {}
        # A release is compared by its tasks before it is taken into use; an older version did not note them.
        lacks_tasks = not self.request["switch"] and not isinstance(known.get("tasks"), list)
        return not lacks_tasks and all(known.get(key) == value for key, value in self._verification().items())

    def _verification(self) -> dict[str, str]:
        """Return what a release is verified with; with anything else it is verified again before that is placed."""
        files = self.request["configuration"]
        tried = {"tried": trial.digest(self.request["environment"], files)} if files else {}
        return {"import": self.request["import"], "user": self.request["user"], **tried}

    # Building

    def _build(self, name: str, path: str, facts: dict[str, Any]) -> None:
        """Make a complete release at ``path``, or nothing."""
        for folder in (ROOT, self.base, self.releases):
            os.makedirs(folder, exist_ok=True)
        _remove(path)
        try:
            tree, package = self._fetch(facts)
            requirements = f"{self.work}/requirements.txt"
            lines = decide.requirement_lines(self.source, [], package, tree)
            lines, self.repositories = credentials.plain_requirements(lines)
            _write(requirements, "\n".join(lines) + "\n")
            options = ["--requirement", requirements]
            if self.source.get("constraints"):
                constraints, more = credentials.plain_requirements(str(self.source["constraints"]).splitlines())
                self.repositories += more
                _write(f"{self.work}/constraints.txt", "\n".join(constraints) + "\n")
                options += ["--constraint", f"{self.work}/constraints.txt"]
            if self.source.get("require_hashes"):
                options.append("--require-hashes")
            if self.source.get("overrides"):
                overrides, more = credentials.plain_requirements([str(line) for line in self.source["overrides"]])
                self.repositories += more
                _write(f"{self.work}/overrides.txt", "\n".join(overrides) + "\n")
                options += ["--override", f"{self.work}/overrides.txt"]
            self._create(path)
            if lines:
                self._install(path, options)
            if not self.source.get("require_hashes"):
                self._add_extra(path, options if lines else [])
            if package and self.source.get("require_hashes"):
                self._install_alone(path, package)
            if tree and not package:
                self._add_tree(path, tree)
            _close(path)
            self._fits(path, f"the release {name}")
            if self.request["verify"]:
                self._verify(path)
            manifest = {
                "release": name,
                "built": time.time(),
                "source": self.source["type"],
                **facts,
                **_versions(path),
            }
            write_json(f"{path}/{MANIFEST}", manifest)
        except BaseException:
            _remove(path)
            raise

    def _fetch(self, facts: dict[str, Any]) -> tuple[str | None, str | None]:
        """Return where the source tree is, and what of it is to be installed as a package."""
        kind = self.source["type"]
        if kind == "wheel":
            # Installers read the package's name from the file's name.
            wheel = f"{self.work}/{os.path.basename(str(self.source['path']))}"
            shutil.copyfile(self.request["archive"], wheel)
            return None, wheel
        if kind == "pip":
            return None, None
        checkout = f"{self.work}/source"
        if kind == "path":
            with tarfile.open(self.request["archive"]) as archive:
                if hasattr(tarfile, "data_filter"):
                    archive.extractall(checkout, filter="data")
                else:
                    archive.extractall(checkout)  # noqa: S202 - made by this collection from the user's own files
        else:
            repository, environment = self._git()
            self._command(
                ["git", "clone", "--quiet", "--no-checkout", "--", repository, checkout],
                environment,
                f"cannot clone {repository}",
            )
            for command in (
                ["git", "-C", checkout, "checkout", "--quiet", "--detach", str(facts["commit"])],
                ["git", "-C", checkout, "submodule", "--quiet", "update", "--init", "--recursive"],
            ):
                self._command(command, environment, f"cannot check out {self.source['version']} of {repository}")
        tree = os.path.join(checkout, str(self.source.get("subdirectory") or "")).rstrip("/")
        if not os.path.isdir(tree):
            raise ReleaseError(
                f"celery_app_source.subdirectory: the source has no directory {self.source['subdirectory']}"
            )
        wanted = self.source.get("requirements_file")
        if wanted and not os.path.isfile(f"{tree}/{wanted}"):
            raise ReleaseError(f"celery_app_source.requirements_file: the source has no file {wanted}")
        install_as = self.source.get("install_as") or "auto"
        is_package = _is_package(tree) if install_as == "auto" else install_as == "package"
        return tree, tree if is_package else None

    def _git(self, urls: Sequence[str] = ()) -> tuple[str, dict[str, str]]:
        """Return the repository without credentials, and the environment that lets git reach it and ``urls``."""
        repository = str(self.source.get("repo") or "")
        helper, config = f"{self.work}/git-credential", f"{self.work}/gitconfig"
        given = self.request["install_environment"]
        others = [str(given["GIT_CONFIG_GLOBAL"])] if given.get("GIT_CONFIG_GLOBAL") else []
        if not others and given.get("HOME"):
            others = [f"{given['HOME']}/.gitconfig"]
        try:
            text, environment = credentials.for_git([repository, *urls], helper, others)
            repository, _account = credentials.plain(repository)
        except credentials.CredentialError as error:
            raise ReleaseError(f"celery_app_source: {error}") from error
        environment["GIT_TERMINAL_PROMPT"] = "0"
        if text:
            _write(helper, credentials.HELPER)
            _write(config, text)
            # Not by GIT_CONFIG_COUNT, which git does not hand on to submodules (environment.c, local_repo_env, 2.47).
            environment["GIT_CONFIG_GLOBAL"] = config
        known_hosts = f"{self.work}/known_hosts"
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known_hosts}"]
        ssh += ["-o", "StrictHostKeyChecking=" + ("yes" if self.source.get("known_hosts") else "accept-new")]
        _write(known_hosts, str(self.source.get("known_hosts") or "").rstrip() + "\n")
        if self.source.get("deploy_key"):
            key = f"{self.work}/deploy_key"
            _write(key, str(self.source["deploy_key"]).rstrip() + "\n")
            ssh += ["-o", "IdentitiesOnly=yes", "-i", key]
        environment["GIT_SSH_COMMAND"] = " ".join(ssh)
        bundle = self.request["install_environment"].get("SSL_CERT_FILE")
        if bundle:
            environment["GIT_SSL_CAINFO"] = str(bundle)
        return repository, environment

    def _create(self, path: str) -> None:
        """Create the virtual environment."""
        failed = f"the environment of {self.request['name']} could not be made"
        if self.request["installer"] == "uv":
            environment = self._installer_environment()
            command = [self._uv(), "venv", "--quiet", "--no-project", "--python", self._python_path(), path]
        else:
            environment = self._installer_environment()
            command = [self._python_path(), "-m", "venv", path]
        self._command(command, environment, failed)

    def _install(self, path: str, options: list[str], *, added: bool = False) -> None:
        """Install into the environment.

        Arguments:
            path: the environment.
            options: of the installer, with the files of requirements.
            added: whether the app's own packages are in already.
        """
        failed = f"the packages of {self.request['name']} could not be installed"
        python = f"{path}/bin/python"
        if self.request["installer"] == "uv":
            command = [self._uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *options]
            environment = self._installer_environment()
        else:
            command = [python, "-m", "pip", "install", "--quiet", *options]
            environment = self._installer_environment()
        try:
            self._command(command, environment, failed)
        except ReleaseError as error:
            way_out = resolve.way_out(error.output, self.request["role"], self.request["installer"], added=added)
            if way_out:
                error.args = (f"{error}\n{way_out[0].upper()}{way_out[1:]}.",)
            raise

    def _add_extra(self, path: str, options: list[str]) -> None:
        """Add the packages that every release gets, in versions that fit the app's own."""
        extra = [str(package) for package in self.request["extra_packages"]]
        if not extra:
            return
        alone = _installed(path)
        first: ReleaseError | None = None
        for attempt in resolve.attempts(extra, alone, self.request["broker"]):
            lines, more = credentials.plain_requirements(attempt.lines)
            self.repositories += more
            _write(f"{self.work}/extra.txt", "\n".join(lines) + "\n")
            _write(f"{self.work}/held.txt", "\n".join(attempt.constraints) + "\n")
            files = ["--requirement", f"{self.work}/extra.txt", "--constraint", f"{self.work}/held.txt"]
            try:
                self._install(path, [*options, *files], added=True)
            except ReleaseError as error:
                first = first or error
                if not resolve.contradicts(error.output):
                    raise
                continue
            installed = _installed(path)
            if resolve.lacks_redis(attempt, installed):
                continue
            said = resolve.told(attempt, alone, installed, extra)
            if said:
                self.warnings.append(said)
            return
        if first:
            raise first

    def _fits(self, path: str, what: str) -> None:
        """Refuse versions that are not supported, that do not work together, or that lack what the plan counts on."""
        versions = {**_installed(path), **{name: found for name, found in _versions(path).items() if found}}
        told = celery_versions.too_old(versions)
        if told and self.request["role"] == "flower":
            told[-1] += f"; write celery>={celery_versions.text(celery_versions.FLOOR)} into flower_packages"
        elif told and self.source["type"] != "virtualenv":
            told[-1] += (
                f"; write celery[redis]>={celery_versions.text(celery_versions.FLOOR)} into "
                "celery_app_source.overrides, which wins over what the app's packages ask for"
            )
        told += [
            f"{pair}; write {instead} into celery_app_source.constraints"
            for pair, instead in celery_versions.misfits(versions, self.request["broker"])
        ]
        unmet = celery_versions.unmet(self.request["needs"], versions)
        if self.request["select"]:
            # It ran here before: going back must not fail for a setting.
            self.warnings += unmet
        else:
            told += unmet
        if told:
            raise ReleaseError(f"{what} was not taken into use: {'; '.join(told)}")

    def _uv_environment(self) -> dict[str, str]:
        os.makedirs(f"{CACHE}/uv", mode=0o700, exist_ok=True)
        return {
            "UV_CACHE_DIR": f"{CACHE}/uv", "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never",
        }  # fmt: skip

    def _pip_environment(self) -> dict[str, str]:
        os.makedirs(f"{CACHE}/pip", mode=0o700, exist_ok=True)
        return {"PIP_CACHE_DIR": f"{CACHE}/pip", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}

    def _installer_environment(self) -> dict[str, str]:
        """Return what tells uv or pip where packages are, and git who asks, so that no argument has to."""
        environment = decide.index_environment(self.source)
        if self.repositories:
            environment.update(self._git(self.repositories)[1])
        if self.request["installer"] == "uv":
            return {**environment, **self._uv_environment()}
        return self._without_users({**environment, **self._pip_environment()})

    def _without_users(self, environment: dict[str, str]) -> dict[str, str]:
        """Return an environment for pip in which no index has a user: what builds a package would show it in argv."""
        given = {key: str(value) for key, value in self.request["install_environment"].items()}
        try:
            result, text = credentials.for_pip({**given, **environment}, f"{self.work}/netrc")
        except credentials.CredentialError as error:
            raise ReleaseError(f"celery_app_source: {error}") from error
        if text:
            _write(f"{self.work}/netrc", text)
        return result

    def _install_alone(self, path: str, package: str) -> None:
        """Install the app beside its packages, with nothing from an index: not what it needs, nor what builds it."""
        failed = (
            f"{self.request['name']} itself could not be installed; with require_hashes the requirements name what "
            "builds it as well, with its hash"
        )
        alone = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", package]
        python = f"{path}/bin/python"
        if self.request["installer"] == "uv":
            environment = {"UV_CACHE_DIR": f"{CACHE}/uv", "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1"}
            command = [self._uv(), "pip", *alone, "--compile-bytecode", "--python", python]
        else:
            environment = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_CACHE_DIR": f"{CACHE}/pip"}
            command = [python, "-m", "pip", *alone]
        self._command(command, environment, failed)

    def _python_path(self) -> str:
        return str(shutil.which(self.request["python"]) or self.request["python"])

    def _uv(self) -> str:
        """Return the path of uv, which is installed once for all apps."""
        uv = f"{UV}/bin/uv"
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([uv, "--version"], capture_output=True, check=True)
            return uv
        _remove(UV)
        failed = "uv could not be installed (celery_app_installer: pip does without it)"
        try:
            # Debian keeps the pip that venv would put into the environment as a wheel, which runs as it is: that
            # saves more than a second. Elsewhere venv brings its own.
            wheels = sorted(glob.glob("/usr/share/python-wheels/pip-*.whl"))
            self._command(["python3", "-m", "venv", *(["--without-pip"] if wheels else []), UV], {}, failed)
            pip = [f"{UV}/bin/python", *([f"{wheels[-1]}/pip"] if wheels else ["-m", "pip"])]
            quietly = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
            self._command([*pip, "install", *quietly, self.request["uv_package"]], {}, failed)
        except BaseException:
            _remove(UV)
            raise
        return uv

    def _add_tree(self, path: str, tree: str) -> None:
        """Put a source tree that is no package beside the packages, where Python finds it."""
        target = f"{path}/app"
        shutil.copytree(tree, target, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        for folder, folders, names in os.walk(target):
            for name in [*folders, *names]:
                entry = os.path.join(folder, name)
                if not os.path.islink(entry):
                    os.chown(entry, 0, 0)
                    os.chmod(
                        entry,
                        0o755
                        if os.path.isdir(entry) or (os.access(entry, os.X_OK) and _is_executable(entry))
                        else 0o644,
                    )
        for packages in glob.glob(f"{path}/lib/python3*/site-packages"):
            _write(f"{packages}/celeryops_app.pth", f"{target}\n", 0o644)
        self._command(
            [f"{path}/bin/python", "-m", "compileall", "-q", target],
            {},
            "the source could not be compiled",
            ignore=True,
        )

    def _verify(self, path: str) -> None:
        """Import the app with its tasks as the account that will run it; importing foreign code as root is no check."""
        if not self.request["verify"]:
            return
        user = self.request["user"]
        try:
            account = trial.account_of(user)
        except KeyError as error:
            raise ReleaseError(f"there is no account {user}") from error
        self._provide_directories(account)
        python = [f"{path}/bin/python", "-c", WHERE + trial.CHECK, self.request["import"]]
        contents = self.request.get("contents") or []
        with trial.staged(contents, account.gid) as root, trial.standing_in(contents, root) as views:
            environment = trial.environment_of(account, path, trial.redirected(self.request["environment"], root))
            status: int | None
            try:
                try:
                    status, output = trial.run_as(account, python, environment, "/", IMPORT_TIMEOUT, views)
                except subprocess.TimeoutExpired:
                    raise
                except subprocess.SubprocessError:
                    reason = "this host permits no mount, so the app was tried with the files that are in use"
                    self.warnings.append(f"celery_app_files: {reason}")
                    status, output = trial.run_as(account, python, environment, "/", IMPORT_TIMEOUT)
            except subprocess.TimeoutExpired as error:
                status, output = None, str(error.output or "")
            # Whoever reads it looks for the file where it will be.
            output = output.replace(root, "") if root else output
        if status is None:
            raise ReleaseError(
                f"importing {self.request['import']} as {user} took more than {IMPORT_TIMEOUT} s, so neither this "
                "version nor this configuration was taken into use. It printed, and was here at the end, perhaps "
                f"waiting for a server that it asks while it is imported:\n{self._shown(output)}"
            )
        if status != 0:
            raise ReleaseError(
                f"{self.request['import']} cannot be imported as {user} with the configuration that the variables say, "
                "so neither this version nor this configuration was taken into use (variables that it needs belong "
                f"into celery_app_environment):\n{self._shown(output)}"
            )
        report = _last_report(output)
        if report.get("loader", OWN_LOADERS[0]) not in OWN_LOADERS:
            self.warnings.append(
                f"{self.request['import']} is created with loader={report['loader']!r}, which keeps the shared "
                "configuration (routes, queues, timeouts) out; remove that argument"
            )
        if report.get("tasks") == []:
            self.warnings.append(
                f"{self.request['import']} has no tasks after import; autodiscover_tasks() or include= may be missing"
            )
        self.replaced = report.get("replaced") or []
        if report.get("routes"):
            lost = own_routes.refusal(report["routes"], self.request["consumed"])
            if lost:
                raise ReleaseError(f"{lost}. Neither this version nor this configuration was taken into use")
            self.warnings += own_routes.doubts(report["routes"])
        elif self.request["consumed"]:
            self.warnings += own_routes.strays(report.get("queues") or {}, self.request["consumed"])
        history = read_history(self.base)
        history["verified"][path] = {**self._verification(), "tasks": report.get("tasks")}
        self.pending_history = history

    def _provide_directories(self, account: trial.Account) -> None:
        """Make the directories that the app may write to: one that opens its log when it is imported needs it."""
        for path in self.request["directories"]:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            if not os.path.lexists(path):
                os.mkdir(path, 0o750)
                os.chown(path, account.uid, account.gid)

    # Switching

    pending_history: dict[str, Any] | None = None
    target = ""

    def _switch(self, target: str, previous: str) -> None:
        """Let ``current`` lead to ``target`` in one step, and note when."""
        self.target = target
        if previous != target:
            self.actions.append(f"switch to {target}")
        if self.module.check_mode or (previous == target and self.pending_history is None):
            return
        os.makedirs(self.base, exist_ok=True)
        history = self.pending_history or read_history(self.base)
        if previous != target:
            switch(self.base, target, history)
            history["after"] = target if self.request["after"] else ""
        save_history(self.base, history)

    def _prune(self, current: str) -> None:
        """Remove what an aborted run left, and the oldest releases."""
        leftovers, spare = self._superfluous(current)
        for name in [*leftovers, *spare]:
            self.actions.append(f"remove the {'incomplete' if name in leftovers else 'old'} release {name}")
            if not self.module.check_mode:
                _remove(f"{self.releases}/{name}")

    def _superfluous(self, current: str) -> tuple[list[str], list[str]]:
        """Return the incomplete releases, and the old ones that are not kept beside ``current``."""
        try:
            names = sorted(os.listdir(self.releases))
        except FileNotFoundError:
            return [], []
        complete = [name for name in names if _is_complete(f"{self.releases}/{name}")]
        leftovers = [name for name in names if name not in complete and name != current]
        spare: list[str] = []
        if len(complete) > self.request["keep"]:
            history = [(float(when), str(name)) for when, name in read_history(self.base)["activations"]]
            times = {name: os.path.getmtime(f"{self.releases}/{name}/{MANIFEST}") for name in complete}
            times.update({name: when for when, name in history if name in times})
            in_use = self._in_use(history, complete)
            spare = decide.superfluous(times, current, in_use, self.request["keep"])
        return leftovers, spare

    def _in_use(self, history: list[tuple[float, str]], releases: list[str]) -> list[str]:
        """Return the releases that some process runs from."""
        found = set()
        boot = _boot_time()
        for process in glob.glob("/proc/[0-9]*"):
            words = list(_paths_of(process, self.base))
            if words:
                found.update(decide.running_from(self.base, words, boot + _start_ticks(process), history, releases))
        return sorted(found)

    # Helpers

    def _shown(self, output: str) -> str:
        """Return the end of what a program printed, without secrets and with everything that tells the cause."""
        variables = {**self.request["install_environment"], **self.request["environment"]}
        variables["deploy_key"] = self.source.get("deploy_key") or ""
        addresses = [
            self.source.get("index_url"),
            *(self.source.get("extra_index_urls") or []),
            self.source.get("repo"),
        ]
        texts = [*addresses, self.source.get("requirements"), *(self.source.get("packages") or [])]
        public = [self.request["name"], self.request["user"], *re.split(r"[.:]", self.request["import"])]
        secrets = masking.secrets_of(variables, [text for text in texts if text])
        secrets += trial.secrets_in(self.request.get("contents") or [])
        # What is in place already was not brought over, and the app reads it all the same.
        secrets += trial.secrets_placed(f"{CONFIG}/{self.request['name']}/{placed.NAME}")
        return decide.tail(output, secrets, public=public)

    def _command(self, command: list[str], environment: dict[str, str], failed: str, *, ignore: bool = False) -> str:
        """Run a program with a clean environment and return its output; secrets go there, never in argv."""
        clean = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "NO_COLOR": "1",
            "HOME": self.work, "TMPDIR": self.work,
            **{key: str(value) for key, value in self.request["install_environment"].items()}, **environment,
        }  # fmt: skip
        try:
            outcome = subprocess.run(
                command, env=clean, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            raise ReleaseError(f"{failed}: {error}") from error
        if outcome.returncode != 0 and not ignore:
            failure = ReleaseError(f"{failed}; {os.path.basename(command[0])} said:\n{self._shown(outcome.stdout)}")
            failure.output = outcome.stdout
            raise failure
        return outcome.stdout


def _at_least(version: str, least: str) -> bool:
    """Return whether a version of Debian's is another one, or newer."""
    return subprocess.run(["dpkg", "--compare-versions", version, "ge", least], check=False).returncode == 0


def _was_used(name: str, history: Mapping[str, Any]) -> bool:
    """Return whether a release was in use once: one that was only built has nothing of what is done for it then."""
    return name in {str(activated) for _when, activated in history["activations"]}


def _is_complete(path: str) -> bool:
    return os.path.isfile(f"{path}/{MANIFEST}")


def _digest(path: str) -> str:
    """Return the SHA-256 of a file; empty when there is none."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return ""


def _is_executable(path: str) -> bool:
    return bool(os.stat(path).st_mode & 0o111)


def _is_package(tree: str) -> bool:
    """Return whether pip could build ``tree``; a pyproject.toml may hold nothing but the settings of tools."""
    if os.path.isfile(f"{tree}/setup.py"):
        return True
    try:
        with open(f"{tree}/pyproject.toml", encoding="utf-8") as stream:
            return any(line.strip() in ("[project]", "[build-system]") for line in stream)
    except OSError:
        return False


def _versions(path: str) -> dict[str, str | None]:
    """Return the installed versions of Celery and kombu, read from the names of their metadata."""
    versions: dict[str, str | None] = {}
    for name in ("celery", "kombu"):
        found = glob.glob(f"{path}/lib/python3*/site-packages/{name}-*.dist-info")
        versions[name] = os.path.basename(found[0])[len(name) + 1 : -len(".dist-info")] if found else None
    return versions


def _installed(path: str) -> dict[str, str]:
    """Return package -> version of what is installed from an index, read from the names of the metadata."""
    found = {}
    for folder in glob.glob(f"{path}/lib/python3*/site-packages/*.dist-info"):
        name, _dash, version = os.path.basename(folder)[: -len(".dist-info")].rpartition("-")
        # What came from a path or an address is no version of an index.
        if name and not os.path.exists(f"{folder}/direct_url.json"):
            found[resolve.canonical(name)] = version
    return found


def _may_be_made(folder: str) -> bool:
    """Whether nothing is there that is in the way of a directory."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder)


def _writable_by(path: str, user: str, group: str) -> bool:
    """Return whether an account could write to a file or directory.

    Arguments:
        path: the file or directory; what is not there cannot be written to.
        user: the account. One that is still to come can do what everybody can, and its groups.
        group: its primary group, which it may still have to get; empty when it stays as it is.
    """
    groups, uid = [], -1
    with contextlib.suppress(KeyError):
        groups.append(grp.getgrnam(group).gr_gid)
    try:
        status = os.stat(path)
    except OSError:
        return False
    with contextlib.suppress(KeyError):
        account = pwd.getpwnam(user)
        uid = account.pw_uid
        groups += group_ids(user, account.pw_gid)
    if uid == status.st_uid or status.st_mode & 0o002:
        return True
    # With an access list the bits of the group are the most that it gives to anybody but the owner and all others.
    named = _access_list(path)
    by_group = {(_ACL_GROUP, gid) for gid in groups}
    writers = {(tag, number) for tag, rights, number in named if rights & 2} if named else {(_ACL_GROUP, status.st_gid)}
    return bool(status.st_mode & 0o020 and writers & {(_ACL_USER, uid), *by_group})


def _access_list(path: str) -> list[tuple[int, int, int]]:
    """Return a file's POSIX access list as (kind, rights, number of the account or group); empty without one.

    Its form is that of linux/posix_acl_xattr.h: the version, then three numbers for each entry, all little-endian. The
    owning group's entry gets its number, which the list leaves out.
    """
    try:
        value = os.getxattr(path, "system.posix_acl_access")
        owning = os.stat(path).st_gid
    except OSError:
        return []
    entries = struct.iter_unpack("<HHI", value[4:])
    return [
        (_ACL_GROUP, rights, owning) if tag == _ACL_GROUP_OBJ else (tag, rights, number)
        for tag, rights, number in entries
    ]


def _last_report(output: str) -> dict[str, Any]:
    for line in reversed(output.splitlines()):
        if line.startswith('{"celeryops"'):
            report: dict[str, Any] = json.loads(line)["celeryops"]
            return report
    return {}


def _boot_time() -> float:
    with open("/proc/stat", encoding="ascii") as stream:
        return next(float(line.split()[1]) for line in stream if line.startswith("btime "))


def _start_ticks(process: str) -> float:
    """Return how long after the boot a process was started, in seconds."""
    try:
        with open(f"{process}/stat", encoding="utf-8", errors="replace") as stream:
            return float(stream.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def _paths_of(process: str, base: str) -> Iterator[str]:
    """Yield where a process names the app's directory: command line, directory, mapped files."""
    with contextlib.suppress(OSError):
        with open(f"{process}/cmdline", encoding="utf-8", errors="replace") as stream:
            yield from (word for word in stream.read().split("\0") if base in word)
        with open(f"{process}/maps", encoding="utf-8", errors="replace") as stream:
            yield from {line.split(None, 5)[-1].strip() for line in stream if base in line}
        directory = os.readlink(f"{process}/cwd")
        if base in directory:
            yield directory


def _close(path: str) -> None:
    """Take away every right to write but root's own: installers leave world-writable lock files, packages odd modes."""
    for folder, _folders, names in os.walk(path):
        for entry in [folder, *(os.path.join(folder, name) for name in names)]:
            status = os.lstat(entry)
            if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022:
                os.chmod(entry, stat.S_IMODE(status.st_mode) & ~0o022)


def _remove(path: str) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


def _write(path: str, text: str, mode: int = 0o600) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
        stream.write(text)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        # Everything in one text: marked piece by piece, a value such as "1" would be starred out of all output.
        argument_spec={"request": {"type": "str", "required": True, "no_log": True}},
        supports_check_mode=True,
    )
    request = json.loads(module.params["request"])
    os.umask(0o022)
    release = Release(module, request)
    release.work = tempfile.mkdtemp(prefix="celeryops-", dir=module.tmpdir)
    try:
        with locked(request["name"]):
            result = release.run()
    except (AccountError, LockError, ReleaseError) as error:
        module.fail_json(msg=str(error), actions=release.actions)
    finally:
        shutil.rmtree(release.work, ignore_errors=True)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
