# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The settings in force in an app, as plain data: for people, and to compare a producer with a worker."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# The same in plugins/module_utils/secret_names.py, which says what they are; a test compares them.
_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|(api|access|private)[^a-z0-9]?key"
    r"|[^a-z0-9]key$|(?-i:^KEY$)|(^|[^a-z0-9])(cookie|dsn|pass|pw)$",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"[_-](MODULE|CLASS|BACKENDS?|HASHERS?|VALIDATORS?|FILE|FILENAME|PATH|DIR|FOLDER|URL|URI|HOST|PORT|NAME|PREFIX|HEADER"
    r"|LIFETIME|TIMEOUT|EXPIRY|EXPIRES|EXPIRATION|TTL|AGE|LENGTH|SIZE|ALGORITHM|TYPE|ENABLED|REQUIRED|VERSION)$"
    r"|(^|[^a-z0-9])(routing|partition|primary|foreign|public|sort|cache|tls|ssl)[_-]?key$",
    re.IGNORECASE,
)


def known_settings() -> list[str]:
    """Name every setting that Celery knows.

    :returns: lower-case names, sorted; from Celery's own table (celery/app/defaults.py, ``NAMESPACES``).
    """
    from celery.app.defaults import NAMESPACES, flatten

    return sorted(name for name, _option in flatten(NAMESPACES))


def plain(key: str, value: Any) -> Any:
    """Turn a setting's value into what JSON can hold.

    :param key: the name it stands under: what is named like a secret is not shown.
    :param value: any value.
    :returns: the value with every URL's password masked; queues as dictionaries; what JSON cannot hold as text.
    """
    from kombu import Exchange, Queue
    from kombu.utils.url import maybe_sanitize_url

    if isinstance(value, str):
        if value and _SECRET.search(key) and not _ABOUT.search(key):
            return "**"
        return ";".join(str(maybe_sanitize_url(part)) for part in value.split(";")) if "://" in value else value
    if isinstance(value, Queue):
        return {
            "name": value.name,
            "exchange": value.exchange.name if value.exchange else "",
            "exchange_type": value.exchange.type if value.exchange else "",
            "routing_key": value.routing_key,
            "arguments": plain("", value.queue_arguments or {}),
            "durable": value.durable,
            "auto_delete": value.auto_delete,
            "exclusive": value.exclusive,
        }
    if isinstance(value, Exchange):
        return {"name": value.name, "type": value.type, "durable": value.durable, "delivery_mode": value.delivery_mode}
    if isinstance(value, dict):
        return {str(k): plain(str(k), v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain("", item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain("", item) for item in value), key=str)
    if isinstance(value, Enum):
        return value.name
    return value if value is None or isinstance(value, (int, float, bool)) else repr(value)


def route(app: Any, task: str) -> dict[str, Any]:
    """Say where the app would send a task that its caller sends without any option.

    :param app: the Celery app.
    :param task: the task's name; it need not be registered.
    :returns: ``queue`` with its declaration, and further options that the routes set. Options of the task itself
        (``@app.task(queue=...)``) come before the routes, as they do in ``Task.apply_async`` (celery/app/task.py).
    """
    from celery.app.task import extract_exec_options

    registered = app.tasks.get(task)
    options = extract_exec_options(registered) if registered is not None else {}
    given = {key: value for key, value in options.items() if value is not None}
    return {str(k): plain(str(k), v) for k, v in app.amqp.router.route(dict(given), task).items()}


def effective(app: Any, tasks: Iterable[str] = ()) -> dict[str, Any]:
    """Report what is in force in an app of this process.

    :param app: the Celery app; it is finalized.
    :param tasks: names of tasks whose way is to be reported.
    :returns: ``settings`` (all that Celery knows), ``queues`` (as they would be declared), ``routes`` (see
        :func:`route`), ``broker`` (the connection that sends), ``publish`` (what a message is sent with). No
        password is in it.
    """
    app.finalize()
    conf = app.conf
    with app.connection_for_write() as connection:
        broker = {
            "transport": connection.transport_cls,
            "host": f"{connection.hostname}:{connection.port}",
            "user": connection.userid,
            "virtual_host": connection.virtual_host,
            "nodes": len(connection.alt) or 1,
            "tls": plain("", connection.ssl),
            "connect_timeout": connection.connect_timeout,
            "heartbeat": connection.heartbeat,
            "login_method": connection.login_method,
            "transport_options": plain("", connection.transport_options),
        }
    # Some that Celery reads are not in its table (redis_backend_health_check_interval); shared ones are in the changes.
    aliases = getattr(conf.changes, "aliases", ())
    names = {*known_settings(), *(key for key in conf.changes if key.islower() and key not in aliases)}
    return {
        "settings": {key: plain(key, getattr(conf, key, None)) for key in sorted(names)},
        "queues": {name: plain("", queue) for name, queue in sorted(app.amqp.queues.items())},
        "routes": {task: route(app, task) for task in tasks},
        "broker": broker,
        "publish": {
            "exchange": plain("", app.amqp.default_exchange),
            "delivery_mode": conf.task_default_delivery_mode,
            "serializer": conf.task_serializer,
            "retry": conf.task_publish_retry,
            "retry_policy": plain("", conf.task_publish_retry_policy),
        },
    }
