"""The Celery application, as a team would write it: where its tasks run is said elsewhere."""

from __future__ import annotations

from celery import Celery

app = Celery("chaos", include=["chaos_app.tasks"])
