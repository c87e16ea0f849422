# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Which results are kept: applies the rules of the shared configuration where tasks are sent or run.

Celery decides it where a task is sent: the message carries ``ignore_result``, and only a message without it leaves the
choice to the worker's task (celery/app/task.py, ``get_actual_ignore_result``, 5.7.0). So the rule is applied in both
places: to each task when it is bound to the app, in place of its own ``ignore_result``; and to each message that is
sent by name, of which the sender may not know the task. What one call says (``apply_async(ignore_result=...)``) wins.

Parts of a chord are kept whatever any rule says. On Redis Celery hands their values on without storing them (seen with
5.7.0, for groups, chains and chords among the parts as well); a backend without that waits for the stored results
(celery/backends/base.py, ``on_chord_part_return`` and ``fallback_chord_unlock``).

A caller who waits for an ignored result gets None at once, where Celery's own group of ignored tasks waits for ever.
Where this process cannot know (the end of a chain, which a worker sends) the caller waits, as ever. Both are told.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from types import new_class
from typing import TYPE_CHECKING, Any

from celeryops_runtime import versions
from celeryops_runtime.task_rules import matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeryops_runtime.config import ResultRule

logger = logging.getLogger("celeryops.runtime")

REMEMBERED = 10_000
"""How many of the last sent tasks with an ignored result a process can tell apart: about 2 MB."""


class _Annotation:
    """Gives each task the rule's ``ignore_result`` when it is bound, after the app's own ``task_annotations``."""

    def __init__(self, results: Results, app: Any) -> None:
        self._results = results
        self._app = app

    def annotate(self, task: Any) -> dict[str, Any] | None:
        """Return the attributes of a task; Celery takes those of the first annotation only, so all are in here."""
        from celery.app.annotations import prepare, resolve_all

        attributes: dict[str, Any] = {}
        for own in resolve_all(prepare(self._app.conf.task_annotations), task):
            attributes |= own
        rule = self._results.rule(task.name)
        if rule is not None:
            attributes["ignore_result"] = rule.result == "ignore"
        return attributes or None

    def annotate_any(self) -> None:
        """Nothing is left for it: see :meth:`annotate`."""


class Results:
    """Applies the rules to one app."""

    def __init__(self, app: Any, rules: Sequence[ResultRule]) -> None:
        """Prepare; the app is not touched yet.

        :param app: the app.
        :param rules: in order; the first that matches decides.
        """
        self._app = app
        self._rules = tuple(rules)
        self._installed = False
        self._told: set[tuple[str, str]] = set()
        self._ignored: OrderedDict[str, str] = OrderedDict()
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self._sending = threading.local()

    def rule(self, name: str) -> ResultRule | None:
        """Find the rule of a task.

        :param name: the task's name.
        :returns: the rule, or None.
        """
        return matching(self._rules, name)

    def install(self) -> None:
        """Attach the rules to the app, before its first task is bound. Calling it again changes nothing."""
        if self._installed:
            return
        self._installed = True
        app = self._app
        own = app.send_task

        def send_task(name: str, *args: Any, **options: Any) -> Any:
            self.decide(name, options)
            # Said in any case: before 5.7 a message of which nobody says anything says False.
            options.setdefault("ignore_result", None)
            outer, self._sending.here = getattr(self._sending, "here", False), True
            try:
                result = own(name, *args, **options)
            finally:
                self._sending.here = outer
            self._remember(name, result.id, options)
            return result

        amqp = app.amqp

        def create_task_message(task_id: str, name: str, *args: Any, **options: Any) -> Any:
            # The very first send_task of a process loads the configuration, and with it this, while it is on its way.
            # Before 5.7 that one says False where nobody said anything.
            said = options.get("ignore_result") is not versions.undecided()
            if options.get("ignore_result") is None or not (said or getattr(self._sending, "here", False)):
                options["ignore_result"] = None
                self.decide(name, options)
                self._remember(name, task_id, options)
            return amqp.task_protocols[app.conf.task_protocol](task_id, name, *args, **options)

        amqp.__dict__["create_task_message"] = create_task_message
        # In the app itself: a class of the user's keeps its methods, which are called from here.
        app.__dict__["send_task"] = send_task
        app.__dict__["AsyncResult"] = self._one(app.AsyncResult)
        app.__dict__["GroupResult"] = self._group(app.GroupResult)
        if self._rules:
            app.__dict__["annotations"] = [_Annotation(self, app)]

    def decide(self, name: str, options: dict[str, Any]) -> None:
        """Put what holds for one message into its options.

        :param name: the task's name.
        :param options: of ``send_task``; changed in place.
        """
        ignore = options.get("ignore_result")
        if ignore is None:
            rule = self.rule(name)
            # _tasks, as send_task itself: a look must not finalize the app.
            task = getattr(self._app, "_tasks", {}).get(name)
            if rule is not None:
                ignore = rule.result == "ignore"
            elif task is not None:
                ignore = task.ignore_result
        if options.get("chord"):
            if ignore:
                self._tell(name, "is kept, although %s ignores it: the task is part of a chord", self.reason(name))
            ignore = False
        if ignore is not None:
            options["ignore_result"] = ignore

    def reason(self, name: str) -> str:
        """Say what ignores a task's result.

        :param name: the task's name.
        :returns: a rule or a setting, as the inventory has it, or the app's own code.
        """
        rule = self.rule(name)
        if rule is not None and rule.result == "ignore":
            return f"celery_app_results ({rule.task}: ignore)"
        if rule is None and self._app.conf.task_ignore_result:
            return "task_ignore_result"
        return "ignore_result in the app's code"

    def waits(self, result: Any) -> bool:
        """Warn of somebody who waits for a result that is not kept.

        :param result: what is waited for.
        :returns: whether it is known to be ignored, so that waiting is in vain.
        """
        name = self._ignored.get(result.id)
        if name or result.ignored:
            name = name or result.__dict__.get("_celeryops_name") or result.id
            self._tell(name, "is waited for, but %s ignores it: get() returns None at once", self.reason(name))
            return True
        name = result.__dict__.get("_celeryops_name")
        if name and result.id not in self._kept:
            rule = self.rule(name)
            task = getattr(self._app, "_tasks", {}).get(name)
            if rule.result == "ignore" if rule is not None else getattr(task, "ignore_result", False):
                self._tell(name, "is waited for, but %s ignores it: get() may never return", self.reason(name))
        return False

    def _tell(self, name: str, text: str, *words: str) -> None:
        if (name, text) not in self._told:
            self._told.add((name, text))
            logger.warning("%s: its result " + text, name, *words)

    def _remember(self, name: str, task_id: str, options: dict[str, Any]) -> None:
        ignored = options.get("ignore_result")
        if ignored is None or (not ignored and not self._rules and not self._app.conf.task_ignore_result):
            return
        seen = self._ignored if ignored else self._kept
        with self._lock:
            seen[task_id] = name
            while len(seen) > REMEMBERED:
                seen.popitem(last=False)

    def _one(self, base: Any) -> Any:
        results = self

        def __init__(this: Any, id: Any, backend: Any = None, task_name: Any = None, *args: Any, **kwargs: Any) -> None:  # noqa: A002, N807
            base.__init__(this, id, backend, task_name, *args, **kwargs)
            this.__dict__["_celeryops_name"] = task_name

        def get(this: Any, *args: Any, **kwargs: Any) -> Any:
            return None if results.waits(this) else base.get(this, *args, **kwargs)

        return _subclass(base, {"__init__": __init__, "get": get, "wait": get})

    def _group(self, base: Any) -> Any:
        results = self

        def supports_native_join(this: Any) -> Any:
            # The native way waits for all of them at once; the other one asks each, and an ignored one answers.
            if any(one.id in results._ignored or getattr(one, "ignored", False) for one in this.results):
                return False
            return base.supports_native_join.fget(this)

        return _subclass(base, {"supports_native_join": property(supports_native_join)})


def _subclass(base: Any, body: dict[str, Any]) -> Any:
    attributes = {"__module__": base.__module__, "__doc__": base.__doc__, **body}
    return new_class(base.__name__, (base,), exec_body=lambda space: space.update(attributes))
