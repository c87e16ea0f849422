# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Decides from a worker's activity whether it is alive. No I/O, no threads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

RECONNECT_SECONDS = 300.0
"""How long reconnecting may show no sign of progress before a worker counts as hung. Celery waits at most 32 s between
two attempts (kombu ``ensure_connection``: interval_max 30 s), and counts each."""


class Liveness:
    """What is known of a worker's life, and whether systemd may believe in it."""

    def __init__(self, watchdog: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a worker that does not consume yet.

        :param watchdog: WatchdogSec= in seconds, 0.0 if there is none.
        :param clock: seconds that never run backwards.
        """
        self._clock = clock
        self._seen = clock()
        self._progress: Hashable = None
        self.phase = "starting"
        #: Seconds between two reports: a quarter of the watchdog's time, at most 10 s.
        self.interval = min(10.0, watchdog / 4) if watchdog else 10.0
        #: Seconds without a sign of the event loop after which the worker counts as hung. Celery's blocking loop waits
        #: up to 2 s for a message (celery/worker/loops.py, synloop, 5.7.0), so never below twice that.
        self.patience = max(watchdog / 2, 4.0)

    def tick(self) -> None:
        """Note that the event loop ran."""
        self._seen = self._clock()

    def enter(self, phase: str) -> bool:
        """Note a change.

        :param phase: ``consuming``, ``offline`` (reconnecting to the broker), ``draining`` (only the last tasks are
            left) or ``leaving`` (shutting down, final).
        :returns: whether this is news; after ``leaving`` nothing is.
        """
        if self.phase in {phase, "leaving"}:
            return False
        self.phase = phase
        self._progress = None
        self._seen = self._clock()
        return True

    def alive(self, *, busy: bool, progress: Hashable) -> bool:
        """Judge.

        :param busy: whether a task is running inside the event loop itself (the solo pool), which then cannot tick.
        :param progress: any value that changes while the worker reconnects.
        :returns: True while consuming or draining if the loop ticked within :attr:`patience` or is busy; while offline
            if there was progress within :data:`RECONNECT_SECONDS`; always while starting or leaving, which systemd
            limits itself (TimeoutStartSec=, TimeoutStopSec=).
        """
        if self.phase in {"consuming", "draining"}:
            if busy:
                self.tick()
            return self._clock() - self._seen < self.patience
        if self.phase == "offline":
            if progress != self._progress:
                self._progress = progress
                self.tick()
            return self._clock() - self._seen < RECONNECT_SECONDS
        return True
