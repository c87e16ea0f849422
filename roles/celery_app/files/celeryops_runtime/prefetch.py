# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The prefetch count of a worker on RabbitMQ: several messages per process while its tasks are short, else one.

Fetching one by one costs a task that does nothing almost half of its speed, and a task of 20 ms next to none. What is
held in advance has a price, though: a worker that the broker cannot reach goes on with it, and each of these tasks runs
again elsewhere. So the app's ``worker_prefetch_multiplier`` is what a worker may take, and it does so only while every
process gets through :data:`FAST` tasks in a second. A class that names a number itself has exactly that.

RabbitMQ applies a consumer's prefetch when it begins to consume (basic.qos with global=false, which quorum queues ask
for; https://www.rabbitmq.com/docs/consumer-prefetch). So a change cancels the consumers and starts them again. What
was delivered before stays with the worker: for a moment it holds one message per process more than said.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker import state

from celeryops_runtime.intake import one_consumer_gets_all_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger("celeryops.runtime")

VARIABLE = "CELERYOPS_PREFETCH"
"""``fixed`` in the unit of a class that has a ``prefetch_multiplier`` of its own."""

FAST = 100.0
"""Tasks that a process begins in a second: with a mean of 10 ms each, fetching them costs more than a tenth."""

SLOW = 50.0
"""Tasks in a second below which a process takes one message again; less than :data:`FAST`, lest it sways."""

LOOK_SECONDS = 1.0


def wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether this worker may choose.

    :param environ: the environment; the process's own if not given.
    :returns: False in the unit of a class that chose itself.
    """
    return (environ if environ is not None else os.environ).get(VARIABLE) != "fixed"


class Prefetch(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no type information
    """A step of the consumer, started at each connection to the broker, before anything is consumed."""

    label = "prefetch"
    requires = ("celery.worker.consumer.tasks:Tasks",)
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        """Make the step; Celery does it once per worker.

        :param c: the consumer.
        :param kwargs: the worker's options.
        """
        super().__init__(c, **kwargs)
        self.several = self.chooses = False
        self._begun = 0
        self._since = 0.0

    def start(self, c: Any) -> None:
        """Begin with one message per process, where there is a choice.

        :param c: the consumer, connected, its consumers not yet started.
        """
        self.several = True
        self.chooses = (
            c.prefetch_multiplier > 1
            and bool(c.qos.value)
            and c.connection.transport.driver_type == "amqp"
            # To leave such a queue for a moment is to hand it to another worker.
            and not any(one_consumer_gets_all_of(queue) for queue in c.task_consumer.queues)
        )
        if self.chooses:
            self._take(c, several=False)
            self._rate(1)

    def register_with_event_loop(self, c: Any, hub: Any) -> None:
        """Look from time to time; the hub's timers end with the connection.

        :param c: the consumer.
        :param hub: kombu's event loop. Pools without one stay with one message per process.
        """
        if self.chooses:
            hub.timer.call_repeatedly(LOOK_SECONDS, self.look, (c,))

    def look(self, c: Any) -> None:
        """Change over if the last second says so.

        :param c: the consumer; one that was cancelled, because the worker is to stop, is left alone.
        """
        rate = self._rate(max(c.pool.num_processes, 1))
        several = rate >= (SLOW if self.several else FAST)
        if several != self.several and any(c.task_consumer.consuming_from(queue) for queue in c.task_consumer.queues):
            self._take(c, several=several)
            c.task_consumer.cancel()
            c.task_consumer.consume()

    def _take(self, c: Any, *, several: bool) -> None:
        """Set what holds for the next consumers; a change by so many, since ETA tasks have a part in the number."""
        self.several = several
        processes = max(c.pool.num_processes, 1)
        more = (c.prefetch_multiplier - 1) * processes
        if several:
            c.qos.increment_eventually(more)
        else:
            c.qos.value = max(c.qos.value - more, processes)
        c.qos.update()
        logger.debug("taking %d messages in advance", c.qos.value)

    def _rate(self, processes: int) -> float:
        """Return how many tasks each process began per second since the last call."""
        now, begun = self.clock(), sum(tuple(state.total_count.values()))
        rate: float = (begun - self._begun) / max(now - self._since, LOOK_SECONDS / 10) / processes
        self._since, self._begun = now, begun
        return rate
