# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of Celery's settings and the kinds of their values.

Source: ``celery.app.defaults.NAMESPACES`` of Celery 5.7.0, flattened; ``type`` of each option is the kind here. A unit
test compares both with the installed Celery, and tells what to change when Celery gains or loses a setting.
"""

from __future__ import annotations

import math
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import MAX_SECONDS

_BY_KIND = {
    "any": """
        database_engine_callback task_annotations task_routes worker_concurrency
    """,
    "bool": """
        beat_enable_remote_control broker_channel_error_retry broker_connection_retry
        broker_connection_retry_on_startup broker_use_ssl control_queue_durable control_queue_exclusive
        database_create_tables_at_setup database_short_lived_sessions elasticsearch_retry_on_timeout
        elasticsearch_save_meta_as_text enable_utc event_queue_durable event_queue_exclusive
        redis_retry_on_timeout redis_socket_keepalive result_backend_always_retry result_extended
        result_persistent task_acks_late task_acks_on_failure task_acks_on_failure_or_timeout
        task_acks_on_timeout task_allow_error_cb_on_chord_header task_always_eager task_create_missing_queues
        task_eager_propagates task_ignore_result task_inherit_parent_priority task_publish_retry
        task_reject_on_worker_lost task_remote_tracebacks task_retry_on_worker_lost task_send_sent_event
        task_store_eager_result task_store_errors_even_if_ignored task_track_started
        worker_cancel_long_running_tasks_on_connection_loss worker_deduplicate_successful_tasks
        worker_detect_quorum_queues worker_direct worker_disable_prefetch worker_disable_rate_limits
        worker_enable_prefetch_count_reduction worker_enable_remote_control worker_enable_soft_shutdown_on_idle
        worker_hijack_root_logger worker_log_color worker_pool_putlocks worker_pool_restarts
        worker_redirect_stdouts worker_send_task_events
    """,
    "bytes": """
        security_key_password
    """,
    "dict": """
        arangodb_backend_settings beat_schedule broker_transport_options cache_backend_options cassandra_options
        couchbase_backend_settings database_engine_options database_table_names database_table_schemas
        mongodb_backend_settings redis_backend_use_ssl result_backend_transport_options
        task_publish_retry_policy task_queues
    """,
    "float": """
        beat_max_loop_interval beat_remote_control_max_tick_age broker_connection_timeout
        broker_pool_acquire_timeout cassandra_entry_ttl control_queue_expires control_queue_ttl
        elasticsearch_timeout event_queue_expires event_queue_ttl gcs_ttl redis_socket_connect_timeout
        redis_socket_timeout result_backend_max_retries result_chord_expires result_chord_join_timeout
        result_chord_retry_interval result_expires result_failure_expires task_soft_time_limit task_time_limit
        worker_lost_wait worker_proc_alive_timeout worker_soft_shutdown_timeout worker_timer_precision
    """,
    "int": """
        azureblockblob_connection_timeout azureblockblob_read_timeout azureblockblob_retry_increment_base
        azureblockblob_retry_initial_backoff_sec azureblockblob_retry_max_attempts beat_cron_starting_deadline
        beat_sync_every broker_connection_max_retries broker_heartbeat broker_heartbeat_checkrate
        broker_pool_limit broker_port cosmosdbsql_max_retry_attempts cosmosdbsql_max_retry_wait_time
        elasticsearch_max_retries redis_db redis_max_connections redis_port
        result_backend_base_sleep_between_retries_ms result_backend_max_sleep_between_retries_ms
        result_cache_max task_protocol task_queue_max_priority task_repr_maxlevels worker_eta_task_limit
        worker_max_memory_per_child worker_max_tasks_per_child worker_prefetch_multiplier
    """,
    "list": """
        accept_content cassandra_servers result_accept_content
    """,
    "str": """
        result_compression
    """,
    "string": """
        azureblockblob_base_path azureblockblob_container_name beat_schedule_filename beat_scheduler
        broker_failover_strategy broker_host broker_login_method broker_native_delayed_delivery_queue_type
        broker_password broker_read_url broker_transport broker_url broker_user broker_vhost broker_write_url
        cache_backend cassandra_auth_kwargs cassandra_auth_provider cassandra_bundle_path cassandra_keyspace
        cassandra_port cassandra_read_consistency cassandra_table cassandra_write_consistency control_exchange
        cosmosdbsql_collection_name cosmosdbsql_consistency_level cosmosdbsql_database_name database_url
        event_exchange event_queue_prefix event_serializer gcs_base_path gcs_bucket gcs_project redis_host
        redis_password redis_username result_backend result_exchange result_exchange_type result_serializer
        s3_access_key_id s3_base_path s3_bucket s3_endpoint_url s3_region s3_secret_access_key
        security_cert_store security_certificate security_digest security_key task_compression
        task_create_missing_queue_exchange_type task_create_missing_queue_type task_default_delivery_mode
        task_default_exchange task_default_exchange_type task_default_priority task_default_queue
        task_default_queue_type task_default_rate_limit task_default_routing_key task_serializer timezone
        worker_agent worker_autoscaler worker_consumer worker_log_datefmt worker_log_format worker_pool
        worker_pool_start_method worker_redirect_stdouts_level worker_state_db worker_task_log_datefmt
        worker_task_log_format worker_timer
    """,
    "tuple": """
        imports include
    """,
}

#: Read by Celery's own code with ``conf.get`` although NAMESPACES does not list them
#: (celery/backends/redis.py, celery/backends/base.py, celery/backends/gcs.py and celery/backends/dynamodb.py of 5.7.0).
UNLISTED = {
    "dynamodb_endpoint_url": "string",
    "gcs_threadpool_maxsize": "int",
    "redis_backend_health_check_interval": "int",
    "redis_client_name": "string",
    "result_backend_thread_safe": "bool",
}

#: name -> kind, for every setting that Celery knows.
KINDS: dict[str, str] = {name: kind for kind, names in _BY_KIND.items() for name in names.split()} | UNLISTED

#: Declared as text, and numbers or dictionaries to Celery's own documentation and code.
TEXT_OR_NUMBER = frozenset(
    {"cassandra_port", "task_default_delivery_mode", "task_default_priority", "task_default_rate_limit"}
)
TEXT_OR_DICT = frozenset({"cassandra_auth_kwargs"})

#: Declared as bool, and taken as a dictionary of options as well.
BOOL_OR_DICT = frozenset({"broker_use_ssl"})

#: The count is this times the processes, 16 bits of AMQP (basic.qos).
MOST_PREFETCHED = 10_000

#: The least and the most that numbers may be; others may be anything from nothing on. What nothing means, if anything,
#: is in celery/app/defaults.py and docs/userguide/configuration.rst of Celery 5.7.0.
_RANGES: dict[str, tuple[float, float]] = {
    # -1 turns the cache off (celery/backends/base.py: LRUCache with a limit below nothing is none).
    "result_cache_max": (-1, float("inf")),
    # 0 is no limit to RabbitMQ and to kombu.
    "worker_prefetch_multiplier": (0, MOST_PREFETCHED),
    "task_protocol": (1, 2),
    "task_default_priority": (0, 255),
    "task_queue_max_priority": (0, 255),
    "task_default_delivery_mode": (1, 2),
    "broker_heartbeat": (0, 65_535),
    "task_time_limit": (0, MAX_SECONDS),
    "task_soft_time_limit": (0, MAX_SECONDS),
    "worker_soft_shutdown_timeout": (0, MAX_SECONDS),
}
#: Those of which nothing is no value: a division by it, a wait that is over at once, a queue that is gone at once.
_ABOVE_NOTHING = frozenset(
    [
        "broker_connection_timeout",
        "broker_heartbeat_checkrate",
        "broker_pool_acquire_timeout",
        "control_queue_expires",
        "elasticsearch_timeout",
        "event_queue_expires",
        "gcs_threadpool_maxsize",
        "redis_max_connections",
        "redis_socket_connect_timeout",
        "redis_socket_timeout",
        "result_chord_retry_interval",
        "worker_eta_task_limit",
        "worker_proc_alive_timeout",
        "worker_timer_precision",
    ]
)


def number_fault(name: str, value: Any) -> tuple[str, str]:
    """Return why a number cannot be the value of a setting and what to write instead; empty texts when it can.

    Arguments:
        name: the setting.
        value: an int or a float.
    """
    whole = KINDS.get(name) == "int"
    kind = "a whole number" if whole else "a number"
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number", f"{kind}, or null for none"
    # What an extension of Celery means by a number is its own matter.
    least, most = _RANGES.get(name, (0 if name in KINDS else float("-inf"), float("inf")))
    if value < least or value > most:
        text = f"{kind} from {least} to {most}" if most != float("inf") else f"{kind} from {least} on"
        return "is out of range", text if name not in _ABOVE_NOTHING else f"{kind} above 0"
    if not value and name in _ABOVE_NOTHING:
        return "is nothing", f"{kind} above 0"
    return ("is not a whole number", kind) if whole and value != int(value) else ("", "")
