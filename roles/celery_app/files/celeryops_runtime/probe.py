# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""A task that every worker has, to verify that a queue has a worker and that an answer comes back.

:func:`install` registers it in the worker, :func:`ask` sends one through each queue and waits. The answer does not go
through the result backend, which an app may not have, and which rules about its tasks may keep silent: the sender has a
queue of its own for as long as it waits, and the worker sends the answer there.

It is no task of the app: its name begins with ``celeryops.``, as no rule about tasks means it and no list names it.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.app.task import Task
from kombu import Queue

from celeryops_runtime.report import release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = "celeryops.probe"

PREFIX = "celeryops.probe."
"""Begins the name of every sender's own queue; an answer goes nowhere else."""


class Probe(Task):  # type: ignore[misc]  # Celery has no type information
    """Answers to whoever asked."""

    name = NAME
    ignore_result = True
    store_errors_even_if_ignored = False
    typing = True

    def run(self, reply: str, queue: str) -> None:
        """Send the answer: the queue, this node, its process and its release.

        :param reply: the sender's own queue.
        :param queue: the queue that the question went through.
        :raises ValueError: if ``reply`` is not the name of such a queue.
        """
        if not reply.startswith(PREFIX):
            raise ValueError(f"{reply!r} is not a queue of a probe")
        answer = {"queue": queue, "node": self.request.hostname, "pid": os.getpid(), "release": release()}
        with self.app.producer_or_acquire(None) as producer:
            # The default exchange of AMQP leads to every queue by its name; kombu does the same for Redis.
            producer.publish(answer, exchange="", routing_key=reply, serializer="json", delivery_mode=1, retry=True)


def install(app: Any) -> None:
    """Register the task in an app.

    :param app: the worker's app, finalized or not. A process of the pool comes here again, with what it inherited.
    """
    if NAME not in app.tasks:
        app.register_task(Probe())


def ask(
    app: Any, queues: Sequence[str], timeout: float, clock: Callable[[], float] = time.monotonic
) -> dict[str, dict[str, Any]]:
    """Send a probe through each queue and wait for the answers.

    :param app: an app with the shared configuration.
    :param queues: their names.
    :param timeout: seconds to wait for all of them.
    :param clock: seconds that never run backwards.
    :returns: queue -> its first answer (``node``, ``pid``, ``release``, ``seconds``), or, for a queue without one,
        ``waiting``: how many messages are in it, the probe among them if no worker has taken it yet.
    """
    found: dict[str, dict[str, Any]] = {}
    name = PREFIX + uuid.uuid4().hex
    began = clock()

    def heard(body: Any, message: Any) -> None:
        del message
        if isinstance(body, dict) and body.get("queue") in queues:
            found.setdefault(body["queue"], {**body, "seconds": round(clock() - began, 3)})

    with app.connection_for_read() as connection:
        channel = connection.default_channel
        reply = Queue(name, exchange="", routing_key=name, exclusive=True, auto_delete=True, durable=False)
        with connection.Consumer([reply(channel)], callbacks=[heard], accept=["json"], no_ack=True, channel=channel):
            # What nobody took in time nobody needs any more: a worker that gets it later is done with it. By its header
            # alone, since the broker takes a message whose own time is over for a dead letter.
            expires = (datetime.now(UTC) + timedelta(seconds=timeout)).isoformat()
            for queue in queues:
                asked = {"reply": name, "queue": queue}
                app.send_task(NAME, kwargs=asked, queue=queue, ignore_result=True, headers={"expires": expires})
            while len(found) < len(queues) and (left := timeout - (clock() - began)) > 0:
                try:
                    connection.drain_events(timeout=min(left, 1.0))
                except (TimeoutError, socket.timeout):  # noqa: UP041 (two classes in Python 3.9)
                    continue
        for queue in queues:
            if queue not in found:
                found[queue] = {"waiting": ready(connection.default_channel, queue)}
    return found


def ready(channel: Any, queue: str) -> int:
    """Ask the broker how many messages of a queue nobody has taken.

    :param channel: kombu's, of any transport.
    :param queue: its name.
    :returns: their number.
    """
    # Where kombu itself keeps the queues (Redis) it has a method for it. Declared passively, one is looked for
    # without its app's prefix (kombu/transport/redis.py, ``_has_queue``, 5.7.0), which the account may not do.
    size = getattr(channel, "_size", None)
    return int(size(queue) if size is not None else channel.queue_declare(queue, passive=True).message_count)
