# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Gives RedBeat its lock back after it ended without releasing it.

RedBeat ends when its Redis fails, as during a failover, and systemd starts it again after seconds. The lock still bears
the token of the process that ended, so RedBeat waits until it expires (celery-redbeat 2.4.2,
``acquire_distributed_beat_lock``), and so does every other host. Here the token is kept in the runtime directory of
the unit, of which systemd runs one process: a lock with that token was this unit's. The directory is the host's own and
ends with its uptime, so that no clone has the same.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery.utils.log import get_logger

from celeryops_runtime.around import around

logger = get_logger("celery.beat")

NAME = "redbeat-token"
_MARK = "__celeryops_redbeat__"


def token_in(folder: Path) -> str:
    """Return the token of this unit, written down for the next process; empty where that is not possible.

    :param folder: the runtime directory of the unit.
    """
    path = folder / NAME
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        token = uuid.uuid4().hex
    except OSError as error:
        return _none(path, error)
    try:
        path.write_text(token, encoding="ascii")
    except OSError as error:
        return _none(path, error)
    return token


def _none(path: Path, error: OSError) -> str:
    logger.warning("beat: %s is of no use (%s); after a crash the lock has to expire", path, error)
    return ""


def mend(prefix: str, environ: Mapping[str, str] | None = None) -> None:
    """Have this process take RedBeat's lock with the unit's token, or take it over. Calling it again changes nothing.

    :param prefix: of RedBeat's keys.
    :param environ: the environment, in which systemd names the runtime directory (systemd.exec(5)); the process's own
        if not given. Nothing is changed where there is none.
    """
    from redis.exceptions import LockError
    from redis.lock import Lock

    folder = (environ if environ is not None else os.environ).get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not folder:
        return

    @around(Lock, "acquire", _MARK)
    def acquire(own: Any, self: Any, *arguments: Any, **options: Any) -> Any:
        name = self.name.decode() if isinstance(self.name, bytes) else str(self.name)
        token = token_in(Path(folder)) if name.startswith(prefix) else ""
        if not token:
            return own(self, *arguments, **options)
        held = self.redis.get(self.name)
        if held in (token, token.encode()):
            self.local.token = token.encode()
            try:
                self.reacquire()
            except LockError:
                # It has expired meanwhile.
                self.local.token = None
            else:
                logger.info("beat: the lock was this unit's already")
                return True
        return own(self, *arguments, **{**options, "token": token})
