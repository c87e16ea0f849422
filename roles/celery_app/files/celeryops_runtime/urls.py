# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Parses the URLs of the environment before a client does: how many there are, and which server each means."""

from __future__ import annotations

_SERVERS = {
    "amqp": "rabbitmq", "pyamqp": "rabbitmq", "amqps": "rabbitmq",
    "redis": "redis", "rediss": "redis", "sentinel": "redis",
}  # fmt: skip
"""The same in plugins/module_utils/endpoints.py; a test compares them."""


def addresses(url: str) -> list[str]:
    """Take a URL apart as Celery does (kombu/connection.py, 5.7.0).

    :param url: one or several, separated by semicolons.
    :returns: each of them; nothing for an empty text.
    """
    return [part.strip() for part in url.split(";") if part.strip()]


def scheme(url: str) -> str:
    """Return the scheme of the first address.

    :param url: one or several, separated by semicolons.
    :returns: it, in lower case; empty for what is no URL.
    """
    name, separator, _rest = url.strip().partition("://")
    return name.lower() if separator else ""


def server(url: str) -> str:
    """Return what the first address leads to.

    :param url: one or several, separated by semicolons.
    :returns: ``rabbitmq`` or ``redis``; empty for anything else.
    """
    return _SERVERS.get(scheme(url), "")
