# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Keeps a worker's event loop from waiting for an unreachable server.

Celery and kombu reconnect wherever something is said, and for as long as it takes: the worker's heartbeat is published
with a retry that has no end (celery/worker/heartbeat.py, kombu/connection.py ``ensure``, 5.4 to 5.7), and the state of
a task that a lost connection cancels is stored with one (``result_backend_always_retry``). While the loop waits there,
it neither notices the loss of its own connection nor pings the watchdog: the main process was silent for the whole
outage on Celery 5.4.0, 5.6.3 and 5.7.0, on RabbitMQ and on Redis, whenever the heartbeat was the first to notice it.
So, in the loop's thread and outside of tasks:

* A connection that is lost is tried once, not for ever. What waits for the broker is Celery's own reconnect alone,
  which systemd is told of (:mod:`.readiness`).
* A connection that is lost is given up without a word: no server is asked to confirm its end.
* Redis, which has no heartbeat, answers within :func:`patience`, or its connection is lost: the first acknowledgement
  that gets no answer tells, and not each of them. A result and an event may wait before it, each once and for a time of
  its own (docs/versions.md has the sum).
* A connection to Redis that is given up is watched no more. kombu means to do so, when the socket is gone already; a
  process of the pool that was forked since has it as well, so that the system goes on telling of it, and the loop read
  from the connection that came after it, for ever (kombu 5.7.0, a Redis that was frozen: the first after a lost one).
* A result that cannot be stored is kept, and stored later (:class:`Results`).

In a pool of threads or greenlets nobody hears of an error that Celery's tracer lets through, as it does when neither
the result nor the failure can be stored (a Redis that is full): the task's message was never acknowledged, and once as
many were left as the worker may hold it took none any more, for ever (measured with Celery 5.7.0). There the worker is
told, as it is by a pool of processes (:func:`mend_pool`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from celeryops_runtime import follow
from celeryops_runtime.around import around, run_each
from celeryops_runtime.systemd import watchdog_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("celeryops.runtime")

MUTE_SECONDS = 30.0
"""For so long after a failure no result is tried to be stored from the loop."""

KEPT_RESULTS = 10_000
"""So many results are kept; older ones are left out."""

SHORTEST_PATIENCE = 10.0
"""How long Redis may take for an answer, at least: while it forks, or a script runs, it answers nobody."""

LATER_SECONDS = 5.0
"""How often it is looked whether kept results can be stored."""

_RESULTS = "_celeryops_results"
_MARK = "__celeryops_outage__"
"""Where other modules are around the same function."""

_here = threading.local()


def bounded() -> bool:
    """Tell whether nothing may wait here."""
    return not getattr(_here, "waits", False) and (getattr(_here, "stores", False) or follow.in_loop())


def _mend_connection() -> None:
    from kombu import Connection

    @around(Connection, "_ensure_connection")
    def _ensure_connection(
        own: Any, self: Any, errback: Any = None, max_retries: Any = None, *rest: Any, **options: Any
    ) -> Any:
        if bounded():
            max_retries = 0
            # Celery takes the transport's own errors for a lost connection, and kombu's for a reason to end.
            options["reraise_as_library_errors"] = False
        return own(self, errback, max_retries, *rest, **options)

    @around(Connection, "ensure")
    def ensure(
        own: Any, self: Any, obj: Any, fun: Any, errback: Any = None, max_retries: Any = None, *rest: Any,
        **options: Any,
    ) -> Any:  # fmt: skip
        if bounded():
            max_retries = 1 if max_retries is None else min(max_retries, 1)
        return own(self, obj, fun, errback, max_retries, *rest, **options)

    @around(Connection, "collect")
    def collect(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        if not bounded():
            return own(self, *arguments, **options)
        abandon = getattr(self._connection, "collect", None)
        if abandon is not None:
            with contextlib.suppress(Exception):
                abandon()
        try:
            return own(self, *arguments, **options)
        finally:
            # What is left of it is not closed once more: kombu's channel of Redis then has no address any more, and
            # that error ended the main process (Celery 5.7.0 with kombu 5.7.0, when Redis went while tasks ran).
            self._default_channel = None


def _mend_redis_backend() -> None:
    try:
        from celery.backends.redis import RedisBackend
    except ImportError:
        return

    @around(RedisBackend, "ensure", _MARK)
    def ensure(own: Any, self: Any, fun: Any, args: Any, **policy: Any) -> Any:
        if bounded():
            policy["max_retries"] = 0
        return own(self, fun, args, **policy)


def _mend_redis_acknowledgements() -> None:
    try:
        from kombu.transport import redis as transport
    except ImportError:
        # kombu 5.7 wants a package here that its extra alone brings: who has not asked for it has another broker.
        return
    if transport.redis is not None:
        for name in ("ack", "reject"):
            around(transport.QoS, name)(_once_per_connection)


def _mend_redis_connections() -> None:
    try:
        from kombu.transport import redis as transport
    except ImportError:
        return

    @around(transport.Channel, "_connparams", _MARK)
    def _connparams(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        found = own(self, *arguments, **options)
        kind = found.get("connection_class")
        # Of those connections that the loop may watch, the class is made anew for each channel.
        if "_connparams" in getattr(kind, "__qualname__", ""):
            found["connection_class"] = _unwatched_first(kind, self)
        return found

    @around(transport.MultiChannelPoller, "on_readable", _MARK)
    def on_readable(own: Any, self: Any, fileno: int) -> Any:
        # The connection was given up since the system told of it. Before 5.7 that ended the worker.
        return own(self, fileno) if fileno in self._fd_to_chan else None


def _unwatched_first(kind: Any, channel: Any) -> Any:
    """Return a class of connections that leave the loop before their sockets are closed."""

    class Unwatched(kind):  # type: ignore[misc]  # kombu has no type information
        def disconnect(self, *arguments: Any, **options: Any) -> Any:
            unwatch(getattr(channel.connection, "cycle", None), getattr(self, "_sock", None))
            return super().disconnect(*arguments, **options)

    return Unwatched


def unwatch(cycle: Any, sock: Any) -> None:
    """Have a poller of kombu's forget a socket that is still open.

    :param cycle: the poller (``MultiChannelPoller``); nothing happens without one.
    :param sock: the socket; None if there is none.
    """
    if cycle is None or sock is None:
        return
    for ident, other in list(cycle._chan_to_sock.items()):
        if other is sock:
            cycle._fd_to_chan.pop(sock.fileno(), None)
            del cycle._chan_to_sock[ident]
            with contextlib.suppress(AttributeError, KeyError, OSError, TypeError, ValueError):
                cycle.poller.unregister(sock)


def _once_per_connection(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
    """Let Redis be silent once: kombu logs the error of an acknowledgement, and goes on with the next."""
    if not bounded():
        return own(self, *arguments, **options)
    from redis.exceptions import TimeoutError as SilentError

    lost = self.__dict__.get("_celeryops_lost")
    if lost is not None:
        raise lost
    try:
        return own(self, *arguments, **options)
    except SilentError as exc:
        self.__dict__["_celeryops_lost"] = exc
        _lose_connection(exc)
        raise


def _lose_connection(exc: Exception) -> None:
    """Have the loop find its connection lost at its next turn."""
    from kombu.asynchronous import get_event_loop

    def lost() -> None:
        raise exc

    hub = get_event_loop()
    if hub is not None:
        hub.call_soon(lost)


def patience(watchdog: float) -> float:
    """Tell how long Redis may take for an answer to what a worker asks it from its loop.

    :param watchdog: WatchdogSec= in seconds.
    """
    return max(watchdog / 4, SHORTEST_PATIENCE)


class Results:
    """Results that the loop could not store; they are stored later, in their order."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none.

        :param clock: seconds that never run backwards.
        """
        self._clock = clock
        self._until = float("-inf")
        self.kept: deque[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = deque(maxlen=KEPT_RESULTS)

    def store(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Store one, or keep it.

        :param method: what stores it.
        :param arguments: for the method; the second is the result, which is returned for one that is kept.
        """
        if not self.kept and self._clock() >= self._until:
            try:
                return method(*arguments, **options)
            except Exception as exc:
                if not _is_away(exc):
                    raise
                self._until = self._clock() + MUTE_SECONDS
                logger.warning("a result cannot be stored now, and is kept until it can: %s", type(exc).__name__)
        self.kept.append((method, arguments, options))
        return arguments[2] if len(arguments) > 2 else None

    def flush(self, *, last: bool = False) -> None:
        """Store what was kept, until something fails.

        :param last: the worker ends: it is tried in any case, and what is lost is told.
        """
        if not self.kept or (self._clock() < self._until and not last):
            return
        _here.stores = True
        try:
            while self.kept:
                method, arguments, options = self.kept[0]
                try:
                    method(*arguments, **options)
                except Exception as exc:
                    if _is_away(exc):
                        self._until = self._clock() + MUTE_SECONDS
                        if last:
                            logger.error("%d results could not be stored, and are lost", len(self.kept))
                        return
                    logger.exception("a result that was kept cannot be stored")
                self.kept.popleft()
            logger.warning("the results that were kept are stored")
        finally:
            _here.stores = False


def _is_away(exc: BaseException) -> bool:
    """Tell whether a server's absence is the reason; Celery wraps it in errors of its own."""
    from celery.exceptions import BackendError

    return follow.is_transient(exc) or isinstance(exc, BackendError)


def _mend_backend(app: Any) -> None:
    """Let the backend of an app never wait in the loop."""
    for kind in type(app.backend).__mro__:
        for name, function in (("exception_safe_to_retry", _never_here), ("store_result", _kept)):
            if vars(kind).get(name) is not None:
                around(kind, name, _MARK)(function)


def _never_here(own: Any, self: Any, exc: Any) -> bool:
    return not bounded() and bool(own(self, exc))


def _kept(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
    results: Results | None = self.app.__dict__.get(_RESULTS)
    if results is None or not bounded() or getattr(_here, "stores", False):
        return own(self, *arguments, **options)
    return results.store(own, self, *arguments, **options)


class Outage(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no type information
    """A step of the consumer: lets its own reconnect wait, and stores what was kept."""

    label = "outage"

    def __init__(self, c: Any, **kwargs: Any) -> None:
        """Put itself around the consumer's way to a connection.

        :param c: the consumer, not started yet.
        :param kwargs: the worker's options.
        """
        super().__init__(c, **kwargs)
        self.results: Results = c.app.__dict__.setdefault(_RESULTS, Results())
        self._timer: Any = None
        own = c.ensure_connected
        watchdog = watchdog_seconds()

        @functools.wraps(own)
        def ensure_connected(connection: Any, *arguments: Any, **options: Any) -> Any:
            if watchdog and connection.transport.driver_type == "redis":
                given = connection.transport_options or {}
                seconds = min(given.get("socket_timeout") or patience(watchdog), patience(watchdog))
                connection.transport_options = {**given, "socket_timeout": seconds}
            before = getattr(_here, "waits", False)
            _here.waits = True
            try:
                return own(connection, *arguments, **options)
            finally:
                _here.waits = before

        c.ensure_connected = ensure_connected

    def start(self, c: Any) -> None:
        """Look from time to time whether what was kept can be stored.

        :param c: the consumer.
        """
        self._timer = c.timer.call_repeatedly(LATER_SECONDS, self.results.flush)

    def stop(self, c: Any) -> None:
        """End that.

        :param c: the consumer.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            c.timer.cancel(timer)

    def shutdown(self, c: Any) -> None:
        """Try once more, and tell what is lost.

        :param c: the consumer.
        """
        self.stop(c)
        self.results.flush(last=True)


_POOLS = frozenset({"celery.concurrency.thread", "celery.concurrency.gevent"})
_LET_THROUGH = object()


def mend_pool(pool: Any) -> None:
    """Let a pool tell the worker what came out of a task beside its result. Calling it again changes nothing.

    :param pool: the pool's class; those that do so themselves are left alone.
    """
    if getattr(pool, "__module__", "") not in _POOLS:
        return

    @around(pool, "on_apply", _MARK)
    def on_apply(
        own: Any, self: Any, target: Any, args: Any = None, kwargs: Any = None, callback: Any = None, **options: Any
    ) -> Any:
        failed = options.get("error_callback")
        if failed is None or callback is None:
            return own(self, target, args, kwargs, callback, **options)

        def run(*arguments: Any, **keywords: Any) -> Any:
            try:
                return target(*arguments, **keywords)
            except Exception:
                # celery/concurrency/base.py, ``apply_target``, raises it where nobody is; billiard's pool does this.
                from billiard.einfo import ExceptionInfo  # type: ignore[import-untyped]

                failed(ExceptionInfo())
                return _LET_THROUGH

        def succeeded(result: Any) -> None:
            if result is not _LET_THROUGH:
                callback(result)

        return own(self, run, args, kwargs, succeeded, **options)


def mend() -> None:
    """Change Celery and kombu in this process. Calling it again changes nothing more."""
    run_each((_mend_connection, _mend_redis_backend, _mend_redis_acknowledgements, _mend_redis_connections))


def install(app: Any) -> None:
    """Prepare the worker that is about to start.

    :param app: its app.
    """
    mend()
    app.__dict__.setdefault(_RESULTS, Results())
    try:
        _mend_backend(app)
    except Exception:
        logger.warning("storing results later is not possible", exc_info=True)
    app.steps["consumer"].add(Outage)
