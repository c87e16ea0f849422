# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Lets one run at a time work on an app of a host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

#: Root's alone: whoever may open a lock may also keep it, and /run/lock lets everybody (flock(2) asks for no right to
#: write). Its name begins with a dot, as no app's does, and it is gone at boot like what it guards.
FOLDER = "/run/celeryops/.lock"
#: Seconds that another run is waited for. A build of a big app takes minutes; a run that drains may take a day.
PATIENCE = 600
#: What ends a module from outside: Ctrl-C at a run whose connection has a terminal (ssh -tt, as without pipelining; the
#: kernel sends SIGHUP when it goes), and an administrator.
ENDS = (signal.SIGHUP, signal.SIGTERM)


class LockError(Exception):
    """Another run works on the app, and did not end in time; the text is for the user."""


@contextlib.contextmanager
def locked(name: str, patience: float = PATIENCE, folder: str = FOLDER) -> Iterator[None]:
    """Keep other runs away from an app.

    Arguments:
        name: of the app, or of what else is worked on.
        patience: seconds to wait for another run.
        folder: where the locks are.

    Raises:
        LockError: another run has it, and still had after ``patience``.
    """
    os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    number = os.open(f"{folder}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        until = time.monotonic() + patience
        while not _taken(number):
            if time.monotonic() >= until:
                raise LockError(
                    f"another run works on {name} on this host ({_holder(number)}), and did not end within "
                    f"{round(patience)}s; nothing was changed. Wait for it, or end it, and run this again"
                )
            time.sleep(min(0.5, max(patience / 10, 0.01)))
        with _ending_in_order():
            yield
    finally:
        os.close(number)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let a signal end what is under way before the process, and with it the lock, is gone.

    A migration goes on without whoever started it, and a second run would begin another one beside it; files that were
    placed for a trial, secret ones among them, would stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDS}

    def end(number: int, _frame: Any) -> None:
        for one in ENDS:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let a signal that ends the run wait until the block is over.

    A program that was just started would go on otherwise: nobody would know its number yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDS}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, lambda one, _frame: caught.append(one))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # Also when the block failed: whoever sent the signal counts on it.
        if caught:
            os.kill(os.getpid(), caught[0])


def _taken(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(number: int, table: str = "/proc/locks") -> str:
    """Return who has a lock, as far as it can be told (proc_locks(5): kind, mode, access, process, device:inode)."""
    inode = os.fstat(number).st_ino
    with contextlib.suppress(OSError, ValueError):
        with open(table, encoding="ascii") as stream:
            lines = [line.split() for line in stream]
        for fields in lines:
            # Who waits has an arrow in front of it; a process that cannot be seen from here has no number.
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}") and int(fields[4]) > 0:
                since = time.time() - os.stat(f"/proc/{fields[4]}").st_mtime
                return f"pid {fields[4]}, since {max(round(since), 0)}s"
    return "its process cannot be told"
