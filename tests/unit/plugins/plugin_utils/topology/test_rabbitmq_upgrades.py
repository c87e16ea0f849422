"""Which series of RabbitMQ can be upgraded in place to which."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_upgrades import path, series


@pytest.mark.parametrize(
    ("version", "expected"),
    [("4.0.5", "4.0"), ("3.10.8-1+deb12u1", "3.10"), ("1:3.13.7-1", "3.13"), ("4.3", "4.3"), ("4", None), ("", None)],
)
def test_series(version: str, expected: str | None) -> None:
    assert series(version) == expected


def test_path_names_every_series_between() -> None:
    assert path("3.10", "4.0") == ("3.10", "3.11", "3.12", "3.13", "4.0")
    assert path("4.2", "4.3") == ("4.2", "4.3")
    assert path("4.0", "4.0") == ("4.0",)


@pytest.mark.parametrize(("store", "package"), [("4.3", "4.0"), ("3.9", "4.0"), ("4.0", "5.0")])
def test_no_path(store: str, package: str) -> None:
    assert path(store, package) is None
