# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""systemd's notification protocol with the standard library, and what is told through it.

The protocol: sd_notify(3), a datagram of ``NAME=value`` lines to the socket in ``$NOTIFY_SOCKET``. Nothing here may
harm the process that it reports on: every error is swallowed, and without the socket nothing happens at all.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

__all__ = ["Liveness", "announce_beat", "announce_worker", "notify", "watchdog_seconds"]

RECONNECT_SECONDS = 300.0
"""How long reconnecting may show no sign of progress before a worker counts as hung. Celery waits at most 32 s between
two attempts (kombu ``ensure_connection``: interval_max 30 s), and counts each."""


def notify(*lines: str, environ: Mapping[str, str] | None = None) -> bool:
    """Send one message to systemd.

    :param lines: ``NAME=value`` each, without a line break.
    :param environ: the environment; the process's own if not given.
    :returns: whether it was sent: False without ``NOTIFY_SOCKET``, or if the socket does not take it within 1 s.
    """
    address = (environ if environ is not None else os.environ).get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"} or not lines:
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(1.0)
            sock.sendto("\n".join(lines).encode("utf-8", "replace"), address)
    except OSError:
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] | None = None, pid: int | None = None) -> float:
    """How often systemd wants to hear from this process (sd_watchdog_enabled(3)).

    :param environ: the environment; the process's own if not given.
    :param pid: the process's id; asked from the system if not given.
    :returns: the unit's WatchdogSec= in seconds, 0.0 if there is none or it is meant for another process.
    """
    env = environ if environ is not None else os.environ
    try:
        owner = env.get("WATCHDOG_PID")
        if owner and int(owner) != (os.getpid() if pid is None else pid):
            return 0.0
        return max(0.0, int(env.get("WATCHDOG_USEC") or 0) / 1e6)
    except ValueError:
        return 0.0


class Liveness:
    """What is known of a worker's life, and whether systemd may believe in it. No I/O, no threads."""

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


def announce_worker(app: Any) -> None:
    """Make the worker that starts in this process tell systemd when it consumes, and that it lives.

    :param app: the worker's app; the step is added to its consumer. Nothing happens outside a unit with Type=notify.
    """
    if os.environ.get("NOTIFY_SOCKET"):
        from celeryops_runtime import readiness

        readiness.install(app)


def announce_beat() -> None:
    """Make beat tell systemd when its scheduler is loaded. Nothing happens outside a unit with Type=notify.

    Beat inside a worker (``-B``) is not announced: there the worker reports. A worker sends ``worker_init`` before
    anything of it starts; beat alone never does (celery/worker/worker.py and celery/apps/beat.py, 5.7.0).
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    from celery.signals import beat_init, worker_init

    workers: list[int] = []

    def worker(**_signal: Any) -> None:
        workers.append(os.getpid())

    def ready(**_signal: Any) -> None:
        if not workers:
            notify("READY=1", "STATUS=scheduling")

    worker_init.connect(worker, weak=False, dispatch_uid="celeryops_runtime.worker_init")
    beat_init.connect(ready, weak=False, dispatch_uid="celeryops_runtime.beat_init")
