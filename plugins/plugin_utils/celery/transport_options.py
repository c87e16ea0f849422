# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dictionaries ``broker_transport_options`` and ``result_backend_transport_options``.

Both clients ignore unknown options, so a misspelt one silently has no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: kombu/connection.py, ``_extract_failover_opts``, 5.7.0.
_FAILOVER = ("connect_retries_timeout", "interval_max", "interval_start", "interval_step", "max_retries")
#: Arguments of amqp.Connection (py-amqp 5.4) that are data.
RABBITMQ = (
    *_FAILOVER, "channel_max", "client_properties", "confirm_publish", "connect_timeout", "frame_max", "heartbeat",
    "locale", "login_method", "login_response", "read_timeout", "socket_settings", "virtual_host", "write_timeout",
)  # fmt: skip
#: ``from_transport_options`` of the channels for Redis and its Sentinel (kombu/transport/redis.py, 5.7.0), and what
#: their transport looks up itself.
REDIS = (
    *_FAILOVER, "ack_emulation", "body_encoding", "client_name", "deadletter_queue", "fanout_patterns",
    "fanout_prefix", "global_keyprefix", "health_check_interval", "master_name", "max_connections",
    "min_other_sentinels", "polling_interval", "priority_steps", "queue_order_strategy", "retry_on_timeout",
    "sentinel_fanout_compat", "sentinel_kwargs", "sep", "socket_connect_timeout", "socket_keepalive",
    "socket_keepalive_options", "socket_timeout", "unacked_index_key", "unacked_key", "unacked_mutex_expire",
    "unacked_mutex_key", "unacked_restore_interval", "unacked_restore_limit", "unacked_restore_throttle",
    "visibility_timeout",
)  # fmt: skip
#: What Celery's backends look up (celery/backends/base.py and redis.py, 5.7.0).
RESULTS = (
    "global_keyprefix", "master_name", "min_other_sentinels", "result_chord_ordered", "retry_policy",
    "sentinel_kwargs", "visibility_timeout",
)  # fmt: skip
#: Without those that a variable decides, which is told instead.
_SECONDS = frozenset(
    {"connect_retries_timeout", "connect_timeout", "health_check_interval", "interval_max", "interval_start"}
    | {"interval_step", "polling_interval", "read_timeout", "socket_connect_timeout", "socket_timeout", "write_timeout"}
)


def transport_problems(variable: str, options: Mapping[Any, Any], known: tuple[str, ...]) -> Iterator[Problem]:
    """Yield the misspelt options, and the times that are none.

    Arguments:
        variable: where they are written.
        options: name -> value. Names that are near to none may be another client's.
        known: the options that have an effect.
    """
    for key, value in options.items():
        if key not in known:
            close = closest(str(key), known)
            if close:
                reason = "has no effect: no client knows it"
                yield Problem("no-effect-option", f"{variable}.{key}", value, reason, f"{close} (did you mean that?)")
        elif key in _SECONDS and value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                reason = "is not a number of seconds"
                yield Problem("not-a-number-of-seconds", f"{variable}.{key}", value, reason, "a number such as 30")
        elif key == "confirm_publish" and not isinstance(value, bool):
            reason = "is not true or false"
            yield Problem("not-a-boolean", f"{variable}.{key}", value, reason, "true or false, without quotes")
