"""A task with a route of its own in the shared configuration, and one without."""

from __future__ import annotations

from typing import Any

from constructor_shop.celery import app


@app.task
def charge(order: str) -> dict[str, Any]:
    """Charge an order."""
    return {"order": order}


@app.task
def count(order: str) -> dict[str, Any]:
    """Count an order."""
    return {"order": order}
