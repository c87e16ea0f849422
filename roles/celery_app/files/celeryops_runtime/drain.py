# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Drains a worker after SIGTERM: it takes nothing new, finishes running tasks, and returns the rest to the queue.

Celery's own warm shutdown leaves its event loop at once and waits for the pool outside of it. A task that ends in that
moment can stay unacknowledged, and runs again (measured with Celery 5.7.0: 6 of 51 restarts under load; none of 36
with this). So the loop goes on here until nothing is left to acknowledge:

1. The consumers are cancelled: the broker sends nothing more.
2. Messages that no process of the pool has begun with (prefetched, limited in their rate, waiting for an ETA) go back
   to their queue, where another worker finds them at once.
3. The tasks that run get the time of the class's ``stop_timeout``, and are acknowledged as ever.
4. Celery's warm shutdown follows, with nothing to do.
5. When the time is up, the processes of the tasks that are acknowledged late are killed, and Celery's cold shutdown
   comes instead: the messages of these tasks go back to their queue. A task that was acknowledged early is lost, and
   named in the log. Celery alone would give the messages back up to 1.6 s before it ends the processes: a task that
   ended in between ran twice.

A probe (:mod:`celeryops_runtime.probe`) that does not end holds no stop: nobody waits for its answer by then. When
nothing else runs for a moment its process is ended, and its message is done with, so that no other worker hangs on it.

Whoever lets a worker go in its own time (``celeryops.stack.restart`` with the mode ``drain``) leaves the seconds in a
file of the unit's RuntimeDirectory= before the signal comes. They hold instead of the class's, and systemd, which would
end the worker after TimeoutStopSec=, is asked for more time while the tasks run (sd_notify(3), EXTEND_TIMEOUT_USEC=).

Only a pool of processes can be made to end (``prefork``). In the others systemd ends the whole worker a little later
(TimeoutStopSec=), and the broker returns what was not acknowledged: RabbitMQ at once, Redis after its visibility
timeout.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.worker import state

from celeryops_runtime import probe
from celeryops_runtime.systemd import notify
from celeryops_runtime.versions import scheduled
from celeryops_runtime.wording import some_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

logger = logging.getLogger("celeryops.runtime")

VARIABLE = "CELERYOPS_STOP_TIMEOUT"
LOOK_SECONDS = 0.1
"""How often the end of the last task is looked for."""

PROBE_SECONDS = 2.0
"""How long a probe may go on when nothing else runs; one that ends takes milliseconds."""

FILE = "drain"
"""The file in the unit's RuntimeDirectory= that gives this one stop more time: seconds, as text."""

EXTENSION = 60.0
"""Seconds that systemd is asked for, and every third of them again; without another word it ends the worker then."""

_NAMED = 20
"""At most so many tasks are named in one message."""


def stop_seconds(environ: Mapping[str, str] | None = None) -> float:
    """How long the tasks that run may go on after SIGTERM.

    :param environ: the environment; the process's own if not given.
    :returns: seconds, 0.0 if nobody said so: then Celery stops as it always does.
    """
    try:
        return max(0.0, float((environ if environ is not None else os.environ).get(VARIABLE) or 0))
    except ValueError:
        return 0.0


def own_time(environ: Mapping[str, str] | None = None) -> float:
    """How long this one stop may take, as whoever asked for it left word.

    :param environ: the environment; the process's own if not given. systemd sets ``RUNTIME_DIRECTORY``
        (systemd.exec(5)).
    :returns: seconds, 0.0 if nobody left word: then the class's ``stop_timeout`` holds.
    """
    directory = (environ if environ is not None else os.environ).get("RUNTIME_DIRECTORY", "").split(":")[0]
    if not directory:
        return 0.0
    try:
        seconds = float(Path(directory, FILE).read_text(encoding="ascii").strip()[:20])
    except (OSError, ValueError):
        return 0.0
    return seconds if 0.0 < seconds < float("inf") else 0.0


class Drain:
    """Stands between SIGTERM and Celery's own handler of it."""

    def __init__(
        self,
        consumer: Any,
        seconds: float,
        began: Callable[[], None],
        turns: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Do nothing yet.

        :param consumer: the worker's consumer.
        :param seconds: how long running tasks may go on.
        :param began: called from the event loop when nothing is consumed any more.
        :param turns: tells whether the event loop turns, so that it hears of the signal.
        :param clock: seconds that never run backwards.
        """
        self.consumer = consumer
        self.seconds = seconds
        self.active = False
        self._began = began
        self._turns = turns
        self._clock = clock
        self._deadline = 0.0
        self._killed = False
        self._over = False
        self._probes_since: float | None = None
        self._extends = False
        self._asked = float("-inf")
        self._pid = os.getpid()
        self._kind = type(getattr(consumer, "pool", None)).__module__.rpartition(".")[2]
        self._wake: tuple[int, int] | None = None
        self._celery: Any = None

    def install(self) -> None:
        """Take over SIGTERM, once the worker starts: Celery installs its own handler right before that.

        (celery/apps/worker.py, ``on_start``, 5.7.0, which comes after the consumer was made.) Until then a stop is
        Celery's, and without anything to lose.
        """
        if self._celery is not None:
            return
        self._celery = signal.getsignal(signal.SIGTERM)
        # The user's own wish for a cold shutdown (REMAP_SIGTERM=SIGQUIT) stays what it is.
        if self.seconds and not os.environ.get("REMAP_SIGTERM") and callable(self._celery):
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def register_with_event_loop(self, hub: Any) -> None:
        """Have the hub wake up when the signal came; its list of readers ends with the connection.

        :param hub: kombu's event loop.
        """
        if self._wake is None:
            self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        hub.add_reader(self._wake[0], self._on_wake)

    def consuming(self) -> None:
        """Note that the worker consumes (again, perhaps): a worker that is to stop does not."""
        if self.active and not self._over:
            self._begin()

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        # A signal may come at any moment, also while a lock of the hub is held: nothing here takes one.
        if os.getpid() != self._pid or self.active:
            return
        self.active = True
        if seconds := own_time():
            self.seconds = seconds
            self._extends = True
        self._deadline = self._clock() + self.seconds
        c = self.consumer
        if not c.task_consumer or c.connection is None or not self._turns():
            # Without a broker there is nothing to give back, and nobody to acknowledge to. Nor while the worker is
            # connecting: where a step of that fails every time, no loop turns that would hear of the signal.
            self._warm(signum, frame)
        elif c.hub is None:
            c.call_soon(self._begin)
        elif self._wake is not None:
            os.write(self._wake[1], b"\0")
        else:
            self._warm(signum, frame)

    def _on_wake(self) -> None:
        if self._wake is not None:
            try:
                os.read(self._wake[0], 64)
            except BlockingIOError:
                return
        self._begin()

    def _begin(self) -> None:
        """Stop consuming, return what nobody has begun with, and watch for the end of the rest."""
        c = self.consumer
        try:
            c.task_consumer.cancel()
            returned = return_waiting(c)
            logger.info("draining: %d messages returned, %d tasks still running", returned, len(state.active_requests))
            self._began()
            if c.hub is not None:
                c.hub.timer.call_repeatedly(LOOK_SECONDS, self._look)
            else:
                threading.Thread(target=self._look_from_outside, name="celeryops-drain", daemon=True).start()
        except Exception:
            logger.warning("draining failed; Celery's warm shutdown follows", exc_info=True)
            self._warm()

    def _look_from_outside(self) -> None:
        """Have a loop without a hub look; threads, gevent and solo do not fork, so a thread does no harm."""
        while not self._over:
            self.consumer.call_soon(self._look)
            time.sleep(LOOK_SECONDS)

    def _ask_for_time(self) -> None:
        """Keep systemd from ending the worker while its tasks have their own time."""
        now = self._clock()
        if self._extends and now - self._asked >= EXTENSION / 3:
            self._asked = now
            notify(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")

    def _look(self) -> None:
        if self._over:
            return
        self._ask_for_time()
        if self._killed:
            self._cold()
            return
        if self._only_probes():
            self._end_probes()
        if not state.reserved_requests:
            self._warm()
        elif self._clock() >= self._deadline:
            self._time_is_up()

    def _only_probes(self) -> bool:
        """Tell whether nothing but probes has run for a while."""
        if any(request.name != probe.NAME for request in list(state.reserved_requests)):
            self._probes_since = None
            return False
        if self._probes_since is None:
            self._probes_since = self._clock()
        return self._clock() - self._probes_since >= PROBE_SECONDS

    def _end_probes(self) -> None:
        """End the processes that run probes, where a pool has such; Celery acknowledges what it ends."""
        if self._kind != "prefork":
            return
        for request in list(state.active_requests):
            if request.name == probe.NAME:
                logger.warning("a probe has not ended: %s[%s]", request.name, request.id)
                request.terminate(self.consumer.pool, signal="KILL")

    def _time_is_up(self) -> None:
        self._end_probes()
        late: list[str] = []
        early: list[str] = []
        for request in list(state.active_requests):
            (late if request.task.acks_late else early).append(f"{request.name}[{request.id}]")
        if late:
            logger.warning(
                "still running after %.0f s, back to the queue: %s", self.seconds, some_of(sorted(late), _NAMED)
            )
        if early:
            logger.error(
                "still running after %.0f s, lost because acknowledged before they began: %s",
                self.seconds,
                some_of(sorted(early), _NAMED),
            )
        if self._kind != "prefork":
            self._over = True
        elif not self._kill_unacknowledged():
            self._cold()

    def _kill_unacknowledged(self) -> bool:
        """Kill the processes whose tasks go back to their queue, and tell whether there are such.

        What a process has written until then is read before the next look, and acknowledged: its task is done. Of the
        rest the pool says that they were terminated, which a request answers by acknowledging its message, unless it
        was cancelled (celery/worker/request.py, ``on_failure``, 5.4.0 to 5.7.0; ``reject_on_worker_lost`` has no say).
        Then the message stays as it is, and goes back when the connection ends.
        """
        for request in list(state.active_requests):
            if request.task.acks_late and not request.acknowledged and request.worker_pid:
                request._already_cancelled = True
                self.consumer.pool.terminate_job(request.worker_pid, signal.SIGKILL)
                self._killed = True
        return self._killed

    def _cold(self) -> None:
        """Begin Celery's cold shutdown, as its handler of SIGQUIT does it."""
        self._over = True
        os.kill(self._pid, signal.SIGQUIT)

    def _warm(self, signum: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        self._over = True
        self._celery(signum, frame)


def return_waiting(consumer: Any) -> int:
    """Return the messages that no process of the pool has begun with to their queues.

    :param consumer: the worker's consumer, which consumes nothing any more.
    :returns: how many they were.
    """
    returned = sum(1 for request in list(_not_begun(consumer)) if _give_back(request))
    return returned + sum(1 for request in list(_given_to_nobody()) if _give_back(request))


def _not_begun(consumer: Any) -> Iterator[Any]:
    """Take the requests from wherever they wait for a process of the pool, and yield them."""
    semaphore = getattr(consumer.controller, "semaphore", None)
    if semaphore is not None:
        # kombu/asynchronous/semaphore.py, 5.7.0: (callback, arguments, keywords) of those that wait for a process.
        waiting = list(semaphore._waiting)
        semaphore._waiting.clear()
        yield from (arguments[0] for _callback, arguments, _keywords in waiting if arguments)
    for bucket in consumer.task_buckets.values():
        if bucket:
            held = list(bucket.contents)
            bucket.clear_pending()
            yield from (request for request, _tokens in held)
    for request, entry in scheduled(consumer):
        if entry is not None:
            consumer.timer.cancel(entry)
        yield request


def _given_to_nobody() -> Iterator[Any]:
    """Yield the requests that are reserved although no process of the pool was ever given them.

    Whatever kept them from it: they would hold the stop until its time is up. One that a process was given may begin
    at any moment and stays (celery/worker/request.py, ``execute_using_pool``: the pool's answer is kept).
    """
    for request in list(state.reserved_requests):
        if request not in state.active_requests and getattr(request, "_apply_result", request) is None:
            yield request


def _give_back(request: Any) -> bool:
    """Return one message to its queue; a task that is not acknowledged yet has not begun anywhere else."""
    if request.acknowledged:
        return False
    request.reject(requeue=True)
    state.task_ready(request)
    return True
