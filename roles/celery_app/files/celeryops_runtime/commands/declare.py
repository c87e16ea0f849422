# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""``declare``: declare the app's objects on RabbitMQ."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from celeryops_runtime.commands import REFUSED, USAGE, Failure, add_command
from celeryops_runtime.config_reader import load
from celeryops_runtime.urls import addresses, server

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from celeryops_runtime.config import SharedConfig

_CONNECT = {"read_timeout", "write_timeout", "login_method", "client_properties", "socket_settings"}


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


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    says = "declare the app's exchange, queues and delayed delivery on RabbitMQ"
    parser = add_command(
        commands, "declare", says, "Declares what is missing. Reads CELERY_BROKER_URL from the environment."
    )
    parser.add_argument("--check", action="store_true", help="only report what is missing")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="for connecting (default: 10)")
    parser.set_defaults(run=lambda a: declare(load(a.config), os.environ, check=a.check, timeout=a.timeout))
    return parser
