# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The commands that roles, tests and people call: ``declare``, ``inspect-app``, ``once``, ``probe`` and ``backlog``.

Exit status: 0 done, or nothing to do; 1 a server refuses, or an object is in the way; 2 wrong usage or configuration;
3 the app cannot be imported, or the shared configuration is not in force in it.

With ``--json`` standard output carries exactly one JSON object, also on failure (``failed``, ``message``). No URL is
ever printed with its password.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from celeryops_runtime import __version__
from celeryops_runtime.config import ConfigError, SharedConfig
from celeryops_runtime.config_reader import ENVIRONMENT, load
from celeryops_runtime.urls import addresses, server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["INSPECTED", "Failure", "backlog", "declare", "inspect_app", "main", "once", "probe"]

OK, REFUSED, USAGE, NOT_IN_FORCE = 0, 1, 2, 3

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


class Failure(Exception):  # noqa: N818 (an outcome with an exit status, not an error of this program)
    """Something a person has to put right."""

    def __init__(self, status: int, message: str, **details: Any) -> None:
        """Make it.

        :param status: the exit status.
        :param message: one sentence or more: what is wrong and what to do.
        :param details: further keys of the JSON object.
        """
        super().__init__(message)
        self.status = status
        self.details = details


def declare(
    config: SharedConfig, environ: Mapping[str, str], *, check: bool = False, timeout: float = 10.0
) -> dict[str, Any]:
    """Make the broker hold what the app needs.

    :param config: the shared configuration.
    :param environ: where ``CELERY_BROKER_WRITE_URL`` or ``CELERY_BROKER_URL`` is (amqp or amqps; several URLs are
        separated by semicolons, the first that answers is used).
    :param check: only look.
    :param timeout: seconds for connecting, per URL.
    :returns: ``changed``, ``missing`` (object names, sorted by kind and level), ``objects`` (how many were compared),
        ``broker``, ``check``, ``seconds``, ``message``.
    :raises Failure: if there is no URL, the broker cannot be reached or refuses, or an object is in the way
        (``conflicts`` then lists all).
    """
    result: dict[str, Any] = {"broker": config.broker, "check": check, "changed": False, "missing": [], "objects": 0}
    if config.broker != "rabbitmq":
        return {**result, "seconds": 0.0, "message": f"nothing to declare on {config.broker}"}
    # The same order as in celery/app/utils.py, Settings.broker_write_url, 5.7.0.
    url = environ.get("CELERY_BROKER_WRITE_URL") or environ.get("CELERY_BROKER_URL")
    if not url:
        raise Failure(USAGE, "CELERY_BROKER_URL is not set; the app's celery.env sets it")
    if not all(server(address) == "rabbitmq" for address in addresses(url)):
        raise Failure(USAGE, "CELERY_BROKER_URL is not an amqp:// or amqps:// URL, but the configuration says rabbitmq")

    from amqp.exceptions import AMQPError
    from kombu import Connection

    from celeryops_runtime.tls import tls_settings
    from celeryops_runtime.topology import reconcile, topology

    began = time.monotonic()
    wanted = topology(config)
    options = {k: v for k, v in dict(config.settings.get("broker_transport_options") or {}).items() if k in _CONNECT}
    connection = Connection(
        url,
        ssl=tls_settings(config.settings, {"CELERY_BROKER_URL": url})["broker_use_ssl"],
        login_method=config.settings.get("broker_login_method"),
        connect_timeout=timeout,
        transport_options=options,
    )
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, reraise_as_library_errors=False)
            outcome = reconcile(connection, wanted, check=check)
    except (AMQPError, OSError) as exc:
        reason = getattr(exc, "reply_text", None) or str(exc) or type(exc).__name__
        raise Failure(REFUSED, f"RabbitMQ at {connection.as_uri()}: {reason}") from exc
    result |= {
        "objects": len(wanted),
        "missing": outcome.missing,
        "changed": bool(outcome.missing) and not outcome.conflicts,
        "seconds": round(time.monotonic() - began, 3),
    }
    if outcome.conflicts:
        raise Failure(REFUSED, " ".join(outcome.conflicts), **result, conflicts=outcome.conflicts)
    if not outcome.missing:
        message = f"all {len(wanted)} objects are there"
    else:
        state = "missing" if check else "declared, having been missing"
        message = f"{len(outcome.missing)} of {len(wanted)} objects {state}"
    return {**result, "message": message}


_CONNECT = {"read_timeout", "write_timeout", "login_method", "client_properties", "socket_settings"}


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


def once(config: SharedConfig, environ: Mapping[str, str], *, key: str = "", free: bool = False) -> dict[str, Any]:
    """Report the tasks that run once per period, and free a key.

    :param config: the shared configuration.
    :param environ: where ``CELERYOPS_ONCE_URL`` or ``CELERY_RESULT_BACKEND`` is.
    :param key: a key to look at, as the worker's log names it.
    :param free: free that key, whoever has it.
    :returns: ``rules``, ``dropped`` (calls by task), ``prefix`` (begins every key), ``key`` (``state``, ``owner``,
        ``seconds``; None if it is free, absent if none was asked for), ``changed``, ``message``, ``lines``.
    :raises Failure: if a key is not one of these rules', there is no Redis, or it does not answer.
    """
    if not config.once.rules:
        return {"rules": [], "dropped": {}, "changed": False, "message": "no task has a rule (celery_app_once)"}
    from celery import Celery
    from redis.exceptions import RedisError

    from celeryops_runtime.once_store import URL, Store, url_of

    url = url_of(environ)
    if not url:
        raise Failure(USAGE, f"neither {URL} nor CELERY_RESULT_BACKEND names a Redis; the app's celery.env does")
    # An app for its settings alone, which say how to use TLS and Sentinel.
    app = Celery("celeryops", set_as_current=False, changes=dict(config.settings))
    store = Store(app, url, config.once.prefix)
    if free and not key:
        raise Failure(USAGE, "--free needs --key")
    if key and not key.startswith(store.prefix):
        raise Failure(USAGE, f"{key} is no key of a rule: those begin with {store.prefix}")
    result: dict[str, Any] = {"rules": [asdict(rule) for rule in config.once.rules], "prefix": store.prefix}
    try:
        result["dropped"] = store.dropped()
        if key:
            result["key"] = store.look(key)
        result["changed"] = store.forget(key) if free else False
    except (RedisError, OSError) as exc:
        raise Failure(REFUSED, f"Redis does not answer: {exc}", **result) from exc
    lines = [
        f"{rule.task}: once in {rule.period} s by {_parts(rule.key)}; a failed run {rule.on_failure}s the key; "
        f"without Redis {rule.when_redis_is_down}"
        for rule in config.once.rules
    ]
    lines += [f"dropped {number}: {task}" for task, number in result["dropped"].items()]
    if key:
        held = result["key"]
        lines.append(f"{key}: {held['state']} {held['owner']}, {held['seconds']} s left" if held else f"{key}: free")
    message = (
        f"{key} is free now" if free else f"{len(config.once.rules)} rules, {len(result['dropped'])} tasks dropped"
    )
    return {**result, "message": message, "lines": lines}


def probe(
    config: SharedConfig, environ: Mapping[str, str], *, queues: Sequence[str] = (), timeout: float = 30.0
) -> dict[str, Any]:
    """Send a probe through queues and wait until a worker answered each.

    :param config: the shared configuration.
    :param environ: where ``CELERY_BROKER_URL`` is.
    :param queues: their names; every queue of the configuration if empty.
    :param timeout: seconds to wait for all of them.
    :returns: ``answers`` (queue -> ``node``, ``pid``, ``release``, ``seconds``; ``waiting`` where none came),
        ``message``, ``lines``.
    :raises Failure: if the broker does not answer, or a queue is not there.
    """
    from amqp.exceptions import AMQPError
    from celery import Celery
    from kombu.exceptions import KombuError
    from redis.exceptions import RedisError

    from celeryops_runtime.probe import ask

    if not environ.get("CELERY_BROKER_URL"):
        raise Failure(USAGE, "CELERY_BROKER_URL is not set; the app's celery.env sets it")
    names = list(dict.fromkeys(queues or [queue.name for queue in config.queues]))
    # An app without tasks: whether the user's own can be imported is another question, and it is asked elsewhere.
    app = Celery("celeryops", set_as_current=False, loader="celeryops_runtime.loader:Loader")
    try:
        answers = ask(app, names, timeout)
    except (AMQPError, KombuError, RedisError, OSError) as exc:
        reason = getattr(exc, "reply_text", None) or str(exc) or type(exc).__name__
        raise Failure(REFUSED, f"the broker: {reason}") from exc
    silent = [name for name in names if "node" not in answers[name]]
    lines = [
        f"{name}: {found['node']} answered after {found['seconds']} s, release {found['release']}"
        if "node" in (found := answers[name])
        else f"{name}: no answer within {timeout:g} s, {found['waiting']} messages wait in it"
        for name in names
    ]
    message = f"{len(names) - len(silent)} of {len(names)} queues answered"
    return {"answers": answers, "message": message, "lines": lines}


def backlog(
    config: SharedConfig, environ: Mapping[str, str], *, queues: Sequence[str] = (), with_taken: bool = False
) -> dict[str, Any]:
    """Count the messages that wait.

    :param config: the shared configuration.
    :param environ: where ``CELERY_BROKER_URL`` is.
    :param queues: their names; if empty, every queue of the configuration, and those in which delayed tasks wait.
    :param with_taken: whether to count what workers have taken and not begun, too, which takes seconds.
    :returns: ``waiting`` (queue -> messages; None where there is no such queue), ``message``, ``lines``.
    :raises Failure: if the broker does not answer, or refuses.
    """
    from amqp.exceptions import AMQPError
    from celery import Celery
    from kombu.exceptions import KombuError
    from redis.exceptions import RedisError

    from celeryops_runtime.backlog import taken, waiting

    if not environ.get("CELERY_BROKER_URL"):
        raise Failure(USAGE, "CELERY_BROKER_URL is not set; the app's celery.env sets it")
    names = list(queues or [queue.name for queue in config.queues])
    if not queues and config.broker == "rabbitmq":
        from celeryops_runtime.topology import topology

        names += topology(config).queues
    app = Celery("celeryops", set_as_current=False, loader="celeryops_runtime.loader:Loader")
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, reraise_as_library_errors=False)
            found = waiting(connection, names)
        # One with messages is an answer already.
        if with_taken and not any(found.values()):
            found |= taken(app, names)
    except (AMQPError, KombuError, RedisError, OSError) as exc:
        reason = getattr(exc, "reply_text", None) or str(exc) or type(exc).__name__
        raise Failure(REFUSED, f"the broker: {reason}") from exc
    full = {name: number for name, number in found.items() if number}
    lines = [f"{name}: {number}" for name, number in sorted(full.items())]
    return {"waiting": found, "message": f"{sum(full.values())} messages wait", "lines": lines}


def _parts(key: tuple[str | int, ...] | None) -> str:
    if key is None:
        return "all arguments"
    return ", ".join(str(part) for part in key) if key else "task alone"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m celeryops_runtime", description="The runtime of celeryops.stack.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser(
        "declare",
        allow_abbrev=False,
        help="declare the app's exchange, queues and delayed delivery on RabbitMQ",
        description="Declares what is missing. Reads CELERY_BROKER_URL from the environment.",
    )
    one.add_argument("--config", metavar="FILE", help=f"the shared configuration (default: ${ENVIRONMENT})")
    one.add_argument("--check", action="store_true", help="only report what is missing")
    one.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="for connecting (default: 10)")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    one.set_defaults(run=lambda a: declare(load(a.config), os.environ, check=a.check, timeout=a.timeout))

    two = commands.add_parser(
        "inspect-app",
        allow_abbrev=False,
        help="import an app and report its tasks, its settings and whether the shared configuration is in force",
    )
    two.add_argument("--app", required=True, metavar="NAME", help="as for celery -A, for example shop.celery:app")
    two.add_argument("--conf", action="append", default=[], metavar="KEY", help="a setting to report (repeatable)")
    two.add_argument("--task", action="append", default=[], metavar="NAME", help="where a task is sent (repeatable)")
    two.add_argument("--all", action="store_true", help="with --json: all settings, queues and the connection as well")
    two.add_argument("--json", action="store_true", help="print one JSON object")
    two.set_defaults(run=lambda a: inspect_app(a.app, a.conf, a.task, everything=a.all))

    three = commands.add_parser(
        "once",
        allow_abbrev=False,
        help="list the tasks that run once per period, and how many duplicates were dropped",
        description="Reads CELERYOPS_ONCE_URL or CELERY_RESULT_BACKEND from the environment.",
    )
    three.add_argument("--config", metavar="FILE", help=f"the shared configuration (default: ${ENVIRONMENT})")
    three.add_argument("--key", default="", metavar="KEY", help="look at one key; the worker's log names it")
    three.add_argument("--free", action="store_true", help="free that key, so that the task may run again at once")
    three.add_argument("--json", action="store_true", help="print one JSON object")
    three.set_defaults(run=lambda a: once(load(a.config), os.environ, key=a.key, free=a.free))

    four = commands.add_parser(
        "probe",
        allow_abbrev=False,
        help="send a task through every queue and wait until a worker answered each",
        description="Reads CELERY_BROKER_URL from the environment.",
    )
    four.add_argument("--config", metavar="FILE", help=f"the shared configuration (default: ${ENVIRONMENT})")
    four.add_argument("--queue", action="append", default=[], metavar="NAME", help="only this queue (repeatable)")
    four.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for all queues (default: 30)")
    four.add_argument("--json", action="store_true", help="print one JSON object")
    four.set_defaults(run=lambda a: probe(load(a.config), os.environ, queues=a.queue, timeout=a.timeout))

    five = commands.add_parser(
        "backlog",
        allow_abbrev=False,
        help="count the messages that wait in queues, and take none",
        description="Reads CELERY_BROKER_URL from the environment.",
    )
    five.add_argument("--config", metavar="FILE", help=f"the shared configuration (default: ${ENVIRONMENT})")
    five.add_argument("--queue", action="append", default=[], metavar="NAME", help="only this queue (repeatable)")
    five.add_argument("--taken", action="store_true", help="also what workers have taken from them and not begun")
    five.add_argument("--json", action="store_true", help="print one JSON object")
    five.set_defaults(run=lambda a: backlog(load(a.config), os.environ, queues=a.queue, with_taken=a.taken))
    return parser


def _run(command: Callable[[], dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    try:
        result = command()
    except ConfigError as exc:
        return USAGE, {"failed": True, "message": str(exc)}
    except Failure as exc:
        return exc.status, {**exc.details, "failed": True, "message": str(exc)}
    return (OK if result.get("in_force", True) else NOT_IN_FORCE), {**result, "failed": False}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    :param argv: its words; those of the process if not given.
    :returns: the exit status (see the module's text).
    """
    arguments = _parser().parse_args(argv)
    status, result = _run(lambda: arguments.run(arguments))
    if arguments.json:
        print(json.dumps(result, sort_keys=True))
    else:
        print(result["message"], file=sys.stderr if status else sys.stdout)
        routes = result.get("routes", {})
        for task, found in routes.items():
            print(f"  {task} -> {found['queue']['name']}")
        tasks = () if routes else result.get("tasks", ())
        for line in (*result.get("missing", ()), *tasks, *result.get("lines", ())):
            print(f"  {line}")
    return status
