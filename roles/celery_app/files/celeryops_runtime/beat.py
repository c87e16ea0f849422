# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""A scheduler that neither skips a due task nor sends it twice over a restart, a broker outage, or a move.

Celery's own ``PersistentScheduler`` keeps what ran when in a dbm file, which a crash can corrupt, another Python may
not read, and which is written every three minutes; and a task that is due while the broker is away is skipped
(celery/beat.py, ``apply_entry``, 5.7.0: the error is logged, the run counts as done). Here

- the file is JSON with a time per entry, replaced whole after each task that was sent: it outlives crashes, upgrades of
  Python and time zones, and can be carried to another host;
- a task that cannot be sent stays due until it can; a run that was missed meanwhile is made up for once, as after any
  other pause;
- a stop waits for the message that is just being sent, and so is never between sending and remembering.

What is left is a process that is killed, or a host that loses its power, in the milliseconds between the two: then the
task is sent again. Nothing here knows of other hosts; several schedulers need one with a lock (RedBeat).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.beat import Scheduler as CeleryScheduler
from celery.beat import SchedulingError
from celery.utils import uuid
from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from celeryops_runtime import redbeat_lock, sentinel
from celeryops_runtime.urls import server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

logger = get_logger("celery.beat")

FORMAT = 1
VARIABLE = "CELERYOPS_BEAT_SCHEDULER"
"""In beat's unit: the scheduler to take when neither the app nor the command line names one."""

LOCK_SECONDS = 25
"""How long RedBeat's lock outlives its owner. It is renewed at every look at the schedule, five times in that time."""

LONGEST_WAIT = 5.0
"""Seconds between two attempts to send what is due, at most."""


def offer(conf: Any, environ: Mapping[str, str] | None = None) -> None:
    """Set what beat takes when the app says nothing else: the scheduler of :data:`VARIABLE`, and what RedBeat needs.

    RedBeat on its own keeps its schedule in the broker, which need not be Redis, and a standby waits 25 minutes for a
    lock whose owner died (celery-redbeat 2.4.2: five times ``max_interval``).

    :param conf: the settings of an app (celery.app.utils.Settings), whose last mapping holds Celery's own defaults.
    :param environ: the environment; the process's own if not given.
    """
    env = environ if environ is not None else os.environ
    if not env.get(VARIABLE):
        return
    defaults = conf.maps[-1]
    for key in conf._to_keys("beat_scheduler"):
        if key in defaults:
            defaults[key] = env[VARIABLE]
    redis = env.get("CELERY_RESULT_BACKEND", "")
    if server(redis) != "redis":
        return
    options = conf.result_backend_transport_options or {}
    prefix = options.get("global_keyprefix", "")
    offered = {
        "redbeat_redis_url": redis,
        "redbeat_key_prefix": f"{prefix}redbeat:",
        "redbeat_redis_options": {"socket_timeout": 30, "socket_keepalive": True, "health_check_interval": 10},
        **(sentinel.redbeat(redis, options) if sentinel.there(redis) else {}),
        "redbeat_redis_use_ssl": conf.redis_backend_use_ssl or None,
        "redbeat_lock_timeout": LOCK_SECONDS,
    }
    present = {key.lower() for key in conf}
    defaults.update({key: value for key, value in offered.items() if key not in present})
    redbeat_lock.mend(str(conf.redbeat_key_prefix), env)
    if str(conf.beat_scheduler).startswith("redbeat"):
        for key in conf._to_keys("beat_max_loop_interval"):
            if key in defaults:
                defaults[key] = LOCK_SECONDS // 5


def read_state(path: Path) -> dict[str, tuple[datetime, int]]:
    """Return what ran when.

    :param path: the file; one that is not there, or was written by something else, holds nothing.
    :returns: name of the entry -> time of its last run (UTC), number of its runs.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}")
        return {
            str(name): (datetime.fromisoformat(entry["last_run_at"]).astimezone(UTC), int(entry["runs"]))
            for name, entry in document["entries"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.error("beat: %s cannot be read (%s); every entry counts from now", path, error)
        return {}


def write_state(path: Path, entries: Mapping[str, tuple[datetime, int]]) -> None:
    """Replace the file, whole and for good: it is on the disk when this returns.

    :param path: the file.
    :param entries: as :func:`read_state` returns them.
    :raises OSError: if it cannot be written; the old file is still there then.
    """
    document = {
        "format": FORMAT,
        "entries": {
            name: {"last_run_at": when.astimezone(UTC).isoformat(), "runs": runs}
            for name, (when, runs) in entries.items()
        },
    }
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back the signals that end beat, whose handler would leave from wherever it is (celery/apps/beat.py).

    A mask would not do: it is a thread's, and the system gives the signal to another thread, upon which Python runs the
    handler in the main one all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda caught, _frame: held.append(caught))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for caught in dict.fromkeys(held):
            signal.raise_signal(caught)


class Scheduler(CeleryScheduler):  # type: ignore[misc]  # Celery has no type information
    """``celery beat --scheduler=celeryops_runtime.beat:Scheduler --schedule=PATH``; its file is ``PATH.json``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the scheduler, and unless it is ``lazy`` read the file.

        :param args: as for :class:`celery.beat.Scheduler`.
        :param kwargs: as for :class:`celery.beat.Scheduler`, and ``schedule_filename``.
        """
        self.path = Path(f"{kwargs.get('schedule_filename') or 'schedule'}.json")
        self._written: dict[str, tuple[datetime, int]] | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Take the entries of the app, each with the time of its last run; what is new counts from now."""
        known = read_state(self.path)
        super().setup_schedule()
        for name, entry in self.schedule.items():
            if name in known:
                entry.last_run_at, entry.total_run_count = known[name]
        # An interval of an hour has to end although beat restarts every half hour.
        self.sync()

    def sync(self) -> None:
        """Write down what ran when, if there is news. A disk that is full is no reason to stop scheduling."""
        entries = {name: (entry.last_run_at, entry.total_run_count) for name, entry in self.schedule.items()}
        if entries == self._written:
            return
        try:
            write_state(self.path, entries)
            self._written = entries
        except OSError as error:
            logger.error("beat: %s cannot be written (%s); a restart now would send again what was just sent",
                         self.path, error)  # fmt: skip

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send a due task, for as long as it takes.

        :param entry: the entry as it was before; the schedule has its next instance already.
        :param producer: not used: a connection that was lost is made anew.
        """
        del producer
        following = self.schedule[entry.name]
        # Not sent: if beat ends before it is, the next one finds it due.
        self.schedule[entry.name] = entry
        # One id for all tries, by which a message is known that waits already in front of a broker with an alarm.
        one_id = {"task_id": uuid(), **(entry.options or {})}
        entry = type(entry)(**dict(entry, options=one_id))
        wait = 0.5
        while not self._sent(entry, following):
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def _sent(self, entry: Any, following: Any) -> bool:
        """Try once; tell whether the entry is done with."""
        logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        try:
            # Connects, again and again if need be: a stop may interrupt that.
            producer = self.producer
            with _undisturbed():
                self.apply_async(entry, producer=producer, advance=False)
                self._done(entry, following)
        except SchedulingError as error:
            if isinstance(error.__context__, (OperationalError, OSError)):
                logger.error("beat: %s is due and cannot be sent (%s); trying again", entry.name, error.__context__)
                if not getattr(error.__context__, "in_alarm", False):
                    # A new connection would take one more copy, and each of them runs when the alarm ends.
                    self._forget_connection()
                return False
            # The task itself is the reason, and would be next time.
            logger.error("Message Error: %s", error, exc_info=True)
            self._done(entry, following)
        except (OperationalError, OSError) as error:
            logger.error("beat: %s is due and there is no broker (%s); trying again", entry.name, error)
            self._forget_connection()
            return False
        return True

    def _done(self, entry: Any, following: Any) -> None:
        self.schedule[entry.name] = following
        self.sync()

    def _forget_connection(self) -> None:
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.release()

    @property
    def info(self) -> str:
        """One line for beat's banner."""
        return f"    . file -> {self.path}"
