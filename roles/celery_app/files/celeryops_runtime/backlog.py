# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Counts waiting messages on any broker: in queues, and in workers that have taken but not begun them.

No message is taken and nothing is declared. A broker counts what a worker has taken as delivered, although the worker
gives back what it has not begun when it ends. So the workers are asked as well, by a command of remote control that is
the runtime's own: Celery's ``reserved`` leaves out what waits for its rate (``celery/worker/strategy.py``).
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from celeryops_runtime.delay import queue_of
from celeryops_runtime.probe import ready

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

TAKEN = "celeryops_taken"
"""The command, and what its answer is called there."""

ANSWER_SECONDS = 3.0
"""How long the answers of the workers are collected."""

TRIES, PAUSE_SECONDS = 4, 0.5
"""How often a queue is asked that says to have neither messages nor consumers, and what lies in between."""


def waiting(connection: Any, names: Iterable[str]) -> dict[str, int | None]:
    """Count.

    A declaration that is passive asks for a queue and creates none, and RabbitMQ answers with the messages that no
    worker has taken. A quorum queue that does not tell its node within 250 ms counts there as one without messages and
    without consumers (rabbit_quorum_queue.erl, ``stat/2``, 3.10 to 4.3), so that one is asked several times. On Redis
    it is the length of the lists, those of all priorities together.

    :param connection: a connected :class:`kombu.Connection`.
    :param names: of queues.
    :returns: name -> messages; None for a queue that does not exist.
    :raises Exception: whatever the connection raises when it is lost, or the broker when it refuses.
    """
    found: dict[str, int | None] = {}
    left = list(dict.fromkeys(names))
    for again in range(TRIES):
        if again:
            time.sleep(PAUSE_SECONDS)
        left = _ask(connection, left, found)
        if not left:
            break
    return found


def _ask(connection: Any, names: Iterable[str], found: dict[str, int | None]) -> list[str]:
    """Write down the messages of each queue; return the queues that may have been too busy to answer."""
    silent = []
    channel = connection.channel()
    for name in names:
        if hasattr(channel, "_size"):
            # Redis: an empty list is none (`ready` says why it is not declared passively there).
            found[name] = ready(channel, name) or None
            continue
        try:
            answer = channel.queue_declare(queue=name, passive=True)
        except connection.channel_errors as exc:
            # Not to be there is an answer, everything else is none (AMQP 0-9-1, 404).
            if str(getattr(exc, "reply_code", "") or getattr(exc, "code", "")) != "404":
                raise
            found[name] = None
            channel = connection.channel()
            continue
        found[name] = int(answer.message_count)
        if not answer.message_count and not answer.consumer_count:
            silent.append(name)
    return silent


def install() -> None:
    """Let this worker answer what it has taken and not begun. Calling it again changes nothing more."""
    from celery.worker.control import Panel

    told = "Messages that were taken and not begun, by queue."
    Panel.register(name=TAKEN, type="inspect", help=told)(_of_this_worker)


def _of_this_worker(panel: Any) -> dict[str, dict[str, int]]:
    from celery.worker import state

    from celeryops_runtime.versions import scheduled

    held = set(state.reserved_requests) - set(state.active_requests)
    held |= {request for request, _entry in scheduled(panel.consumer)}
    for bucket in panel.consumer.task_buckets.values():
        # A bucket holds (request, tokens) (celery/worker/consumer/consumer.py, bucket_for_task and _limit_task).
        held |= {entry[0] for entry in (bucket.contents if bucket else ())}
    queues = {queue.routing_key or queue.name: queue.name for queue in panel.consumer.task_consumer.queues}
    found: Counter[str] = Counter()
    for request in held:
        key = queue_of((request.delivery_info or {}).get("routing_key") or "")
        found[queues.get(key, key)] += 1
    return {TAKEN: dict(found)}


def taken(app: Any, names: Collection[str], seconds: float = ANSWER_SECONDS) -> dict[str, int]:
    """Count what the workers have taken and not begun. One that does not answer in time is not counted.

    :param app: the app, connected to the broker of the workers.
    :param names: of queues.
    :param seconds: how long to wait for answers; all of that time, since nobody knows how many will answer.
    :returns: name -> messages, of those that have any.
    """
    found: Counter[str] = Counter()
    for reply in app.control.broadcast(TAKEN, reply=True, timeout=seconds) or ():
        for answer in reply.values():
            # A worker of an older release says that it does not know the command.
            own = answer.get(TAKEN) if isinstance(answer, dict) else None
            found.update({name: number for name, number in (own or {}).items() if name in names})
    return dict(found)
