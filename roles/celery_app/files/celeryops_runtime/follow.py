# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Sends what follows a task before the task is done: its retry, its replacement, the next step of its chain.

Celery publishes these from within the task's process. When that fails it rejects a retry without returning it to its
queue (celery/app/task.py, ``Task.retry``, 5.7.0), and takes a task whose successor cannot be sent for a failed one: the
task, or the rest of the chain, is lost (measured in the seconds between a new password of the broker and the worker's
restart: 51 of 694). Here:

* While RabbitMQ has announced an alarm, such a message waits in the process for up to :data:`HOLD_SECONDS`. That is the
  time of the task, not of one try: Celery 5.7 tries again itself. It ends before the time limit that is in force.
* A retry, a replacement or a successor that cannot be sent nevertheless returns the task's message to its queue, after
  :data:`PAUSE_SECONDS`, lest it comes and goes in a circle: the task begins again. RabbitMQ moves it to the dead
  letters at its twentieth return. A task that was acknowledged early has no message to return.
* The body of a chord and the callbacks of an error are sent by the result backend, which goes on without them. They are
  tried again for :data:`HOLD_SECONDS`.

So what follows a task arrives at least once: what may have arrived (``MaybeSentError`` of :mod:`.publish`) is sent
again, by a further try or by the task's second run.

What can never be sent (arguments that no serializer takes, a message that the broker finds too large) is the task's
failure, as ever; so is a result that cannot be stored. A task that runs eagerly, within its caller, is left alone.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celeryops_runtime.around import around, run_each

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("celeryops.runtime")

HOLD_SECONDS = 600.0
"""How long a message that follows a task waits for the end of an alarm."""

PAUSE_SECONDS = 15.0
"""How long a process waits before it returns a task whose successor could not be sent."""

SHORT_SECONDS = 20.0
"""The same in the event loop's own thread, and for what the worker itself sends; a task always gets as much as that,
within its time limit."""

MARGIN_SECONDS = 10.0
"""So much of a task's time limit is left when waiting ends, or half of what there is, if that is less."""

RETRY_SECONDS = 5.0
"""Between two tries of what the result backend sends."""

_here = threading.local()
_loop: tuple[int, int] | None = None
_class_limit: float | None = None
_clock = time.monotonic
_sleep = time.sleep


def loop_runs_here() -> None:
    """Note that the worker's event loop runs in this thread: nothing waits long in here."""
    global _loop  # noqa: PLW0603
    _loop = (os.getpid(), threading.get_ident())


def in_loop() -> bool:
    """Tell whether this is the thread of the worker's event loop, and no task runs in it (the pool solo)."""
    from celery._state import get_current_worker_task

    return _loop == (os.getpid(), threading.get_ident()) and get_current_worker_task() is None


def limit_class(limit: float | None) -> None:
    """Note the time limit of a worker, which its pool keeps and no task knows; before the pool forks.

    :param limit: in seconds (``--time-limit``), or None.
    """
    global _class_limit  # noqa: PLW0603
    _class_limit = limit


def began() -> None:
    """Note that a task begins in this thread."""
    _here.began = _clock()
    _here.held = 0.0


def _in_loop() -> bool:
    return _loop == (os.getpid(), threading.get_ident())


def _is_eager() -> bool:
    """Tell whether the task of this thread runs within its caller (``apply()``, ``task_always_eager``)."""
    from celery._state import get_current_task

    task = get_current_task()
    return task is not None and bool(task.request.is_eager)


def _left() -> float:
    """Return how long what follows the task of this thread may still take, in seconds."""
    from celery._state import get_current_worker_task

    task = get_current_worker_task()
    if task is None or _in_loop():
        # The pool solo, in the loop's own thread, keeps no time limits.
        return SHORT_SECONDS
    most = max(SHORT_SECONDS, HOLD_SECONDS - getattr(_here, "held", 0.0))
    # The first of them that is given is the one that Celery keeps (celery/worker/request.py, 5.7.0).
    limit = (getattr(task.request, "timelimit", None) or (None, None))[0] or task.time_limit or _class_limit
    if not limit:
        return most
    left = float(limit) - (_clock() - getattr(_here, "began", _clock()))
    return max(0.0, min(most, left - min(MARGIN_SECONDS, left / 2)))


def seconds() -> float | None:
    """Tell how long the message that is being published may still take, its confirmation included.

    :returns: None if nobody said that it follows a task. 0.0 once the time is over.
    """
    deadline = getattr(_here, "deadline", None)
    return None if deadline is None else max(0.0, float(deadline) - _clock())


@contextmanager
def _following() -> Iterator[None]:
    """Give what is sent herein, and every further try of it, one time."""
    if getattr(_here, "deadline", None) is not None:
        yield
        return
    begun = _clock()
    _here.deadline = begun + _left()
    try:
        yield
    finally:
        _here.deadline = None
        _here.held = getattr(_here, "held", 0.0) + _clock() - begun


def _pause(seconds: float) -> None:
    """Sleep; a soft time limit ends that, and nothing else: what comes next is what it asks for."""
    from celery.exceptions import SoftTimeLimitExceeded

    try:
        _sleep(seconds)
    except SoftTimeLimitExceeded:
        logger.warning("the task's soft time limit is over while it waits for the broker")


_STATES = ("OOM", "NOPERM", "NOAUTH", "MISCONF", "READONLY", "NOREPLICAS", "BUSY", "MASTERDOWN")
_STATE_CLASSES = frozenset({"OutOfMemoryError", "NoPermissionError", "ReadOnlyError", "AuthenticationError"})
"""Answers of Redis that speak of its state, not of the command; redis-py takes the word off those with a class."""


def _is_final(exc: BaseException) -> bool:
    """Tell whether the same message would be refused again."""
    from amqp.exceptions import AccessRefused, ContentTooLarge, IrrecoverableChannelError

    if isinstance(exc, (IrrecoverableChannelError, ContentTooLarge)):
        return not isinstance(exc, AccessRefused)
    redis = sys.modules.get("redis.exceptions")
    if redis is None or not isinstance(exc, redis.ResponseError):
        return False
    kinds = {kind.__name__ for kind in type(exc).__mro__}
    return not (kinds & _STATE_CLASSES or str(exc).partition(" ")[0] in _STATES)


def is_transient(exc: BaseException | None) -> bool:
    """Tell whether the broker was the reason, not the message.

    :param exc: what publishing raised. kombu makes an ``OperationalError`` of some, with its cause.
    """
    from amqp.exceptions import AMQPError, MessageNacked
    from celery.exceptions import SoftTimeLimitExceeded
    from kombu.exceptions import LimitExceeded, OperationalError

    kinds: tuple[type[BaseException], ...] = (
        OSError,
        AMQPError,
        MessageNacked,
        OperationalError,
        LimitExceeded,
        SoftTimeLimitExceeded,
    )
    redis = sys.modules.get("redis.exceptions")
    if redis is not None:
        kinds += (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)
    if not isinstance(exc, kinds):
        return False
    return not (_is_final(exc) or (exc.__cause__ is not None and _is_final(exc.__cause__)))


def _refusal(exc: BaseException, what: str, left: float) -> Any:
    """Wait a moment, within what is left of the task's time, and make what returns its message to its queue."""
    from celery.exceptions import Reject

    # In the event loop's own thread (the pool solo) everything waits meanwhile.
    pause = RETRY_SECONDS if _in_loop() else max(0.0, min(PAUSE_SECONDS, left))
    logger.error("%s could not be sent, the task goes back to its queue: %s: %s", what, type(exc).__name__, exc)
    _pause(pause)
    # Text: the exception has to pass from the pool's process to the worker.
    return Reject(f"{what} could not be sent: {type(exc).__name__}", requeue=True)


def _acknowledges_late(task: Any) -> bool:
    return bool(getattr(task, "acks_late", False))


def _within_caller(task: Any) -> bool:
    return bool(task.request.called_directly or task.request.is_eager)


def _mend_task() -> None:
    from celery.app.task import Task
    from celery.exceptions import Reject

    @around(Task, "retry")
    def retry(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        if _within_caller(self):
            return own(self, *arguments, **options)
        given = options.get("exc", arguments[2] if len(arguments) > 2 else None)
        try:
            with _following():
                return own(self, *arguments, **options)
        except Reject as exc:
            cause = exc.reason
            # The task's own word, when it has been tried often enough, is not Celery's for a publish that failed.
            if exc is given or exc.requeue or not isinstance(cause, BaseException):
                raise
            if not is_transient(cause) or not _acknowledges_late(self):
                raise
            raise _refusal(cause, "its retry", _left()) from cause

    @around(Task, "replace")
    def replace(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        if _within_caller(self):
            return own(self, *arguments, **options)
        try:
            with _following():
                return own(self, *arguments, **options)
        except Exception as exc:
            if not is_transient(exc) or not _acknowledges_late(self):
                raise
            raise _refusal(exc, "its replacement", _left()) from exc


_MARK = "_celeryops_follows"
"""On an error that came up while what follows a task was sent, which is no task's own error, and no result backend's:
until when the task may go on. Before Celery 5.6 the tracer lets go of the task before it looks at the error."""


def _mend_trace() -> None:
    from billiard.einfo import ExceptionInfo  # type: ignore[import-untyped]
    from celery import canvas, states
    from celery.app import trace
    from celery.exceptions import Reject

    def refusal(task: Any, exc: BaseException) -> Any:
        """Return what takes the exception's place, once made, or None if it is not of this kind."""
        if not (is_transient(exc) and _MARK in exc.__dict__ and _acknowledges_late(task)):
            return None
        made = exc.__dict__.get("_celeryops_refusal")
        if made is None:
            left = exc.__dict__[_MARK] - _clock()
            made = exc.__dict__["_celeryops_refusal"] = _refusal(exc, "what follows it", left)
        return made

    def info(rejected: Any) -> Any:
        try:
            raise rejected
        except Reject:
            return ExceptionInfo(internal=True)

    @around(trace.TraceInfo, "handle_failure")
    def handle_failure(own: Any, self: Any, task: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        rejected = None if request.is_eager else refusal(task, self.retval)
        if rejected is None:
            return own(self, task, request, *arguments, **options)
        self.state, self.retval = states.REJECTED, rejected
        return info(rejected)

    # Before 5.6 such an error leaves the tracer by this way, and the worker sees what this one returns.
    @around(trace, "report_internal_error")
    def report_internal_error(own: Any, task: Any, exc: BaseException) -> Any:
        rejected = refusal(task, exc)
        return own(task, exc) if rejected is None else info(rejected)

    for kind in [value for value in vars(canvas).values() if isinstance(value, type)]:
        method = vars(kind).get("apply_async")
        if issubclass(kind, canvas.Signature) and method is not None and not getattr(method, "__celeryops__", False):
            setattr(kind, "apply_async", _from_trace(method))  # noqa: B010


def _from_trace(method: Any) -> Any:
    """Let a signature wait if the one who sends it is Celery, after a task."""
    from kombu.exceptions import OperationalError

    @functools.wraps(method)
    def apply_async(self: Any, *arguments: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__")
        if caller not in {"celery.app.trace", "celery.app.amqp"} or _is_eager() or self.app.conf.task_always_eager:
            return method(self, *arguments, **options)
        try:
            with _following():
                return method(self, *arguments, **options)
        except Exception as exc:
            if not is_transient(exc):
                raise
            # The one error of this kind that Celery's tracer expects here; another one becomes the task's own result.
            error = exc if isinstance(exc, OperationalError) else OperationalError(f"{type(exc).__name__}: {exc}")
            error.__dict__[_MARK] = _clock() + _left()
            if error is exc:
                raise
            raise error from exc

    apply_async.__celeryops__ = True  # type: ignore[attr-defined]
    return apply_async


def _mend_backend() -> None:
    from celery.backends.base import Backend

    for name in ("mark_as_done", "mark_as_failure"):
        around(Backend, name)(_persistent)


def _persistent(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
    if _is_eager():
        return own(self, *arguments, **options)
    before = getattr(_here, "persists", False)
    _here.persists = True
    try:
        with _following():
            return own(self, *arguments, **options)
    finally:
        _here.persists = before


def persist(app: Any) -> None:
    """Let the app try again what the result backend sends.

    :param app: the app; its ``send_task`` is put behind one that does.
    """
    from celery._state import get_current_worker_task

    own = app.send_task

    def send_task(*arguments: Any, **options: Any) -> Any:
        if not getattr(_here, "persists", False):
            return own(*arguments, **options)
        # A task alone: the worker's main process, which sends this for one that it lost, does not stand still.
        patient = not _in_loop() and get_current_worker_task() is not None
        while True:
            try:
                return own(*arguments, **options)
            except Exception as exc:
                if not patient or not is_transient(exc) or (seconds() or 0.0) <= RETRY_SECONDS:
                    raise
                logger.warning("what follows a task could not be sent, and is tried again: %s", type(exc).__name__)
                _pause(RETRY_SECONDS)

    app.__dict__["send_task"] = send_task


def _mend_retry_state() -> None:
    """Store no state RETRY for a task whose result is ignored: its success would never replace it.

    Its failure is stored (``task_store_errors_even_if_ignored``), and Celery counts a retry among the errors.
    """
    from celery.backends.base import Backend

    @around(Backend, "mark_as_retry")
    def mark_as_retry(
        own: Any, self: Any, task_id: Any, exc: Any, traceback: Any = None, request: Any = None, *arguments: Any,
        **options: Any,
    ) -> Any:  # fmt: skip
        task = getattr(self.app, "_tasks", {}).get(getattr(request, "task", None))
        # What the message says, if it says anything; a context has False where it does not.
        said = vars(request).get("ignore_result") if request is not None else None
        ignored = getattr(task, "ignore_result", False) if said is None else said
        return None if ignored else own(self, task_id, exc, traceback, request, *arguments, **options)


def mend() -> None:
    """Change Celery in this process. Calling it again changes nothing more."""
    run_each((_mend_task, _mend_trace, _mend_backend, _mend_retry_state))
