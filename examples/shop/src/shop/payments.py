"""Payments: urgent, and taken once however often the message arrives."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shop import state
from shop.celery import app
from shop.identity import whoami


class ProviderAwayError(Exception):
    """The payment provider did not answer."""


def authorise(order: str, cents: int) -> str:
    """Work out the provider's authorisation code, which costs a few milliseconds as a signature does."""
    return hashlib.pbkdf2_hmac("sha256", f"{order}:{cents}".encode(), b"provider", 5_000).hex()[:16]


@app.task(bind=True, name="shop.payments.charge", max_retries=5)
def charge(self: Any, order: str, cents: int, provider_away: int = 0, retry_in: float = 1.0) -> dict[str, Any]:
    """Charge an order. The provider is away for the first `provider_away` attempts."""
    if self.request.retries < provider_away:
        away = ProviderAwayError(f"no answer for order {order}, attempt {self.request.retries + 1}")
        raise self.retry(exc=away, countdown=retry_in)
    code = authorise(order, cents)
    first = state.create(f"payments/{order}.json", json.dumps({"order": order, "cents": cents, "code": code}))
    return {"order": order, "code": code, "charged_now": first, "ran_by": whoami(self)}


@app.task(bind=True, name="shop.payments.refund")
def refund(self: Any, order: str, cents: int) -> dict[str, Any]:
    """Give a payment back, once."""
    first = state.create(f"refunds/{order}.json", json.dumps({"order": order, "cents": cents}))
    return {"order": order, "refunded_now": first, "ran_by": whoami(self)}
