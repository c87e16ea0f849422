# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Lets callers that wait for a result in Redis get it after a restart or outage of Redis.

A process has one subscription for all results that it may ask for (celery/backends/redis.py, ``ResultConsumer``): what
sends a task adds to it, a result that nobody holds any more is taken from it, ``get()`` reads it. Whoever finds its
connection lost makes a new one, asks for what was stored meanwhile, and subscribes to all of it again. If that fails,
Celery 5.4 to 5.7 have no subscription any more and do not come back to it: the next task has one for itself alone, and
``get()`` of the others sleeps for ever beside a result that is there (measured: one ``delay()`` or one garbage
collection while Redis was away is enough). Here

* a subscription that was lost is made again, with all that belongs to it, before the next act upon it;
* the subscription that comes before a task is sent is tried twice, not twenty times (through Sentinels for as long as
  a failover takes); without it the task is not sent,
  nothing is kept of it, and the error is one that callers of ``delay()`` know. Before 5.6 it was redis-py's own, which
  beat, for one, took for the task's fault;
* the end of a subscription, which the garbage collector brings in the midst of anything, is tried twice as well, and
  its failure is nobody's;
* whoever reads tries once at a time, and for as long as Celery does (twenty seconds where the connection is refused).
  5.7 holds a lock while it tries, for which every ``delay()`` of the process waited (measured: 18.5 s; where nothing is
  refused, 220 s);
* the one greenlet that reads for all others (gevent, eventlet) goes on after Redis was away. Before 5.6 it ended
  without a word, and with it every ``get()`` of the process; since then each of them fails until a restart.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celeryops_runtime.around import around

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("celeryops.runtime")

PAUSE_SECONDS = 1.0
"""Between two tries of who reads."""

FAILOVER_TRIES = 15
"""Of the subscription that comes before a task, one a second, where Sentinels choose another server meanwhile: it took
up to nine seconds (Redis 8.0.2)."""

TRIES = 20
"""Of who reads, if that is no greenlet for all (celery/backends/base.py, ``retry_policy``, 5.4 to 5.7)."""

_MARK = "__celeryops_awaiting__"
_here = threading.local()


@contextmanager
def _retried(times: int) -> Iterator[None]:
    """Let what is done in here be tried again no more often than so."""
    before = getattr(_here, "retries", None)
    _here.retries = times if before is None else min(before, times)
    try:
        yield
    finally:
        _here.retries = before


def _lost(consumer: Any) -> tuple[type[BaseException], ...]:
    """Name the errors of a connection that cannot be made again; from 5.6 on Celery has one of its own."""
    return (RuntimeError, *consumer._connection_errors)


def _subscribe_again(consumer: Any) -> None:
    if consumer._pubsub is None and consumer.subscribed_to:
        consumer._ensure(consumer._reconnect_pubsub, ())


def mend(not_sent: type[Exception]) -> None:
    """Change Celery's result backend in this process. Calling it again changes nothing more.

    :param not_sent: the error of a task that is not sent, since the result backend does not take the subscription.
    """
    from celery.backends.asynchronous import greenletDrainer
    from celery.backends.redis import RedisBackend, ResultConsumer, SentinelBackend

    @around(RedisBackend, "ensure", _MARK)
    def ensure(own: Any, self: Any, fun: Any, args: Any, **policy: Any) -> Any:
        retries = getattr(_here, "retries", None)
        if retries is not None:
            policy["max_retries"] = retries
        return own(self, fun, args, **policy)

    @around(RedisBackend, "on_task_call", _MARK)
    def on_task_call(own: Any, self: Any, producer: Any, task_id: str) -> Any:
        subscribed, key = self.result_consumer.subscribed_to, self.get_key_for_task(task_id)
        known = key in subscribed
        try:
            with _retried(FAILOVER_TRIES if isinstance(self, SentinelBackend) else 1):
                return own(self, producer, task_id)
        except (RuntimeError, *self.connection_errors) as exc:
            if not known:
                subscribed.discard(key)
            raise not_sent("not sent: the result backend, which is told first, does not answer") from exc

    @around(ResultConsumer, "consume_from", _MARK)
    def consume_from(own: Any, self: Any, task_id: str) -> Any:
        _subscribe_again(self)
        return own(self, task_id)

    @around(ResultConsumer, "cancel_for", _MARK)
    def cancel_for(own: Any, self: Any, task_id: str) -> None:
        try:
            with _retried(1):
                own(self, task_id)
        except _lost(self) as exc:
            logger.debug("the subscription to the result of %s cannot be ended: %s", task_id, exc)

    @around(ResultConsumer, "drain_events", _MARK)
    def drain_events(own: Any, self: Any, timeout: Any = None) -> Any:
        try:
            with _retried(0):
                _subscribe_again(self)
                found = own(self, timeout=timeout)
        except _lost(self) as exc:
            _here.failed = getattr(_here, "failed", 0) + 1
            if _here.failed >= TRIES and not isinstance(self.drainer, greenletDrainer):
                _here.failed = 0
                raise
            logger.warning("results cannot be read now, trying again: %s", type(exc).__name__)
            time.sleep(PAUSE_SECONDS)
            # What Celery's loop takes for "nothing came" (``socket.timeout``).
            raise TimeoutError from exc
        _here.failed = 0
        return found
