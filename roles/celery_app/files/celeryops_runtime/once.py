# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Once per period: a task that ran for these arguments does not run again until its period is over.

The rules are in the shared configuration. A worker that starts puts a guard in front of the tasks that a rule names,
by giving the task object a class of its own with ``before_start``, ``on_success`` and ``on_failure``: Celery's tracer
calls these in the process, thread or greenlet that runs the task, in every pool (celery/app/trace.py, ``build_tracer``,
5.7.0). Tasks without a rule are not touched.

One run is one key in Redis. It is taken with one command, ``SET key owner NX GET PX period``, whose answer says who
has it. Its value is ``running <task id>``, and ``done <task id>`` once that task is through. So

* a message with the id that the key says is running is a retry, or was delivered again after a worker was killed: it
  runs;
* a message with the id that is done was delivered again after the end: it is dropped, its result stays;
* another id is a duplicate: it is dropped and its state becomes ``REVOKED``, which every waiting caller, chain and
  chord understands (another state would leave them waiting for ever).
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import threading
from types import new_class
from typing import TYPE_CHECKING, Any, TypeVar

from celeryops_runtime.urls import server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeryops_runtime.config import Once, OnceRule, ResultRule

__all__ = [
    "AGAIN",
    "COUNTED",
    "TIMEOUT",
    "URL",
    "Guard",
    "OnceError",
    "Store",
    "digest",
    "matcher",
    "matching",
    "url_of",
]

logger = logging.getLogger("celeryops.runtime")

URL = "CELERYOPS_ONCE_URL"
"""Environment variable with the address of the Redis that holds the keys, if it is not the result backend's."""

TIMEOUT = 1.0
"""Seconds for connecting to Redis and for each answer. Both are tried twice, so a decision takes 4 s at worst."""

AGAIN = 30
"""Seconds after which a task that was refused because Redis is away is delivered again."""

COUNTED = 90 * 86400
"""Seconds for which the counters are kept after the last duplicate."""

#: Compare and set, or compare and delete: KEYS[1] key, ARGV[1] the value it must have, ARGV[2] the new one or nothing.
_EXCHANGE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""


class OnceError(Exception):
    """A rule does not fit the call: the task fails with this message instead of running unguarded."""


def matcher(pattern: str) -> Callable[[str], object]:
    """Compile a pattern of task names.

    :param pattern: a name, in which ``*`` stands for anything, as in a route.
    :returns: a function that is true for the names that match.
    """
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL).fullmatch


_Rule = TypeVar("_Rule", "OnceRule", "ResultRule")


def matching(rules: Sequence[_Rule], name: str) -> _Rule | None:
    """Find the rule of a task.

    :param rules: in order, the first that matches decides.
    :param name: the task's name. Celery's own tasks (``celery.chord_unlock`` and the like) are only meant by a rule
        that begins with ``celery.`` itself, and this package's own likewise.
    :returns: the rule, or None.
    """
    for rule in rules:
        if any(name.startswith(own) and not rule.task.startswith(own) for own in ("celery.", "celeryops.")):
            continue
        if matcher(rule.task)(name):
            return rule
    return None


def url_of(environ: Mapping[str, str]) -> str:
    """Find the Redis that holds the keys.

    :param environ: the environment.
    :returns: ``CELERYOPS_ONCE_URL``, else ``CELERY_RESULT_BACKEND``; empty when neither is a Redis.
    """
    url = environ.get(URL) or environ.get("CELERY_RESULT_BACKEND") or ""
    return url if server(url) == "redis" else ""


def digest(
    run: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], parts: Sequence[str | int] | None
) -> str:
    """Name a call by its arguments. However they are passed, by position, name or default, the name is the same.

    :param run: the task's function.
    :param args: positional arguments.
    :param kwargs: keyword arguments.
    :param parts: names of arguments, or their positions from 0; None for all arguments, nothing for "every call is
        the same".
    :returns: 32 hexadecimal digits.
    :raises OnceError: if the function has no such argument, or a value cannot be written as JSON.
    """
    from kombu.utils.json import dumps

    named, positional, rest, more_names = _arguments(run, args, kwargs)
    if parts is None:
        chosen: list[Any] = [named, rest]
    else:
        chosen = []
        for part in parts:
            if isinstance(part, int):
                if part >= len(positional) and rest is None:
                    raise OnceError(f"celery_app_once: the task has no argument number {part} to tell calls apart by")
                chosen.append(positional[part] if part < len(positional) else None)
            else:
                if part not in named and not more_names:
                    raise OnceError(
                        f"celery_app_once: the task has no argument {part!r} to tell calls apart by "
                        f"(it has: {', '.join(named) or 'none'})"
                    )
                chosen.append(named.get(part))
    try:
        text = dumps(chosen, sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise OnceError(f"celery_app_once: the arguments cannot be compared, because {exc}") from exc
    return hashlib.sha256(str(text).encode()).hexdigest()[:32]


def _arguments(
    run: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any], list[Any] | None, bool]:
    """Sort a call's arguments.

    :returns: all that have a name; all that have a position, in order; those of them that have no name, None if the
        function takes none; whether it takes names that it does not list.
    """
    try:
        signature = inspect.signature(run)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        # Nothing is known of the function, or the call is wrong: then the task says so itself when it runs.
        return dict(kwargs), list(args), list(args), True
    bound.apply_defaults()
    named: dict[str, Any] = {}
    positional: list[Any] = []
    rest: list[Any] | None = None
    more_names = False
    for name, parameter in signature.parameters.items():
        value = bound.arguments[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = list(value)
            positional += rest
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= value
            more_names = True
        else:
            named[name] = value
            if parameter.kind is not parameter.KEYWORD_ONLY:
                positional.append(value)
    return named, positional, rest, more_names


class Store:
    """The keys and counters in Redis."""

    def __init__(self, app: Any, url: str, prefix: str) -> None:
        """Remember where they are; nothing is connected yet.

        :param app: the app, whose settings say how to use TLS and Sentinel for results, and here as well.
        :param url: ``redis://``, ``rediss://`` or ``sentinel://``.
        :param prefix: begins every key; ends in a colon or is empty.
        """
        self._app = app
        self._url = url
        self._lock = threading.Lock()
        self._client: Any = None
        self.prefix = f"{prefix}celeryops-once:"
        #: A hash: how many calls were dropped, by task.
        self.counters = f"{prefix}celeryops-once-dropped"

    @property
    def client(self) -> Any:
        """The connections; a process that was forked gets its own from redis-py.

        :returns: a client of redis-py.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        # Celery's backend reads the address, so that every form of it, TLS and Sentinel included, means the same here.
        if not self._url:
            raise OnceError(f"neither {URL} nor CELERY_RESULT_BACKEND names a Redis")
        from celery.app.backends import by_url
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as Unreachable
        from redis.exceptions import TimeoutError as Late
        from redis.retry import Retry

        backend, url = by_url(self._url, self._app.loader)
        options = backend(app=self._app, url=url)
        return options._create_client(
            **options.connparams
            | {
                "socket_timeout": TIMEOUT,
                "socket_connect_timeout": TIMEOUT,
                "retry_on_timeout": False,
                # A connection that died while it was idle is replaced once; to take a key twice changes nothing.
                "retry": Retry(NoBackoff(), 1, supported_errors=(Unreachable, Late)),
            }
        )

    def take(self, key: str, task_id: str, period: int) -> tuple[str, str]:
        """Take a key, unless somebody has it.

        :param key: its name.
        :param task_id: who wants it.
        :param period: seconds until it is free again.
        :returns: ``("", "")`` if it was free, else what its value says: ``running`` or ``done``, and the owner's id.
        :raises redis.exceptions.RedisError: if Redis does not answer in time, or refuses.
        """
        old = self.client.set(key, f"running {task_id}", nx=True, get=True, px=period * 1000)
        state, _blank, owner = _text(old).partition(" ")
        return state, owner

    def finish(self, key: str, task_id: str) -> None:
        """Note that the run of a key's owner is over, so that its message is not run again; others change nothing.

        :param key: its name.
        :param task_id: the owner.
        :raises redis.exceptions.RedisError: if Redis does not answer in time, or refuses.
        """
        self.client.eval(_EXCHANGE, 1, key, f"running {task_id}", f"done {task_id}")

    def free(self, key: str, task_id: str) -> None:
        """Give a key back; arguments and errors as for :meth:`finish`."""
        self.client.eval(_EXCHANGE, 1, key, f"running {task_id}", "")

    def count(self, task: str) -> None:
        """Count a dropped call.

        :param task: the task's name.
        :raises redis.exceptions.RedisError: if Redis does not answer in time, or refuses.
        """
        with self.client.pipeline(transaction=True) as pipe:
            pipe.hincrby(self.counters, task, 1)
            pipe.expire(self.counters, COUNTED)
            pipe.execute()

    def dropped(self) -> dict[str, int]:
        """Read the counters.

        :returns: dropped calls by task.
        :raises redis.exceptions.RedisError: if Redis does not answer in time, or refuses.
        """
        return {_text(task): int(number) for task, number in sorted(self.client.hgetall(self.counters).items())}

    def look(self, key: str) -> dict[str, Any] | None:
        """Read one key.

        :param key: its name, as the worker's log has it.
        :returns: ``state``, ``owner`` and ``seconds`` until it is free; None if it is.
        :raises redis.exceptions.RedisError: if Redis does not answer in time, or refuses.
        """
        state, _blank, owner = _text(self.client.get(key)).partition(" ")
        return {"state": state, "owner": owner, "seconds": self.client.pttl(key) // 1000} if state else None

    def forget(self, key: str) -> bool:
        """Free one key, whoever has it.

        :param key: its name.
        :returns: whether somebody had it.
        :raises redis.exceptions.RedisError: if Redis does not answer in time, or refuses.
        """
        return bool(self.client.delete(key))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


class Guard:
    """Enforces the rules in one worker."""

    def __init__(self, app: Any, once: Once, url: str) -> None:
        """Prepare; nothing is connected and no task is changed yet.

        :param app: the worker's app.
        :param once: the rules.
        :param url: see :func:`url_of`. Without one every decision falls to ``when_redis_is_down``.
        """
        self._app = app
        self._rules = once.rules
        self._guarded: dict[str, OnceRule] = {}
        self.store = Store(app, url, once.prefix)

    def connect(self) -> None:
        """Follow the worker: guard its tasks once all of them are known, and hear of runs that end outside of them."""
        from celery.signals import celeryd_after_setup, task_failure, task_revoked

        from celeryops_runtime.versions import hear_hard_limits

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
        :raises OnceError: see :func:`digest`.
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
        :raises OnceError: see :func:`digest`.
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

        from celeryops_runtime.versions import ignores_result

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
