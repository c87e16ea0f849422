"""Mends a countdown or ETA of less than one second on RabbitMQ with native delayed delivery.

Celery 5.7.0 (celery/app/base.py, ``send_task``) truncates the remaining seconds and asks kombu for a routing key with
``calculate_routing_key(int(countdown), key)``; kombu 5.7.0 (kombu/transport/native_delayed_delivery.py) raises
``ValueError: countdown must be a positive number`` for 0. So ``apply_async(countdown=0.5)`` and
``self.retry(countdown=0.5)`` fail in the producer. A key of 28 zeros is what the topology means by "no delay": every
level's ``0`` binding hands the message down and the delivery exchange routes it at once. The worker then holds the
task for the fraction, as it does with the fraction of every other ETA.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["mend", "with_zero"]

_lock = threading.Lock()


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
