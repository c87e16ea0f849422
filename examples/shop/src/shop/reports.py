"""Reports: nobody waits for them, and one of them is badly written."""

from __future__ import annotations

import datetime
import statistics
import time
from typing import Any

from shop import state
from shop.celery import app
from shop.identity import whoami

MIB = 1024 * 1024

_kept: list[bytearray] = []


@app.task(bind=True, name="shop.reports.daily_sales")
def daily_sales(self: Any, day: int, orders: int = 2_000, seconds: float = 0.1) -> dict[str, Any]:
    """Figures of one day, out of a database that takes `seconds`."""
    ran_by = whoami(self)
    time.sleep(seconds)
    sales = [500 + (day * 7_919 + number * 104_729) % 19_500 for number in range(orders)]
    return {"day": day, "cents": sum(sales), "median": statistics.median(sales), "ran_by": ran_by}


class DatabaseAwayError(Exception):
    """The database did not answer."""


@app.task(bind=True, name="shop.reports.nightly", max_retries=3)
def nightly(self: Any, day: str, seconds: float = 0.0, database_away: int = 0) -> dict[str, Any]:
    """The bookkeeper's figures of one day. The database is away for the first `database_away` attempts."""
    return _report(self, day, seconds, database_away)


@app.task(bind=True, name="shop.reports.monthly")
def monthly(self: Any, day: str, seconds: float = 0.0) -> dict[str, Any]:
    """The same of the month that ends with that day."""
    return _report(self, day, seconds)


def _report(task: Any, day: str, seconds: float, database_away: int = 0) -> dict[str, Any]:
    ran_by = whoami(task)
    state.note("report begun", day=day, ran_by=ran_by)
    datetime.date.fromisoformat(day)
    if task.request.retries < database_away:
        raise task.retry(exc=DatabaseAwayError(day), countdown=1)
    time.sleep(seconds)
    state.note("report done", day=day, ran_by=ran_by)
    return {"day": day, "ran_by": ran_by}


@app.task(bind=True, name="shop.reports.partial_sum")
def partial_sum(self: Any, numbers: list[int]) -> dict[str, Any]:
    """One part of a long sum."""
    return {"sum": sum(numbers), "ran_by": whoami(self)}


@app.task(bind=True, name="shop.reports.grand_total")
def grand_total(self: Any, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole sum, when every part is there."""
    return {"sum": sum(part["sum"] for part in parts), "parts": len(parts), "ran_by": whoami(self)}


@app.task(bind=True, name="shop.reports.leaky")
def leaky(self: Any, megabytes: int = 24) -> dict[str, Any]:
    """Keep the pages of every report for ever: a process that runs this often enough has to be replaced."""
    page = bytearray(megabytes * MIB)
    page[::4096] = b"\x01" * len(page[::4096])
    _kept.append(page)
    return {"kept": sum(map(len, _kept)) // MIB, "ran_by": whoami(self)}
