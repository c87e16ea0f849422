"""Sends a steady load to all classes, through whatever happens to the broker.

A send that raises is tried again with the same task id until it is confirmed, as a careful producer would: it cannot
know whether the message arrived nevertheless, so the ledger notes that it was unsure.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
import uuid
from typing import Any

from chaos_app import ledger
from chaos_app.celery import app
from chaos_app.tasks import CLASSES

PAUSE = 0.5
"""Seconds between two attempts."""

stop = threading.Event()


def send(group: str, kind: str) -> None:
    """Send one task, for as long as it takes."""
    task_id = str(uuid.uuid4())

    def unsure(_error: Exception, _interval: float) -> None:
        ledger.write("unsure", task_id, group, kind)

    ledger.write("sending", task_id, group, kind)
    while True:
        try:
            # Celery tries again by itself as well, and says so only to whom it finds in the policy.
            app.tasks[f"{group}.{kind}"].apply_async(task_id=task_id, retry_policy={"errback": unsure})
        except Exception as error:
            ledger.write("unsure", task_id, group, kind)
            sys.stderr.write(f"{task_id}: {error!r}\n")
            if stop.wait(PAUSE):
                return
        else:
            ledger.write("sent", task_id, group, kind)
            return


def load(group: str, kind: str, every: float) -> None:
    """Send one task of a kind every so many seconds; what could not be sent in time is left out."""
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        send(group, kind)
        due = max(due + every, time.monotonic())


def main() -> None:
    """Send until SIGTERM, or one task with --once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", nargs=2, metavar=("CLASS", "KIND"), help="send this task and end")
    parser.add_argument("--short", type=float, default=0.2, help="seconds between two short tasks of a class")
    parser.add_argument("--medium", type=float, default=2.0, help="seconds between two medium ones")
    parser.add_argument("--long", type=float, default=6.0, help="seconds between two long ones")
    options = parser.parse_args()
    app.loader.import_default_modules()
    if options.once:
        send(*options.once)
        return

    def end(*_signal: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    # One thread for each, so that a send that waits for the broker holds up nothing else.
    threads = [
        threading.Thread(target=load, args=(group, kind, getattr(options, kind)), daemon=True)
        for group in CLASSES
        for kind in ("short", "medium", "long")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
