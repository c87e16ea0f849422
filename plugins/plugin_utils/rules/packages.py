# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the packages that a release consists of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    OLDEST,
    OVERRIDES,
    Line,
    everything,
    pinned,
    rules_out,
    too_old,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment

#: How the path of a scheduler begins -> the package that it is in.
_SCHEDULERS = {"redbeat": "celery-redbeat", "django_celery_beat": "django-celery-beat"}
_PIP_INDEXES = "PIP_EXTRA_INDEX_URL"
_FURTHER_INDEX = re.compile(r"\s*--extra-index-url\b")
_BACKENDS = {"django-db": "django-celery-results", "django-cache": "django-celery-results"}


def _old_celery(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        for variable, line in app.requirements:
            yield from _too_old(variable, line, app.name)
    for duty in deployment.of_role("flower"):
        for line in duty.variables.get("flower_packages") or ():
            yield from _too_old("flower_packages", str(line), None)


def _too_old(variable: str, line: str, app: str | None) -> Iterator[Finding]:
    name = too_old(line)
    if not name:
        return
    supported = f"Celery {celery_versions.supported()}"
    reason = f"is too old: this collection supports {supported}"
    if name != "celery":
        reason = f"is too old: {supported} takes {name} {OLDEST[name]} or newer"
    instead = f"{name}>={OLDEST[name]}"
    if app is not None and variable != OVERRIDES:
        instead += f", there or in {OVERRIDES}, which wins"
    yield Finding(Problem("release-too-old", variable, line.strip(), reason, instead), name, app)


def _pairs(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        found = [(pinned(line), variable, line) for variable, line in app.requirements]
        # The last line that names a package is as good as the first: two that differ install nothing.
        known = {name: version for (name, version), _variable, _line in found if name in ("celery", "kombu", "redis")}
        for what, instead in celery_versions.misfits(known, app.broker):
            told = {name: (variable, line) for (name, _version), variable, line in found}
            variable, line = told.get("kombu") or told["celery"]
            yield Finding(
                Problem("does-not-fit", variable, line.strip(), f"does not fit: {what}", instead), "kombu", app.name
            )


def _newer_settings(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        for name, since, (variable, line) in _newer(app, app.requirements):
            reason = f"is a setting from Celery {since} on, and {variable} has {line.strip()}: it would change nothing"
            problem = Problem(
                "setting-too-new", f"celery_app_settings.{name}", app.own_settings[name], reason, _or_newer(since)
            )
            yield Finding(problem, name, app.name)


def _perhaps_newer_settings(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        certain = {name for name, _since, _line in _newer(app, app.requirements)}
        for name, since, (_variable, line) in _newer(app, app.locked):
            if name not in certain:
                reason = f"is a setting from Celery {since} on, and the app's own lock file has {line.strip()}"
                problem = Problem(
                    "setting-too-new", f"celery_app_settings.{name}", app.own_settings[name], reason, _or_newer(since)
                )
                yield Finding(problem, name, app.name)


def _newer(app: App, lines: Sequence[Line]) -> Iterator[tuple[str, str, Line]]:
    """Yield the user's settings that the Celery of some lines does not have, the version that does, and the line."""
    for name in app.own_settings:
        since = celery_versions.SETTINGS.get(str(name))
        line = next((one for one in lines if since and rules_out(one[1], "celery", since)), None)
        if since and line:
            yield str(name), celery_versions.text(since), line


def _or_newer(since: str) -> str:
    return f"nothing there, or requirements that allow celery>={since}"


def _missing(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        source = app.variables.get("celery_app_source") or {}
        # What a file inside of the source names, is known on no control machine.
        lines = [line for variable, line in app.requirements if not variable.endswith(".constraints")]
        installed = everything(lines) if not source.get("requirements_file") else frozenset()
        for variable, value, package in dict.fromkeys(_needed(deployment, app)) if installed else ():
            if package not in installed:
                reason = f"needs {package}, which is not among the packages of {app.name}"
                instead = f"{package} into the requirements as well"
                yield Finding(Problem("requirement-missing", variable, value, reason, instead), package, app.name)


def _needed(deployment: Deployment, app: App) -> Iterator[tuple[str, str, str]]:
    """Yield (variable, what it says, the package without which that cannot start) of an app."""
    setting = str(app.own_settings.get("beat_scheduler"))
    for duty in deployment.of_role("celery_beat"):
        own = str(duty.variables.get("celery_beat_scheduler")) if duty.app == app.name else ""
        for variable, scheduler in (("celery_beat_scheduler", own), ("celery_app_settings.beat_scheduler", setting)):
            package = _SCHEDULERS.get(scheduler.replace(":", ".").partition(".")[0])
            if package:
                yield variable, scheduler, package
    if app.results_at in _BACKENDS:
        yield "celery_app_result_backend", app.results_at, _BACKENDS[app.results_at]
    for worker in app.classes:
        if worker.pool == "gevent":
            yield worker.where("pool"), "gevent", "gevent"


def _merged_indexes(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        source = app.variables.get("celery_app_source") or {}
        if str(app.variables.get("celery_app_installer")) != "pip" or source.get("require_hashes"):
            continue
        reason = (
            "is asked beside the other index, and pip takes the highest version that any of them has: a stranger's "
            "package of the same name replaces yours"
        )
        instead = "celery_app_installer: uv, which asks index_url first, or require_hashes: true with a hash for each"
        for variable, number in _further_indexes(app).items():
            shown = f"{number} address" + ("es" if number > 1 else "")
            yield Finding(Problem("second-index", variable, shown, reason, instead), app.name, app.name)


def _further_indexes(app: App) -> dict[str, int]:
    """Return how many indexes pip is told of beside the first one, and where; nothing where there are none."""
    source = app.variables.get("celery_app_source") or {}
    environment = app.variables.get("celery_app_install_environment") or {}
    options = [line for line in str(source.get("requirements") or "").splitlines() if _FURTHER_INDEX.match(line)]
    # The variable of the installer gives way to the one of the source, which is set over it.
    of_the_environment = str(environment.get(_PIP_INDEXES) or "").split()
    found = {
        "celery_app_source.extra_index_urls": len(source.get("extra_index_urls") or ()),
        "celery_app_source.requirements": len(options),
        f"celery_app_install_environment.{_PIP_INDEXES}": len(of_the_environment),
    }
    return {variable: number for variable, number in found.items() if number}


RULES = (
    Rule(
        "merged-indexes",
        _merged_indexes,
        "pip with more than one package index: pip installs the highest version from any of them.",
        acceptable=True,
    ),
    Rule(
        "old-celery",
        _old_celery,
        f"A Celery before {celery_versions.text(celery_versions.FLOOR)}, or a kombu that is too old for it.",
    ),
    Rule("version-pair", _pairs, "Versions of Celery, kombu and redis-py that do not work together."),
    Rule(
        "newer-setting",
        _newer_settings,
        "A setting that the Celery of the app's requirements does not have: it changes nothing there.",
        acceptable=True,
    ),
    Rule(
        "perhaps-newer-setting",
        _perhaps_newer_settings,
        "The same where only a lock file beside the source says so, which the installation does not read.",
        unwise=True,
    ),
    Rule(
        "missing-package",
        _missing,
        "A scheduler, pool or result backend whose package is not among requirements that name every package.",
        acceptable=True,
    ),
)
