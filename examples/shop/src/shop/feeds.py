"""Feeds: the catalogues of suppliers, large and slow."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

from shop import state
from shop.celery import app
from shop.identity import whoami


def catalogue(supplier: str, articles: int) -> str:
    """Make up what a supplier's server would send."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["article", "cents"])
    rows.writerows((f"{supplier}-{number}", 100 + number * 7 % 900) for number in range(articles))
    return text.getvalue()


@app.task(bind=True, name="shop.feeds.import_feed")
def import_feed(self: Any, supplier: str, articles: int = 500, seconds: float = 0.2) -> dict[str, Any]:
    """Read a catalogue from a supplier whose server takes `seconds` to answer."""
    ran_by = whoami(self)
    time.sleep(seconds)
    prices = {row["article"]: int(row["cents"]) for row in csv.DictReader(io.StringIO(catalogue(supplier, articles)))}
    state.write(f"feeds/{supplier}.json", json.dumps(prices))
    return {"supplier": supplier, "articles": len(prices), "ran_by": ran_by}
