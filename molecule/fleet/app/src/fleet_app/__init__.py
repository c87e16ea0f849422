"""The application that several hosts run: its tasks write down where and when they began and ended."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from celery import Celery

STATE = Path(os.environ.get("FLEET_STATE", "."))
QUEUES = ("default", "bulk")
#: Longer than any test waits.
FOR_EVER = 300.0

app = Celery("fleet_app")
app.conf.beat_schedule = {
    "often": {"task": "default.tick", "schedule": 4.0, "args": ("often",)},
    "hourly": {"task": "default.tick", "schedule": 3600.0, "args": ("hourly",)},
}


def note(event: str, name: str) -> None:
    """Append one line. One write of one short line: processes do not tear each other's lines."""
    handle = os.open(STATE / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        os.write(handle, f"{event} {name}\n".encode())
    finally:
        os.close(handle)


def work(name: str, seconds: float = 0.02) -> str:
    """Take so long; return the host."""
    note("begun", name)
    time.sleep(seconds)
    note("done", name)
    return socket.gethostname()


def held(name: str) -> None:
    """Take until somebody says that it is enough, as a task that is longer than every timeout."""
    note("begun", name)
    end = time.monotonic() + FOR_EVER
    while not (STATE / "enough").exists() and time.monotonic() < end:
        time.sleep(0.1)
    note("done", name)


for _queue in QUEUES:
    app.task(name=f"{_queue}.work")(work)
    app.task(name=f"{_queue}.held")(held)


@app.task(bind=True, name="default.tick")
def tick(self: Any, name: str) -> None:
    """What the scheduler sends."""
    note(f"tick-{name}", self.request.id)
