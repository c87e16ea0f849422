"""Asks a process of an app what is in force in it: in a worker as a task, in a web process behind its own pages.

The apps know nothing of it: workers import it because the shared configuration says so, gunicorn because of the test's
gunicorn.conf.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from celery import current_app, shared_task

from celeryops_runtime.effective import effective


def view(names: list[str]) -> dict[str, Any]:
    """Report this process: all settings and connections, and digests of what may hold a password."""
    app = current_app._get_current_object()
    conf = app.conf
    urls = (conf.broker_url, conf.broker_read_url, conf.broker_write_url, conf.result_backend)
    connection = getattr(app.backend, "connparams", {})
    return {
        **effective(app, names),
        "urls": [hashlib.sha256(str(url).encode()).hexdigest() for url in urls],
        "results": {
            key: connection.get(key).__name__ if isinstance(connection.get(key), type) else str(connection.get(key))
            for key in sorted(connection)
            if key != "password"
        },
        "loader": type(app.loader).__module__,
        "app": app.main,
        "uid": os.getuid(),
        "pid": os.getpid(),
    }


@shared_task(bind=True, name="probe.view")
def ask(self: Any, names: list[str]) -> dict[str, Any]:
    """Report the worker that runs this, and how the message came."""
    request = self.request
    return {
        **view(names),
        "node": request.hostname,
        "queue": (request.delivery_info or {}).get("routing_key"),
        "exchange": (request.delivery_info or {}).get("exchange"),
        "content_type": getattr(request, "content_type", None) or (request.properties or {}).get("content_type"),
        "delivery_mode": (request.properties or {}).get("delivery_mode"),
    }


class Probe:
    """A WSGI application in front of another one, in the same process."""

    def __init__(self, behind: Callable[..., Any]) -> None:
        self.behind = behind

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer /-/view and /-/ask; everything else is the app's own."""
        names = parse_qs(environ.get("QUERY_STRING", "")).get("task", [])
        if environ["PATH_INFO"] == "/-/view":
            answer = view(names)
        elif environ["PATH_INFO"] == "/-/ask":
            answer = ask.delay(names).get(timeout=30)
        elif environ["PATH_INFO"] == "/-/send":
            answer = [current_app.send_task(name, args=["web"]).get(timeout=30) for name in names]
        else:
            served: Iterable[bytes] = self.behind(environ, start_response)
            return served
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer, default=repr).encode()]
