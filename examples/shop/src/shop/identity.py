"""Who ran a task: the evidence that every task hands back beside its result."""

from __future__ import annotations

import os
import pwd
import re
import socket
import time
from pathlib import Path
from typing import Any

_UNIT = re.compile(r"[^/\s]+\.service(?=/|$)", re.MULTILINE)
_DELAY = re.compile(r"^(?:[01]\.){28}")


def unit_of(cgroups: str) -> str:
    """Name the systemd service in the text of `/proc/self/cgroup`, or nothing when there is none."""
    units = _UNIT.findall(cgroups)
    return units[-1] if units else ""


def queue_of(delivery_info: dict[str, Any]) -> str:
    """Name the queue that a message came from.

    A message that waited in RabbitMQ's delay queues still carries its way through them, one bit per queue.
    """
    return _DELAY.sub("", str(delivery_info.get("routing_key") or ""))


def whoami(task: Any) -> dict[str, Any]:
    """Describe the process that is running `task`, and when it took the task up."""
    try:
        cgroups = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        cgroups = ""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return {
        "task": task.name,
        "id": task.request.id,
        "unit": unit_of(cgroups),
        "node": task.request.hostname,
        "queue": queue_of(task.request.delivery_info or {}),
        "pid": os.getpid(),
        "uid": uid,
        "user": user,
        "host": socket.gethostname(),
        "retries": task.request.retries,
        "started": time.time(),
    }
