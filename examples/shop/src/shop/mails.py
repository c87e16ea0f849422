"""Mails: short, urgent, written into an outbox that a mail server would empty."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

from shop import state
from shop.celery import app
from shop.identity import whoami


def compose(to: str, subject: str, body: str) -> EmailMessage:
    """Put a mail together."""
    mail = EmailMessage()
    mail["From"] = "orders@shop.example"
    mail["To"] = to
    mail["Subject"] = subject
    mail.set_content(body)
    return mail


@app.task(bind=True, name="shop.mails.send_receipt")
def send_receipt(self: Any, order: str, to: str, cents: int) -> dict[str, Any]:
    """Thank for a payment."""
    mail = compose(to, f"Your order {order}", f"Thank you. We received {cents // 100}.{cents % 100:02d} euros.\n")
    path = state.write(f"outbox/receipt-{order}.eml", mail.as_string())
    return {"order": order, "mail": path.name, "ran_by": whoami(self)}


@app.task(bind=True, name="shop.mails.remind")
def remind(self: Any, order: str, to: str) -> dict[str, Any]:
    """Remind of an unpaid order. Sent with an ETA: a reminder is for later."""
    mail = compose(to, f"Your order {order} is waiting", "It is still in your cart.\n")
    path = state.write(f"outbox/reminder-{order}.eml", mail.as_string())
    return {"order": order, "mail": path.name, "ran_by": whoami(self)}
