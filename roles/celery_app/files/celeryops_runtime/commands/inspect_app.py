# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""``inspect-app``: import an app, and report its settings in force."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from celeryops_runtime import __version__
from celeryops_runtime.commands import NOT_IN_FORCE, Failure, add_command
from celeryops_runtime.config import ConfigError
from celeryops_runtime.config_reader import ENVIRONMENT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

INSPECTED = (
    "accept_content",
    "broker_transport_options",
    "broker_url",
    "result_backend",
    "result_expires",
    "task_acks_late",
    "task_default_exchange",
    "task_default_exchange_type",
    "task_default_queue",
    "task_default_queue_type",
    "task_ignore_result",
    "task_queues",
    "task_reject_on_worker_lost",
    "task_routes",
    "task_serializer",
    "task_soft_time_limit",
    "task_time_limit",
    "timezone",
    "worker_prefetch_multiplier",
)
"""Settings that ``inspect-app`` reports when none are asked for."""


def inspect_app(
    name: str, keys: Sequence[str] = (), tasks: Sequence[str] = (), *, everything: bool = False
) -> dict[str, Any]:
    """Import an app and report what it has become.

    :param name: as for ``celery -A``: ``shop.celery:app`` or a module.
    :param keys: settings to report; :data:`INSPECTED` if empty. Passwords in URLs are masked, and so is what is named
        like a secret.
    :param tasks: names of tasks: where this process would send them.
    :param everything: report all settings, the queues' declarations and the connection as well.
    :returns: ``app``, ``main``, ``tasks`` (names, without Celery's own), ``conf``, ``loader`` (its class),
        ``in_force`` (whether the shared configuration is in force), ``message``, ``versions``, ``routes`` for
        ``tasks``, and ``effective`` (see :func:`celeryops_runtime.effective.effective`) for ``everything``.
    :raises Failure: if the app, or a module with its tasks, cannot be imported.
    """
    # What the app prints while it is imported must not end up in the report.
    with contextlib.redirect_stdout(sys.stderr):
        return _inspect(name, keys, tasks, everything=everything)


def _inspect(name: str, keys: Sequence[str], tasks: Sequence[str], *, everything: bool) -> dict[str, Any]:
    import celery
    import kombu
    from celery.app.utils import find_app
    from celery.exceptions import CeleryError

    from celeryops_runtime.effective import effective, plain, route

    if os.getcwd() not in sys.path:  # noqa: PTH109 (sys.path holds strings); the celery command does the same
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as above)
    try:
        app = find_app(name)
        loader = app.loader
        conf = app.conf.finalize()
        loader.import_default_modules()
        app.finalize()
    except ConfigError:
        raise
    except (Exception, SystemExit) as exc:
        kind = "" if isinstance(exc, CeleryError) else f"{type(exc).__name__}: "
        raise Failure(NOT_IN_FORCE, f"the app {name} cannot be imported: {kind}{exc}", app=name) from exc
    in_force = bool(getattr(loader, "in_force", False))
    report = {
        "app": name,
        "main": app.main,
        "tasks": sorted(task for task in app.tasks if not task.startswith(("celery.", "celeryops."))),
        "conf": {key: plain(key, getattr(conf, key, None)) for key in keys or INSPECTED},
        "loader": f"{type(loader).__module__}:{type(loader).__qualname__}",
        "in_force": in_force,
        "versions": {"celeryops_runtime": __version__, "celery": celery.__version__, "kombu": kombu.__version__},
    }
    if tasks:
        report["routes"] = {task: route(app, task) for task in tasks}
    if everything:
        report["effective"] = effective(app, tasks)
    return {**report, "message": _verdict(name, str(report["loader"]), in_force=in_force)}


def _verdict(name: str, loader: str, *, in_force: bool) -> str:
    if in_force:
        return f"the shared configuration {os.environ.get(ENVIRONMENT)} is in force in {name}"
    wanted = os.environ.get("CELERY_LOADER")
    if not wanted:
        return (
            f"the shared configuration is not in force in {name}: CELERY_LOADER is not set in this environment; "
            "the app's celery.env sets it to celeryops_runtime.loader:Loader"
        )
    return (
        f"the shared configuration is not in force in {name}: the app chooses its own loader ({loader}), which takes "
        "precedence over CELERY_LOADER. Remove loader= from its Celery(...) constructor, or derive that class from "
        "celeryops_runtime.loader.Loader; until then its queues, routes and limits are not those of the inventory, "
        "and its worker cannot tell systemd that it is ready."
    )


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    says = "import an app and report its tasks, its settings and whether the shared configuration is in force"
    parser = add_command(commands, "inspect-app", says)
    parser.add_argument("--app", required=True, metavar="NAME", help="as for celery -A, for example shop.celery:app")
    parser.add_argument("--conf", action="append", default=[], metavar="KEY", help="a setting to report (repeatable)")
    parser.add_argument("--task", action="append", default=[], metavar="NAME", help="where a task is sent (repeatable)")
    parser.add_argument(
        "--all", action="store_true", help="with --json: all settings, queues and the connection as well"
    )
    parser.set_defaults(run=lambda a: inspect_app(a.app, a.conf, a.task, everything=a.all))
    return parser
