# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Rules about the packages that a release consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.requirements import everything, too_old
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.deployment import App, Deployment

#: How the path of a scheduler begins -> the package that it is in.
_SCHEDULERS = {"redbeat": "celery-redbeat", "django_celery_beat": "django-celery-beat"}
_BACKENDS = {"django-db": "django-celery-results", "django-cache": "django-celery-results"}


def _old_celery(deployment: Deployment) -> Iterator[Finding]:
    versions = [server.version for server in deployment.of_kind("rabbitmq") if server.version]
    server = f" for RabbitMQ {versions[0][0]}.{versions[0][1]}" if versions else ""
    for app in deployment.apps.values():
        for variable, line in app.requirements:
            yield from _too_old(variable, line, server, app.name)
    for duty in deployment.of_role("flower"):
        for line in duty.variables.get("flower_packages") or ():
            yield from _too_old("flower_packages", str(line), server, None)


def _too_old(variable: str, line: str, server: str, app: str | None) -> Iterator[Finding]:
    name = too_old(line)
    if name:
        reason = f"is too old{server}: before 5.7 {name} hangs on reconnect and breaks on RabbitMQ 4.3"
        yield Finding(Problem(variable, line.strip(), reason, f"{name}>=5.7"), name, app)


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
                yield Finding(Problem(variable, value, reason, instead), package, app.name)


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


RULES = (
    Rule("old-celery", _old_celery, "A Celery or kombu before 5.7."),
    Rule(
        "missing-package",
        _missing,
        "A scheduler, pool or result backend whose package is not among requirements that name every package.",
        acceptable=True,
    ),
)
