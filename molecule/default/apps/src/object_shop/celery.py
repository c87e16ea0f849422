"""The app: config_from_object, and conf.update after the settings were read."""

from __future__ import annotations

import logging
import os
import pwd

from celery import Celery

# As many apps do when they are imported, the first time before any worker has run. The web process has another account.
if pwd.getpwuid(os.geteuid()).pw_name == "object_shop":
    logging.getLogger("object_shop").addHandler(logging.FileHandler("/var/log/celeryops/object_shop/app.log"))

app = Celery("object_shop")
app.config_from_object("object_shop.celeryconfig")
assert app.conf.task_serializer
app.conf.update(
    broker_url="redis://later.invalid:6379/4",
    broker_use_ssl={"ssl_cert_reqs": "none"},
    task_default_queue="later",
    task_routes={"object_shop.*": {"queue": "later"}, "probe.*": {"queue": "later"}},
    task_serializer="pickle",
)
app.conf.result_backend = "redis://later.invalid:6379/5"
