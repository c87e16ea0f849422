"""The project's tasks, as `shared_task`: they do not import the app."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from celery import shared_task
from django.core import signing
from django.db import transaction
from django.template.loader import render_to_string

from django_shop.catalogue.models import Article


def ran_by(task: Any) -> dict[str, Any]:
    """Say which worker runs a task, in which process, as whom."""
    return {"node": task.request.hostname, "pid": os.getpid(), "uid": os.getuid()}


@shared_task(bind=True)
def reprice(self: Any, article: str, cents: int) -> dict[str, Any]:
    """Set an article's price, whether the catalogue has the article or not."""
    with transaction.atomic():
        row, new = Article.objects.update_or_create(name=article, defaults={"cents": cents})
    return {"article": row.name, "cents": row.cents, "new": new, "ran_by": ran_by(self)}


@shared_task(bind=True)
def render_invoice(self: Any, number: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Render an invoice and sign it."""
    total = sum(line["pieces"] * line["cents"] for line in lines)
    text = render_to_string("catalogue/invoice.txt", {"number": number, "lines": lines, "total": total})
    return {"text": text, "signed": signing.Signer().sign(f"{number}:{total}"), "ran_by": ran_by(self)}


@shared_task(bind=True)
def effective_settings(self: Any) -> dict[str, Any]:
    """Tell what is in force here, without a password: who won, the project's settings or the shared configuration."""
    conf = self.app.conf
    return {
        "broker_host": urlsplit(conf.broker_url).hostname,
        "result_host": urlsplit(conf.result_backend).hostname,
        "task_time_limit": conf.task_time_limit,
        "task_default_queue": conf.task_default_queue,
        "queue": (self.request.delivery_info or {}).get("routing_key"),
        "timezone": str(conf.timezone),
        "task_track_started": conf.task_track_started,
        "ran_by": ran_by(self),
    }
