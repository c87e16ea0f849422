# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release to be activated: which one, and what the switch would change."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils.releases.configuration import differing
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError
from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of
from ansible_collections.celeryops.stack.plugins.module_utils.workers import read_report
from ansible_collections.celeryops.stack.plugins.module_utils.workers import tasks as known_tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request
    from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store
    from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Status


def must_be_configured(request: Request, store: Store) -> None:
    """Refuse a host whose configuration is another than that of the variables: both would change at once."""
    if not store.current:
        raise ReleaseError(f"{request['name']} was never installed on this host; run site.yml first")
    others = differing(request["expected"])
    if others:
        raise ReleaseError(
            f"{some_of(others, 3)} on this host is not what the variables and this version of the collection say; a "
            "new release is all that this playbook changes, so run site.yml first (with the release that is in use)"
        )


def selected(wanted: str, store: Store) -> str:
    """Return the kept release that is asked for.

    Arguments:
        wanted: its name, or ``previous`` for the one that was in use before the present one.
        store: has it.

    Raises:
        ReleaseError: there is none.
    """
    current, app = store.current, store.app
    others = store.kept(current)
    listed = ", ".join(others) or "none"
    if wanted == "previous":
        if not others:
            raise ReleaseError(f"there is no release of {app} on this host beside {current}")
        if not store.was_used(others[0]):
            # A deploy ended between building it and taking it into use, by a migration that failed for one.
            raise ReleaseError(
                f"no other release of {app} was in use on this host before {current}; "
                f"celeryops_rollback_to takes one that was built and never used all the same: {listed}"
            )
        return others[0]
    if wanted != current and wanted not in others:
        raise ReleaseError(
            f"celeryops_rollback_to: {wanted} is no release of {app} that this host has kept; "
            f"write one of: {listed} (in use is {current})"
        )
    return wanted


def missing_tasks(request: Request, release: str, tasks: list[str], statuses: Mapping[str, Status]) -> list[str]:
    """Return the tasks that somebody may send and nobody would run any more.

    Arguments:
        request: of the module.
        release: the one to be taken into use.
        tasks: those that it has.
        statuses: of the units that run the app now.

    Raises:
        ReleaseError: some of them are not accepted.
    """
    reports = []
    for entry in request["running"]:
        report = read_report(entry["report"])[0] if entry.get("report") else None
        if report and report.get("pid") == statuses[entry["unit"]].pid:
            reports.append(report)
    gone = sorted(set(known_tasks(reports)) - set(tasks))
    accepted = request["accept_missing_tasks"]
    refused = [task for task in gone if not any(fnmatch.fnmatchcase(task, pattern) for pattern in accepted)]
    if refused:
        raise ReleaseError(
            f"the release {release} has no task {', '.join(refused)}, which the running workers have: what is sent or "
            "waits in a queue for it would not be run. Keep the task for one more release, or, if that is meant, "
            f"write celeryops_deploy_accept_missing_tasks: [{', '.join(refused)}]"
        )
    return gone
