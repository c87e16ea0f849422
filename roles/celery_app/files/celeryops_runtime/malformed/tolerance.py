# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes kombu, py-amqp and Celery's loop tolerate messages until the worker can refuse them."""

from __future__ import annotations

import logging
from typing import Any

from celery.worker import loops

from celeryops_runtime.around import around, run_each
from celeryops_runtime.malformed import decompression, redis_lists

logger = logging.getLogger("celeryops.runtime")

LATEST = 2**53
"""What a logical clock counts to, at most: it is one more with each message."""


def _mend_amqp() -> None:
    """Let a message arrive whose properties py-amqp cannot read; it ends the connection otherwise, twenty times."""
    from amqp.basic_message import Message

    @around(Message, "_load_properties")
    def _load_properties(own: Any, self: Any, class_id: int, buf: bytes, offset: int) -> None:
        try:
            own(self, class_id, buf, offset)
        except Exception:
            logger.debug("a message's properties cannot be read", exc_info=True)
            self.properties = {}


def _mend_loop() -> None:
    """Let Celery's first look at a new connection raise what it meets, as each later one does."""
    if not hasattr(loops, "_quick_drain"):
        return

    @around(loops, "_quick_drain")
    def _quick_drain(_own: Any, connection: Any, timeout: float = 0.1) -> None:
        try:
            connection.drain_events(timeout=timeout)
        except (TimeoutError, BlockingIOError):
            return


def _mend_broadcasts() -> None:
    """Keep what other processes broadcast from ending this one."""
    from celery.worker.consumer.gossip import Gossip

    @around(Gossip, "on_message")
    def on_message(own: Any, self: Any, prepare: Any, message: Any) -> Any:
        try:
            return own(self, prepare, message)
        except (MemoryError, OSError):
            raise
        except Exception as exc:
            logger.warning("an event that cannot be read was left out: %s", type(exc).__name__)
            return None


def _mend_clock() -> None:
    """Let no other process set this one's logical clock to what fits into no answer (64 bits in AMQP's headers)."""
    from kombu.clocks import LamportClock

    @around(LamportClock, "adjust")
    def adjust(own: Any, self: Any, other: Any) -> Any:
        return own(self, other if isinstance(other, int) and 0 <= other < LATEST else 0)


def mend() -> None:
    """Change kombu, py-amqp and Celery in this process. Calling it again changes nothing more."""
    run_each((decompression.mend, _mend_amqp, redis_lists.mend, _mend_loop, _mend_broadcasts, _mend_clock))
