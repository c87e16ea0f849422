# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The Redis data of tasks that run once per period: a key for each run, and a counter of dropped calls by task.

A key is taken with one command, ``SET key owner NX GET PX period``, whose answer says who has it. Its value is
``running <task id>``, and ``done <task id>`` once that task is through.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celeryops_runtime import sentinel
from celeryops_runtime.once import OnceError
from celeryops_runtime.urls import server

if TYPE_CHECKING:
    from collections.abc import Mapping

URL = "CELERYOPS_ONCE_URL"
"""Environment variable with the address of the Redis that holds the keys, if it is not the result backend's."""

TIMEOUT = 1.0
"""Seconds for connecting to Redis and for each answer. Both are tried twice, so a decision takes 4 s at worst; where
Sentinels are asked first, as much longer as they take."""

COUNTED = 90 * 86400
"""Seconds for which the counters are kept after the last duplicate."""

#: Compare and set, or compare and delete: KEYS[1] key, ARGV[1] the value it must have, ARGV[2] the new one or nothing.
_EXCHANGE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""


def url_of(environ: Mapping[str, str]) -> str:
    """Find the Redis that holds the keys.

    :param environ: the environment.
    :returns: ``CELERYOPS_ONCE_URL``, else ``CELERY_RESULT_BACKEND``; empty when neither is a Redis.
    """
    url = environ.get(URL) or environ.get("CELERY_RESULT_BACKEND") or ""
    return url if server(url) == "redis" else ""


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

        if sentinel.there(self._url):
            sentinel.mend()
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
