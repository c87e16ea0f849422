"""The ledger: what happened to each task, written down outside of everything that is tested.

It is a directory of the control machine that the containers have mounted: no broker and no database, and it outlives a
reboot of a container. Each event is one line, appended by one call of write(2) to a file that was opened with O_APPEND,
so that no process can tear another's line apart, and nothing is lost with the process that wrote it.

    <clock> <event> <task id> <class> <kind> <pid>

The clock is the kernel's monotonic one: all containers of a machine share it, and nobody sets it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

DIRECTORY = Path(os.environ.get("CHAOS_LEDGER", "/srv/ledger"))


def write(event: str, task_id: str, group: str, kind: str) -> None:
    """Append one event.

    Arguments:
        event: ``sending`` (about to be), ``unsure`` (an attempt failed, and may have arrived all the same), ``sent``
            (confirmed), ``start`` or ``finish``.
        task_id: the task's id.
        group: the worker class that the task is for.
        kind: what it does; see :mod:`chaos_app.tasks`.
    """
    line = f"{time.monotonic():.6f} {event} {task_id} {group} {kind} {os.getpid()}\n"
    # A file for each account that writes: workers and producers are different accounts on different hosts.
    role = "work" if event in {"start", "finish"} else "sent"
    where = os.open(DIRECTORY / f"{role}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(where, line.encode())
    finally:
        os.close(where)


def first_time(task_id: str) -> bool:
    """Whether nobody has asked this for the task before."""
    try:
        os.close(os.open(DIRECTORY / f"once-{task_id}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    return True
