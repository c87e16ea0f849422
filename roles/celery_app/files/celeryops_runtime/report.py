# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Writes what this worker really does to a file: like ``celery inspect``, but without the broker.

The file is ``worker.json`` in the unit's RuntimeDirectory=, so it is gone when the worker is. It is replaced whole, and
its time of change is that of the worker's last sign of life. Everything in it is read from the objects that do the work
(Celery 5.7.0), not from the settings that they were made of: somebody may have changed them while they run.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import celery

from celeryops_runtime import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("celeryops.runtime")

FORMAT = 1
"""``format`` of the document; its reader is plugins/module_utils/workers.py."""

NAME = "worker.json"


def release() -> str:
    """Tell which release this process runs.

    :returns: the name of the directory that the interpreter's environment is in: a release below
        ``/opt/celeryops/<app>/releases`` or somebody's virtual environment.
    """
    return Path(sys.prefix).resolve().name


def describe(consumer: Any, phase: str) -> dict[str, Any]:
    """Ask the parts of a worker what they do.

    :param consumer: the worker's consumer (celery.worker.consumer.Consumer).
    :param phase: ``starting``, ``consuming``, ``offline``, ``draining`` or ``leaving``.
    :returns: plain values; times in seconds, ``max_memory_per_child`` in KiB as Celery counts it, None for what is not
        limited or not known in this pool.
    """
    app, pool = consumer.app, consumer.pool
    kind = type(pool).__module__.rpartition(".")[2]
    # Where a limit is enforced: in billiard's pool, in the gevent pool itself, elsewhere nowhere.
    enforcer = getattr(pool, "_pool", None) if kind == "prefork" else pool if kind == "gevent" else None
    queues = consumer.task_consumer.queues if consumer.task_consumer else []
    return {
        "format": FORMAT,
        "pid": os.getpid(),
        "node": consumer.hostname,
        "phase": phase,
        # As control.active_queues does (celery/worker/control.py).
        "queues": sorted(queue.name for queue in queues),
        # In force: more than the multiplier says by each ETA task that waits in here (celery/worker/strategy.py).
        "prefetch": consumer.qos.value if consumer.qos else None,
        "prefetch_multiplier": consumer.prefetch_multiplier,
        "pool": "threads" if kind == "thread" else kind,
        # A cold shutdown has taken the pool away by now (celery/concurrency/prefork.py, on_terminate, 5.7.0).
        "concurrency": getattr(pool, "num_processes", None),
        "time_limit": getattr(enforcer, "timeout", None),
        "soft_time_limit": getattr(enforcer, "soft_timeout", None),
        "max_tasks_per_child": getattr(enforcer, "_maxtasksperchild", None),
        "max_memory_per_child": getattr(enforcer, "_max_memory_per_child", None),
        "acks_late": bool(app.conf.task_acks_late),
        "tasks": sorted(name for name in app.tasks if not name.startswith(("celery.", "celeryops."))),
        "release": release(),
        "configuration": getattr(app.loader, "digest", None),
        "versions": {"celery": celery.__version__, "celeryops_runtime": __version__},
    }


class Report:
    """Keeps the file current. Nothing is written outside a unit with RuntimeDirectory=, and no error leaves here."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Find the file's place.

        :param environ: the environment; the process's own if not given. systemd sets ``RUNTIME_DIRECTORY``, several
            directories separated by colons (systemd.exec(5)).
        """
        directory = (environ if environ is not None else os.environ).get("RUNTIME_DIRECTORY", "").split(":")[0]
        self.path = Path(directory, NAME) if directory else None
        self._written = ""
        self._complained = False

    def update(self, consumer: Any, phase: str, interval: float) -> None:
        """Write the file if there is news, otherwise only renew its time.

        :param consumer: the worker's consumer.
        :param phase: as for :func:`describe`.
        :param interval: seconds until the next call, for the reader to know what is late.
        """
        if self.path is None:
            return
        try:
            text = json.dumps({**describe(consumer, phase), "interval": interval}, sort_keys=True)
            if text != self._written or not self._renewed():
                self._written = ""
                self._replace(text)
                self._written = text
            self._complained = False
        except Exception:
            if not self._complained:
                logger.warning("%s cannot be written; the worker goes on", self.path, exc_info=True)
            self._complained = True

    def _renewed(self) -> bool:
        """Renew the file's time, if it is the one that was written: nobody else has anything to write there."""
        try:
            with Path(str(self.path)).open("rb") as file:
                whole = file.read(len(self._written) * 4 + 2) == f"{self._written}\n".encode()
                if whole:
                    os.utime(file.fileno())
        except OSError:
            return False
        return whole

    def _replace(self, text: str) -> None:
        path = Path(str(self.path))
        new = path.with_name(f".{NAME}.new")
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        new.replace(path)
