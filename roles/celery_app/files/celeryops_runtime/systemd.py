# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""systemd's notification protocol with the standard library, and the notifications of beat.

The protocol: sd_notify(3), a datagram of ``NAME=value`` lines to the socket in ``$NOTIFY_SOCKET``. Nothing here may
harm the process that it reports on: every error is swallowed, and without the socket nothing happens at all. What a
worker tells is more: :mod:`celeryops_runtime.readiness`.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def notify(*lines: str, environ: Mapping[str, str] | None = None) -> bool:
    """Send one message to systemd.

    :param lines: ``NAME=value`` each, without a line break.
    :param environ: the environment; the process's own if not given.
    :returns: whether it was sent: False without ``NOTIFY_SOCKET``, or if the socket does not take it within 1 s.
    """
    address = (environ if environ is not None else os.environ).get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"} or not lines:
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(1.0)
            sock.sendto("\n".join(lines).encode("utf-8", "replace"), address)
    except OSError:
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] | None = None, pid: int | None = None) -> float:
    """How often systemd wants to hear from this process (sd_watchdog_enabled(3)).

    :param environ: the environment; the process's own if not given.
    :param pid: the process's id; asked from the system if not given.
    :returns: the unit's WatchdogSec= in seconds, 0.0 if there is none or it is meant for another process.
    """
    env = environ if environ is not None else os.environ
    try:
        owner = env.get("WATCHDOG_PID")
        if owner and int(owner) != (os.getpid() if pid is None else pid):
            return 0.0
        return max(0.0, int(env.get("WATCHDOG_USEC") or 0) / 1e6)
    except ValueError:
        return 0.0


def announce_beat() -> None:
    """Make beat tell systemd when its scheduler is loaded. Nothing happens outside a unit with Type=notify.

    Beat inside a worker (``-B``) is not announced: there the worker reports. A worker sends ``worker_init`` before
    anything of it starts; beat alone never does (celery/worker/worker.py and celery/apps/beat.py, 5.7.0).
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    from celery.signals import beat_init, worker_init

    workers: list[int] = []

    def worker(**_signal: Any) -> None:
        workers.append(os.getpid())

    def ready(**_signal: Any) -> None:
        if not workers:
            notify("READY=1", "STATUS=scheduling")

    worker_init.connect(worker, weak=False, dispatch_uid="celeryops_runtime.worker_init")
    beat_init.connect(ready, weak=False, dispatch_uid="celeryops_runtime.beat_init")
