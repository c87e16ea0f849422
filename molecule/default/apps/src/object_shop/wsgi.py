"""The project's web side: what a WSGI server loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from object_shop.tasks import charge


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Send a task for each request, as a web process does, and say its id."""
    sent = charge.delay(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [sent.id.encode()]
