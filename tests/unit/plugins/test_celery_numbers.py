"""Numbers among Celery's settings: which of them can be meant."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.defaults import NAMESPACES, flatten

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery_settings import KINDS, number_fault

INFINITE = float("inf")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("task_time_limit", -5, "out of range"),
        ("task_soft_time_limit", -0.5, "out of range"),
        ("task_time_limit", INFINITE, "no finite number"),
        ("task_time_limit", float("nan"), "no finite number"),
        ("task_time_limit", 1e30, "out of range"),
        ("worker_prefetch_multiplier", -4, "out of range"),
        ("worker_prefetch_multiplier", 10_001, "out of range"),
        ("worker_prefetch_multiplier", 1.5, "not a whole number"),
        ("worker_prefetch_multiplier", -INFINITE, "no finite number"),
        ("broker_heartbeat", 65_536, "out of range"),
        ("broker_heartbeat_checkrate", 0, "is nothing"),
        ("broker_pool_limit", -1, "out of range"),
        ("redis_socket_timeout", 0, "is nothing"),
        ("redis_socket_timeout", -1, "out of range"),
        ("result_cache_max", -2, "out of range"),
        ("task_protocol", 3, "out of range"),
        ("task_queue_max_priority", 256, "out of range"),
        ("task_repr_maxlevels", -1, "out of range"),
    ],
)
def test_numbers_that_cannot_be_meant(name: str, value: Any, reason: str) -> None:
    told, instead = number_fault(name, value)
    assert reason in told
    assert instead


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_time_limit", 0),
        ("task_time_limit", 0.5),
        ("worker_prefetch_multiplier", 0),
        ("worker_prefetch_multiplier", 10_000),
        ("worker_prefetch_multiplier", 4.0),
        ("broker_pool_limit", 0),
        ("broker_heartbeat", 0),
        ("result_cache_max", -1),
        ("redis_socket_timeout", 0.1),
        ("task_default_priority", 255),
    ],
)
def test_numbers_that_mean_something(name: str, value: Any) -> None:
    assert number_fault(name, value) == ("", "")


def test_what_celery_itself_has_by_default_is_never_refused() -> None:
    defaults = {name: option.default for name, option in flatten(NAMESPACES)}
    numbers = {
        name: value for name, value in defaults.items() if isinstance(value, (int, float)) and KINDS.get(name) != "bool"
    }
    assert len(numbers) > 30
    # The one whose default has no end, which JSON cannot say.
    assert {name for name, value in numbers.items() if number_fault(name, value)[0]} <= {"result_backend_max_retries"}
