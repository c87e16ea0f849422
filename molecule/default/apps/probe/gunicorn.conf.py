"""Puts the probe in front of whatever application gunicorn has loaded."""

from __future__ import annotations

from typing import Any


def post_worker_init(worker: Any) -> None:
    """Do it in each of gunicorn's processes, after the application is loaded there."""
    from probe import Probe

    worker.wsgi = Probe(worker.wsgi)
