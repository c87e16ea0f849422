"""Weblate's example settings with the values of this host; secrets come from the environment.

Nothing is said of Celery: broker, results, queues and their routes are the inventory's.
"""

import os

# So Weblate's documentation has it: all but what follows.
from weblate.settings_example import *  # noqa: F403 pylint: disable=wildcard-import
from weblate.settings_example import CACHES, DATABASES, LOGGING

DEBUG = False
SECRET_KEY = os.environ["WEBLATE_SECRET_KEY"]

# What settings_example.py makes of SITE_DOMAIN and ENABLE_HTTPS, which are other ones here.
SITE_DOMAIN = os.environ["WEBLATE_SITE_DOMAIN"]
ENABLE_HTTPS = True
SITE_URL = f"https://{SITE_DOMAIN}"
ALLOWED_HOSTS = [SITE_DOMAIN]
OTP_WEBAUTHN_RP_ID = SITE_DOMAIN
OTP_WEBAUTHN_ALLOWED_ORIGINS = [SITE_URL]
SOCIAL_AUTH_REDIRECT_IS_HTTPS = CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = SECURE_SSL_REDIRECT = ENABLE_HTTPS
SECURE_SSL_HOST = SITE_DOMAIN
SECURE_HSTS_SECONDS = 31536000
SECURE_HSTS_PRELOAD = SECURE_HSTS_INCLUDE_SUBDOMAINS = ENABLE_HTTPS

# An empty host is PostgreSQL's socket.
DATABASES["default"].update(HOST="", PASSWORD="")

# The app's state directory is one of the few places that its units may write to.
DATA_DIR = "/var/lib/celeryops/weblate/data"
CACHE_DIR = f"{DATA_DIR}/cache"
MEDIA_ROOT = f"{DATA_DIR}/media"
STATIC_ROOT = f"{CACHE_DIR}/static"

CACHES["default"].update(
    LOCATION=os.environ["WEBLATE_CACHE_URL"],
    OPTIONS={"CLIENT_CLASS": "django_redis.client.DefaultClient"},
    # What the account in Redis may see.
    KEY_PREFIX="weblate_cache",
)
CACHES["avatar"]["LOCATION"] = f"{CACHE_DIR}/avatar"

# The example logs to the console as it does for DEBUG, and so to the journal of each unit; but not everything.
for logger in LOGGING["loggers"].values():
    if logger["level"] == "DEBUG":
        logger["level"] = "INFO"
