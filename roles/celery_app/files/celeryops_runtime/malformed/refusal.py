# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks each message before Celery takes it, and dead-letters those that no worker can run."""

from __future__ import annotations

import json
import logging
import pickle
import struct
from typing import TYPE_CHECKING, Any

from celery import bootsteps, signals
from celery.worker import state

from celeryops_runtime.malformed.flaws import flaw, shown, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("celeryops.runtime")

REDIS_DEAD_LETTERS = "dead-letters"
"""The list in Redis, behind the app's prefix; ``LRANGE`` shows it."""

BLAMED = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    pickle.PicklingError,
    struct.error,
)
"""What code raises that trips over a value. A lost connection, a full disk or memory is no message's fault."""


class Refusal:
    """Stands between the consumers of one worker and Celery's handling of what they receive."""

    def __init__(self, consumer: Any) -> None:
        """Put itself in front of the consumer's methods; Celery binds them when it connects.

        :param consumer: the worker's consumer, not started yet.
        """
        self.consumer = consumer
        controller = consumer.controller
        own = controller._process_task
        self._process = own
        self._unknown_task = consumer.on_unknown_task
        self._create_task_handler = consumer.create_task_handler
        consumer.create_task_handler = self.create_task_handler
        consumer.on_decode_error = self.on_decode_error
        consumer.on_unknown_message = self.on_unknown_message
        consumer.on_invalid_task = self.on_invalid_task
        consumer.on_unknown_task = self.on_unknown_task
        # Remote control has the event loop call these, where an error ends the worker.
        self._add_task_queue, self._cancel_task_queue = consumer.add_task_queue, consumer.cancel_task_queue
        consumer.add_task_queue, consumer.cancel_task_queue = self.add_task_queue, self.cancel_task_queue
        # Where a semaphore counts the pool's processes it calls this one later, else the consumer does at once
        # (celery/worker/components.py, Pool.create, 5.7.0).
        controller._process_task = self.start
        if consumer.on_task_request == own:
            consumer.on_task_request = self.start

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Make the callback for the messages of tasks; arguments are Celery's own."""
        take = self._create_task_handler(*args, **kwargs)
        return lambda message: self.take(take, message)

    def take(self, take: Callable[[Any], Any], message: Any) -> None:
        """Give a message to Celery, or refuse it.

        :param take: Celery's own callback.
        :param message: kombu's message.
        """
        try:
            payload = message.payload
        except MemoryError:
            raise
        except Exception as exc:
            self.refuse(message, unreadable(exc), exc)
            return
        problem = flaw(message.headers, payload)
        if problem:
            self.refuse(message, problem)
            return
        try:
            take(message)
        except BLAMED as exc:
            self.refuse(message, f"Celery cannot take it ({type(exc).__name__})", exc)

    def start(self, request: Any) -> None:
        """Give a task to the pool, or refuse its message.

        :param request: Celery's request.
        """
        try:
            self._process(request)
        except BLAMED as exc:
            release = getattr(self.consumer.controller, "_quick_release", None)
            if release is not None:
                release()
            state.task_ready(request)
            self.refuse(request.message, f"no process can be given it ({type(exc).__name__})", exc)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Refuse what kombu could not decompress or decode."""
        self.refuse(message, unreadable(exc), exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Refuse what is no task."""
        del body
        self.refuse(message, "it names no task")

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Refuse what Celery itself found to be wrong."""
        del body
        self.refuse(message, f"Celery cannot take it ({type(exc).__name__})", exc)

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Let Celery refuse a task that this app does not have, which it tells whoever waits for the result."""
        self._keep(message)
        self._unknown_task(body, message, exc)

    def add_task_queue(
        self, queue: Any, exchange: Any = None, exchange_type: Any = None, routing_key: Any = None, **options: Any
    ) -> None:
        """Consume from a queue as remote control asks for, or tell why not.

        What cannot be declared would be declared again at each connection, and no worker would ever consume anything.
        So a queue that is new here is tried on a channel of its own, and forgotten if that fails.

        :param queue: its name.
        :param exchange: its exchange's name; the queue's, if not given.
        :param exchange_type: ``direct`` if not given.
        :param routing_key: the queue's name if not given.
        :param options: for kombu's queue.
        """
        connection = self.consumer.connection
        queues = self.consumer.app.amqp.queues
        new = False
        try:
            new = queue not in queues
            if new:
                # Selected, or a worker with queues of its own forgets it at the next connection.
                queues.select_add(
                    queue,
                    exchange=queue if exchange is None else exchange,
                    exchange_type=exchange_type or "direct",
                    routing_key=routing_key,
                    **options,
                )
                with connection.channel() as channel:
                    queues[queue](channel).declare()
            self._add_task_queue(queue)
        except Exception as exc:
            if new:
                queues.deselect(queue)
                queues.pop(queue, None)
            if not isinstance(exc, (*BLAMED, *connection.channel_errors)):
                raise
            logger.error("remote control: not consuming from %s (%s: %s)", shown(queue), type(exc).__name__, exc)

    def cancel_task_queue(self, queue: Any) -> None:
        """Consume no more from a queue as remote control asks for.

        :param queue: its name.
        """
        try:
            self._cancel_task_queue(queue)
        except BLAMED as exc:
            logger.error("remote control: %s is no queue (%s)", shown(queue), type(exc).__name__)

    def refuse(self, message: Any, reason: str, exc: BaseException | None = None) -> None:
        """Send a message to the dead letters.

        :param message: kombu's message. One of a broadcast, which nobody acknowledges, is only left out.
        :param reason: for the log, without the message's content.
        :param exc: what was raised, for those who listen to Celery's signal ``task_rejected``.
        """
        if message.acknowledged:
            return
        broadcast = _needs_no_answer(message)
        logger.error(
            "message refused, %s: queue %s, id %s, task %s: %s",
            "and left out" if broadcast else "to the dead letters",
            shown(self._queue(message)),
            *self._names(message),
            reason,
        )
        logger.debug("the refused message", exc_info=exc)
        if broadcast:
            return
        self._keep(message)
        message.reject_log_error(logger, self.consumer.connection_errors)
        signals.task_rejected.send(sender=self.consumer, message=message, exc=exc)

    def _keep(self, message: Any) -> None:
        """Put a message on the list of the dead, where the broker would drop it."""
        channel, raw = message.channel, getattr(message, "_raw", None)
        if raw is None or not hasattr(channel, "conn_or_acquire") or message.acknowledged:
            return
        with channel.conn_or_acquire() as client:
            client.lpush(REDIS_DEAD_LETTERS, json.dumps(raw, default=repr))

    def _queue(self, message: Any) -> object:
        info = message.delivery_info or {}
        tags = getattr(self.consumer.task_consumer, "_active_tags", None) or {}
        for queue, tag in tags.items():
            if tag == info.get("consumer_tag"):
                return queue
        return info.get("routing_key")

    @staticmethod
    def _names(message: Any) -> tuple[str, str]:
        values = message.headers
        payload = message._decoded_cache
        if values.get("task") is None and isinstance(payload, dict):
            values = payload
        return shown(values.get("id")), shown(values.get("task"))


def _needs_no_answer(message: Any) -> bool:
    """Tell whether a message came through a consumer that does not acknowledge."""
    delivered = getattr(getattr(message.channel, "qos", None), "_delivered", None)
    if delivered is not None:
        # kombu's own queues (Redis) keep what is to be acknowledged, and no list of consumers.
        return message.delivery_tag not in delivered
    tags = getattr(message.channel, "no_ack_consumers", None)
    return bool(tags and (message.delivery_info or {}).get("consumer_tag") in tags)


class Malformed(bootsteps.Step):  # type: ignore[misc]  # Celery has no type information
    """A step of the consumer without a start: it is made when the worker is, before anything is received."""

    label = "malformed"

    def __init__(self, c: Any, **kwargs: Any) -> None:
        """Put :class:`Refusal` in its place.

        :param c: the consumer.
        :param kwargs: the worker's options.
        """
        super().__init__(c, **kwargs)
        try:
            self.refusal = Refusal(c)
        except AttributeError:
            logger.warning("malformed messages are left to Celery: this version is not known", exc_info=True)
