"""What this Superset has otherwise than superset/config.py; secrets come from the environment.

SECRET_KEY and SQLALCHEMY_DATABASE_URI are read from there by Superset itself. Nothing is said of Celery: the schedule
and the modules of tasks are those of Superset's own CeleryConfig; broker, results, queues, routes are the inventory's.
"""

import os

from flask_caching.backends.rediscache import RedisCache
from redis import Redis

CACHE_URL = os.environ["SUPERSET_CACHE_URL"]

# Where SQL Lab's asynchronous queries leave their rows for the web process.
RESULTS_BACKEND = RedisCache(host=Redis.from_url(CACHE_URL), key_prefix="superset_results:")
CACHE_CONFIG = DATA_CACHE_CONFIG = {
    "CACHE_TYPE": "RedisCache",
    "CACHE_REDIS_URL": CACHE_URL,
    # What the account in Redis may see, beside the results.
    "CACHE_KEY_PREFIX": "superset_cache:",
}

# The schedule asks each minute whether an alert or a report is due.
FEATURE_FLAGS = {"ALERT_REPORTS": True}
