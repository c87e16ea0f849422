# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""``probe``: send a probe through queues, and wait for the answers of workers."""

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
    from celeryops_runtime.probe import ask

    names = list(dict.fromkeys(queues or [queue.name for queue in config.queues]))
    with asked_app(environ) as app:
        answers = ask(app, names, timeout)
    silent = [name for name in names if "node" not in answers[name]]
    lines = [
        f"{name}: {found['node']} answered after {found['seconds']} s, release {found['release']}"
        if "node" in (found := answers[name])
        else f"{name}: no answer within {timeout:g} s, {found['waiting']} messages wait in it"
        for name in names
    ]
    message = f"{len(names) - len(silent)} of {len(names)} queues answered"
    return {"answers": answers, "message": message, "lines": lines}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    says = "send a task through every queue and wait until a worker answered each"
    parser = add_command(commands, "probe", says, "Reads CELERY_BROKER_URL from the environment.")
    parser.add_argument("--queue", action="append", default=[], metavar="NAME", help="only this queue (repeatable)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for all queues (default: 30)")
    parser.set_defaults(run=lambda a: probe(load(a.config), os.environ, queues=a.queue, timeout=a.timeout))
    return parser
