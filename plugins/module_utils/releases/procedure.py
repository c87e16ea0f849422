# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The procedure of the module release: the order in which it inspects, builds, tries and switches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.module_utils.account import Account, examine, take_over
from ansible_collections.celeryops.stack.plugins.module_utils.debian_packages import missing_packages
from ansible_collections.celeryops.stack.plugins.module_utils.releases import candidate, configuration, virtualenv
from ansible_collections.celeryops.stack.plugins.module_utils.releases.identity import release_id
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import Programs, ReleaseError
from ansible_collections.celeryops.stack.plugins.module_utils.releases.source import Source
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store, target_of
from ansible_collections.celeryops.stack.plugins.module_utils.releases.verify import Verification
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import runs_in, show

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request


class Procedure:
    """One call of the module release.

    Arguments:
        module: tells of warnings, and whether this is a dry run.
        request: its options.
        work: a directory of its own.
    """

    def __init__(self, module: AnsibleModule, request: Request, work: str) -> None:
        self.module = module
        self.request = request
        self.check_mode = bool(module.check_mode)
        self.store = Store(request["name"], check_mode=self.check_mode)
        self.programs = Programs(request, work)
        self.source = Source(request, self.programs, check_mode=self.check_mode)
        self.verification = Verification(request, self.store, self.programs.shown)
        self.actions: list[str] = []
        self.warnings: list[str] = []
        self.warned = False
        self.account = Account()

    def run(self) -> dict[str, Any]:
        """Bring the host to the wanted release and return the module's result."""
        request = self.request
        if request["take"]:
            return self._take(request["take"])
        missing = [] if request["select"] else missing_packages(request["system_packages"])
        coming = self.check_mode or bool(missing)
        for text in configuration.must_have_places(request, to_come=coming, check_mode=self.check_mode):
            self._warn(text)
        if not request["switch"]:
            candidate.must_be_configured(request, self.store)
        if request["select"] and request["hold"]:
            return self._try_current()
        if request["select"]:
            return self._prepared(candidate.selected(request["select"], self.store))
        if request["account"]:
            self.account = examine(request["user"], **request["account"])
        if missing and not self.check_mode:
            return {"changed": False, "missing_packages": missing}
        if missing:
            self.actions.append("install the packages " + ", ".join(missing))
        return self._reference() if request["source"]["type"] == "virtualenv" else self._build()

    # Where a release comes from

    def _reference(self) -> dict[str, Any]:
        """Let ``current`` lead to a virtual environment that somebody else looks after."""
        path = os.path.normpath(str(self.request["source"]["path"]))
        if not self.request["switch"]:
            return self._prepared(path)
        if not self.check_mode and not self.verification.is_done(path) and self.verification.lacks_files():
            return {"changed": False, "needs_files": True}
        self._provide_account()
        if virtualenv.has_python(path):
            self.verification.fits(path, f"the virtual environment {path}")
            if configuration.may_write(self.request, path):
                self.warnings.append(
                    f"{path} can be written by {self.request['user']}, so the app can change its own code"
                )
        elif not self.check_mode:
            raise ReleaseError(
                f"celery_app_source.path: there is no virtual environment {path} on the host (no bin/python)"
            )
        self._import(path, path)
        return self._finish(path)

    def _build(self) -> dict[str, Any]:
        """Build the release, unless it is there, and verify it with what it will run with."""
        facts = self.source.facts()
        release = release_id(self.request["source"], facts)
        must_build = not self.store.is_complete(release)
        lacks_content = self.request["source"]["type"] in ("wheel", "path") and not self.request["archive"]
        must_try = must_build or not self.verification.is_done(release)
        needs = {
            "needs_content": must_build and lacks_content,
            "needs_files": must_try and self.verification.lacks_files(),
        }
        if any(needs.values()) and not self.check_mode:
            return {"changed": False, **needs}
        if self.request["switch"]:
            self._provide_account()
        if must_build:
            self.actions.append(f"build the release {release}")
            if not self.check_mode:
                # A module's code is compiled at each call, and most calls find the release there.
                from ansible_collections.celeryops.stack.plugins.module_utils.releases.build import Build

                build = Build(self.request, self.store, self.source, self.programs, self.verification)
                build.make(release, facts)
                self.warnings += build.warnings
        else:
            # Settings may have come since it was built.
            self.verification.fits(release, f"the release {release}")
            self._import(release, f"the release {release}")
        return self._finish(release) if self.request["switch"] else self._prepared(release)

    def _import(self, release: str, what: str) -> None:
        if not self.verification.is_done(release):
            self.actions.append(f"import {self.request['import']} from {what}")
            if not self.check_mode:
                self.verification.run(release)

    def _provide_account(self) -> None:
        """Create or correct the account; not before it is sure that this call is the last one."""
        if self.account.commands:
            self.actions.append(f"provide the account {self.request['user']}")
        if not self.check_mode:
            new = self.account.creates
            self.account.provide()
            if new:
                take_over(self.request["directories"], self.request["user"])

    # What becomes of it

    def _take(self, release: str) -> dict[str, Any]:
        """Take a release into use that was verified on all hosts a moment ago."""
        if not release.startswith("/") and not self.store.is_complete(release):
            raise ReleaseError(f"the release {release} is not on this host any more; run the playbook again")
        return self._finish(release)

    def _finish(self, release: str) -> dict[str, Any]:
        """Take a verified release into use, or note that it could be, and return the module's result."""
        previous, keep = self.store.current, self.request["keep"]
        if self.request["hold"] and not self.check_mode:
            self.store.save()
            held = previous != release or any(self.store.superfluous(release, keep))
            result = self._result(release, previous, previous)
            return {**result, "held": held, "due": self.store.is_due(release)}
        if previous != release:
            self.actions.append(f"switch to {target_of(release)}")
        self.store.switch(release, after=self.request["after"])
        leftovers, spare = self.store.superfluous(release, keep)
        for name in [*leftovers, *spare]:
            self.actions.append(f"remove the {'incomplete' if name in leftovers else 'old'} release {name}")
            self.store.remove(name)
        # In check mode nothing was held back: what would follow is told already.
        return {**self._result(release, previous, release), **({"held": False} if self.request["hold"] else {})}

    def _try_current(self) -> dict[str, Any]:
        """Try the configuration with the release in use, where no other one is asked for."""
        release = self.store.current
        if not release or self.verification.is_done(release):
            return {"changed": False, "release": release, "actions": [], "held": False}
        if self.verification.lacks_files() and not self.check_mode:
            return {"changed": False, "needs_files": True}
        self._import(release, f"the release {release}")
        self.store.save()
        return {**self._result(release, release, release), "held": False}

    def _prepared(self, release: str) -> dict[str, Any]:
        """Verify a release that is complete, and return what taking it into use would mean."""
        path, current = self.store.path(release), self.store.current
        if virtualenv.has_python(path):
            self.verification.fits(release, f"the release {release}")
            if not self.verification.imported and not self.verification.is_done(release):
                # Only a note of ours is written, which is no change of the host.
                self.verification.run(release)
        elif not self.check_mode:
            raise ReleaseError(f"there is no virtual environment {path} on the host (no bin/python)")
        self.store.save()
        statuses = show(self.module, [entry["unit"] for entry in self.request["running"]])
        places = {unit: runs_in(status.pid) if status.pid else None for unit, status in statuses.items()}
        moved = current != release or any(
            status.loaded and (not status.active or places[unit] not in (None, os.path.realpath(path)))
            for unit, status in statuses.items()
        )
        tasks = self.store.verified(release).get("tasks")
        missing = []
        if moved and isinstance(tasks, list):
            missing = candidate.missing_tasks(self.request, release, tasks, statuses)
        if current != release:
            self.actions.append(f"the release {release} is ready to be taken into use")
        return {
            **self._result(release, current, release),
            "changed": any(action.startswith(("build", "install")) for action in self.actions),
            "built": any(action.startswith("build") for action in self.actions),
            "moved": moved,
            "fresh": not self.store.was_used(release),
            "due": self.store.is_due(release),
            "kept": self.store.kept(current),
            "missing_tasks": missing,
        }

    def _result(self, release: str, previous: str, after: str) -> dict[str, Any]:
        """Return the module's result.

        Arguments:
            release: what was asked for.
            previous: the release in use before this call.
            after: the one in use behind it, as far as a diff shows it.
        """
        versions = virtualenv.versions(self.store.path(release))
        if previous != release and not self.request["take"]:
            self._tell_of_version(previous, versions)
        for text in [*self.verification.warnings, *self.warnings]:
            self._warn(text)
        result: dict[str, Any] = {
            "changed": bool(self.actions),
            "release": release,
            "previous": previous,
            "switches": previous != release,
            "actions": self.actions,
            "diff": self._diff(previous, after),
        }
        if any(versions.values()):
            result["versions"] = versions
        if self.verification.replaced:
            result["replaced"] = self.verification.replaced
        return result

    def _warn(self, text: str) -> None:
        self.warned = True
        self.module.warn(text)

    def _diff(self, previous: str, after: str) -> dict[str, str]:
        if not self.actions:
            return {"before": "", "after": ""}
        before = [*self.account.before, *([f"current -> {target_of(previous)}"] if previous else [])]
        leads = target_of(after) if after else "nothing"
        now = [*(f"# {action}" for action in self.actions), *self.account.after, f"current -> {leads}"]
        return {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in now)}

    def _tell_of_version(self, previous: str, versions: dict[str, str | None]) -> None:
        """Warn of what another version of Celery changes, while everything still runs with the old one."""
        before = virtualenv.versions(self.store.path(previous)).get("celery") if previous else None
        after = versions.get("celery")
        changes = celery_versions.changes(before, after) if before and after else []
        if changes:
            self.warnings.append(f"the release has celery {after} in place of {before}; {'; '.join(changes)}")
