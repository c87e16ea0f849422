# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The differences between the supported versions of Celery and kombu; all other modules use this one.

Celery 5.4 to 5.7 with the kombu and redis-py that the app's requirements resolve to. Two kinds of functions: some
answer the same question on every version (``scheduled``, ``ignores_result``, ``reconnects``), and some put a newer
version's behaviour in the place of an older one's (``mend_...``), doing nothing where it is there already. What is
there is looked for where it can be; the two facts that leave no trace in the code are told by the version.

Nothing of Celery or kombu is imported before it is needed. docs/versions.md says what each version can and cannot do.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from celeryops_runtime.around import around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("celeryops.runtime")

DEATHS = ("x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason")
"""What RabbitMQ writes into a message that it moves to another queue (https://www.rabbitmq.com/docs/dlx)."""

_MENDED = "__celeryops_versions__"
"""Own to this module: others wrap the same functions, and what wraps one has its marks (functools.wraps)."""


# -- settings --------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def _settings() -> frozenset[str]:
    from celery.app.defaults import NAMESPACES, flatten

    return frozenset(name for name, _option in flatten(NAMESPACES))


def has_setting(name: str) -> bool:
    """Tell whether this Celery knows a setting.

    :param name: in lower case.
    """
    return name in _settings()


@functools.lru_cache(maxsize=1)
def _looks_by_name() -> bool:
    """Whether a look-up asks every mapping for the name with the namespace before any for the plain one (< 5.7)."""
    from celery.utils.collections import ConfigurationView

    return bool(ConfigurationView({"a": "changed"}, [{"X_A": "default"}], prefix="X")["a"] == "default")


def looked_up_first(conf: Any, key: str) -> list[str]:
    """Name what is looked for in all mappings of the settings before a plain name is.

    Celery 5.7 goes from mapping to mapping. Before, it goes from name to name (celery/utils/collections.py,
    ``ConfigurationView.__getitem__``), so that a Django app's ``CELERY_TASK_ACKS_LATE`` in the last mapping comes
    before a ``task_acks_late`` in the first.

    :param conf: the app's settings.
    :param key: a setting's lower-case name.
    :returns: names under which its value has to stand in the first mapping as well; none where the order is right.
    """
    return [name for name in conf._to_keys(key) if name != key] if _looks_by_name() else []


def keeps_prefetch() -> bool:
    """Tell whether a worker of quorum queues has its whole prefetch again after a reconnect.

    RabbitMQ applies a quorum queue's prefetch when a consumer begins. Celery before 5.7 reduces it for a reconnect and
    means to restore it bit by bit (``worker_enable_prefetch_count_reduction``), of which the broker hears nothing.
    5.7 leaves the number alone there (``on_connection_error_after_connected``, ``qos_global``); an attribute of the
    instance, so that the version has to say it.
    """
    return _celery() >= (5, 7)


def _celery() -> tuple[int, int]:
    import celery

    return int(celery.VERSION.major), int(celery.VERSION.minor)


# -- messages that wait in the worker ----------------------------------------------------------------------------------


def scheduled(consumer: Any) -> Iterator[tuple[Any, Any]]:
    """Find the requests that wait for their ETA in this worker.

    :param consumer: the worker's consumer.
    :returns: pairs of a request and what ``consumer.timer.cancel`` takes to keep it from running; the second is None
        if nothing is to be cancelled. A copy: both may be changed while one goes through them.
    """
    from celery.worker import state

    known = getattr(state, "scheduled_requests", None)
    if known is not None:
        yield from [(request, getattr(request, "_eta_timer_entry", None)) for request in list(known)]
        return
    # Before 5.7 only the timer knows them (celery/worker/control.py, _iter_schedule_requests).
    from celery.worker.request import Request

    for waiting in list(consumer.timer.schedule.queue):
        entry = waiting.entry
        if entry.args and isinstance(entry.args[0], Request) and not _cancelled(waiting):
            # kombu's timer keeps tuples around entries; those of gevent and eventlet keep their own threads, which
            # have to be cancelled themselves (celery/concurrency/gevent.py, Timer).
            yield entry.args[0], entry if isinstance(waiting, tuple) else waiting


def _cancelled(waiting: Any) -> bool:
    return bool(waiting.entry.canceled or getattr(waiting, "canceled", False))


# -- results -----------------------------------------------------------------------------------------------------------


def ignores_result(task: Any, request: Any) -> bool:
    """Tell whether the result of a run is not kept.

    :param task: the task.
    :param request: the run's request.
    """
    try:
        from celery.app.trace import get_actual_ignore_result
    except ImportError:  # before 5.6
        said = vars(request).get("ignore_result")
        return bool(task.ignore_result if said is None else said)
    return bool(get_actual_ignore_result(task, request))


@functools.lru_cache(maxsize=1)
def undecided() -> bool | None:
    """Tell what a message by name says of its result when neither the sender nor anything else did.

    :returns: None from 5.7, that is "the worker decides"; False before (celery/app/base.py, ``send_task``:
        ``options.pop("ignore_result", False)``), which nobody can tell from a False that was meant.
    """
    return None if _celery() >= (5, 7) else False


def mend_results() -> None:
    """Keep the result that one call asks for although its task ignores them. Calling it again changes nothing.

    Before 5.6 a worker looks at the task alone (celery/app/trace.py): ``apply_async(ignore_result=False)`` waits for
    ever, and so does a chord without Redis whose parts a rule ignores.
    """
    from celery.app import trace
    from celery.backends.base import Backend

    if hasattr(trace, "get_actual_ignore_result"):
        return

    def asked_for(request: Any) -> bool:
        return (
            request is not None
            and not getattr(request, "is_eager", False)
            and vars(request).get("ignore_result", True) is False
        )

    @around(Backend, "mark_as_done", _MENDED)
    def mark_as_done(
        own: Any, self: Any, task_id: str, result: Any, request: Any = None, store_result: bool = True, *args: Any,
        **more: Any,
    ) -> Any:  # fmt: skip
        return own(self, task_id, result, request, store_result or asked_for(request), *args, **more)

    @around(Backend, "mark_as_failure", _MENDED)
    def mark_as_failure(
        own: Any, self: Any, task_id: str, exc: Any, traceback: Any = None, request: Any = None,
        store_result: bool = True, *args: Any, **more: Any,
    ) -> Any:  # fmt: skip
        return own(self, task_id, exc, traceback, request, store_result or asked_for(request), *args, **more)


def mend_prefixes() -> None:
    """Name the results' keys as Celery 5.5 and newer do. Calling it again changes nothing.

    Before, a ``_`` follows the prefix whatever its last character is: ``shop:_celery-task-meta-...``, which the
    account may not write, and where no process of a newer version looks.
    """
    from celery.backends.base import BaseKeyValueStoreBackend as Backend

    if _celery() >= (5, 5):
        return

    @around(Backend, "_add_global_keyprefix", _MENDED)
    def _add_global_keyprefix(_own: Any, self: Any) -> None:
        options = self.app.conf.get("result_backend_transport_options", {}) or {}
        prefix = options.get("global_keyprefix")
        if not prefix:
            return
        # celery/backends/base.py, 5.5.
        if prefix[-1] not in ":_-.":
            prefix += "_"
        for name in ("task_keyprefix", "group_keyprefix", "chord_keyprefix"):
            setattr(self, name, f"{prefix}{getattr(self, name)}")


# -- delays in the broker ----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def delays_are_kombus() -> bool:
    """Tell whether kombu knows how messages wait in RabbitMQ (from 5.5); without that the workers hold them."""
    return importlib.util.find_spec("kombu.transport.native_delayed_delivery") is not None


def delays_are_celerys() -> bool:
    """Tell whether Celery sends its own tasks that way (from 5.5)."""
    from celery.app import base

    return hasattr(base, "calculate_routing_key")


def mend_deaths() -> None:
    """Leave out of a retry what RabbitMQ wrote into the message on its way through the delay queues.

    RabbitMQ 3 believes a publisher's ``x-death``: a retry that waits in the same queue again is a cycle to it, and is
    dropped without a word. Celery 5.6 leaves these headers out (celery/app/task.py, ``_filter_x_death_headers``);
    before, this does. Calling it again changes nothing.
    """
    from celery.app.task import Context

    if hasattr(Context, "_filter_x_death_headers"):
        return

    @around(Context, "as_execution_options", _MENDED)
    def as_execution_options(own: Any, self: Any) -> dict[str, Any]:
        options: dict[str, Any] = own(self)
        if options.get("headers"):
            options["headers"] = {key: value for key, value in options["headers"].items() if key not in DEATHS}
        return options


# -- the worker's connection -------------------------------------------------------------------------------------------


def mend_qos() -> None:
    """Let every consumer have a prefetch of its own, as quorum queues demand. Calling it again changes nothing.

    Celery asks for it where it finds quorum queues (from 5.5). Before, it asks kombu alone, which says yes for
    RabbitMQ 4 from kombu 5.7 on: everything else sets one number for the channel, which a quorum queue refuses, and
    the worker with it.
    """
    from kombu.transport.pyamqp import Transport

    if not importlib.util.find_spec("celery.utils.quorum_queues"):
        around(Transport, "qos_semantics_matches_spec", _MENDED)(lambda _own, _self, _connection: True)


def count_reconnects(consumer: Any) -> None:
    """Have a worker count how often it tried to reach the broker, where Celery does not (before 5.6).

    :param consumer: the worker's consumer.
    """
    if hasattr(consumer, "broker_connection_retry_attempt") or hasattr(consumer, "celeryops_reconnects"):
        return
    own = consumer.ensure_connected
    consumer.celeryops_reconnects = 0

    def ensure_connected(connection: Any, *args: Any, **more: Any) -> Any:
        ensure = connection.ensure_connection

        def ensure_connection(errback: Any = None, *args: Any, **more: Any) -> Any:
            def failed(*what: Any, **more: Any) -> Any:
                consumer.celeryops_reconnects += 1
                return errback(*what, **more) if errback else None

            return ensure(failed, *args, **more)

        connection.ensure_connection = ensure_connection
        return own(connection, *args, **more)

    consumer.ensure_connected = ensure_connected


def reconnects(consumer: Any) -> int:
    """Tell how often a worker tried to reach the broker; the number may begin anew once it did.

    :param consumer: the worker's consumer, after :func:`count_reconnects`.
    """
    own = getattr(consumer, "broker_connection_retry_attempt", None)
    return int(own if own is not None else getattr(consumer, "celeryops_reconnects", 0))


def mend_cancelling() -> None:
    """Let a worker survive that it cannot note what it cancels. Calling it again changes nothing.

    When the broker is lost, a worker cancels what runs and is not acknowledged
    (``worker_cancel_long_running_tasks_on_connection_loss``), and stores the state ``RETRY``. Where the results are in
    the same Redis that fails, and before 5.7 that error ended the main process ("Unrecoverable error", measured with
    5.4.0). 5.7 logs it (celery/worker/consumer/consumer.py, ``on_connection_error_after_connected``).
    """
    from celery.worker.request import Request

    if _celery() >= (5, 7):
        return

    @around(Request, "_announce_cancelled", _MENDED)
    def _announce_cancelled(own: Any, self: Any, *args: Any, **more: Any) -> None:
        try:
            own(self, *args, **more)
        except Exception as exc:
            # What the pool says of the process that it ended is no failure of the task.
            self._already_cancelled = True
            logger.warning("%s[%s] was cancelled, which nobody could be told: %r", self.name, self.id, exc)


def hear_hard_limits(heard: Callable[[Any, str, Any, Any], None]) -> None:
    """Have somebody told of each task that its hard time limit has ended, where Celery itself tells nobody.

    Before 5.7 the main process stores the failure, and calls neither ``on_failure`` nor a receiver of ``task_failure``
    (celery/worker/request.py, ``on_timeout``).

    :param heard: called in the main process with the task, its id, its arguments and its keyword arguments.
    """
    from celery.worker import state
    from celery.worker.request import Request

    if _celery() >= (5, 7):
        return
    original = Request.on_timeout

    @functools.wraps(original)
    def on_timeout(self: Any, soft: bool, timeout: Any) -> None:
        original(self, soft, timeout)
        # During a cold shutdown the task goes back to its queue.
        if not soft and not state.should_terminate:
            heard(self.task, self.id, self.args, self.kwargs)

    Request.on_timeout = on_timeout


UNSET_BROKERS = ("broker_read_url", "broker_write_url")
"""What the runtime takes out of an app's settings (:func:`celeryops_runtime.celery_settings.connection_settings`)."""


def leave_out_unset_brokers(conf: Any) -> None:
    """Let the table of an app's settings, which remote control shows, name no address of the broker that is not set.

    From 5.7 on a connection is made of each, to hide its password (celery/app/utils.py, ``filter_hidden_settings``),
    and one that is None makes kombu warn of a broker on localhost: ``No hostname was supplied``, twice in each worker
    whenever Flower starts, which asks for the settings. Celery itself has none of them in that table.

    :param conf: the app's settings.
    """

    def table(with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        from celery.app.utils import filter_hidden_settings

        found = type(conf).table(conf, with_defaults, False).items()
        shown = {key: value for key, value in found if value is not None or key not in UNSET_BROKERS}
        return dict(filter_hidden_settings(shown)) if censored else shown

    # Settings forwards attribute writes to its keys.
    conf.__dict__["table"] = table


def mend_pool(pool: Any) -> None:
    """Let gevent's pool say how many tasks it takes, not how many it has. Calling it again changes nothing.

    Before 5.7 its ``num_processes`` is the number of running greenlets (celery/concurrency/gevent.py), from which
    Celery works out how many messages to take after a reconnect: a worker of 100 that was idle takes one.

    :param pool: the pool's class; another one is left alone.
    """
    if getattr(pool, "__module__", "") != "celery.concurrency.gevent" or _celery() >= (5, 7):
        return

    def num_processes(self: Any) -> int:
        # Autoscaling changes the size of the inner pool alone.
        return int(self.limit if self._pool is None else self._pool.size)

    pool.num_processes = property(num_processes)
