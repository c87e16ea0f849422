# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Applies the shared configuration to a Celery app, and reports its readiness to systemd.

The package runs inside the user's own processes (workers, beat, Flower, producers). Celery loads it through
``CELERY_LOADER=celeryops_runtime.loader:Loader``; the app does not change. Importing it has no effect:
everything starts when Celery creates the loader, or on the command line (``python -m celeryops_runtime``).

Only at one moment it has. While gevent patches the standard library it asks every object there is for its class
(gevent/monkey/_patch_thread_common.py, ``_patch_existing_locks``). Some of Celery's make an app to answer that
(celery/local.py, ``Proxy``), which imports its loader, and kombu with it. That would keep the ``select`` and ``sleep``
of before, which come later in gevent's order: a worker of gevent on Redis stood still in them and ran no task, while
its watchdog was content (measured with Celery 5.7.0 and gevent 26.9). So what comes later is patched first then.
"""

from __future__ import annotations

import sys

__version__ = "0.1.0"

_LATER = ("time", "socket", "select", "ssl", "subprocess", "signal", "queue")
"""What ``patch_all`` patches after threads, by the names of its arguments; each may be patched again."""


def _patch_the_rest() -> None:
    """Let gevent patch what whoever imports this would import next, if it is about to."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals is vars(monkey) and frame.f_code.co_name == "patch_all":
            wanted = frame.f_locals
            break
    else:
        return
    for name in _LATER:
        if wanted.get(name) and hasattr(monkey, f"patch_{name}"):
            getattr(monkey, f"patch_{name}")()
    if wanted.get("select") and hasattr(monkey, "patch_selectors"):
        monkey.patch_selectors()


_patch_the_rest()
