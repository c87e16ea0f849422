# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The worker's boot step for systemd: READY=1, STATUS=, WATCHDOG=1 and STOPPING=1.

READY=1 is sent from inside the event loop, that is after the broker confirmed the consumers
(celery/worker/loops.py, 5.7.0: ``consumer.consume()`` comes before the first turn of the loop).

Who pings the watchdog: the event loop itself wherever that is possible, so that a loop that hangs falls silent.

===================================  ==========================================================================
pool                                 ping
===================================  ==========================================================================
prefork, threads (with kombu's hub)  a timer of the hub; no thread, so that the pool never forks beside one
gevent, eventlet, Redis without hub  a thread asks the loop to answer through ``Consumer.call_soon``
solo                                 a thread; while a task runs the loop cannot answer, and need not
any, while reconnecting or leaving   a thread, because no loop runs; it ends when the worker consumes again
===================================  ==========================================================================

A loop that turns and gets nothing although messages wait is no sign of life either (:mod:`celeryops_runtime.intake`).
With each ping the worker's report is brought up to date (:mod:`celeryops_runtime.report`).
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.signals import worker_shutting_down
from celery.worker import state

from celeryops_runtime import prefetch, versions
from celeryops_runtime.drain import Drain, stop_seconds
from celeryops_runtime.intake import Intake
from celeryops_runtime.liveness import Liveness
from celeryops_runtime.report import Report
from celeryops_runtime.systemd import notify, watchdog_seconds
from celeryops_runtime.wording import some_of

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("celeryops.runtime")


def _harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Keep an error in here from reaching the worker: it is logged instead."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            logger.warning("reporting to systemd failed in %s; the worker goes on", method.__name__, exc_info=True)

    return guarded


class Readiness(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no type information
    """A step of the consumer: started at each connection to the broker, stopped when it is lost or given up."""

    label = "systemd"
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        """Make the step; Celery does it once per worker.

        :param c: the consumer.
        :param kwargs: the worker's options.
        """
        super().__init__(c, **kwargs)
        self.consumer = c
        versions.count_reconnects(c)
        self.pid = os.getpid()
        watchdog = watchdog_seconds()
        self.liveness = Liveness(watchdog)
        self.report = Report()
        self.intake = Intake(watchdog)
        self._watched = bool(watchdog)
        self._ready = False
        self._asked = False
        self._status = ""
        self._thread: threading.Thread | None = None
        self._stop_thread = threading.Event()
        self.drain = Drain(c, stop_seconds(), self._on_draining, lambda: self.liveness.phase == "consuming")
        self._solo = type(getattr(c, "pool", None)).__module__ == "celery.concurrency.solo"
        self._go_offline_first(c)
        worker_shutting_down.connect(self._on_shutting_down, weak=False, dispatch_uid="celeryops_runtime.worker")
        self._say("STATUS=connecting to the broker")

    def _go_offline_first(self, c: Any) -> None:
        """Have a thread ping before the consumer clears up after a lost connection, which no loop does any more."""
        own = c.on_connection_error_after_connected

        @functools.wraps(own)
        def on_connection_error_after_connected(*arguments: Any, **options: Any) -> Any:
            self.stop(c)
            return own(*arguments, **options)

        c.on_connection_error_after_connected = on_connection_error_after_connected

    @_harmless
    def start(self, c: Any) -> None:
        """Ask the event loop, which starts after all steps, to say when it runs.

        :param c: the consumer, connected, its consumers not yet started.
        """
        self.consumer = self.drain.consumer = c
        self.drain.install()
        c.call_soon(self._on_consuming)

    @_harmless
    def register_with_event_loop(self, c: Any, hub: Any) -> None:
        """Tie the reports to the hub of this connection; its timers end with it.

        :param c: the consumer.
        :param hub: kombu's event loop.
        """
        del c
        hub.timer.call_repeatedly(self.liveness.interval, self._on_hub_tick)
        self.drain.register_with_event_loop(hub)

    @_harmless
    def stop(self, c: Any) -> None:
        """Note that nothing is consumed any more.

        :param c: the consumer; its blueprint still runs if only the connection was lost.
        """
        if c.blueprint.state == bootsteps.RUN:
            if self.liveness.enter("offline"):
                self._write()
                self._say("STATUS=waiting for the broker")
        elif self.liveness.enter("leaving"):
            # No STOPPING=1: the process may be about to replace itself (SIGHUP), which systemd would take for a stop
            # that never ends.
            self._say(f"STATUS=stopping: {len(state.active_requests)} tasks still running")
        self._start_thread()

    @_harmless
    def _on_consuming(self) -> None:
        if not self.consumer.task_consumer:
            return
        if self.drain.active:
            # The connection was lost and came back while the last tasks were running.
            self.drain.consuming()
            return
        if not self.liveness.enter("consuming"):
            return
        self.intake.reset()
        self._status = self.describe()
        self._write()
        self._say(*([] if self._ready else ["READY=1"]), f"STATUS={self._status}")
        self._ready = True
        if self._loop_reports:
            self._end_thread()
        else:
            self._start_thread()

    @property
    def _loop_reports(self) -> bool:
        return self.consumer.hub is not None and not self._solo

    @_harmless
    def _on_hub_tick(self) -> None:
        self.liveness.tick()
        self._look()
        if self._loop_reports and self.liveness.phase in {"consuming", "draining"}:
            self._report()

    def _look(self) -> None:
        if self.liveness.phase == "consuming":
            self.intake.look(self.consumer)

    @_harmless
    def _on_draining(self) -> None:
        if self.liveness.enter("draining"):
            self._write()
            self._say("STOPPING=1")
            self._say_what_is_left()

    def _say_what_is_left(self) -> None:
        running = len(state.reserved_requests)
        if (status := f"draining: {running} tasks still running") != self._status:
            self._status = status
            self._say(f"STATUS={status}")

    def _report(self) -> None:
        self._write()
        if self._watched and not self.intake.starved:
            self._say("WATCHDOG=1")
        if self.liveness.phase == "draining":
            self._say_what_is_left()
        elif self.liveness.phase == "consuming" and (status := self.describe()) != self._status:
            self._status = status
            self._say(f"STATUS={status}")

    def _write(self) -> None:
        self.report.update(self.consumer, self.liveness.phase, self.liveness.interval)

    def describe(self) -> str:
        """Put the worker's state into one line, from counters that Celery keeps anyway.

        :returns: for example ``consuming payments, mails: 2 active, 3 waiting, 154 done``.
        """
        names = sorted(queue.name for queue in self.consumer.task_consumer.queues)
        shown = some_of(names, 6)
        active = len(state.active_requests)
        waiting = max(0, len(state.reserved_requests) - active)
        if self.intake.starved:
            return f"not consuming {shown}, where messages wait: to be restarted"
        # Celery counts a task when it is accepted, before its first line runs.
        done = max(0, sum(tuple(state.total_count.values())) - active)
        return f"consuming {shown}: {active} active, {waiting} waiting, {done} done"

    @_harmless
    def _on_shutting_down(self, how: str = "", **_signal: Any) -> None:
        if os.getpid() == self.pid and self.liveness.enter("leaving"):
            running = len(state.active_requests)
            self._say("STOPPING=1", f"STATUS=stopping ({how.lower()} shutdown): {running} tasks still running")

    def _start_thread(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop_thread.clear()
        self._asked = False
        self._thread = threading.Thread(target=self._watch, name="celeryops-systemd", daemon=True)
        self._thread.start()

    def _end_thread(self) -> None:
        self._stop_thread.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None

    def _watch(self) -> None:
        while True:
            self._watch_once()
            if self._stop_thread.wait(self.liveness.interval):
                return

    @_harmless
    def _watch_once(self) -> None:
        c = self.consumer
        if self.liveness.phase in {"consuming", "draining"} and c.hub is None and not self._asked:
            self._asked = True
            c.call_soon(self._answer)
        busy = self._solo and bool(state.active_requests)
        progress = (c.restart_count, versions.reconnects(c), c.connection is None)
        if self.liveness.alive(busy=busy, progress=progress):
            self._report()

    def _answer(self) -> None:
        self._asked = False
        self.liveness.tick()
        self._look()

    def _say(self, *lines: str) -> None:
        if lines:
            notify(*lines)


def install(app: Any) -> None:
    """Add the steps to the consumer of the worker that is about to start.

    :param app: the worker's app.
    """
    try:
        app.steps["consumer"].add(Readiness)
        if prefetch.wanted():
            app.steps["consumer"].add(prefetch.Prefetch)
    except Exception:
        logger.warning("reporting to systemd is not possible; the worker goes on", exc_info=True)
