"""A version of RabbitMQ on data of another."""

from __future__ import annotations

from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.rabbitmq_upgrade import unsupported_upgrades

NODE = "rabbit@mq1"


def problems(wanted: str, **held: Any) -> list[Any]:
    plans = {"mq1": {"node": {"name": NODE}, "series": wanted}}
    return list(unsupported_upgrades(plans, {"mq1": held}))


def data(series: str, version: str = "") -> dict[str, Any]:
    return {"nodes": [NODE], "version": version, "written": {NODE: series} if series else {}}


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        ("4.0", data("4.0", "4.0.5")),
        # Not enabled by anybody, as before this collection did it.
        ("4.0", data("3.13", "4.0.5")),
        ("4.2", data("4.0", "4.0.5")),
        ("4.3", data("4.2", "4.2.1")),
        # A host without data of this node, and one that nobody has looked at.
        ("4.3", {"nodes": [], "version": "4.0.5"}),
        ("4.3", {}),
        # A version that nobody knew when this was written: its flag is unknown, and it is what is there.
        ("4.4", data("4.3", "4.4.0")),
        # Data that do not tell, of the server that stays.
        ("4.0", data("", "4.0.5")),
    ],
)
def test_what_rabbitmq_supports(wanted: str, held: dict[str, Any]) -> None:
    assert problems(wanted, **held) == []


def test_a_skipped_series_is_refused_and_the_way_named() -> None:
    # Debian 12 became Debian 13: the package is not installed yet, or it is and does not start.
    (problem,) = problems("4.0", **data("3.10"))
    assert told([problem]) == [("unsupported-upgrade", "rabbitmq_version")]
    assert problem.instead.startswith("3.11, 3.12, 3.13 and then 4.0, one run for each; or new hosts")
    (problem,) = problems("4.0", **data("3.10", "4.0.5"))
    assert "RabbitMQ does not support that" in problem.reason


def test_feature_flags_come_first() -> None:
    (problem,) = problems("4.3", **data("4.0", "4.2.1"))
    assert "needs all feature flags of RabbitMQ 4.2, and mq1 has those of 4.0" in problem.reason
    assert problem.instead.startswith("4.2 once more")


def test_an_older_version_is_refused() -> None:
    (problem,) = problems("4.0", **data("4.3", "4.3.6"))
    assert "is not known to run on the data of RabbitMQ 4.3 on mq1" in problem.reason
    assert problem.instead.startswith("4.3; or new hosts")


def test_an_unknown_version_is_not_tried_on_data() -> None:
    (problem,) = problems("4.4", **data("4.3", "4.3.6"))
    assert "is not known to run" in problem.reason
    (problem,) = problems("", **data("4.0"))
    assert told([problem]) == [("version-not-known", "rabbitmq_version")]
    (problem,) = problems("4.0", **data(""))
    assert "(unknown version)" in problem.reason
