"""Settings of a developer's machine. What Celery needs in production comes from the shared configuration."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

STATE = Path(os.environ.get("DJANGO_SHOP_STATE", "."))

# Without a key of its own each process makes one up, which is enough to try the project out.
SECRET_KEY = os.environ.get("DJANGO_SHOP_SECRET_KEY") or secrets.token_urlsafe(50)
DEBUG = False
ALLOWED_HOSTS: list[str] = []
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
INSTALLED_APPS = ["django_shop.catalogue"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE / "django_shop.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    },
}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

# Wrong on every other machine, on purpose: see the README.
CELERY_BROKER_URL = "amqp://developer@broker.invalid:5672//"
CELERY_RESULT_BACKEND = "redis://results.invalid:6379/0"
CELERY_TASK_TIME_LIMIT = 7
CELERY_TASK_DEFAULT_QUEUE = "developer"
CELERY_TASK_ROUTES = {"*": {"queue": "nobody-reads-this"}}
CELERY_TASK_SERIALIZER = "pickle"
CELERY_ACCEPT_CONTENT = ["pickle"]
CELERY_BROKER_WRITE_URL = "amqp://developer@writes.invalid:5672//"
CELERY_BROKER_USE_SSL = {"keyfile": "developer-key.pem"}
CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": False, "visibility_timeout": 5}
CELERY_RESULT_EXPIRES = 7

# Right everywhere: nothing in the shared configuration speaks about these.
CELERY_TIMEZONE = TIME_ZONE
CELERY_TASK_TRACK_STARTED = True
