# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The loader that applies the shared configuration to an unmodified app.

Celery asks ``CELERY_LOADER`` for the class of every app's loader (celery/app/base.py, ``_get_default_loader``, 5.7.0)
and the loader for the configuration the moment a setting is read for the first time. From then on the shared settings
are pinned: whatever the app set before (constructor, ``config_from_object``, ``conf.update``, attributes, a Django
namespace, old upper-case names) or sets later does not replace them.

One worker class differs from the others by ``CELERYOPS_SETTINGS`` in its unit, a JSON object of settings that holds
from the start; or by its command line (``celery worker ... -- task.acks_late=False``), which wins over both but comes
too late for the tasks of an app that binds them while it is imported.

Not reached: an app that passes ``loader=`` to its constructor. ``python -m celeryops_runtime inspect-app`` reports it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from celery.exceptions import ImproperlyConfigured, SecurityError
from celery.loaders.app import AppLoader
from celery.signals import celeryd_after_setup

from celeryops_runtime import delay, follow, nodes, publish, results, sentinel, systemd, tls, versions
from celeryops_runtime.celery_settings import celery_settings, connection_settings
from celeryops_runtime.config_reader import load, process_settings, queues_path
from celeryops_runtime.queues_file import QueuesFile, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from celeryops_runtime.config import SharedConfig
    from celeryops_runtime.once_guard import Guard
    from celeryops_runtime.own import OwnRoutes

logger = logging.getLogger("celeryops.runtime")

BEAT_SCHEDULER = "CELERYOPS_BEAT_SCHEDULER"
"""The variable of :data:`celeryops_runtime.beat.VARIABLE`; only beat has use for that module."""


class PinnedSettings(dict[str, Any]):
    """The first mapping of an app's settings, in which some keys do not change any more.

    Celery's ``Settings`` writes every change into its first mapping and reads that mapping first
    (celery/utils/collections.py, ``ConfigurationView``, 5.7.0). Writes to a pinned key, by whatever name, are dropped
    and logged at level DEBUG.
    """

    def __init__(
        self,
        current: Mapping[str, Any],
        pinned: Mapping[str, Any],
        names: Iterable[str],
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what is there, and pin.

        :param current: the mapping so far.
        :param pinned: the settings in force, by their lower-case names.
        :param names: every name under which a pinned setting can be written: lower case, old upper case, with the
            app's namespace.
        :param aliases: further names that hold a pinned setting's value, and the setting's
            (:func:`celeryops_runtime.versions.looked_up_first`).
        """
        self.aliases = dict(aliases or {})
        self._said: dict[str, Any] = dict(current._said if isinstance(current, PinnedSettings) else ())
        self._names = frozenset(names) | frozenset(pinned) | frozenset(self.aliases)
        if not isinstance(current, PinnedSettings):
            self._said.update((key, value) for key, value in current.items() if key in self._names)
        super().__init__({key: value for key, value in current.items() if key not in self._names})
        super().update({alias: pinned[key] for alias, key in self.aliases.items()})
        super().update(pinned)

    def _writable(self, key: str) -> bool:
        if key in self._names:
            logger.debug("the shared configuration has %s: the app's own value is not used", key)
            return False
        return True

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a key that is not pinned."""
        if self._writable(key):
            super().__setitem__(key, value)
        else:
            self._said[key] = value

    def __delitem__(self, key: str) -> None:
        """Delete a key that is not pinned."""
        if self._writable(key):
            super().__delitem__(key)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set the keys that are not pinned; arguments as for :meth:`dict.update`."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> PinnedSettings:  # type: ignore[override, misc]
        """Set the keys that are not pinned."""
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As :meth:`dict.setdefault`; a pinned key is always there."""
        if key not in self:
            self[key] = default
        return self.get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """As :meth:`dict.pop`; a pinned key is returned and stays."""
        return super().pop(key, *default) if self._writable(key) else self[key]

    def popitem(self) -> tuple[str, Any]:
        """As :meth:`dict.popitem`, among the keys that are not pinned.

        :raises KeyError: if only pinned keys are left.
        """
        for key in self._free():
            return key, super().pop(key)
        raise KeyError("only pinned settings are left")

    def clear(self) -> None:
        """Forget the keys that are not pinned."""
        self._said.clear()
        for key in list(self._free()):
            super().__delitem__(key)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a plain dictionary: the app that is rebuilt elsewhere has a loader that pins there."""
        return dict, ({key: value for key, value in self.items() if key not in self.aliases},)

    def said(self) -> dict[str, Any]:
        """What the app itself has set, for pinned settings as well.

        :returns: by the names that it uses, which may be old ones (:func:`celeryops_runtime.own.said`).
        """
        return {**{key: self[key] for key in self._free()}, **self._said}

    def _free(self) -> Iterator[str]:
        return (key for key in reversed(self) if key not in self._names)


def refuse_root(uids: Iterable[int] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Refuse to run a worker or beat with root's rights, or with the switch that would allow it.

    :param uids: the process's user ids, real and effective; asked from the system if not given.
    :param environ: the environment; the process's own if not given.
    :raises celery.exceptions.SecurityError: if one of the ids is 0, or ``C_FORCE_ROOT`` is not empty. Celery's
        ``worker`` command prints its text and exits with status 1 (celery/bin/worker.py, 5.7.0).
    """
    if 0 in (uids if uids is not None else (os.getuid(), os.geteuid())):
        raise SecurityError(
            "refusing to start: Celery would run as root here, so every task could change the whole system. "
            "Set User= in its unit to the app's own user."
        )
    if (environ if environ is not None else os.environ).get("C_FORCE_ROOT"):
        raise SecurityError(
            "refusing to start: C_FORCE_ROOT is set, which turns off Celery's own protection against running as root "
            "with pickle. Remove it from the environment; a worker that does not run as root has no use for it."
        )


LOG_RECEIVED = "CELERYOPS_LOG_RECEIVED"
"""In a worker's unit, where its class has ``log_received``."""


def hush_received(environ: Mapping[str, str] | None = None) -> None:
    """Leave out the line ``Task ... received``, unless somebody wants it: what becomes of the task is logged anyway.

    The main process of a worker, which all tasks pass, spends a tenth of its time on that line. Celery asks once per
    task, when it begins to consume, whether the line is wanted (celery/worker/strategy.py, 5.7.0: ``_does_info``).

    :param environ: the environment; the process's own if not given. With ``CELERYOPS_LOG_RECEIVED`` the line stays, as
        it does at the level DEBUG, and where the app has given this logger a level of its own.
    """
    received = logging.getLogger("celery.worker.strategy")
    wanted = (environ if environ is not None else os.environ).get(LOG_RECEIVED)
    if not wanted and received.level == logging.NOTSET and received.getEffectiveLevel() == logging.INFO:
        received.setLevel(logging.WARNING)


def _after_setup(instance: Any = None, **_signal: Any) -> None:
    """Look after a worker whose parts are chosen, and not made yet."""
    hush_received()
    # Not in a producer: it needs Celery's worker.
    from celeryops_runtime import outage

    pool = getattr(instance, "pool_cls", None)
    versions.mend_pool(pool)
    outage.mend_pool(pool)


PICKLE = frozenset({"pickle", "application/x-python-serialize"})
"""The name and the content type of what runs code when it is read (kombu/serialization.py, 5.7.0)."""


def refuse_pickle(accepted: Iterable[str], shared: Iterable[str]) -> None:
    """Refuse to read messages that run code.

    :param accepted: what the process accepts, by name or content type.
    :param shared: what the shared configuration accepts; the role never lets pickle in, so whoever wrote that file
        himself has decided it.
    :raises celery.exceptions.SecurityError: if the process accepts pickle, and the shared configuration does not.
    """
    if PICKLE & set(accepted) and not PICKLE & set(shared):
        raise SecurityError(
            "refusing to start: this process would accept pickle, so everyone who reaches the broker could run any "
            "code in it. Remove pickle from accept_content in its command line, its unit and its code."
        )


class Loader(AppLoader):  # type: ignore[misc]  # Celery has no type information
    """Celery's loader for custom apps, with the shared configuration and systemd on top."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        """Make the loader of one app.

        :param app: the Celery app. It may still be under construction (Django's fix-up asks for the loader from
            within the constructor), so nothing of it is touched here.
        :param kwargs: what Celery passes on to its own loaders.
        """
        super().__init__(app, **kwargs)
        self._shared: dict[str, Any] | None = None
        self._accepted: list[str] = []
        self._command_line: dict[str, Any] = {}
        self._connected = self._persists = False
        self._broker = ""
        #: Which version of the shared configuration is in force (:attr:`celeryops_runtime.config.SharedConfig.digest`).
        self.digest = ""
        self._guard: Guard | None = None
        self._results: results.Results | None = None
        self._sends_delayed = False
        self._own_routes: OwnRoutes | None = None
        self._queues_file: QueuesFile | None = None
        systemd.announce_beat()

    @property
    def conf(self) -> Any:
        """The app's own configuration, as Celery's loader reads it.

        ``Celery._load_config`` asks for it right before it builds the settings, which is the moment to get in line:
        errors raised here reach the caller, while those of a signal's receiver are only logged.

        :returns: a mapping, or None if the app has no configuration source.
        :raises celeryops_runtime.config.ConfigError: if the shared configuration cannot be used.
        """
        if self._shared is None:
            nodes.rotate()
            # From before it is read: a later one is another version.
            stamp = stamp_of(queues_path())
            config = load()
            self.digest = config.digest
            shared = celery_settings(config)
            self._accepted = shared["accept_content"]
            if config.own_routes:
                from celeryops_runtime.own import OwnRoutes

                self._own_routes = OwnRoutes(self.app, [queue.name for queue in config.queues])
                shared["task_routes"].append(self._own_routes)
            if config.queues_file:
                self._queues_file = QueuesFile(self.app, config.queues_file, stamp, config, self._own_routes)
                self._queues_file.govern(shared)
            settings = {**shared, **process_settings()}
            self._shared = {**settings, **connection_settings(settings)}
            self._mend(config)
            if config.broker == "rabbitmq" and self._shared.get("broker_use_ssl"):
                tls.mend()
            self._broker = config.broker
            publish.mend(config.broker)
            follow.mend()
            if any(sentinel.there(os.environ.get(name, "")) for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")):
                sentinel.mend()
            self._results = results.Results(self.app, config.results)
            if config.once.rules:
                from celeryops_runtime.once_guard import Guard
                from celeryops_runtime.once_store import url_of

                self._guard = Guard(self.app, config.once, url_of(os.environ))
        if not self._connected:
            self._connected = True
            signal = self.app.on_after_configure
            signal.connect(self._pin, weak=False)
            # First in line: the app's own receivers may finalize it, and a task copies settings such as
            # task_acks_late when it is bound (celery/app/task.py, 5.7.0).
            signal.receivers.insert(0, signal.receivers.pop())
        return super().conf

    def _mend(self, config: SharedConfig) -> None:
        """Have this Celery do what a newer one does, where the shared configuration needs it."""
        versions.mend_results()
        versions.mend_prefixes()
        if config.quorum_queues:
            versions.mend_qos()
        if config.delays_in_broker:
            versions.mend_deaths()
            self._sends_delayed = not delay.mend()

    def cmdline_config_parser(self, args: Any, namespace: str = "celery", *rest: Any, **kwargs: Any) -> dict[str, Any]:
        """Read the settings of a command line (``celery worker ... -- task.acks_late=False``); they win.

        :param args: ``name=value`` words.
        :param namespace: the prefix of names that begin with a dot.
        :param rest: as for Celery's own loader.
        :param kwargs: as for Celery's own loader.
        :returns: settings by their lower-case names.
        :raises KeyError, ValueError: for an unknown name or a value of another type, as Celery's own loader does.
        """
        parsed: dict[str, Any] = super().cmdline_config_parser(args, namespace, *rest, **kwargs)
        self._command_line.update(parsed)
        if self.app.configured:
            self._pin()
        return parsed

    def init_worker(self) -> None:
        """Start a worker, or beat, which calls this too: refuse root before any module with tasks is imported.

        :raises celery.exceptions.SecurityError: see :func:`refuse_root` and :func:`refuse_pickle`.
        :raises celery.exceptions.ImproperlyConfigured: if the shared configuration is not in force, which only
            another Celery than the supported one can cause.
        """
        refuse_root()
        if not self.in_force:
            raise ImproperlyConfigured(
                "celeryops_runtime could not put the shared configuration into force in this app: this version of "
                "Celery is not supported by this version of celeryops.stack"
            )
        super().init_worker()
        # Now that every module is imported: whatever they set is in the settings.
        conf = self.app.conf
        refuse_pickle([*(conf.accept_content or ()), *(conf.result_accept_content or ())], self._accepted)
        # Not in a producer, which has no use for it.
        from celeryops_runtime import probe

        probe.install(self.app)

    def on_worker_init(self) -> None:
        """Add readiness to the worker that starts in this process, if systemd waits for it, and the once-rules."""
        super().on_worker_init()
        # Not in a producer: they need Celery's worker.
        from celeryops_runtime import backlog, leaving, malformed, outage, quiet

        nodes.mend()
        sentinel.mend_report()
        backlog.install()
        leaving.install()
        malformed.install(self.app)
        quiet.install(self.app)
        outage.install(self.app)
        versions.mend_cancelling()
        if os.environ.get("NOTIFY_SOCKET"):
            # A unit with Type=notify.
            from celeryops_runtime import readiness

            readiness.install(self.app)
        celeryd_after_setup.connect(_after_setup, weak=False, dispatch_uid="celeryops_runtime.after_setup")
        if self._guard:
            self._guard.connect()

    def on_task_init(self, task_id: str, task: Any) -> None:
        """Note when a task begins: what follows it may wait as long as its time limit allows.

        :param task_id: of the task.
        :param task: the task.
        """
        if not task.request.is_eager:
            # One that runs within another has the other's time.
            follow.began()
        super().on_task_init(task_id, task)

    def init_worker_process(self) -> None:
        """Guard the tasks in a pool's process that was not forked from a worker, and so inherited nothing."""
        super().init_worker_process()
        if self._guard:
            self._guard.install()

    @property
    def in_force(self) -> bool:
        """Whether the app's settings are the shared ones.

        :returns: True once they are pinned; reading this loads the configuration.
        """
        self.app.conf.finalize()
        return isinstance(self.app.conf.changes, PinnedSettings)

    def own_report(self) -> dict[str, Any]:
        """Say what the app itself has where the shared configuration decides; asked when a release is tried.

        :returns: ``replaced``, see :func:`celeryops_runtime.own.replaced`; ``queues``, see
            :func:`celeryops_runtime.own.queues_of_tasks`; and ``routes`` where the app's own hold, see
            :func:`celeryops_runtime.own.routes`.
        :raises celery.exceptions.ImproperlyConfigured: if routes of the app that hold cannot be read.
        """
        from celeryops_runtime import own

        if not self.in_force:
            return {}
        found: dict[str, Any] = {"replaced": own.replaced(self.app), "queues": own.queues_of_tasks(self.app)}
        if self._own_routes:
            found["routes"] = own.routes(self.app, self._own_routes)
        return found

    def _pin(self, **_signal: Any) -> None:
        conf = self.app.conf
        pinned = {**(self._shared or {}), **self._command_line}
        # _to_keys: every name that a look-up of this key tries, with the app's namespace and the old spelling.
        names = {name for key in pinned for name in conf._to_keys(key)}
        aliases = {name: key for key in pinned for name in versions.looked_up_first(conf, key)}
        changes = PinnedSettings(conf.changes, pinned, names, aliases)
        # Settings forwards attribute writes to its keys, so these two go in below it, as its own swap_with does.
        conf.__dict__["changes"] = changes
        conf.maps[0] = changes
        versions.leave_out_unset_brokers(conf)
        if os.environ.get(BEAT_SCHEDULER):
            from celeryops_runtime import beat

            beat.offer(conf)
        if self._queues_file:
            self._queues_file.install()
        if self._results:
            self._results.install()
        if not self._persists:
            self._persists = True
            follow.persist(self.app)
            publish.note_events(conf.event_exchange)
            if self._broker == "redis":
                publish.bound_writes(self.app)
        if self._sends_delayed:
            delay.send_delayed(self.app)
