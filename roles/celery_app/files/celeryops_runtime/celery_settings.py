# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Translates the shared configuration into Celery settings, including those that depend on the URLs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from celeryops_runtime import sentinel, versions
from celeryops_runtime.tls import tls_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celeryops_runtime.config import SharedConfig


def celery_settings(config: SharedConfig) -> dict[str, Any]:
    """Translate the configuration to Celery settings.

    :param config: the checked document.
    :returns: settings under their lower-case names, for ``app.conf``: serializers limited to JSON, queues, routes
        and delayed delivery as derived, as far as this Celery knows them, then ``config.settings`` over them. Names
        and meaning: Celery 5.7, docs/userguide/configuration.rst.
    """
    derived: dict[str, Any] = {
        "accept_content": ["json"],
        # None: what holds for tasks holds for results. An app's own list could let pickle in again.
        "result_accept_content": None,
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_queues": config.kombu_queues(),
        "task_default_queue": config.default_queue,
        "task_default_exchange": config.exchange,
        "task_default_exchange_type": config.exchange_type,
        "task_default_routing_key": config.default_queue,
        "task_routes": config.routers(),
    }
    if config.broker == "rabbitmq":
        default_type = next(queue.type for queue in config.queues if queue.name == config.default_queue)
        derived |= {
            "task_default_queue_type": default_type,
            "task_create_missing_queue_type": "quorum",
            "task_create_missing_queue_exchange_type": "topic",
            "broker_native_delayed_delivery_queue_type": "quorum",
            "worker_detect_quorum_queues": True,
        }
    if config.quorum_queues and not versions.keeps_prefetch():
        derived["worker_enable_prefetch_count_reduction"] = False
    known = {key: value for key, value in derived.items() if versions.has_setting(key)}
    return {**known, **config.settings}


def connection_settings(settings: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Work out what belongs to the URLs, which come from the environment because they hold passwords.

    :param settings: the settings so far; those about TLS and Sentinels are read.
    :param environ: the environment; the process's own if not given.
    :returns: settings to put over them. An app's own ``broker_read_url`` and ``broker_write_url`` come before
        ``CELERY_BROKER_URL`` (celery/app/utils.py, ``Settings``, 5.7.0), so they are taken out; TLS options are those
        that go with the URLs (:func:`celeryops_runtime.tls.tls_settings`), and Sentinels are asked with the password
        that is there for it.
    """
    environ = environ if environ is not None else os.environ
    found = {**tls_settings(settings, environ), **sentinel.settings(settings, environ)}
    if environ.get("CELERY_BROKER_URL"):
        found |= {"broker_read_url": None, "broker_write_url": None}
    return found
