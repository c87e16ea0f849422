"""The settings of "Quickstart as Django app" in django-ca's documentation; secrets and places are in the environment.

Nothing is said of Celery but its schedule: broker, results and queues are the inventory's.
"""

import os
from pathlib import Path

STATE = Path(os.environ["DJANGO_CA_STATE"])
SECRET_KEY = os.environ["DJANGO_CA_SECRET_KEY"]
CA_DEFAULT_HOSTNAME = os.environ["DJANGO_CA_HOSTNAME"]
ALLOWED_HOSTS = [CA_DEFAULT_HOSTNAME]
DEBUG = False
TIME_ZONE = "UTC"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin",
    "django_object_actions",
    "django_ca",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "ca.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# A file is enough to begin with. Several processes write to it, so each waits for its turn; PostgreSQL is for more.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE / "db.sqlite3",
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    },
}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    # The private keys. The app's state directory is one of the few places that its units may write to.
    "django-ca": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": STATE / "files", "file_permissions_mode": 0o600, "directory_permissions_mode": 0o700},
    },
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ["DJANGO_CA_CACHE_URL"],
        # What the account in Redis may see.
        "KEY_PREFIX": "djangoca_cache",
    },
}

# The schedule of django-ca's own settings.py, to which its documentation refers.
CELERY_BEAT_SCHEDULE = {
    "generate-crls": {"task": "django_ca.tasks.generate_crls", "schedule": 3600},
    "generate-ocsp-keys": {"task": "django_ca.tasks.generate_ocsp_keys", "schedule": 3600},
    "notify_watchers": {"task": "django_ca.tasks.notify_watchers", "schedule": 3600 * 6},
    "acme-cleanup": {"task": "django_ca.tasks.acme_cleanup", "schedule": 300},
}
