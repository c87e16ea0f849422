# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The app's own values of settings that the shared configuration overrides.

Nobody who runs ``celery worker`` sees that a value of the app's is not the one in force, so whoever takes over an app
is told once, setting by setting, when a release is tried. Its routes may hold all the same, if the inventory says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celeryops_runtime.effective import plain, route
from celeryops_runtime.wording import some_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UNSAID = object()
"""Stands for a setting that the app says nothing of."""

OPTIONS = ("queue", "exchange", "routing_key")
"""Options of a task that say where it goes, whatever the routes say."""

PAIR = 2
SHOWN = 3
"""How many tasks a line names."""


def said(conf: Any, key: str) -> Any:
    """Look up what the app itself has for a setting, in whichever way it was set.

    :param conf: the app's settings, with the shared ones pinned (:class:`celeryops_runtime.loader.PinnedSettings`).
    :param key: a setting's lower-case name.
    :returns: the app's value, or :data:`UNSAID`.
    """
    from celery.utils.collections import ConfigurationView

    # The last mapping holds Celery's defaults (celery/app/utils.py, detect_settings, 5.4 to 5.7). The look-up is this
    # version's own: it knows the app's namespace and the old names.
    view = ConfigurationView(conf.changes.said(), conf.maps[1:-1], keys=conf._keys, prefix=conf.prefix)
    return view.get(key, UNSAID)


def tasks_of(app: Any) -> list[str]:
    """Name the tasks of an app.

    :param app: the Celery app, finalized.
    :returns: sorted; without those of Celery and of this package.
    """
    return sorted(name for name in app.tasks if not name.startswith(("celery.", "celeryops.")))


class OwnRoutes:
    """The app's own ``task_routes``, as Celery reads them: a router that asks them, for where they hold."""

    def __init__(self, app: Any, queues: Iterable[str] = (), routes: Any = None) -> None:
        """Look at nothing yet: an app may set them later.

        :param app: the Celery app.
        :param queues: names of the queues that there are.
        :param routes: what they are, for a copy without an app.
        """
        self._app = app
        self._routes = routes
        self._queues = frozenset(queues)
        self._read: Any = UNSAID
        self._routers: list[Any] = []

    def knows(self, queues: Iterable[str]) -> None:
        """Be told of other queues than before.

        :param queues: names of those that there are.
        """
        self._queues = frozenset(queues)

    def routers(self) -> list[Any]:
        """Give what decides, in its order.

        :returns: Celery's own objects: one for each mapping, function, class or name of one.
        """
        found = self._said()
        if found is not self._read:
            from celery.app.routes import prepare

            self._routers = list(prepare(found))
            self._read = found
        return self._routers

    def _said(self) -> Any:
        found = said(self._app.conf, "task_routes") if self._app is not None else self._routes
        return None if found is UNSAID else found

    def destination(self, task: str, *call: Any, task_type: Any = None) -> Any:
        """Ask the routes for a task.

        :param task: its name.
        :param call: arguments, keyword arguments and options, where there are such.
        :param task_type: the task, if it is registered.
        :returns: what a router says: a queue, its name, a dictionary of options, or None.
        """
        from celery.app.routes import Router

        args, kwargs, options = call or ((), {}, {})
        return Router(routes=self.routers(), app=self._app).lookup_route(task, args, kwargs, options, task_type)

    def __call__(
        self, name: str, args: Any = None, kwargs: Any = None, options: Any = None, task: Any = None, **_more: Any
    ) -> dict[str, Any] | None:
        """Route one call, as Celery's docs/userguide/routing.rst describes a router.

        :param name: the task's name.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments.
        :param options: the options of the call.
        :param task: the task, if it is registered.
        :returns: what the app's routes say, or None. Where they say a queue, or a routing key that is one's name, the
            exchange and the key are left to that queue: here each is bound by its name to the one exchange, and what
            the app calls its own does not exist.
        """
        found = self.destination(name, args, kwargs, options, task_type=task)
        if found is None:
            return None
        way = dict(found) if isinstance(found, Mapping) else {"queue": found}
        if way.get("queue") is None and way.get("routing_key") in self._queues:
            way["queue"] = way["routing_key"]
        if way.get("queue") is not None:
            way["queue"] = queue_in(way)
            for option in ("exchange", "exchange_type", "routing_key"):
                way.pop(option, None)
        return way

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the routes without the app, whose copy takes what is pickled of its settings for its own."""
        return OwnRoutes, (None, sorted(self._queues), self._said())

    def __repr__(self) -> str:
        """Name it in ``celery inspect conf``."""
        return "<the app's own routes>"


def routes(app: Any, own: OwnRoutes) -> dict[str, Any]:
    """Find out where an app's own routes lead.

    :param app: the Celery app, finalized, with the shared configuration in force.
    :param own: its routes.
    :returns: ``named`` (what a mapping has for a task's name or pattern: the queue that it says, None where it says
        none), ``tasks`` (every task of the app and its queue when it is sent without arguments), ``asked`` (what
        decides by itself, for other arguments otherwise perhaps), ``failed`` (tasks for which one of those failed,
        and how).
    :raises celery.exceptions.ImproperlyConfigured: if one of them cannot be read, a misspelt class for example.
    """
    from celery.app.routes import MapRoute
    from celery.exceptions import ImproperlyConfigured
    from kombu.utils.functional import maybe_evaluate

    asked = []
    try:
        for router in own.routers():
            made = maybe_evaluate(router)
            if not isinstance(made, MapRoute):
                what = made if hasattr(made, "__qualname__") else type(made)
                asked.append(f"{what.__module__}.{what.__qualname__}")
    except Exception as error:
        raise ImproperlyConfigured(
            f"celery_app_routes is from-app, and task_routes of the app cannot be read: {type(error).__name__}: {error}"
        ) from error
    named = {}
    for name, way in _mapped(said(app.conf, "task_routes")):
        named[str(getattr(name, "pattern", name))] = _led_to(app, way)
    tasks, failed = {}, {}
    for task in tasks_of(app):
        try:
            found = route(app, task)
        except Exception as error:  # it is the app's, and can raise anything
            failed[task] = type(error).__name__
            continue
        tasks[task] = found["queue"]["name"] if isinstance(found.get("queue"), Mapping) else None
    return {"named": named, "tasks": tasks, "asked": asked, "failed": failed}


def queues_of_tasks(app: Any) -> dict[str, str]:
    """Find the tasks that name a queue in their own code, which comes before any route.

    :param app: the Celery app, finalized.
    :returns: task -> queue.
    """
    found = {task: queue_in({"queue": getattr(app.tasks[task], "queue", None)}) for task in tasks_of(app)}
    return {task: queue for task, queue in found.items() if queue}


def _led_to(app: Any, way: Any) -> str | None:
    """Say to which queue an entry of a mapping leads; by a key that is a queue's name it leads there as well."""
    key = way.get("routing_key") if isinstance(way, Mapping) else None
    return queue_in(way) or (str(key) if key in app.amqp.queues else None)


def _mapped(routes: Any) -> list[tuple[Any, Any]]:
    """List what mappings among routes have; a list of pairs is one (celery/app/routes.py, MapRoute)."""
    parts = routes if isinstance(routes, (list, tuple)) else [routes]
    found: list[tuple[Any, Any]] = []
    for part in parts:
        if isinstance(part, Mapping):
            found += part.items()
        elif isinstance(part, (list, tuple)):
            pairs = [pair for pair in part if isinstance(pair, (list, tuple)) and len(pair) == PAIR]
            found += [(pair[0], pair[1]) for pair in pairs]
    return found


def queue_in(destination: Any) -> str | None:
    """Read the queue's name in what a router says.

    :param destination: see :meth:`OwnRoutes.destination`.
    :returns: None where it names none.
    """
    queue = destination.get("queue") if isinstance(destination, Mapping) else destination
    return None if queue is None else str(getattr(queue, "name", queue))


def replaced(app: Any) -> list[dict[str, str]]:
    """Compare what the app says with what holds.

    :param app: the Celery app, finalized, with the shared configuration in force.
    :returns: ``setting``, ``app`` and ``here`` of each of :data:`COMPARED` that differs, sorted.
    """
    found = []
    for key, compare in sorted(COMPARED.items()):
        try:
            own, here = said(app.conf, key), getattr(app.conf, key, None)
            texts = None if own is UNSAID or own is None else compare(app, own, here)
        except Exception:  # noqa: S112 - an app can have anything there, and it is about to be used as it is
            continue
        if texts:
            found.append({"setting": key, "app": texts[0], "here": texts[1]})
    return found


def _value(_app: Any, own: Any, here: Any) -> tuple[str, str] | None:
    return None if own == here else (repr(plain("", own)), repr(plain("", here)))


def _members(_app: Any, own: Any, here: Any) -> tuple[str, str] | None:
    one, other = [own] if isinstance(own, str) else sorted(map(str, own)), sorted(map(str, here))
    return None if one == other else (repr(one), repr(other))


def _queues(_app: Any, own: Any, here: Any) -> tuple[str, str] | None:
    """Tell of queues that are not there; what is there beside them changes nothing for the app."""
    one, other = _names(own), _names(here)
    return None if set(one) <= set(other) else (", ".join(one), ", ".join(other))


def _names(queues: Iterable[Any]) -> list[str]:
    return sorted({str(getattr(queue, "name", queue)) for queue in queues})


def _routes(app: Any, own: Any, here: Any) -> tuple[str, str] | None:
    """Tell of the tasks that go elsewhere than by the app's own routes; how the two are written is no difference."""
    if any(isinstance(router, OwnRoutes) for router in here):
        return None
    own_routes, default = OwnRoutes(app), app.conf.task_default_queue
    own_default = said(app.conf, "task_default_queue")
    ways: dict[str, tuple[str, str]] = {}
    for task in sorted({*tasks_of(app), *_named(own)}):
        registered = app.tasks.get(task)
        # Options of the task itself come before any route.
        if registered is not None and any(getattr(registered, name, None) for name in OPTIONS):
            continue
        way = queue_in(own_routes.destination(task, task_type=registered))
        here = str(route(app, task)["queue"]["name"])
        if way == here or (here == default and way in (None, own_default)):
            continue
        ways[task] = (way or f"the default queue ({'celery' if own_default is UNSAID else own_default})", here)
    if not ways:
        return None
    theirs, ours = ([f"{task} to {way[side]}" for task, way in ways.items()] for side in (0, 1))
    return some_of(theirs, SHOWN), ", ".join(ours[:SHOWN])


def _named(routes: Any) -> list[str]:
    """Name the tasks that routes speak of by their whole names, whether or not this process has them."""
    return [name for name, _way in _mapped(routes) if isinstance(name, str) and not set("*?[") & set(name)]


COMPARED: dict[str, Callable[[Any, Any, Any], tuple[str, str] | None]] = {
    "accept_content": _members,
    "result_serializer": _value,
    "task_acks_late": _value,
    "task_default_queue": _value,
    "task_queues": _queues,
    "task_reject_on_worker_lost": _value,
    "task_routes": _routes,
    "task_serializer": _value,
    "worker_prefetch_multiplier": _value,
}
"""Setting -> what tells the two values apart, and how they are shown. None of them holds an address or a password."""
