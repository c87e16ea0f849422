"""The Celery app, as Celery's documentation has it for Django."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ca.settings")

app = Celery("ca")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
