# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Detects a worker that looks idle but receives no messages.

A worker's loop may turn, its connection be open and its node answer, while the broker sends it nothing: Redis' BRPOP
not issued again after a reconnect (celery/celery issues 10205, 10302, 10502), a consumer that the broker has forgotten.
From inside it looks like having no work. So a worker that has had nothing to do for a while asks the broker how many
messages its queues hold, one cheap question per queue. Messages that wait twice in a row, with room for them here and
none of them arriving in between, prove that it does not consume.

Nothing is asked while there is work, and nothing is concluded from a broker that does not answer. Work is what a
process does, or will begin with soon: messages that were taken long ago, with no process busy and none of them begun,
are a hang as well.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from celery.worker import state

from celeryops_runtime import publish
from celeryops_runtime.probe import ready
from celeryops_runtime.versions import scheduled

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("celeryops.runtime")

SHORTEST_SECONDS = 5.0
"""Between two questions, at least."""

ANSWER_SECONDS = 5.0
"""How long RabbitMQ may take to tell a queue's size."""

STUCK_SECONDS = 120.0
"""For how long what was taken may wait for a process while none is busy, at least: a process of the pool that starts
anew imports the app first."""


def one_consumer_gets_all_of(queue: Any) -> bool:
    """Tell whether the broker gives a queue's messages to one worker, and to the next when that one stops consuming.

    https://www.rabbitmq.com/docs/consumers#single-active-consumer

    :param queue: kombu's queue.
    """
    return bool((queue.queue_arguments or {}).get("x-single-active-consumer"))


class Intake:
    """Looks from time to time, from inside the event loop."""

    def __init__(self, watchdog: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a worker of which nothing is known.

        :param watchdog: WatchdogSec= in seconds; half of it passes between two questions. 0.0 if there is none: then
            nothing is asked, since nobody would act on the answer.
        :param clock: seconds that never run backwards.
        """
        self.starved = False
        self._interval = max(watchdog / 2, SHORTEST_SECONDS)
        self._watchdog = watchdog
        self._clock = clock
        self._next = clock() + self._interval
        self._seen = -1
        self._suspect = False
        self._channel: Any = None
        self._patience = max(2 * watchdog, STUCK_SECONDS)
        self._stuck_since: float | None = None
        self._stuck = False

    def reset(self) -> None:
        """Forget what was seen: the connection is new."""
        self.starved = self._suspect = self._stuck = False
        self._stuck_since = None
        self._channel = None
        self._next = self._clock() + self._interval

    def look(self, consumer: Any) -> bool:
        """Ask, if it is time to and the worker is idle.

        :param consumer: the worker's consumer, connected.
        :returns: whether the worker is :attr:`starved`, that is: it does not get what it waits for.
        """
        if not self._watchdog or self._clock() < self._next:
            return self.starved
        self._next = self._clock() + self._interval
        received = sum(tuple(state.total_count.values()))
        arrived, self._seen = received != self._seen, received
        if self._is_stuck(arrived=arrived):
            self.starved = True
            return True
        if arrived or _holds_any(consumer):
            self.starved = self._suspect = False
            return False
        waiting = self._waiting(consumer)
        if waiting and self._suspect and not self.starved:
            shown = ", ".join(f"{size} in {name}" for name, size in sorted(waiting.items()))
            logger.error("consuming nothing although messages wait (%s): this worker has to be restarted", shown)
        self.starved = bool(waiting) and self._suspect
        self._suspect = bool(waiting)
        return self.starved

    def _is_stuck(self, *, arrived: bool) -> bool:
        """Tell whether messages have been taken for long, of which no process does any."""
        # What waits for its ETA or its rate is not reserved; what runs is active as well.
        waiting = len(state.reserved_requests)
        if arrived or not waiting or state.active_requests:
            self._stuck_since, self._stuck = None, False
            return False
        now = self._clock()
        if self._stuck_since is None:
            self._stuck_since = now
        if now - self._stuck_since >= self._patience and not self._stuck:
            self._stuck = True
            logger.error(
                "%d messages were taken, and for %.0f s no process has begun with any: this worker has to be restarted",
                waiting,
                now - self._stuck_since,
            )
        return self._stuck

    def _waiting(self, consumer: Any) -> dict[str, int]:
        """Return the sizes of the queues that hold messages; those after one that cannot be told are left out."""
        waiting = {}
        for name in _queues(consumer):
            # A broker that does not answer holds the loop once, not once per queue.
            with publish.within(ANSWER_SECONDS):
                size = self._size(consumer, name)
            if size is None:
                break
            if size > 0:
                waiting[name] = size
        return waiting

    def _size(self, consumer: Any, queue: str) -> int | None:
        """Return how many messages of a queue are ready; None if that cannot be told."""
        try:
            if consumer.connection.transport.driver_type == "redis":
                # No error closes a channel there.
                return ready(consumer.connection.default_channel, queue)
            if self._channel is None:
                # Its own: an error of RabbitMQ closes the channel on which it happens, with all consumers on it.
                self._channel = consumer.connection.channel()
            return ready(self._channel, queue)
        except Exception:
            logger.debug("the size of the queue %s cannot be told", queue, exc_info=True)
            self._channel = None
            return None


def _holds_any(consumer: Any) -> bool:
    """Tell whether the worker has messages that it has not done, which may be all that it is allowed to have."""
    limited = any(bucket and bucket.contents for bucket in consumer.task_buckets.values())
    return bool(state.reserved_requests or limited or next(scheduled(consumer), None))


def _queues(consumer: Any) -> list[str]:
    """Return the queues whose messages this worker has to get."""
    return sorted(queue.name for queue in consumer.task_consumer.queues if not one_consumer_gets_all_of(queue))
