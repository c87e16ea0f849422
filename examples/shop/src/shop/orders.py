"""Orders: the ordinary work."""

from __future__ import annotations

import json
import time
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from shop import state
from shop.celery import app
from shop.identity import whoami

VAT = Decimal("0.19")
CART_LIFE = 3600.0


def total_cents(lines: list[tuple[int, int]]) -> int:
    """Add up (pieces, cents each) with value-added tax, rounded as an invoice is."""
    net = Decimal(sum(pieces * cents for pieces, cents in lines))
    return int((net * (1 + VAT)).quantize(Decimal(1), rounding=ROUND_HALF_UP))


@app.task(bind=True, name="shop.orders.confirm")
def confirm(self: Any, order: str, lines: list[tuple[int, int]]) -> dict[str, Any]:
    """Price an order and keep it."""
    cents = total_cents(lines)
    state.write(f"orders/{order}.json", json.dumps({"order": order, "lines": lines, "cents": cents}))
    return {"order": order, "cents": cents, "ran_by": whoami(self)}


@app.task(bind=True, name="shop.orders.expire_carts")
def expire_carts(self: Any) -> dict[str, Any]:
    """Forget what nobody came back for. Beat sends this one."""
    gone = state.expire(("orders", "outbox", "payments", "refunds"), older_than=time.time() - CART_LIFE)
    ran_by = whoami(self)
    state.note("carts expired", gone=gone, ran_by=ran_by)
    return {"gone": gone, "ran_by": ran_by}
