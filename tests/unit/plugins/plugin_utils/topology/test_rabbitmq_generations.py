"""What the series of RabbitMQ differ in."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_generations import (
    DIFFERENCES,
    GENERATIONS,
    cluster_settings,
    stays_apart,
)

MINORITY = {"cluster_partition_handling": "pause_minority"}
DISCONNECTED = {"consumer_disconnected_timeout": 10000}


@pytest.mark.parametrize(("series", "own"), [
    ("3.10", MINORITY),
    ("4.0", {**MINORITY, "cluster_formation.discovery_retry_limit": 300}),
    ("4.3", DISCONNECTED),
    # Newer than what is known: as the newest.
    ("4.4", DISCONNECTED),
    # Between, or not known: what every series reads.
    ("4.1", MINORITY),
    ("", MINORITY),
])  # fmt: skip
def test_the_settings_of_each_series(series: str, own: dict[str, object]) -> None:
    assert cluster_settings(series) == {"net_ticktime": 10, "queue_leader_locator": "balanced", **own}


@pytest.mark.parametrize(
    ("series", "apart"), [("3.10", True), ("4.0", True), ("4.1", True), ("", True), ("4.3", False), ("4.4", False)]
)
def test_where_a_frozen_node_stays_apart(series: str, *, apart: bool) -> None:
    assert stays_apart(series) is apart


def test_every_difference_says_something_of_every_series() -> None:
    assert all(len(one.of) == len(GENERATIONS) and all(one.of) and one.reason for one in DIFFERENCES)
