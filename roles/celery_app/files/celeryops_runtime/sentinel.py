# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Reaches a Redis of several servers through its Sentinels.

Whom they are asked for, and with which account, is in the shared configuration (``master_name`` and ``sentinel_kwargs``
of both transport options). The account's password is a secret, so that it comes from the environment, as the URLs do;
:func:`settings` puts it where kombu and Celery look for it. It is not used for Sentinels without an account, nor where
the options have a password already.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from celeryops_runtime.around import around, run_each
from celeryops_runtime.silence import Silence
from celeryops_runtime.urls import addresses, scheme

VARIABLE = "CELERYOPS_SENTINEL_PASSWORD"

PORT = 26379
"""Of a Sentinel whose address names none."""

OPTIONS = ("broker_transport_options", "result_backend_transport_options")

REDBEAT_SECONDS = 20
"""For so long RedBeat tries again what it has no pipeline for, longer than a failover takes."""

ANSWER_SECONDS = 4
"""So many seconds a server may be silent: Sentinels replace it after three."""

_HIDDEN = "**"
_MARK = "__celeryops_sentinel__"


def settings(given: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Work out the transport options with the password of the account that asks the Sentinels.

    :param given: the settings so far.
    :param environ: the environment; the process's own if not given.
    :returns: settings to put over them; none without a password.
    """
    password = (environ if environ is not None else os.environ).get(VARIABLE)
    found: dict[str, Any] = {}
    for name in OPTIONS if password else ():
        options = given.get(name) or {}
        asking = options.get("sentinel_kwargs")
        if isinstance(asking, Mapping) and asking.get("username") and "password" not in asking:
            found[name] = {**options, "sentinel_kwargs": {**asking, "password": password}}
    return found


def redbeat(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Say how RedBeat reaches what the result backend reaches (celery-redbeat 2.4.2, ``get_redis``).

    :param url: of the result backend, ``sentinel://``.
    :param options: its transport options.
    :returns: ``redbeat_redis_url`` and ``redbeat_redis_options``.
    """
    from kombu.utils.url import url_to_parts

    nodes = [url_to_parts(address) for address in addresses(url)]
    first = nodes[0]
    return {
        "redbeat_redis_url": "redis-sentinel://",
        "redbeat_redis_options": {
            "sentinels": [(node.hostname, node.port or PORT) for node in nodes],
            "service_name": options.get("master_name"),
            "sentinel_kwargs": dict(options.get("sentinel_kwargs") or {}),
            "username": first.username,
            "password": first.password,
            "db": int((first.path or "").strip("/") or 0),
            "socket_timeout": ANSWER_SECONDS,
            "retry_period": REDBEAT_SECONDS,
        },
    }


def there(url: str) -> bool:
    """Tell whether a URL leads to Sentinels.

    :param url: one or several addresses, separated by semicolons.
    """
    return scheme(url) == "sentinel"


def mend() -> None:
    """Change redis-py and Celery in this process. Calling it again changes nothing more.

    * A Sentinel that gave no answer is asked last for a while. Each pool of connections that a process has would find
      that out for itself: a worker had its first task 60 s after the host of the first Sentinel was frozen.
    * Celery before 5.6 uses the account in the address. It takes the password alone, for the user ``default``
      (celery/backends/redis.py, ``SentinelBackend``, 5.4 and 5.5).
    """
    run_each((_mend_order, _mend_account))


def _mend_order() -> None:
    from redis.sentinel import Sentinel

    @around(Sentinel, "discover_master", _MARK)
    def discover_master(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        self.sentinels = asked = sorted(self.sentinels, key=lambda one: _place(one) in _silent)
        before = list(asked)
        found = own(self, *arguments, **options)
        # It puts the one that answered to the begin.
        answered = next(number for number, one in enumerate(before) if one is self.sentinels[0])
        for one in before[:answered]:
            _silent.begin(_place(one))
        _silent.end(_place(before[answered]))
        return found


_silent = Silence()


def _place(one: Any) -> tuple[Any, Any]:
    options = one.connection_pool.connection_kwargs
    return options.get("host"), options.get("port")


def _mend_account() -> None:
    from celery.backends.redis import SentinelBackend

    @around(SentinelBackend, "_params_from_url", _MARK)
    def _params_from_url(own: Any, self: Any, url: str, defaults: Any) -> Any:
        found = own(self, url, defaults)
        user = next((node["username"] for node in found.get("hosts") or () if node.get("username")), None)
        if user:
            found.setdefault("username", user)
        return found


def mend_report() -> None:
    """Keep passwords out of what a worker tells of its connection. Calling it again changes nothing more.

    To ``celery inspect stats``, which Flower shows, it tells the transport options as they are (Celery 5.4 to 5.7), and
    before 5.7 the addresses beside the first one with their passwords.
    """
    run_each((_mend_info,))


def _mend_info() -> None:
    from celery.worker.consumer.connection import Connection

    @around(Connection, "info", _MARK)
    def info(own: Any, self: Any, c: Any) -> Any:
        return hidden(own(self, c))


def hidden(told: Any) -> Any:
    """Return the same without passwords.

    :param told: what JSON can hold.
    """
    from kombu.utils.url import maybe_sanitize_url

    if isinstance(told, Mapping):
        return {key: _HIDDEN if value and "password" in str(key) else hidden(value) for key, value in told.items()}
    if isinstance(told, (list, tuple)):
        return [hidden(one) for one in told]
    return maybe_sanitize_url(told) if isinstance(told, str) and "://" in told else told
