# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
# Managed by celeryops.stack (role flower). Local changes are overwritten.
"""Settings without a Flower option: open pages, no declarations, several nodes, and notifications to systemd.

Flower executes this file before it starts (--conf, flower/command.py, 2.2.0). The options themselves come from its
environment. If a later Flower has no such pages to protect, this fails and Flower does not start: better down than
open.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from flower.views.monitor import Healthcheck, Metrics
from kombu import Exchange
from tornado.httpclient import AsyncHTTPClient, HTTPError
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.web import authenticated


def _protect() -> None:
    """Ask for a password on the two pages that Flower always answers, unless they are to be open."""
    is_open = os.environ.get("CELERYOPS_FLOWER_OPEN", "").split()
    for name, handler in (("metrics", Metrics), ("healthcheck", Healthcheck)):
        if name not in is_open:
            handler.get = authenticated(handler.get)


def _declare_no_exchange() -> None:
    """Have Flower look for the exchanges of events and of remote control, which are the workers', and declare none.

    RabbitMQ asks for the right to configure an exchange of whoever declares it, also when it is there, and who has that
    right can delete it: without celery.pidbox no worker answers anybody until it is restarted. To look needs no right
    (RabbitMQ's "Access Control"). On Redis there is nothing to protect, and what there is, each process has for itself.
    """
    if not os.environ.get("CELERY_BROKER_URL", "").lower().startswith(("amqp", "pyamqp")):
        return
    declare = Exchange.declare

    @functools.wraps(declare)
    def look(self: Exchange, nowait: bool = False, passive: object = None, channel: object = None) -> Any:  # noqa: ARG001 - kombu's own
        return declare(self, nowait=nowait, passive=True, channel=channel)

    Exchange.declare = look


def _ask_a_node_that_answers() -> None:
    """Have Flower ask another node of a RabbitMQ cluster for its queues when one does not answer.

    Flower knows one address, and its page is empty when that does not answer (flower/utils/broker.py, 2.2.0). What a
    node answers, even a refusal, all of them would.
    """
    nodes = os.environ.get("CELERYOPS_BROKER_APIS", "").split(";")
    if len(nodes) < 2:
        return
    known, fetch = nodes[0], AsyncHTTPClient.fetch

    async def ask(client: AsyncHTTPClient, path: str, options: dict[str, Any]) -> Any:
        for node in list(nodes):
            try:
                response = await fetch(client, node + path, **options)
            except (OSError, HTTPError) as error:
                # tornado's 599 is its own: no answer.
                if isinstance(error, HTTPError) and error.code < 500:
                    raise
                failed = error
            else:
                # Whoever answered is asked first from now on: one that is away costs a second.
                nodes.sort(key=lambda one: one != node)
                return response
        raise failed

    @functools.wraps(fetch)
    def fetch_from_any(self: AsyncHTTPClient, request: Any, *arguments: Any, **options: Any) -> Any:
        if arguments or not isinstance(request, str) or not request.startswith(known):
            return fetch(self, request, *arguments, **options)
        return ask(self, request[len(known) :], options)

    AsyncHTTPClient.fetch = fetch_from_any


def _ask_every_sentinel() -> None:
    """Have the broker page ask all Sentinels: Flower asks the first one alone (flower/utils/broker.py, 2.2.0)."""
    addresses = [urlsplit(address) for address in os.environ.get("CELERY_BROKER_URL", "").split(";")]
    if addresses[0].scheme.lower() != "sentinel":
        return
    # It imports redis-py, which another broker has no need of.
    from flower.utils.broker import RedisSentinel
    from redis.asyncio import Redis

    own = RedisSentinel._get_redis_client

    @functools.wraps(own)
    def _get_redis_client(self: RedisSentinel, *arguments: Any) -> Any:
        client = own(self, *arguments)
        asking = client.connection_pool.sentinel_manager
        asking.sentinels += [
            Redis(host=one.hostname, port=one.port or 26379, **asking.sentinel_kwargs) for one in addresses[1:]
        ]
        return client

    RedisSentinel._get_redis_client = _get_redis_client


def _notify(message: str) -> None:
    """Tell systemd (sd_notify(3)); nothing happens when it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # Flower must not stop because systemd does not listen.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
    ):
        connection.sendto(message.encode(), address)


def _report() -> None:
    """Report readiness from inside the main loop, which runs once the port is open; then report that the loop lives."""
    IOLoop.current().add_callback(_notify, "READY=1\nSTATUS=serving")
    watchdog = int(os.environ.get("WATCHDOG_USEC") or 0) / 1000
    if watchdog:
        PeriodicCallback(lambda: _notify("WATCHDOG=1"), watchdog / 4).start()


_protect()
_declare_no_exchange()
_ask_a_node_that_answers()
_ask_every_sentinel()
_report()
