"""The tasks: the same kinds for each class. None of them could notice that it runs for a second time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from chaos_app import ledger
from chaos_app.celery import app

#: One worker class each; the routes send ``<class>.*`` to its queue.
CLASSES = ("swift", "steady", "fleeting")
#: How long each kind takes, in seconds. ``long`` takes longer than a stop of its class waits (stop_timeout).
SECONDS = {"short": 0.02, "medium": 1.0, "long": 10.0, "hog": 0.0, "killed": 0.0}
#: What a hog asks for in all, far more than its class may have (memory_max), and in one go.
HOG_BYTES, HOG_PIECE = 2 << 30, 16 << 20


def _hog() -> None:
    """Take memory until the kernel ends this process."""
    pieces = []
    for _each in range(HOG_BYTES // HOG_PIECE):
        pieces.append(bytearray(b"x" * HOG_PIECE))
        time.sleep(0.01)


def _make(group: str, kind: str) -> None:
    def work(self: Any) -> str:
        task_id = str(self.request.id)
        ledger.write("start", task_id, group, kind)
        # The first time only: the same task has to succeed when it comes back.
        if kind == "hog" and ledger.first_time(task_id):
            _hog()
        if kind == "killed" and ledger.first_time(task_id):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(SECONDS[kind])
        ledger.write("finish", task_id, group, kind)
        return kind

    task: Callable[..., Any] = app.task(bind=True, name=f"{group}.{kind}")
    task(work)


for _group in CLASSES:
    for _kind in SECONDS:
        _make(_group, _kind)
