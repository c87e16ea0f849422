# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixes two bugs of Celery's native delayed delivery on RabbitMQ, and adds it to a Celery without it.

**Less than a second.** Celery 5.7.0 (celery/app/base.py, ``send_task``) truncates the remaining seconds and asks kombu
for a routing key with ``calculate_routing_key(int(countdown), key)``; kombu 5.7.0
(kombu/transport/native_delayed_delivery.py) raises ``ValueError: countdown must be a positive number`` for 0. So
``apply_async(countdown=0.5)`` and ``self.retry(countdown=0.5)`` fail in the producer. A key of 28 zeros is what the
topology means by "no delay": every level's ``0`` binding hands the message down and the delivery exchange routes it at
once. The worker then holds the task for the fraction, as it does with the fraction of every other ETA. See
:func:`mend`.

**A retry that changes queues.** A retry names no queue but carries the exchange and routing key of the delivery
(celery/app/task.py, ``signature_from_request``). The router then adds the queue that the routes name, or the default
queue, and a delayed ``send_task`` takes the routing key of that queue and not the one that was carried: a task that was
sent with ``queue="feeds"`` is retried in the default queue (measured with Celery 5.7.0; without a countdown it stays).
See :class:`KeepQueue`.

**Celery 5.4** leaves tasks with an ETA to the workers, while the kombu that it resolves to (5.5 and newer) knows how
they wait in the broker. See :func:`send_delayed`.
"""

from __future__ import annotations

import functools
import re
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_lock = threading.Lock()

BITS = 28
"""MAX_NUMBER_OF_BITS_TO_USE in kombu/transport/native_delayed_delivery.py, 5.7.0."""

_DELAY_PREFIX = re.compile(rf"^(?:[01]\.){{{BITS}}}")


def queue_of(routing_key: str) -> str:
    """Return the routing key that a message had before it waited in the broker.

    :param routing_key: of a message that was delivered.
    """
    return _DELAY_PREFIX.sub("", routing_key, count=1)


def with_zero(calculate: Callable[..., str]) -> Callable[..., str]:
    """Wrap kombu's ``calculate_routing_key`` so that it accepts a countdown of 0.

    :param calculate: the original: ``(countdown in whole seconds, routing key) -> delayed routing key``.
    :returns: a function that gives what the original gives, and for a countdown of 0, where the original raises
        ValueError, the key that passes all levels without waiting. Every other error is the original's.
    """

    @functools.wraps(calculate)
    def calculate_routing_key(countdown: int, routing_key: str, *args: Any, **kwargs: Any) -> str:
        # As kombu does from 5.6 on: a retry carries the key of its last delivery, which would grow at each.
        routing_key = queue_of(routing_key)
        try:
            return calculate(countdown, routing_key, *args, **kwargs)
        except ValueError:
            if countdown != 0 or not routing_key:
                raise
        # Kombu's own answer for one second, with the lowest bit cleared: the number of levels stays kombu's business.
        bits, one, key = calculate(1, routing_key, *args, **kwargs).partition("1.")
        return f"{bits}{one.replace('1', '0')}{key}"

    calculate_routing_key.__celeryops__ = True  # type: ignore[attr-defined]
    return calculate_routing_key


def mend() -> bool:
    """Put :func:`with_zero` in front of the function that ``send_task`` calls. Calling it again changes nothing.

    :returns: whether ``calculate_routing_key`` is wrapped now; False if this Celery has no such name, in which case
        there is nothing to mend.
    """
    from celery.app import base

    with _lock:
        current = getattr(base, "calculate_routing_key", None)
        if current is None:
            return False
        if not getattr(current, "__celeryops__", False):
            base.calculate_routing_key = with_zero(current)
        return True


def send_delayed(app: Any) -> None:
    """Let an app's tasks with an ETA wait in RabbitMQ, as Celery 5.5 and newer do. Calling it again changes nothing.

    What celery/app/base.py, ``send_task``, 5.7.0, does is done one step later here: the message is finished, and
    goes to the first delay exchange instead of its own. For a direct exchange, and for what lies
    further ahead than kombu can count, the worker holds the task as it did.

    :param app: the app. Nothing of its settings is read before it sends something.
    """
    amqp = app.amqp
    if getattr(amqp.__dict__.get("send_task_message"), "__celeryops__", False):
        return

    @functools.lru_cache(maxsize=1)
    def own() -> Callable[..., Any]:
        sender: Callable[..., Any] = amqp._create_task_sender()
        return sender

    def send_task_message(
        producer: Any, name: str, message: Any, exchange: Any = None, routing_key: Any = None, queue: Any = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        target = amqp.queues[queue] if isinstance(queue, str) else queue
        key = target.routing_key if target is not None else routing_key
        kind = target.exchange.type if target is not None else options.get("exchange_type", "direct")
        seconds = _seconds_ahead(message, app)
        if key and kind != "direct" and 0 < seconds < 2**BITS:
            from kombu import Exchange
            from kombu.transport.native_delayed_delivery import calculate_routing_key, level_name

            routing_key = with_zero(calculate_routing_key)(int(seconds), key)
            exchange, queue = Exchange(level_name(BITS - 1), type="topic"), None
        return own()(producer, name, message, exchange=exchange, routing_key=routing_key, queue=queue, **options)

    send_task_message.__celeryops__ = True  # type: ignore[attr-defined]
    amqp.__dict__["send_task_message"] = send_task_message


def _seconds_ahead(message: Any, app: Any) -> float:
    """Tell how far a message's ETA lies ahead; 0.0 without one. A time without a zone is UTC, as to the worker."""
    from celery.utils.time import maybe_iso8601, maybe_make_aware

    # celery/app/amqp.py: the second protocol has it in the headers, the first in the body.
    fields = message.body if isinstance(message.body, dict) else message.headers
    eta = fields.get("eta")
    seconds: float = (maybe_make_aware(maybe_iso8601(eta)) - app.now()).total_seconds() if eta else 0.0
    return seconds


class KeepQueue:
    """A router for ``task_routes`` that keeps a message in the queue whose routing key it already carries."""

    def __init__(self, exchange: str, queues: Iterable[str]) -> None:
        """Make the router.

        :param exchange: name of the exchange that the queues are bound to.
        :param queues: names of the queues, which are their routing keys too.
        """
        self._exchange = exchange
        self._queues = frozenset(queues)

    def __call__(
        self, name: str, args: Any = None, kwargs: Any = None, options: Mapping[str, Any] | None = None, **_more: Any
    ) -> dict[str, str] | None:
        """Route one call, as Celery's docs/userguide/routing.rst describes a router.

        :param name: the task's name.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments.
        :param options: the options of the call; a queue among them has been decided already.
        :returns: the queue that the options' routing key stands for, or None to ask the routes.
        """
        del name, args, kwargs
        options = options or {}
        key = options.get("routing_key")
        if not key or options.get("queue"):
            return None
        exchange = options.get("exchange")
        exchange = getattr(exchange, "name", exchange) or self._exchange
        if exchange != self._exchange and not exchange.startswith("celery_delayed_"):
            return None
        queue = queue_of(key)
        return {"queue": queue} if queue in self._queues else None

    def __repr__(self) -> str:
        """Name it in ``celery inspect conf``."""
        return "<keep the queue of the routing key>"
