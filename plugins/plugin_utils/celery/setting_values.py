# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of Celery settings that have the right type but do not work in Celery."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.beat_schedule import schedule_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.tls_options import tls_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.transport_options import (
    RABBITMQ,
    REDIS,
    RESULTS,
    transport_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.patterns import pattern_fault

#: Words to choose from (Celery and kombu 5.7.0: what else is there ends a process, or counts as the default).
CHOICES: Mapping[str, tuple[str, ...]] = {
    "broker_failover_strategy": ("round-robin", "shuffle"),
    "task_default_delivery_mode": ("persistent", "transient"),
    "worker_pool_start_method": ("fork", "spawn"),
    "worker_redirect_stdouts_level": ("CRITICAL", "DEBUG", "ERROR", "FATAL", "INFO", "NOTSET", "WARN", "WARNING"),
}
#: Ways to compress that kombu 5.7.0 knows, with the packages that some of them need. An app may register others.
COMPRESSIONS = ("brotli", "bzip", "bzip2", "gzip", "lzma", "xz", "zlib", "zstandard", "zstd")
#: celery/utils/time.py, ``rate``, 5.7.0.
_RATE = re.compile(r"[0-9]+(\.[0-9]+)?(/[smh]?)?")
_RATE_HELP = "a number of tasks for each s, m or h, such as 10/m"
_ZONE_HELP = "a name of the time zone database such as Europe/Berlin, or UTC"


def value_problems(variable: str, name: str, value: Any, broker: str) -> Iterator[Problem]:
    """Yield what is wrong with the value of a setting.

    Arguments:
        variable: where it is written.
        name: the setting.
        value: of the kind that the setting has; None leaves it to Celery's default.
        broker: ``rabbitmq`` or ``redis``.
    """
    if value is None:
        return
    if name in ("broker_use_ssl", "redis_backend_use_ssl"):
        yield from tls_problems(variable, value, redis=broker == "redis" or name == "redis_backend_use_ssl")
    elif name == "broker_transport_options":
        yield from transport_problems(variable, value, REDIS if broker == "redis" else RABBITMQ)
    elif name == "result_backend_transport_options":
        yield from transport_problems(variable, value, RESULTS)
    elif name in _CHECKS:
        yield from _CHECKS[name](variable, value)
    elif name in CHOICES and isinstance(value, str) and value.lower() not in map(str.lower, CHOICES[name]):
        yield Problem("not-a-choice", variable, value, "is not one of its values", did_you_mean(value, CHOICES[name]))


def _eager(variable: str, value: Any) -> Iterator[Problem]:
    if value is True:
        reason = "runs every task in the process that calls it: none would ever be sent to a worker"
        instead = "false, or leave it out: it belongs in the settings of tests"
        yield Problem("runs-every-task", variable, value, reason, instead)


def _time_zone(variable: str, value: str) -> Iterator[Problem]:
    if not value:
        return
    try:
        # What Celery itself does; the hosts have the database through Celery's own requirements.
        zoneinfo.ZoneInfo(value)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        names = sorted(zoneinfo.available_timezones())
        if not names:
            # A control machine without the database knows nothing of any zone.
            return
        # Their signs mean the opposite of what people write: Etc/GMT-2 is two hours ahead.
        places = {name.rpartition("/")[2].lower(): name for name in names if not name.startswith("Etc/")}
        known = {name.lower(): name for name in names}
        plain = value.strip().lower()
        # An abbreviation such as CEST is near to another one.
        cutoff = 1.0 if re.search(r"[0-9]", plain) or len(plain) < 5 else 0.8
        close = closest(plain, {**places, **known}, cutoff)
        instead = f"{known.get(close) or places[close]} (did you mean that?)" if close else _ZONE_HELP
        yield Problem("no-time-zone", variable, value, "is not a time zone", instead)


def _rate(variable: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, str) and value and not _RATE.fullmatch(value):
        yield Problem("not-a-rate", variable, value, "is not a rate, and no worker would start", _RATE_HELP)


def _compression(variable: str, value: str) -> Iterator[Problem]:
    close = closest(value, COMPRESSIONS, 0.75)
    if close and value not in COMPRESSIONS:
        reason = "is not a compression of kombu 5.7"
        yield Problem("no-compression-of-kombu", variable, value, reason, f"{close} (did you mean that?)")


def _annotations(variable: str, value: Any) -> Iterator[Problem]:
    """Yield what is wrong with annotations: unlike a route's, their keys are whole names, or * for every task."""
    for annotation in value if isinstance(value, (list, tuple)) else [value]:
        for task, attributes in annotation.items() if isinstance(annotation, Mapping) else ():
            if task != "*" and ("*" in str(task) or any(pattern_fault(str(task)))):
                reason = "is a pattern, and annotations know none: they would hold for no task"
                instead = "the whole name of a task, or * for every task"
                yield Problem("pattern-in-annotations", f"{variable}.{task}", "(a key)", reason, instead)
            if not isinstance(attributes, Mapping):
                instead = "attributes of the task, such as {rate_limit: 10/m}"
                yield Problem("not-a-dictionary", f"{variable}.{task}", attributes, "is not a dictionary", instead)
                continue
            yield from _rate(f"{variable}.{task}.rate_limit", attributes.get("rate_limit"))


_CHECKS: Mapping[str, Callable[[str, Any], Iterator[Problem]]] = {
    "beat_schedule": schedule_problems,
    "result_compression": _compression,
    "task_always_eager": _eager,
    "task_annotations": _annotations,
    "task_compression": _compression,
    "task_default_rate_limit": _rate,
    "timezone": _time_zone,
}
