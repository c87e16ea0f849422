# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""``once``: report the tasks that run once per period, and release a key."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from celeryops_runtime import sentinel
from celeryops_runtime.commands import REFUSED, USAGE, Failure, add_command
from celeryops_runtime.config_reader import load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from celeryops_runtime.config import SharedConfig


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
    app = Celery(
        "celeryops", set_as_current=False, changes={**config.settings, **sentinel.settings(config.settings, environ)}
    )
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


def _parts(key: tuple[str | int, ...] | None) -> str:
    if key is None:
        return "all arguments"
    return ", ".join(str(part) for part in key) if key else "task alone"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    says = "list the tasks that run once per period, and how many duplicates were dropped"
    parser = add_command(
        commands, "once", says, "Reads CELERYOPS_ONCE_URL or CELERY_RESULT_BACKEND from the environment."
    )
    parser.add_argument("--key", default="", metavar="KEY", help="look at one key; the worker's log names it")
    parser.add_argument("--free", action="store_true", help="free that key, so that the task may run again at once")
    parser.set_defaults(run=lambda a: once(load(a.config), os.environ, key=a.key, free=a.free))
    return parser
