# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Once per period: a task that ran for these arguments does not run again until its period is over.

The rules are in the shared configuration. A worker that starts puts a guard in front of the tasks that a rule names,
by giving the task object a class of its own with ``before_start``, ``on_success`` and ``on_failure``: Celery's tracer
calls these in the process, thread or greenlet that runs the task, in every pool (celery/app/trace.py, ``build_tracer``,
5.7.0). Tasks without a rule are not touched.

One run is one key in Redis (:mod:`celeryops_runtime.once_store`), which says who has it, and whether that task still
runs or is done. So

* a message with the id that the key says is running is a retry, or was delivered again after a worker was killed: it
  runs;
* a message with the id that is done was delivered again after the end: it is dropped, its result stays;
* another id is a duplicate: it is dropped and its state becomes ``REVOKED``, which every waiting caller, chain and
  chord understands (another state would leave them waiting for ever).
"""

from __future__ import annotations

import logging
from types import new_class
from typing import TYPE_CHECKING, Any

from celeryops_runtime.once import digest
from celeryops_runtime.once_store import Store
from celeryops_runtime.task_rules import matching
from celeryops_runtime.versions import hear_hard_limits, ignores_result

if TYPE_CHECKING:
    from celeryops_runtime.config import Once, OnceRule

logger = logging.getLogger("celeryops.runtime")

AGAIN = 30
"""Seconds after which a task that was refused because Redis is away is delivered again."""


class Guard:
    """Enforces the rules in one worker."""

    def __init__(self, app: Any, once: Once, url: str) -> None:
        """Prepare; nothing is connected and no task is changed yet.

        :param app: the worker's app.
        :param once: the rules.
        :param url: see :func:`celeryops_runtime.once_store.url_of`. Without one every decision falls to
            ``when_redis_is_down``.
        """
        self._app = app
        self._rules = once.rules
        self._guarded: dict[str, OnceRule] = {}
        self.store = Store(app, url, once.prefix)

    def connect(self) -> None:
        """Follow the worker: guard its tasks once all of them are known, and hear of runs that end outside of them."""
        from celery.signals import celeryd_after_setup, task_failure, task_revoked

        celeryd_after_setup.connect(self._ready, weak=False)
        task_failure.connect(self._lost, weak=False)
        task_revoked.connect(self._revoked, weak=False)
        hear_hard_limits(self._end)

    def install(self) -> list[str]:
        """Put the guard in front of every task that a rule names. Calling it again changes nothing.

        :returns: the rules that no task of the app matches.
        """
        used: set[str] = set()
        for name, task in self._app.tasks.items():
            rule = matching(self._rules, name)
            if rule is None:
                continue
            used.add(rule.task)
            if name not in self._guarded:
                self._guarded[name] = rule
                self._wrap(task, rule)
        return [rule.task for rule in self._rules if rule.task not in used]

    def _ready(self, instance: Any = None, **_signal: Any) -> None:
        if instance is None or instance.app is not self._app:
            return
        for task in self.install():
            logger.warning("celery_app_once: no task of this app is called %s", task)

    def _wrap(self, task: Any, rule: OnceRule) -> None:
        guard, own = self, type(task)

        def before_start(this: Any, task_id: str, args: Any, kwargs: Any) -> None:
            if not this.request.is_eager:
                guard.enter(this, rule, task_id, args, kwargs)
            own.before_start(this, task_id, args, kwargs)

        def on_success(this: Any, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            if not this.request.is_eager:
                guard.leave(this, rule, task_id, args, kwargs, keep=True)
            own.on_success(this, retval, task_id, args, kwargs)

        def on_failure(this: Any, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            if not this.request.is_eager:
                guard.leave(this, rule, task_id, args, kwargs, keep=rule.on_failure == "keep")
            own.on_failure(this, exc, task_id, args, kwargs, einfo)

        hooks = {
            "__module__": own.__module__,
            "__doc__": own.__doc__,
            "before_start": before_start,
            "on_success": on_success,
            "on_failure": on_failure,
        }
        # A class for this one object: another task may share its class, and the tracer looks hooks up on the class.
        # The module stays, by which Celery finds the task again when it is pickled.
        task.__class__ = new_class(own.__name__, (own,), exec_body=lambda body: body.update(hooks))
        task.__trace__ = None

    def key(self, task: Any, rule: OnceRule, args: Any, kwargs: Any) -> str:
        """Name the key of a call.

        :param task: the task.
        :param rule: its rule.
        :param args: positional arguments of the call.
        :param kwargs: keyword arguments of the call.
        :returns: the name in Redis, the app's prefix included.
        :raises OnceError: see :func:`celeryops_runtime.once.digest`.
        """
        return f"{self.store.prefix}{task.name}:{digest(task.run, args or (), kwargs or {}, rule.key)}"

    def enter(self, task: Any, rule: OnceRule, task_id: str, args: Any, kwargs: Any) -> None:
        """Decide whether a call may run.

        :param task: the task, with its request.
        :param rule: its rule.
        :param task_id: the call's id.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments.
        :raises celery.exceptions.Ignore: if it may not, now or at all.
        :raises celery.exceptions.Reject: if Redis is away and the call cannot be sent again either.
        :raises OnceError: see :func:`celeryops_runtime.once.digest`.
        """
        key = self.key(task, rule, args, kwargs)
        try:
            state, owner = self.store.take(key, task_id, rule.period)
        except Exception as exc:
            self._undecided(task, rule, task_id, args, kwargs, exc)
            return
        if not state or (state, owner) == ("running", task_id):
            return
        self._drop(task, rule, task_id, key, owner)

    def leave(self, task: Any, rule: OnceRule, task_id: str, args: Any, kwargs: Any, *, keep: bool) -> None:
        """Note the end of a run. Whatever goes wrong here is logged: the run itself has its outcome.

        :param task: the task.
        :param rule: its rule.
        :param task_id: the call's id.
        :param args: its positional arguments.
        :param kwargs: its keyword arguments.
        :param keep: whether the key stays until the period is over.
        """
        try:
            key = self.key(task, rule, args, kwargs)
            (self.store.finish if keep else self.store.free)(key, task_id)
        except Exception as exc:
            logger.warning("%s[%s]: celery_app_once could not note the end of the run: %s", task.name, task_id, exc)

    def _drop(self, task: Any, rule: OnceRule, task_id: str, key: str, owner: str) -> None:
        from celery import states
        from celery.exceptions import Ignore, TaskRevokedError

        if owner == task_id:
            reason = "delivered again after its run"
        else:
            reason = f"duplicate of {owner}, once in {rule.period} s"
        logger.warning("%s[%s] dropped: %s (celery_app_once, key %s)", task.name, task_id, reason, key)
        try:
            self.store.count(task.name)
        except Exception as exc:
            logger.warning("%s[%s]: the dropped call was not counted: %s", task.name, task_id, exc)
        if owner != task_id:
            request = task.request
            # As for an error: whoever waits for it, for a later part of its chain or for its chord, gets an answer.
            stored = not ignores_result(task, request) or task.store_errors_even_if_ignored
            task.backend.mark_as_failure(
                task_id,
                TaskRevokedError(f"{task.name} was dropped: {reason}"),
                request=request,
                store_result=stored,
                call_errbacks=False,
                state=states.REVOKED,
            )
            self._announce(task)
        raise Ignore(reason)

    @staticmethod
    def _announce(task: Any) -> None:
        """Tell Flower, if it listens: it has heard that the task was started."""
        try:
            task.send_event("task-revoked", retry=False, terminated=False, signum=None, expired=False)
        except Exception as exc:
            logger.info("%s[%s]: no event was sent of the dropped call: %s", task.name, task.request.id, exc)

    def _undecided(self, task: Any, rule: OnceRule, task_id: str, args: Any, kwargs: Any, exc: Exception) -> None:
        from celery.exceptions import Ignore, Reject
        from celery.result import denied_join_result

        if rule.when_redis_is_down == "run":
            logger.warning(
                "%s[%s] runs unguarded: Redis cannot be asked (celery_app_once): %s", task.name, task_id, exc
            )
            return
        logger.warning("%s[%s] waits %s s: Redis cannot be asked (celery_app_once): %s", task.name, task_id, AGAIN, exc)
        request = task.request
        try:
            # The same task, id and number of retries, later. No state is stored: the results may be in that Redis.
            # "Denied" keeps Celery from subscribing to the result there.
            with denied_join_result():
                task.signature_from_request(
                    request, args, kwargs, countdown=AGAIN, retries=request.retries
                ).apply_async()
        except Exception as failed:
            raise Reject(failed, requeue=True) from failed
        raise Ignore(f"waits {AGAIN} s for Redis")

    def _lost(self, sender: Any = None, task_id: str = "", exception: Any = None, **signal: Any) -> None:
        """Note the end of a run whose process is gone, or that rejected its message: nobody calls ``on_failure``."""
        from celery.exceptions import Reject, WorkerLostError

        if isinstance(exception, (WorkerLostError, Reject)):
            self._end(sender, task_id, signal.get("args"), signal.get("kwargs"))

    def _revoked(self, sender: Any = None, request: Any = None, **_signal: Any) -> None:
        """Note the end of a run that was terminated, or of one that waited for its retry."""
        self._end(sender, request.id, request.args, request.kwargs)

    def _end(self, task: Any, task_id: str, args: Any, kwargs: Any) -> None:
        rule = self._guarded.get(getattr(task, "name", ""))
        if rule is not None and task.app is self._app:
            self.leave(task, rule, task_id, args, kwargs, keep=rule.on_failure == "keep")
