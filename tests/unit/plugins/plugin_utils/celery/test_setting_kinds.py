"""Numbers among Celery's settings: which of them can be meant."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.defaults import NAMESPACES, flatten

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import KINDS, number_fault

INFINITE = float("inf")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("task_time_limit", -5, "out of range"),
        ("task_soft_time_limit", -0.5, "out of range"),
        ("task_time_limit", INFINITE, "not a finite number"),
        ("task_time_limit", float("nan"), "not a finite number"),
        ("task_time_limit", 1e30, "out of range"),
        ("worker_prefetch_multiplier", -4, "out of range"),
        ("worker_prefetch_multiplier", 10_001, "out of range"),
        ("worker_prefetch_multiplier", 1.5, "not a whole number"),
        ("worker_prefetch_multiplier", -INFINITE, "not a finite number"),
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


CENTURY = 3_153_600_000
#: setting -> the least and the most that it may be, and how the latter is said.
BOUNDS = {
    "result_cache_max": (-1, None, "a whole number from -1 on"),
    "worker_prefetch_multiplier": (0, 10_000, "a whole number from 0 to 10000"),
    "task_protocol": (1, 2, "a whole number from 1 to 2"),
    "task_default_priority": (0, 255, "a number from 0 to 255"),
    "task_queue_max_priority": (0, 255, "a whole number from 0 to 255"),
    "task_default_delivery_mode": (1, 2, "a number from 1 to 2"),
    "broker_heartbeat": (0, 65_535, "a whole number from 0 to 65535"),
    "task_time_limit": (0, CENTURY, f"a number from 0 to {CENTURY}"),
    "task_soft_time_limit": (0, CENTURY, f"a number from 0 to {CENTURY}"),
    "worker_soft_shutdown_timeout": (0, CENTURY, f"a number from 0 to {CENTURY}"),
    "broker_pool_limit": (0, None, "a whole number from 0 on"),
    "event_queue_ttl": (0, None, "a number from 0 on"),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_number_may_be_as_small_and_as_large_as_is_said(name: str) -> None:
    least, most, instead = BOUNDS[name]
    assert number_fault(name, least) == ("", "")
    assert number_fault(name, least - 1) == ("is out of range", instead)
    if most is not None:
        assert number_fault(name, most) == ("", "")
        assert number_fault(name, most + 1) == ("is out of range", instead)


def test_what_is_wrong_with_a_number_is_said_exactly() -> None:
    assert number_fault("task_time_limit", INFINITE) == ("is not a finite number", "a number, or null for none")
    assert number_fault("task_protocol", INFINITE) == ("is not a finite number", "a whole number, or null for none")
    assert number_fault("task_protocol", 1.5) == ("is not a whole number", "a whole number")
    for value, reason in ((0, "is nothing"), (-1, "is out of range")):
        assert number_fault("redis_max_connections", value) == (reason, "a whole number above 0")
        assert number_fault("redis_socket_timeout", value) == (reason, "a number above 0")


def test_what_an_extension_means_by_a_number_is_its_own_matter() -> None:
    for value in (-5, 0, 0.5, 10**12):
        assert number_fault("redbeat_lock_timeout", value) == ("", "")
    assert number_fault("redbeat_lock_timeout", float("nan"))[0] == "is not a finite number"
