"""Sends urgent tasks, with or without a flood of slow ones, and times them: a part of scripts/bench_priorities.py.

It runs on the host, in the example shop's environment, as a web process of the shop would: it names tasks, and whatever
routes are configured decide where they go. What it found goes to standard output as one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from celery.exceptions import TimeoutError as NotThereYetError

URGENT = "shop.payments.refund"
#: Nine in ten of the flood keep a processor busy for some 25 ms; the tenth waits for a supplier.
BUSY = ("shop.reports.daily_sales", {"orders": 100_000, "seconds": 0})
SLEEPY = ("shop.feeds.import_feed", {"articles": 20, "seconds": 0.05})
EVERY_TENTH = 10
WARM_UP = 20


def slow(number: int) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of one task of the flood."""
    if number % EVERY_TENTH == 0:
        return SLEEPY[0], {"supplier": f"supplier-{number % 50}", **SLEEPY[1]}
    return BUSY[0], {"day": number, **BUSY[1]}


def busy_and_all(stat: str) -> tuple[int, int]:
    """Return the ticks that the machine's processors worked, and all of them, from the text of /proc/stat."""
    ticks = [int(word) for word in stat.splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


class Flood:
    """The slow tasks, and the queues that they are in."""

    def __init__(self, app: Any) -> None:
        """Find out where the routes lead."""
        self.app = app
        self.queues = sorted({app.amqp.router.route({}, name)["queue"].name for name in (BUSY[0], SLEEPY[0])})
        self.channel = app.connection_for_write().default_channel

    def send(self, number: int) -> None:
        """Send all of them. Nobody waits for their results."""
        with self.app.producer_pool.acquire(block=True) as producer:
            for index in range(number):
                name, kwargs = slow(index)
                self.app.tasks[name].apply_async(kwargs=kwargs, producer=producer, ignore_result=True)

    def waiting(self) -> int:
        """Return how many of them no worker has fetched yet."""
        return sum(self.channel.queue_declare(queue, passive=True).message_count for queue in self.queues)

    def purge(self) -> None:
        """Throw away what is left."""
        for queue in self.queues:
            self.channel.queue_purge(queue)


def started_at(app: Any, ids: set[str], seconds: float) -> dict[str, float]:
    """Wait for results; return when the worker took up each task, by the host's clock, as the task itself noted.

    Raises:
        SystemExit: when one is missing after ``seconds``, or failed.
    """
    started: dict[str, float] = {}
    deadline = time.monotonic() + seconds
    while len(started) < len(ids):
        if time.monotonic() > deadline:
            sys.exit(f"{len(ids) - len(started)} of {len(ids)} urgent tasks did not run within {seconds:.0f} s")
        try:
            for task_id, meta in app.backend.get_many(ids - set(started), timeout=0):
                if meta["status"] != "SUCCESS":
                    sys.exit(f"an urgent task ended with {meta['status']}: {meta['result']}")
                started[task_id] = meta["result"]["ran_by"]["started"]
        except NotThereYetError:
            pass
        time.sleep(0.5)
    return started


def main() -> None:
    """Send, wait, purge, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flood", type=int, default=0, help="how many slow tasks to send first")
    parser.add_argument("--urgent", type=int, default=100, help="how many urgent tasks to send")
    parser.add_argument("--every", type=float, default=0.15, help="seconds from one urgent task to the next")
    parser.add_argument("--priority", type=int, help="the priority of an urgent message")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for the urgent ones' results")
    options = parser.parse_args()

    app = importlib.import_module("shop.celery").app
    app.loader.import_default_modules()
    urgent = app.tasks[URGENT]
    flood = Flood(app)
    run = f"{time.time_ns():x}"
    # The first tasks pay for connections and for what a process does once, which is not what is measured.
    warm = [urgent.apply_async(kwargs={"order": f"{run}-warm-{number}", "cents": 1}) for number in range(WARM_UP)]
    started_at(app, {result.id for result in warm}, 60.0)

    flood.send(options.flood)
    sent: dict[str, float] = {}
    waiting = [flood.waiting()]
    busy, ticks = busy_and_all(Path("/proc/stat").read_text())
    begin = time.monotonic()
    for number in range(options.urgent):
        time.sleep(max(0.0, begin + number * options.every - time.monotonic()))
        now = time.time()
        result = urgent.apply_async(kwargs={"order": f"{run}-{number}", "cents": 1}, priority=options.priority)
        sent[result.id] = now
        waiting.append(flood.waiting())
    busy_then, ticks_then = busy_and_all(Path("/proc/stat").read_text())
    started = started_at(app, set(sent), options.timeout)
    left = flood.waiting()
    flood.purge()
    report = {
        "latencies": [started[task_id] - at for task_id, at in sent.items()],
        "waiting": waiting,
        "left": left,
        "processors_busy": (busy_then - busy) / (ticks_then - ticks),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
