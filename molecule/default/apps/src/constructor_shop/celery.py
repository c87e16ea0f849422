"""The app, with the settings of a developer's machine. The end-to-end tests deploy it as it is."""

from __future__ import annotations

import ssl

from celery import Celery
from kombu import Exchange, Queue

app = Celery(
    "constructor_shop",
    broker="amqp://developer@broker.invalid:5672//",
    backend="redis://results.invalid:6379/0",
    include=["constructor_shop.tasks"],
    broker_read_url="amqp://developer@reads.invalid:5672//",
    broker_write_url="amqp://developer@writes.invalid:5672//",
    broker_use_ssl={"cert_reqs": ssl.CERT_NONE},
    redis_backend_use_ssl={"ssl_cert_reqs": ssl.CERT_NONE},
    broker_transport_options={"confirm_publish": False, "read_timeout": 1, "visibility_timeout": 5},
    result_backend_transport_options={"global_keyprefix": "developer:"},
    result_expires=7,
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle"],
    result_accept_content=["pickle"],
    task_default_queue="developer",
    task_default_exchange="developer",
    task_default_exchange_type="direct",
    task_queues=[Queue("developer", Exchange("developer"), routing_key="developer", durable=False)],
    task_routes={"constructor_shop.*": {"queue": "nobody-reads-this"}, "probe.*": {"queue": "nobody-reads-this"}},
    task_acks_late=False,
    worker_prefetch_multiplier=64,
)
