"""Mends two faults of Celery's native delayed delivery on RabbitMQ.

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
"""

from __future__ import annotations

import functools
import re
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["KeepQueue", "mend", "with_zero"]

_lock = threading.Lock()

# MAX_NUMBER_OF_BITS_TO_USE in kombu/transport/native_delayed_delivery.py, 5.7.0.
_DELAY_PREFIX = re.compile(r"^(?:[01]\.){28}")


def with_zero(calculate: Callable[..., str]) -> Callable[..., str]:
    """Wrap kombu's ``calculate_routing_key`` so that it accepts a countdown of 0.

    :param calculate: the original: ``(countdown in whole seconds, routing key) -> delayed routing key``.
    :returns: a function that gives what the original gives, and for a countdown of 0, where the original raises
        ValueError, the key that passes all levels without waiting. Every other error is the original's.
    """

    @functools.wraps(calculate)
    def calculate_routing_key(countdown: int, routing_key: str, *args: Any, **kwargs: Any) -> str:
        try:
            return calculate(countdown, routing_key, *args, **kwargs)
        except ValueError:
            if countdown != 0 or not routing_key:
                raise
        # Kombu's own answer for one second, with the lowest bit cleared: the number of levels and the removal of an
        # earlier prefix (a retry of a delayed task) stay kombu's business.
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
        queue = _DELAY_PREFIX.sub("", key, count=1)
        return {"queue": queue} if queue in self._queues else None

    def __repr__(self) -> str:
        """Name it in ``celery inspect conf``."""
        return "<keep the queue of the routing key>"
