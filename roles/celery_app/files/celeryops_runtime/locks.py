# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes redis-py's locks reentrant: releases before 6.4 wait for a lock that they hold, for ever.

A subscription holds its lock while it writes. If Redis was restarted, the write fails, the connection is made anew, and
its first act is to subscribe to what was subscribed to, with the same lock (redis-py 5.3.0 to 6.2.0,
``redis/client.py``, ``PubSub.execute_command`` and ``PubSub.on_connect``). So a process that subscribed to a result
before, a scheduler or a web process, hung in its next ``delay()`` after a restart of the result backend (measured with
Celery 5.4.0, whose extra ``redis`` resolves to redis-py 5.3.1). The garbage collector can do the same, at any moment:
a result that goes ends its subscription and gives a connection back to its pool (before 6.1, the pool's lock).

From 6.4.0 on redis-py has reentrant locks in both places itself.
"""

from __future__ import annotations

import threading
from typing import Any

from celeryops_runtime.around import around

_MARK = "__celeryops_locks__"


def _reentrant(own: Any, self: Any, *arguments: Any, **options: Any) -> None:
    own(self, *arguments, **options)
    if isinstance(getattr(self, "_lock", None), type(threading.Lock())):
        self._lock = threading.RLock()


def mend() -> None:
    """Change redis-py in this process, if it is there. Calling it again changes nothing more."""
    try:
        from redis import ConnectionPool
        from redis.client import PubSub
    except ImportError:
        return
    around(PubSub, "__init__", _MARK)(_reentrant)
    # Also called by each pool's constructor, and again after a fork.
    around(ConnectionPool, "reset", _MARK)(_reentrant)
