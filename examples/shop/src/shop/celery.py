"""The Celery application, as a team would write it: what runs, and nothing of where."""

from __future__ import annotations

from celery import Celery

app = Celery("shop", include=["shop.feeds", "shop.mails", "shop.orders", "shop.payments", "shop.reports", "shop.stock"])
app.conf.beat_schedule = {
    "expire carts": {"task": "shop.orders.expire_carts", "schedule": 10.0},
}
