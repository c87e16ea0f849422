# Managed by celeryops.stack (role flower). Local changes are overwritten.
"""What Flower's options cannot say: which pages are open, and that Flower is up and alive.

Flower executes this file before it starts (--conf, flower/command.py, 2.2.0). The options themselves come from its
environment. If a later Flower has no such pages to protect, this fails and Flower does not start: better down than
open.
"""

from __future__ import annotations

import contextlib
import os
import socket

from flower.views.monitor import Healthcheck, Metrics
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.web import authenticated


def _protect() -> None:
    """Ask for a password on the two pages that Flower always answers, unless they are to be open."""
    is_open = os.environ.get("CELERYOPS_FLOWER_OPEN", "").split()
    for name, handler in (("metrics", Metrics), ("healthcheck", Healthcheck)):
        if name not in is_open:
            handler.get = authenticated(handler.get)


def _notify(message: str) -> None:
    """Tell systemd (sd_notify(3)); nothing happens when it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # Flower must not stop because systemd does not listen.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
    ):
        connection.sendto(message.encode(), address)


def _report() -> None:
    """Report readiness from inside the main loop, which runs once the port is open; then report that the loop lives."""
    IOLoop.current().add_callback(_notify, "READY=1\nSTATUS=serving")
    watchdog = int(os.environ.get("WATCHDOG_USEC") or 0) / 1000
    if watchdog:
        PeriodicCallback(lambda: _notify("WATCHDOG=1"), watchdog / 4).start()


_protect()
_report()
