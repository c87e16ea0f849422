# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""``backlog``: count the messages that wait in queues, without consuming any."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from celeryops_runtime.commands import add_command
from celeryops_runtime.commands.broker import asked_app
from celeryops_runtime.config_reader import load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from celeryops_runtime.config import SharedConfig


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
    from celeryops_runtime.backlog import taken, waiting

    names = list(queues or [queue.name for queue in config.queues])
    if not queues and config.broker == "rabbitmq":
        from celeryops_runtime.topology import topology

        names += topology(config).queues
    with asked_app(environ) as app:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, reraise_as_library_errors=False)
            found = waiting(connection, names)
        # One with messages is an answer already.
        if with_taken and not any(found.values()):
            found |= taken(app, names)
    full = {name: number for name, number in found.items() if number}
    lines = [f"{name}: {number}" for name, number in sorted(full.items())]
    return {"waiting": found, "message": f"{sum(full.values())} messages wait", "lines": lines}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    says = "count the messages that wait in queues, and take none"
    parser = add_command(commands, "backlog", says, "Reads CELERY_BROKER_URL from the environment.")
    parser.add_argument("--queue", action="append", default=[], metavar="NAME", help="only this queue (repeatable)")
    parser.add_argument("--taken", action="store_true", help="also what workers have taken from them and not begun")
    parser.set_defaults(run=lambda a: backlog(load(a.config), os.environ, queues=a.queue, with_taken=a.taken))
    return parser
