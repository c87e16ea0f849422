# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Reads the shared configuration: a JSON document per app, one of its queues, and the settings of one process.

Queues and routes have a file of their own beside the settings, ``queues.json``: a process looks at it again while it
runs (:mod:`celeryops_runtime.queues_file`), so that a queue more restarts nobody. Here the two are one document.

:func:`parse` and what it calls are pure; :func:`load` and :func:`reload_queues` read files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeryops_runtime.config import ConfigError, Once, OnceRule, Queue, ResultRule, Route, SharedConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeGuard

ENVIRONMENT = "CELERYOPS_CONFIG"
"""Environment variable with the path of the document."""

PROCESS_ENVIRONMENT = "CELERYOPS_SETTINGS"
"""Environment variable with a JSON object of settings for one process, for example one worker class."""

FORMAT = 1
"""The only value of ``format`` that this version of the package understands."""

QUEUES_FILE = "queues.json"
"""Name of the document of the queues, in the directory of the other one."""

QUEUES_KEYS = ("queues", "routes")
"""What is in it."""

FROM_APP = "from-app"
"""Stands in place of the routes where the app's own hold."""

BROKERS = ("rabbitmq", "redis")
QUEUE_TYPES = ("quorum", "classic")
ON_FAILURE = ("free", "keep")
WHEN_REDIS_IS_DOWN = ("run", "refuse")
RESULTS = ("keep", "ignore")

_SETTING_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


def load(path: str | None = None) -> SharedConfig:
    """Read the document.

    :param path: the file; ``$CELERYOPS_CONFIG`` if not given.
    :returns: the checked configuration.
    :raises ConfigError: if no path is known, or the file is missing, unreadable, not JSON or of another shape. The
        message names the path.
    """
    where = path or os.environ.get(ENVIRONMENT)
    if not where:
        raise ConfigError(
            f"{ENVIRONMENT} is not set: it names the shared Celery configuration, a file such as "
            "/etc/celeryops/<app>/celery.json. CELERY_LOADER and it belong together; the app's celery.env sets both."
        )
    document, text = _read(where)
    beside = ""
    if isinstance(document, dict) and document.get("format") == FORMAT and not document.keys() & set(QUEUES_KEYS):
        beside = queues_path(where)
        document = {**document, **_queues_document(beside)}
    try:
        return replace(parse(document), digest=hashlib.sha256(text.encode()).hexdigest(), queues_file=beside)
    except ConfigError as exc:
        named = f"{where}, with {beside}," if beside else where
        raise ConfigError(f"the shared Celery configuration {named} is wrong: {exc}") from None


def queues_path(path: str | None = None) -> str:
    """Tell where the document of the queues is.

    :param path: the shared configuration; ``$CELERYOPS_CONFIG`` if not given.
    :returns: its path, whether or not there is such a file; empty where the shared configuration is not known.
    """
    where = path or os.environ.get(ENVIRONMENT)
    return str(Path(where).with_name(QUEUES_FILE)) if where else ""


def reload_queues(config: SharedConfig, path: str) -> SharedConfig:
    """Read the document of the queues again.

    :param config: the configuration in force.
    :param path: the document.
    :returns: that configuration with the queues and routes of the document.
    :raises ConfigError: as for :func:`load`, and where the settings in force do not go with the document.
    """
    document = _queues_document(path)
    try:
        queues, routes, own_routes = _ways(document)
        found = replace(config, queues=queues, routes=routes, own_routes=own_routes)
        _consistent(found)
        if (found.quorum_queues, found.own_routes) != (config.quorum_queues, config.own_routes):
            raise ConfigError("its kind of queues or of routes is another one, which holds from the next start on")
    except ConfigError as exc:
        raise ConfigError(f"{path} is wrong: {exc}") from None
    return found


def _queues_document(path: str) -> dict[str, Any]:
    """Return the document of the queues, without what it says of itself."""
    content, _text = _read(path)
    try:
        document = _mapping(content, "the document")
        _format(document)
        _known(document, {"format", *QUEUES_KEYS}, "the document")
    except ConfigError as exc:
        raise ConfigError(f"the shared Celery configuration {path} is wrong: {exc}") from None
    return {key: document[key] for key in QUEUES_KEYS if key in document}


def _read(where: str) -> tuple[object, str]:
    """Return what is in a file, and its text."""
    try:
        text = Path(where).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise ConfigError(f"the shared Celery configuration {where} cannot be read: {reason}") from None
    try:
        return json.loads(text), text
    except ValueError as exc:
        raise ConfigError(f"the shared Celery configuration {where} is not JSON: {exc}") from None


def process_settings(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read the settings that only this process has.

    They are known before the app is imported, unlike those of the command line: a task copies settings such as
    ``task_acks_late`` when it is bound, and an app may bind its tasks while it is imported.

    :param environ: the environment; the process's own if not given.
    :returns: verbatim Celery settings under their lower-case names, to be put over the shared ones; empty without
        ``CELERYOPS_SETTINGS``.
    :raises ConfigError: if the variable does not hold a JSON object with such names.
    """
    text = (environ if environ is not None else os.environ).get(PROCESS_ENVIRONMENT)
    if not text:
        return {}
    try:
        return _settings(json.loads(text))
    except ValueError as exc:
        raise ConfigError(f"{PROCESS_ENVIRONMENT} in the environment is not JSON: {exc}") from None
    except ConfigError as exc:
        raise ConfigError(f"{PROCESS_ENVIRONMENT} in the environment is wrong: {exc}") from None


def parse(document: object) -> SharedConfig:
    """Check the document's shape.

    :param document: what :func:`json.loads` returned.
    :returns: the configuration.
    :raises ConfigError: at the first thing that is missing, unknown, of another type or contradictory; the message
        names its place in the document, not the file.
    """
    top = _mapping(document, "the document")
    _format(top)
    _known(
        top,
        {"format", "app", "broker", "default_queue", "exchange", "quorum", "settings", "once", "results", *QUEUES_KEYS},
        "the document",
    )
    broker = _text(top, "broker", "the document")
    if broker not in BROKERS:
        raise ConfigError(f"broker is {broker!r}, not one of {', '.join(BROKERS)}")
    queues, routes, own_routes = _ways(top)
    config = SharedConfig(
        app=_text(top, "app", "the document"),
        broker=broker,
        default_queue=_text(top, "default_queue", "the document"),
        exchange=_text(top, "exchange", "the document"),
        queues=queues,
        routes=routes,
        settings=_settings(top.get("settings", {})),
        once=_once(top["once"]) if "once" in top else Once(),
        results=tuple(_result_rule(entry, f"results[{i}]") for i, entry in enumerate(_list(top, "results")))
        if "results" in top
        else (),
        own_routes=own_routes,
    )
    _consistent(config)
    return config


def _format(document: Mapping[str, Any]) -> None:
    found = document.get("format")
    if found != FORMAT or isinstance(found, bool):
        raise ConfigError(
            f"format is {found!r}, and this runtime reads format {FORMAT}: install the runtime and the "
            "configuration from the same version of celeryops.stack"
        )


def _ways(document: Mapping[str, Any]) -> tuple[tuple[Queue, ...], tuple[Route, ...], bool]:
    """Return the queues, the routes, and whether the app's own routes hold in their place."""
    queues = tuple(_queue(entry, f"queues[{i}]") for i, entry in enumerate(_list(document, "queues")))
    if document.get("routes") == FROM_APP:
        return queues, (), True
    return queues, tuple(_route(entry, f"routes[{i}]") for i, entry in enumerate(_list(document, "routes"))), False


def _consistent(config: SharedConfig) -> None:
    names = [queue.name for queue in config.queues]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"queues: {name!r} is there twice")
    if config.default_queue not in names:
        raise ConfigError(f"default_queue: {config.default_queue!r} is not one of the queues ({', '.join(names)})")
    for i, route in enumerate(config.routes):
        if route.queue not in names:
            raise ConfigError(f"routes[{i}].queue: {route.queue!r} is not one of the queues ({', '.join(names)})")
    if config.broker != "rabbitmq":
        return
    for short in names:
        for long in names:
            if long.endswith(f".{short}"):
                # Delayed delivery binds '#.<key>' (kombu/transport/native_delayed_delivery.py, 5.7.0).
                raise ConfigError(
                    f"queues: {short!r} would also receive every task of {long!r}, because delayed delivery binds "
                    f"'#.{short}'; rename one"
                )
    if config.delayed_queue_type not in QUEUE_TYPES:
        raise ConfigError(
            f"settings.broker_native_delayed_delivery_queue_type: {config.delayed_queue_type!r} is not one of "
            f"{', '.join(QUEUE_TYPES)}"
        )


def _settings(value: object) -> dict[str, Any]:
    settings = _mapping(value, "settings")
    for name in settings:
        if not _SETTING_NAME.match(name):
            raise ConfigError(f"settings.{name}: not a Celery setting's name in its lower-case form")
    return dict(settings)


def _queue(entry: object, where: str) -> Queue:
    item = _mapping(entry, where)
    _known(item, {"name", "type", "arguments"}, where)
    kind = _text(item, "type", where) if "type" in item else "quorum"
    if kind not in QUEUE_TYPES:
        raise ConfigError(f"{where}.type: {kind!r} is not one of {', '.join(QUEUE_TYPES)}")
    return Queue(_text(item, "name", where), kind, dict(_mapping(item.get("arguments", {}), f"{where}.arguments")))


def _route(entry: object, where: str) -> Route:
    item = _mapping(entry, where)
    _known(item, {"task", "queue"}, where)
    return Route(_text(item, "task", where), _text(item, "queue", where))


def _once(value: object) -> Once:
    item = _mapping(value, "once")
    _known(item, {"prefix", "rules"}, "once")
    rules = tuple(_once_rule(entry, f"once.rules[{i}]") for i, entry in enumerate(_list(item, "rules")))
    return Once(_text(item, "prefix", "once") if "prefix" in item else "", rules)


def _once_rule(entry: object, where: str) -> OnceRule:
    item = _mapping(entry, where)
    _known(item, {"task", "period", "key", "on_failure", "when_redis_is_down"}, where)
    period, key = item.get("period"), item.get("key")
    if not _whole(period) or period < 1:
        raise ConfigError(f"{where}.period: {period!r} is not a whole number of seconds")
    if key is not None and not (
        isinstance(key, list) and all(isinstance(part, str) or (_whole(part) and part >= 0) for part in key)
    ):
        raise ConfigError(f"{where}.key: {key!r} is not a list of arguments' names or positions")
    choices = {}
    for name, allowed in (("on_failure", ON_FAILURE), ("when_redis_is_down", WHEN_REDIS_IS_DOWN)):
        if name in item:
            choices[name] = item[name]
            if item[name] not in allowed:
                raise ConfigError(f"{where}.{name}: {item[name]!r} is not one of {', '.join(allowed)}")
    return OnceRule(_text(item, "task", where), period, None if key is None else tuple(key), **choices)


def _result_rule(entry: object, where: str) -> ResultRule:
    item = _mapping(entry, where)
    _known(item, {"task", "result"}, where)
    result = _text(item, "result", where)
    if result not in RESULTS:
        raise ConfigError(f"{where}.result: {result!r} is not one of {', '.join(RESULTS)}")
    return ResultRule(_text(item, "task", where), result)


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {type(value).__name__}, not an object")
    return value


def _list(parent: Mapping[str, Any], key: str) -> list[Any]:
    value = parent.get(key)
    if not isinstance(value, list):
        raise ConfigError(f"{key} is {'missing' if value is None else type(value).__name__}: it must be a list")
    return value


def _text(parent: Mapping[str, Any], key: str, where: str) -> str:
    value = parent.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} is {value!r}, not a non-empty string")
    return value


def _known(item: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in item:
        if key not in known:
            raise ConfigError(f"{where}: {key!r} is not known here (known: {', '.join(sorted(known))})")
