# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the files of an app."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.app.files import BEAT, VARIABLE, above, place
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import LEVELS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment

_REASONS = {"groups": "is not a group of the inventory", "restarts": "is not a worker class of the app, and not beat"}


def _for_nobody(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        known = {"groups": set(deployment.groups)}
        if not deployment.unusable & set(LEVELS):
            known["restarts"] = {BEAT, *(worker.name for worker in app.classes), *deployment.unplaced}
        for entry in app.files:
            for key, names in known.items():
                for name in map(str, entry[key] or ()):
                    if name not in names:
                        variable = f"{VARIABLE}[{entry['number']}].{key}"
                        instead = did_you_mean(name, sorted(names))
                        yield Finding(Problem("names-nobody", variable, name, _REASONS[key], instead), name, app.name)


def _machines(deployment: Deployment, app: App, groups: Iterable[str] | None) -> set[str]:
    """Return on which machines a file of an app is placed."""
    hosts = set(app.hosts)
    if groups is not None:
        hosts &= {host for group in groups for host in deployment.groups.get(str(group), ())}
    return {deployment.machines[host].identity for host in hosts if host in deployment.machines}


def _placed(deployment: Deployment) -> dict[str, list[tuple[App, int, set[str]]]]:
    """Return path -> whose file it is, its number in the variable, and the machines that get it."""
    placed: dict[str, list[tuple[App, int, set[str]]]] = {}
    for app in deployment.apps.values():
        for entry in app.files:
            machines = _machines(deployment, app, entry["groups"])
            placed.setdefault(place(entry["path"], app_layout(app.name)), []).append((app, entry["number"], machines))
    return placed


def _below_a_file(deployment: Deployment) -> Iterator[Finding]:
    placed = _placed(deployment)
    for path, users in placed.items():
        outer = ((folder, user) for folder in above(path) for user in placed.get(folder, ()))
        for (folder, (one, _number, machines)), (other, number, others) in itertools.product(outer, users):
            # Within an app its own plan has told it.
            if one is not other and machines & others:
                reason = f"is below a file of {one.name} on {min(machines & others)} ({folder})"
                problem = Problem(
                    "below-a-file", f"{VARIABLE}[{number}].path", path, reason, f"another path for {other.name}"
                )
                yield Finding(problem, path, other.name)


def _of_two_apps(deployment: Deployment) -> Iterator[Finding]:
    for path, users in _placed(deployment).items():
        for (one, _number, machines), (other, number, others) in itertools.combinations(users, 2):
            if one is not other and machines & others:
                reason = (
                    f"is a file of {one.name} as well, on {min(machines & others)}: if they differ, the two would "
                    "replace it in turn"
                )
                instead = f"another path for {other.name}"
                variable = f"{VARIABLE}[{number}].path"
                yield Finding(Problem("file-of-two-apps", variable, path, reason, instead), path, other.name)


RULES = (
    Rule(
        "file-of-two-apps",
        _of_two_apps,
        "A file of `celery_app_files` that two apps place on one machine: they would replace it in turn if it differs.",
        acceptable=True,
    ),
    Rule(
        "file-below-a-file",
        _below_a_file,
        "A file of `celery_app_files` below a path that another app on the same machine makes a file.",
    ),
    Rule(
        "file-for-nobody",
        _for_nobody,
        "A file of `celery_app_files` for a group of hosts, or a worker class, that does not exist.",
    ),
)
