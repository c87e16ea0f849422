"""Which series of RabbitMQ can be upgraded in place to which."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_upgrades import upgrade_path


@pytest.mark.parametrize(
    ("data", "package", "way"),
    [
        ("4.0", "4.0", ("4.0",)),
        ("4.2", "4.3", ("4.2", "4.3")),
        ("3.13", "4.2", ("3.13", "4.2")),
        # What Debian's releases would come to.
        ("3.10", "4.0", ("3.10", "3.11", "3.12", "3.13", "4.0")),
        ("4.0", "4.3", ("4.0", "4.2", "4.3")),
    ],
)
def test_the_shortest_way(data: str, package: str, way: tuple[str, ...]) -> None:
    assert upgrade_path(data, package) == way


@pytest.mark.parametrize(
    ("data", "package"), [("4.3", "4.0"), ("3.7", "4.0"), ("4.0", "5.0"), ("", "4.0"), ("4.0", "")]
)
def test_no_way(data: str, package: str) -> None:
    assert upgrade_path(data, package) == ()
