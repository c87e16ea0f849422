# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Celery's settings, which all processes of an app share: derived from the variables, and the user's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import each_address
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.app_servers import (
    PACKAGED_BACKENDS,
    REDIS_BACKENDS,
    SOCKET_BACKEND,
    first_scheme,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.serializers import (
    DEFAULTS,
    serializer_problems,
    unread_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import (
    BOOL_OR_DICT,
    KINDS,
    TEXT_OR_DICT,
    TEXT_OR_NUMBER,
    number_fault,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_values import value_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
    closest,
    holds_password,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.derived import held_for
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import DURATION_HELP, parse_duration

NEWEST = celery_versions.text(celery_versions.NEWEST)
#: Settings that another variable decides: what to write instead.
OWNED_SETTINGS = {
    **dict.fromkeys(
        [
            "broker_url",
            "broker_read_url",
            "broker_write_url",
            "broker_host",
            "broker_port",
            "broker_user",
            "broker_password",
            "broker_vhost",
            "broker_transport",
        ],
        "celery_app_broker_url",
    ),
    **dict.fromkeys(
        [
            "result_backend",
            "database_url",
            "cache_backend",
            "redis_host",
            "redis_port",
            "redis_db",
            "redis_username",
            "redis_password",
        ],
        "celery_app_result_backend",
    ),
    **dict.fromkeys(
        ["task_default_queue_type", "task_create_missing_queue_type", "broker_native_delayed_delivery_queue_type"],
        "celery_app_queue_type",
    ),
    **dict.fromkeys(["task_default_exchange", "task_default_exchange_type"], "celery_app_exchange"),
    **dict.fromkeys(["task_default_queue", "task_default_routing_key"], "celery_app_default_queue"),
    "task_create_missing_queue_exchange_type": "nothing: delayed delivery needs the topic exchange that the role sets",
    "task_queues": "celery_app_queues",
    "task_routes": "celery_app_routes",
    "worker_concurrency": "concurrency in celery_worker_classes",
    "worker_pool": "pool in celery_worker_classes",
    "worker_max_tasks_per_child": "max_tasks_per_child in celery_worker_classes",
    "worker_max_memory_per_child": "max_memory_per_child in celery_worker_classes",
    **dict.fromkeys(
        ["worker_soft_shutdown_timeout", "worker_enable_soft_shutdown_on_idle"],
        "stop_timeout in celery_worker_classes, which is what a soft shutdown waits for",
    ),
    "worker_state_db": "nothing: a file of one Python stops a worker of the next one from starting",
    "beat_schedule_filename": "nothing: the role celery_beat places it in the state directory",
    "result_expires": "celery_app_result_expires",
}
#: The same for keys inside a setting.
OWNED_KEYS = {
    ("broker_transport_options", "visibility_timeout"): "celery_app_visibility_timeout",
    ("broker_transport_options", "global_keyprefix"): "celery_app_key_prefix",
    ("result_backend_transport_options", "global_keyprefix"): "celery_app_key_prefix",
    ("result_backend_transport_options", "visibility_timeout"): (
        "nothing: with Redis as the broker celery_app_visibility_timeout says it"
    ),
}
#: Durations that cannot be nothing, and why.
_NO_ZERO = {
    "longest_task": "must be longer than 0s",
    "result_expires": "would keep every result for ever",
    "visibility_timeout": "would redeliver every task immediately",
}
#: A dead TCP connection is noticed after this time: longer than any pause of a healthy server, shorter than patience.
SOCKET_TIMEOUT = 30
#: The same where a caller of delay() waits for it: before a task is sent, its result is subscribed to.
RESULT_TIMEOUT = 10
CONNECT_TIMEOUT = 10
#: The same in a cluster, where another node serves meanwhile. An election behind a frozen node took 7.9 s (4.0.5): a
#: shorter time only repeats publishes.
CLUSTER_SOCKET_TIMEOUT = 10
CLUSTER_CONNECT_TIMEOUT = 3
#: The same of a Redis behind Sentinels, which replace one that has been silent for three seconds.
FAILOVER_SOCKET_TIMEOUT = 4
#: How often a publish tries all addresses, with up to half a second between two turns: for some ten seconds, longer
#: than an election of RabbitMQ takes, and for twenty, where Sentinels took up to nine (Redis 8.0.2) for a failover.
ELECTION_TURNS = 25
FAILOVER_TURNS = 40
#: A silent node is left after two of these, in seconds (py-amqp 5.4, ``Connection.heartbeat_tick``).
CLUSTER_HEARTBEAT = 6
HEALTH_CHECK_INTERVAL = 10
#: Celery hands its result backend's connections to Sentinels no time of their own (backends/redis.py,
#: ``_get_sentinel_instance``, 5.4 to 5.7), and redis-py before 8 has none: one that is frozen, or whose host lost
#: its power, is waited for, and the others are not asked. By itself redis-py tries a Sentinel four times (6.0 to 8.1),
#: up to some ten seconds where its host is gone, before it asks the next one.
_SENTINEL_OPTIONS = {
    "socket_timeout": CLUSTER_CONNECT_TIMEOUT, "socket_connect_timeout": CLUSTER_CONNECT_TIMEOUT, "retry": None,
}  # fmt: skip


def place_of(setting: str) -> str:
    """Return the variable in which another value of a setting is written, or why there is none."""
    return OWNED_SETTINGS.get(setting, f"celery_app_settings.{setting}")


def base_settings(values: Mapping[str, Any], broker: str, durations: Mapping[str, int]) -> dict[str, Any]:
    """Return the Celery settings that follow from the role's variables.

    Arguments:
        values: the variables, without the role's prefix.
        broker: ``rabbitmq`` or ``redis``.
        durations: the variables that are durations, in seconds.
    """
    settings: dict[str, Any] = {
        **DEFAULTS,
        # A task is the broker's until it is done, also when its process was killed under it.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # The broker hands out a late-acknowledged task again when the connection is lost: the first copy must end.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": int(values["prefetch_multiplier"]),
        # A class's stop_timeout is over when Celery's cold shutdown comes: nothing is waited for a second time.
        "worker_soft_shutdown_timeout": 0.0,
        # A broker that is away is waited for. Celery gives up after 100 attempts otherwise, and stays alive, silent.
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": CONNECT_TIMEOUT,
        "task_default_queue": str(values["default_queue"]),
        "task_default_exchange": str(values["exchange"]),
        "task_default_routing_key": str(values["default_queue"]),
        "result_expires": durations["result_expires"],
        "task_store_errors_even_if_ignored": True,
        # RabbitMQ may deny queues that are neither durable nor exclusive. Celery before 5.6 knows no other.
        "control_queue_exclusive": True,
        "event_queue_exclusive": True,
        "broker_transport_options": _broker_transport_options(values, broker, durations),
    }
    if broker == "rabbitmq":
        settings |= {
            "task_default_exchange_type": "topic",
            "task_default_queue_type": str(values["queue_type"]),
            "task_create_missing_queue_type": str(values["queue_type"]),
            "task_create_missing_queue_exchange_type": "topic",
            "worker_detect_quorum_queues": True,
            "broker_native_delayed_delivery_queue_type": "quorum",
        }
        if number := _nodes(values):
            settings |= _of_cluster(number)
    elif first_scheme(values["broker_url"]) == "sentinel":
        settings["task_publish_retry_policy"] = _retries(len(each_address(values["broker_url"])), FAILOVER_TURNS)
    scheme = first_scheme(values["result_backend"])
    sentinel = "sentinel" in (scheme, first_scheme(values["once_url"]))
    if scheme in REDIS_BACKENDS or scheme == SOCKET_BACKEND:
        settings |= {
            # A result is stored when Redis is back, not lost.
            "result_backend_always_retry": True,
            # What stores a result tries again anyway (result_backend_always_retry).
            "redis_socket_timeout": FAILOVER_SOCKET_TIMEOUT if scheme == "sentinel" else RESULT_TIMEOUT,
            "redis_socket_connect_timeout": CLUSTER_CONNECT_TIMEOUT if scheme == "sentinel" else CONNECT_TIMEOUT,
            # redis-py 8.1 knows no such argument of a Unix socket, and every connection would fail.
            **({} if scheme == SOCKET_BACKEND else {"redis_socket_keepalive": True}),
            "redis_retry_on_timeout": False,
            "redis_backend_health_check_interval": HEALTH_CHECK_INTERVAL,
            "result_backend_transport_options": {
                "global_keyprefix": str(values["key_prefix"]),
                **(_sentinel_options(values, results=True) if sentinel else {}),
            },
        }
    elif sentinel:
        # The Redis of celery_app_once is reached with the same options.
        settings["result_backend_transport_options"] = _sentinel_options(values, results=True)
    return settings


def _nodes(values: Mapping[str, Any]) -> int:
    """Return how many nodes a cluster of RabbitMQ has; 0 where the broker is one node."""
    number = len(each_address(values["broker_url"]))
    return number if number > 1 else 0


def _of_cluster(nodes: int) -> dict[str, Any]:
    """Return the settings by which a process leaves a node that does not answer for another one.

    Arguments:
        nodes: how many there are.
    """
    return {
        "broker_heartbeat": CLUSTER_HEARTBEAT,
        "broker_connection_timeout": CLUSTER_CONNECT_TIMEOUT,
        "task_publish_retry_policy": _retries(nodes, ELECTION_TURNS),
    }


def _retries(addresses: int, turns: int) -> dict[str, Any]:
    """Return how often a publish is tried again.

    Arguments:
        addresses: of the broker. kombu waits only after it has tried all of them (5.7, ``Connection.completes_cycle``).
        turns: how often all of them are tried.
    """
    return {"max_retries": turns * addresses, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}


def _sentinel_options(values: Mapping[str, Any], *, results: bool = False) -> dict[str, Any]:
    """Return the transport options by which Sentinels are asked; their password is in the environment.

    Arguments:
        values: the variables, without the role's prefix.
        results: whether for the servers of the results, which may be others than the broker's.
    """
    own, user = str(values["sentinel_results_master_name"]) if results else "", str(values["sentinel_user"])
    name = own or str(values["sentinel_master_name"])
    return {
        **({"master_name": name} if name else {}),
        "sentinel_kwargs": {**_SENTINEL_OPTIONS, **({"username": user} if user else {})},
    }


def _broker_transport_options(values: Mapping[str, Any], broker: str, durations: Mapping[str, int]) -> dict[str, Any]:
    if broker == "rabbitmq":
        return {
            # Without it 15 of 2861 "sent" messages were lost over three restarts of the broker; with it none.
            "confirm_publish": True,
            "read_timeout": CLUSTER_SOCKET_TIMEOUT if _nodes(values) else SOCKET_TIMEOUT,
            "write_timeout": CLUSTER_SOCKET_TIMEOUT if _nodes(values) else SOCKET_TIMEOUT,
            # kombu's default is the time for one attempt: a node that accepts and never answers would take all of it,
            # and no other would be tried (5.4 to 5.7, Connection._extract_failover_opts).
            **({"connect_retries_timeout": 3 * CLUSTER_CONNECT_TIMEOUT * nodes} if (nodes := _nodes(values)) else {}),
        }
    sentinel = first_scheme(values["broker_url"]) == "sentinel"
    return {
        # Behind one other task a delayed one waits for a process, then it runs; a shorter time runs it twice.
        "visibility_timeout": durations["visibility_timeout"]
        or held_for(durations["longest_task"], 1, durations["longest_eta"]),
        "global_keyprefix": str(values["key_prefix"]),
        "socket_timeout": FAILOVER_SOCKET_TIMEOUT if sentinel else SOCKET_TIMEOUT,
        "socket_connect_timeout": CLUSTER_CONNECT_TIMEOUT if sentinel else CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL,
        **(_sentinel_options(values) if sentinel else {}),
    }


def merged_settings(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the user's settings on top; dictionaries of transport options are merged, not replaced."""
    merged = dict(base)
    for raw, value in own.items():
        name, plain = str(raw), _plain(value)
        if name.endswith("_transport_options") and isinstance(plain, dict):
            below = merged.get(name, {})
            for key in plain.keys() & below.keys():
                if isinstance(plain[key], dict) and isinstance(below[key], dict):
                    plain[key] = {**below[key], **plain[key]}
            plain = {**below, **plain}
        merged[name] = plain
    return merged


def durations(values: Mapping[str, Any]) -> tuple[dict[str, int], list[Problem]]:
    """Return the variables that are durations, in seconds, and which of them cannot be read (0 then)."""
    read: dict[str, int] = {}
    problems = []
    for name in ("longest_eta", "longest_task", "result_expires", "visibility_timeout"):
        try:
            # An empty visibility timeout is derived from the others.
            read[name] = 0 if values[name] == "" and name == "visibility_timeout" else parse_duration(values[name])
        except UnreadableError as error:
            problems.append(error.of(f"celery_app_{name}", values[name]))
            read[name] = 0
        else:
            if not read[name] and values[name] != "" and name in _NO_ZERO:
                problems.append(
                    Problem("zero-duration", f"celery_app_{name}", values[name], _NO_ZERO[name], DURATION_HELP)
                )
    return read, problems


def settings_problems(values: Mapping[str, Any], broker: str) -> Iterable[Problem]:
    """Say which of the user's Celery settings are unknown, decided elsewhere, secret, or cannot be what they are."""
    settings: Mapping[str, Any] = values["settings"]
    extra = {str(name) for name in values["extra_setting_names"]}
    for name in sorted(extra & OWNED_SETTINGS.keys()):
        reason = "is a setting that this collection decides"
        yield Problem("setting-of-the-collection", "celery_app_extra_setting_names", name, reason, OWNED_SETTINGS[name])
    for raw, value in settings.items():
        name, variable = str(raw), f"celery_app_settings.{raw}"
        # Which of Django's caches: a name, no address.
        of_django = name == "cache_backend" and str(values["result_backend"]) in PACKAGED_BACKENDS
        if name in OWNED_SETTINGS and not of_django:
            shown = NOT_SHOWN if named_like_a_secret(name) or "url" in name or name == "result_backend" else value
            yield Problem(
                "decided-by-another-variable", variable, shown, "is managed by another variable", OWNED_SETTINGS[name]
            )
            continue
        if name not in KINDS and name not in extra:
            # A setting of something else: what it is, nobody knows here.
            shown = value if isinstance(value, (bool, int, float)) else NOT_SHOWN
            yield Problem(
                "not-a-setting-of-celery", variable, shown, f"is not a setting of Celery {NEWEST}", _known_setting(name)
            )
            continue
        if secret := _secret_path(name, value):
            instead = "it in celery_app_environment, and let the app read it from there"
            if secret.endswith("_transport_options.sentinel_kwargs.password"):
                instead = "celery_app_sentinel_password"
            yield Problem(
                "looks-like-a-secret",
                f"celery_app_settings.{secret}",
                NOT_SHOWN,
                "looks like a secret, and every process on the host may read the shared configuration",
                instead,
            )
            continue
        wrong_kind = list(_kind_problems(variable, name, value))
        yield from wrong_kind or serializer_problems(variable, name, value)
        yield from () if wrong_kind else value_problems(variable, name, value, broker)
        if isinstance(value, Mapping):
            for key in value:
                if (name, str(key)) in OWNED_KEYS:
                    reason = "is managed by another variable"
                    instead = OWNED_KEYS[name, str(key)]
                    yield Problem("decided-by-another-variable", f"{variable}.{key}", value[key], reason, instead)
    yield from unread_problems(settings)


def _known_setting(name: str) -> str:
    """Return what an unknown setting was meant to be; the old upper-case names are tried as well."""
    close = closest(name.lower().removeprefix("celery_"), KINDS, 0.85)
    if close:
        return f"{close} (did you mean that?)"
    return (
        "a setting's lower-case name, or list a setting of your app or an extension in celery_app_extra_setting_names"
    )


def _secret_path(name: str, value: Any) -> str:
    """Return the path of the first key in ``value`` that is named like a secret and is set, or nothing."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            found = _secret_path(str(key), entry)
            if found:
                return f"{name}.{found}"
        return ""
    if isinstance(value, (list, tuple)):
        return next((f"{name}.{found}" for entry in value if (found := _secret_path("", entry))), "")
    if isinstance(value, str) and value and (named_like_a_secret(name) or holds_password(value)):
        return name
    return ""


def _kind_problems(variable: str, name: str, value: Any) -> Iterable[Problem]:
    """Say when a value cannot be what Celery expects; text in place of a truth value would always be true."""
    kind = KINDS.get(name, "any")
    if value is None:
        return
    if kind == "bool" and not isinstance(value, bool) and not (name in BOOL_OR_DICT and isinstance(value, Mapping)):
        yield Problem("not-a-boolean", variable, value, "is not true or false", "true or false, without quotes")
    elif kind in ("int", "float") and (isinstance(value, (bool, str)) or not isinstance(value, (int, float))):
        instead = "a number without quotes (Celery counts time in seconds)"
        yield Problem("not-a-number", variable, value, "is not a number", instead)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and any(number_fault(name, value)):
        yield Problem("number-out-of-range", variable, value, *number_fault(name, value))
    elif kind in ("string", "str", "bytes") and not (
        isinstance(value, str)
        or (name in TEXT_OR_NUMBER and isinstance(value, (int, float)) and not isinstance(value, bool))
        or (name in TEXT_OR_DICT and isinstance(value, Mapping))
    ):
        yield Problem("not-text", variable, value, "is not text", "text, in quotes if it looks like something else")
    elif kind == "dict" and not isinstance(value, Mapping):
        yield Problem("not-a-dictionary", variable, value, "is not a dictionary", "key: value pairs")
    elif kind in ("list", "tuple") and not isinstance(value, (list, tuple)):
        yield Problem("not-a-list", variable, value, "is not a list", "a list such as [a, b]")
    elif not _is_json(value):
        instead = "text, numbers, true, false, null, lists and dictionaries of these"
        yield Problem("cannot-be-written-as-json", variable, value, "cannot be written as JSON", instead)


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(entry) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_json(entry) for entry in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, bool, int))


def _plain(value: Any) -> Any:
    """Return ``value`` built from plain types: Ansible's own string types are no business of the renderer."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool) or value is None:
        return value
    return next((kind(value) for kind in (str, int, float) if isinstance(value, kind)), value)
