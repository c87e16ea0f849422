# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Queues and routes that change while a process runs, so that an additional worker class restarts nothing.

They have a file of their own (:data:`.config_reader.QUEUES_FILE`), which no unit is restarted for. Whoever sends a task
looks whether it is still the one that was read, which costs a ``stat``; so web processes, beat and tasks that send
others follow as well, and nobody has to tell them. A worker consumes what its command line names, whatever is added
here.

Celery asks the routers before it looks for a route's queue (celery/app/routes.py, ``Router.route``, 5.7.0), and its
queues before the routers where the caller names one: the file is looked at in both places.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from celeryops_runtime.config import ConfigError
from celeryops_runtime.config_reader import reload_queues

if TYPE_CHECKING:
    from celeryops_runtime.config import SharedConfig
    from celeryops_runtime.own import OwnRoutes

logger = logging.getLogger("celeryops.runtime")

Stamp = tuple[int, int, int]


def stamp_of(path: str) -> Stamp | None:
    """Tell one version of a file from the next one.

    :param path: the file.
    :returns: its inode, size and time of modification: who replaces it does so as a whole; None if there is none.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - at each call of delay(): a Path costs more than what it asks
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class QueuesFile:
    """The first of ``task_routes``: a router that decides nothing, and has those behind it follow the file.

    No lock: two threads that both see a change do the same twice.
    """

    def __init__(
        self,
        app: Any = None,
        path: str = "",
        stamp: Stamp | None = None,
        config: SharedConfig | None = None,
        own_routes: OwnRoutes | None = None,
    ) -> None:
        """Look at nothing yet.

        :param app: the Celery app; without one nothing is ever looked at.
        :param path: the file.
        :param stamp: the file's, from before it was read.
        :param config: what was read.
        :param own_routes: the app's own routes, where they hold.
        """
        self._app = app
        self._path = path
        self._stamp = stamp
        self._config = config
        self._own_routes = own_routes
        self._queues: list[Any] = []
        self._routes: list[Any] = []

    def govern(self, settings: dict[str, Any]) -> None:
        """Take charge of an app's settings.

        :param settings: those to be; ``task_queues`` and ``task_routes`` in them are lists that change in place.
        """
        self._queues = settings["task_queues"]
        self._routes = settings["task_routes"]
        self._routes.insert(0, self)

    def install(self) -> None:
        """Have the app's queues look here before they make up one that they do not know."""
        amqp, look = self._app.amqp, self.look
        if issubclass(amqp.queues_cls, _Following):
            return

        class Queues(_Following, amqp.queues_cls):  # type: ignore[misc, name-defined]
            """The app's class of queues."""

            _look = staticmethod(look)

        amqp.queues_cls = Queues

    def look(self) -> bool:
        """Read the file again if it is another one.

        :returns: whether queues or routes may be others now. What cannot be used is logged, and what was read before
            holds on: a process that starts says the same and does not run.
        """
        if self._app is None or self._config is None:
            return False
        stamp = stamp_of(self._path)
        if stamp in (None, self._stamp):
            return False
        self._stamp = stamp
        try:
            self._config = reload_queues(self._config, self._path)
        except ConfigError as exc:
            logger.warning("what was read before holds on: %s", exc)
            return False
        self._apply(self._config)
        return True

    def _apply(self, config: SharedConfig) -> None:
        from celery.app.routes import prepare

        amqp = self._app.amqp
        before = {queue.name: queue for queue in self._queues}
        self._queues[:] = [before.get(queue.name, queue) for queue in config.kombu_queues()]
        for queue in self._queues:
            found = dict.get(amqp.queues, queue.name)
            # One that Celery made up has an exchange of its own.
            if found is None or found.exchange.name != queue.exchange.name:
                amqp.queues.add(queue)
        own = [self._own_routes] if self._own_routes else []
        for router in own:
            router.knows(queue.name for queue in config.queues)
        self._routes[:] = [self, *config.routers(), *own]
        # The same list is the router's (celery/app/amqp.py, ``Router``, 5.7.0).
        amqp.routes[:] = prepare(self._routes)
        logger.info("queues and routes are those of %s now", self._path)

    def __call__(self, *_call: Any, **_more: Any) -> None:
        """Route no call, as Celery's docs/userguide/routing.rst describes a router."""
        self.look()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the app: the copy's loader reads the file itself."""
        return QueuesFile, ()

    def __repr__(self) -> str:
        """Name it in ``celery inspect conf``."""
        return "<follow the file of the queues>"


class _Following(dict):  # type: ignore[type-arg]
    """What Celery's class of queues gets on top (celery/app/amqp.py, ``Queues.__missing__``, 5.7.0)."""

    def __missing__(self, name: str) -> Any:
        return self[name] if name in self else super().__missing__(name)  # type: ignore[misc]

    def __contains__(self, name: object) -> bool:
        """Look before a queue is said not to be there: remote control adds one then, as it is told to."""
        return super().__contains__(name) or (self._look() and super().__contains__(name))  # type: ignore[attr-defined]
