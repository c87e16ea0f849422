"""The demo's traffic: tasks of every kind, sent as a web process of the shop would send them.

This file runs on the host, as the application's user, in the application's release and with its environment; the demo
hands it to that Python on standard input. It writes one JSON object per line: `progress` while it works, `report` at
the end. What the report means is decided elsewhere (`report.py`), so that nothing here can colour it.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import chord
from celery.exceptions import TimeoutError as NotThereYetError

PARTS = 8  # of the chord's sum
NUMBERS = list(range(1, 801))
AWAY = 2  # attempts for which the payment provider does not answer
REMIND_IN = 5.0
MAIL = "customer@shop.example"


@dataclass(frozen=True)
class Kind:
    """One kind of work: which task, what share of the traffic, and when it is sent."""

    name: str
    task: str
    share: int
    wave: str  # "slow" goes first and fills its class; "paced" follows at an even pace
    least: int = 1


KINDS = (
    Kind("charge", "shop.payments.charge", 84, "paced"),
    Kind("charge, provider away", "shop.payments.charge", 8, "paced", least=2),
    Kind("refund", "shop.payments.refund", 20, "paced"),
    Kind("receipt", "shop.mails.send_receipt", 70, "paced"),
    Kind("reminder, later", "shop.mails.remind", 6, "paced", least=2),
    Kind("confirm", "shop.orders.confirm", 56, "paced"),
    Kind("count, no route", "shop.stock.count", 20, "paced"),
    Kind("seen, result ignored", "shop.stock.seen", 15, "paced"),
    Kind("feed", "shop.feeds.import_feed", 18, "slow"),
    Kind("daily sales", "shop.reports.daily_sales", 10, "slow"),
    Kind("leaky report", "shop.reports.leaky", 14, "slow", least=14),
    Kind("partial sum", "shop.reports.partial_sum", PARTS, "slow", least=PARTS),
    Kind("grand total", "shop.reports.grand_total", 1, "slow"),
)
CHORD = ("partial sum", "grand total")
PERIODIC = "expire carts, periodic"
PERIODIC_TASK = "shop.orders.expire_carts"


@dataclass(frozen=True)
class Sending:
    """One task to send: its arguments, and how long it is meant to wait."""

    kind: str
    task: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    countdown: float | None = None
    eta: float | None = None  # seconds from the sending


def mix(total: int, kinds: Iterable[Kind] = KINDS) -> dict[str, int]:
    """Share out `total` tasks between the kinds. Every kind gets its least; the rounding falls to the largest share."""
    kinds = tuple(kinds)
    fixed = {kind.name: kind.least for kind in kinds if kind.name in CHORD}
    free = [kind for kind in kinds if kind.name not in fixed]
    shares = sum(kind.share for kind in free)
    rest = total - sum(fixed.values())
    counts = {kind.name: max(kind.least, rest * kind.share // shares) for kind in free}
    largest = max(free, key=lambda kind: kind.share)
    counts[largest.name] += rest - sum(counts.values())
    if counts[largest.name] < largest.least:
        raise ValueError(f"{total} tasks are too few for every kind")
    return {kind.name: fixed.get(kind.name, counts.get(kind.name, 0)) for kind in kinds}


def make(kind: Kind, run: str, number: int) -> Sending:
    """Make up one task of a kind. `run` keeps the orders of two demos apart."""
    order = f"{run}-{kind.task.rsplit('.', 1)[1]}-{kind.share}-{number}"
    odd = bool(number % 2)
    match kind.name:
        case "charge":
            return Sending(kind.name, kind.task, {"order": order, "cents": 1_000 + number})
        case "charge, provider away":
            # Every other one is retried after half a second, a delay that plain Celery refuses on quorum queues.
            kwargs = {"order": order, "cents": 1_000, "provider_away": AWAY, "retry_in": 0.5 if odd else 1.0}
            return Sending(kind.name, kind.task, kwargs)
        case "refund":
            return Sending(kind.name, kind.task, {"order": order, "cents": 500 + number})
        case "receipt":
            return Sending(kind.name, kind.task, {"order": order, "to": MAIL, "cents": 1_000 + number})
        case "reminder, later":
            kwargs = {"order": order, "to": MAIL}
            return (
                Sending(kind.name, kind.task, kwargs, countdown=0.5)
                if odd
                else Sending(kind.name, kind.task, kwargs, eta=REMIND_IN)
            )
        case "confirm":
            return Sending(kind.name, kind.task, {"order": order, "lines": [[1 + number % 3, 1_299], [2, 450]]})
        case "count, no route" | "seen, result ignored":
            return Sending(kind.name, kind.task, {"article": f"article-{number}"})
        case "feed":
            return Sending(kind.name, kind.task, {"supplier": f"supplier-{number % 6}"})
        case "daily sales":
            return Sending(kind.name, kind.task, {"day": number})
        case "leaky report":
            return Sending(kind.name, kind.task)
        case "partial sum":
            return Sending(kind.name, kind.task, {"numbers": NUMBERS[number::PARTS]})
        case _:
            return Sending(kind.name, kind.task)


def interleave(groups: Iterable[list[Sending]]) -> list[Sending]:
    """Merge the groups so that each is spread evenly over the whole."""
    placed = [
        ((index + 0.5) / len(group), order, item)
        for order, group in enumerate(groups)
        for index, item in enumerate(group)
    ]
    return [item for _first, _second, item in sorted(placed, key=lambda entry: entry[:2])]


def plan(total: int, run: str) -> tuple[list[Sending], list[Sending]]:
    """Plan the traffic: what fills the slow class first, and what then follows at a pace."""
    counts = mix(total)
    groups = {kind.name: [make(kind, run, number) for number in range(counts[kind.name])] for kind in KINDS}
    waves = {wave: [groups[kind.name] for kind in KINDS if kind.wave == wave] for wave in ("slow", "paced")}
    # The chord is sent as one: its parts stay together at the end of the first wave.
    single = [group for group in waves["slow"] if group[0].kind not in CHORD]
    return interleave(single) + [item for name in CHORD for item in groups[name]], interleave(waves["paced"])


def record_of(sending: Sending, task_id: str, sent: float) -> dict[str, Any]:
    """Start the record of a task that was sent."""
    wait = sending.eta if sending.eta is not None else sending.countdown
    return {
        "kind": sending.kind,
        "task": sending.task,
        "kwargs": dict(sending.kwargs),
        "id": task_id,
        "sent": sent,
        "due": None if wait is None else sent + wait,
        "state": "PENDING",
        "value": None,
        "ran_by": None,
    }


def settle(record: dict[str, Any], state: str, result: Any) -> None:
    """Complete a record with what the result backend answered."""
    record["state"] = state
    if isinstance(result, Mapping) and "ran_by" in result:
        record["ran_by"] = result["ran_by"]
        record["value"] = {key: value for key, value in result.items() if key != "ran_by"}
    else:
        record["value"] = str(result)


class Traffic:
    """Sends the planned tasks, then waits until every one of them has been heard of."""

    def __init__(
        self, app: Any, journal: Callable[[float], Iterator[dict[str, Any]]], emit: Callable[[dict[str, Any]], None]
    ) -> None:
        """Keep the application, the way to read its journal, and where to report to."""
        self.app = app
        self.journal = journal
        self.emit = emit
        self.begin = time.time()
        self.records: dict[str, dict[str, Any]] = {}
        self.refused: list[dict[str, Any]] = []
        self.waiting: set[str] = set()  # for a result
        self.unkept: set[str] = set()  # tasks that keep none: the journal tells of them
        self.periodic: list[dict[str, Any]] = []
        self.total = 0
        self._told = 0.0

    def send(self, sending: Sending) -> None:
        """Send one task. One that cannot be sent is part of the report, unless none could be."""
        task = self.app.tasks[sending.task]
        options: dict[str, Any] = {"countdown": sending.countdown}
        if sending.eta is not None:
            options = {"eta": datetime.now(UTC) + timedelta(seconds=sending.eta)}
        sent = time.time()
        try:
            result = task.apply_async(kwargs=dict(sending.kwargs), **options)
        except Exception as error:
            if not self.records:
                raise
            self.refused.append(
                {**record_of(sending, "", sent), "state": "NOT SENT", "value": f"{type(error).__name__}: {error}"}
            )
            return
        self.records[result.id] = record_of(sending, result.id, sent)
        (self.unkept if task.ignore_result else self.waiting).add(result.id)

    def send_chord(self, parts: list[Sending], total: Sending) -> None:
        """Send the sum in parts, with its total as the callback."""
        header = [self.app.tasks[part.task].s(**part.kwargs) for part in parts]
        sent = time.time()
        result = chord(header, app=self.app)(self.app.tasks[total.task].s(**total.kwargs))
        for sending, one in [*zip(parts, result.parent.results, strict=True), (total, result)]:
            self.records[one.id] = record_of(sending, one.id, sent)
            self.waiting.add(one.id)

    def hear(self) -> None:
        """Take in the results that are there by now."""
        try:
            for task_id, meta in self.app.backend.get_many(set(self.waiting), timeout=0):
                settle(self.records[task_id], meta["status"], meta["result"])
                self.waiting.discard(task_id)
        except NotThereYetError:
            pass  # the others come later
        self.periodic = []
        for entry in self.journal(self.begin):
            ran_by = entry.get("ran_by") or {}
            if ran_by.get("id") in self.unkept:
                self.unkept.discard(ran_by["id"])
                self.records[ran_by["id"]].update(state="IGNORED", ran_by=ran_by)
            elif ran_by.get("task") == PERIODIC_TASK:
                record = record_of(Sending(PERIODIC, PERIODIC_TASK), ran_by["id"], entry["time"])
                self.periodic.append({**record, "state": "PERIODIC", "ran_by": ran_by})

    @property
    def complete(self) -> bool:
        """Say whether everything has been heard of, the periodic task included."""
        return not self.waiting and not self.unkept and bool(self.periodic)

    def tell(self, *, at_least_every: float = 0.5) -> None:
        """Report progress, not too often."""
        now = time.monotonic()
        if now - self._told >= at_least_every:
            self._told = now
            sent = len(self.records) + len(self.refused)
            done = len(self.records) - len(self.waiting) - len(self.unkept)
            missing = "" if self.periodic else "the periodic task"
            self.emit({"event": "progress", "total": self.total, "sent": sent, "done": done, "waiting_for": missing})

    def run(self, slow: list[Sending], paced: list[Sending], seconds: float, timeout: float) -> None:
        """Send everything, the paced part over `seconds`; give up on what is missing after `timeout` seconds in all."""
        self.total = len(slow) + len(paced)
        deadline = time.monotonic() + timeout
        for sending in slow:
            if sending.kind not in CHORD:
                self.send(sending)
        parts = [sending for sending in slow if sending.kind == CHORD[0]]
        for total in (sending for sending in slow if sending.kind == CHORD[1]):
            self.send_chord(parts, total)
        start = time.monotonic()
        for number, sending in enumerate(paced):
            time.sleep(max(0.0, start + seconds * number / len(paced) - time.monotonic()))
            self.send(sending)
            if time.monotonic() - self._told >= 1.0:
                self.hear()
                self.tell()
        while not self.complete and time.monotonic() < deadline:
            self.hear()
            self.tell()
            time.sleep(0.2)
        for task_id, record in self.records.items():
            if record["state"] == "IGNORED" and self.app.backend.get_state(task_id) != "PENDING":
                record["state"] = "KEPT"
        self.tell(at_least_every=0.0)

    def report(self) -> dict[str, Any]:
        """Sum up: every task that was sent, and every periodic one that was seen."""
        return {
            "event": "report",
            "begin": self.begin,
            "end": time.time(),
            "records": [*self.records.values(), *self.refused],
            "periodic": self.periodic,
        }


def emit(event: dict[str, Any]) -> None:
    """Write one event to standard output."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Send the traffic from this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=330, help="how many tasks to send")
    parser.add_argument("--seconds", type=float, default=8.0, help="over which time to send what is not slow")
    parser.add_argument("--timeout", type=float, default=120.0, help="how long to wait for the answers")
    options = parser.parse_args(arguments)

    app = importlib.import_module("shop.celery").app
    app.loader.import_default_modules()
    traffic = Traffic(app, importlib.import_module("shop.state").journal, emit)
    slow, paced = plan(options.tasks, run=f"{time.time_ns() // 1_000_000:x}")
    traffic.run(slow, paced, options.seconds, options.timeout)
    emit(traffic.report())
    gc.collect()  # results in a cycle would end their subscriptions while the interpreter shuts down


if __name__ == "__main__":
    main(sys.argv[1:])
