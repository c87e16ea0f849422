"""A task with a route of its own in the shared configuration, one without, and a periodic one."""

from __future__ import annotations

from typing import Any

from object_shop.celery import app


@app.task
def charge(order: str) -> dict[str, Any]:
    """Charge an order."""
    return {"order": order}


@app.task
def count(order: str) -> dict[str, Any]:
    """Count an order."""
    return {"order": order}


@app.task(bind=True)
def tick(self: Any) -> str:
    """Tell through which queue beat's message came."""
    return str((self.request.delivery_info or {}).get("routing_key"))
