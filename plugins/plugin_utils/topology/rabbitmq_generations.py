# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the series of RabbitMQ differ in where a cluster is concerned: the only place that knows. Pure data.

Measured with the packages of Debian 12, 13 and 14 (RabbitMQ 3.10.8, 4.0.5 and 4.3.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: The series that Debian has, in the order of the columns.
GENERATIONS = ("3.10", "4.0", "4.3")


@dataclass(frozen=True)
class Difference:
    """Something that differs, or that one might think does.

    Arguments:
        subject: what it is.
        of: what holds for each of ``GENERATIONS``.
        reason: why, or what follows.
    """

    subject: str
    of: tuple[str, str, str]
    reason: str


DIFFERENCES = (
    Difference(
        "metadata store",
        ("Mnesia", "Mnesia", "Khepri"),
        "4.0 has Khepri as an experiment only, and 4.3 has no Mnesia any more.",
    ),
    Difference(
        "`cluster_partition_handling`",
        ("`pause_minority`", "`pause_minority`", "not written"),
        "Mnesia does not heal by itself after a node was cut off. With `autoheal` three nodes took themselves for "
        "three parts, and two of them stopped for 62 s. Khepri heals by itself, and the key is without effect.",
    ),
    Difference(
        "`net_ticktime`",
        ("10", "10", "10"),
        "For that long the others wait for a node that is silent: at the default of 60 s a node that was cut off "
        "stopped consumers for 72 s, at 10 s for 16 s.",
    ),
    Difference(
        "`consumer_disconnected_timeout`",
        ("at once", "at once", "10000"),
        "For that long a quorum queue keeps what consumers on a node that is lost have in hand, before others get it: "
        "at the default of 60 s these tasks waited for 61 s.",
    ),
    Difference(
        "`queue_leader_locator`",
        ("`balanced`", "`balanced`", "`balanced`"),
        "Otherwise a queue that is declared later has its leader on the node of the client, so all of them on one.",
    ),
    Difference(
        "`cluster_formation.discovery_retry_limit`",
        ("default (10)", "300", "default"),
        "A 4.0 that finds no other node gives up after 30 rounds of 2.2 s and goes on alone; 300 rounds are longer "
        "than its unit waits (600 s). On 3.10 the first node of every first boot waits out all rounds, and 4.3 never "
        "goes on alone.",
    ),
    Difference(
        "a node that was frozen for longer than `net_ticktime`",
        ("restarted by a watch in the node", "restarted by a watch in the node", "joins again"),
        "Mnesia then runs without the others until it is restarted, whatever `cluster_partition_handling` says.",
    ),
    Difference(
        "members of a queue on a new node",
        ("`rabbitmq-queues grow`", "HTTP API", "HTTP API"),
        "3.10 answers the request with 405.",
    ),
    Difference(
        "a node that was emptied",
        ("joins again", "a second broker after a minute", "joins again"),
        "So it is forgotten first, whatever the version.",
    ),
    Difference(
        "full stop",
        (
            "the node that stopped last has to start",
            "the node that stopped last has to start",
            "a majority has to start",
        ),
        "All nodes are started at once, and awaited together.",
    ),
)
_SETTINGS: dict[str, Any] = {"net_ticktime": 10, "queue_leader_locator": "balanced"}
_OF_SERIES: dict[str, dict[str, Any]] = {
    "3.10": {"cluster_partition_handling": "pause_minority"},
    "4.0": {"cluster_partition_handling": "pause_minority", "cluster_formation.discovery_retry_limit": 300},
    "4.3": {"consumer_disconnected_timeout": 10000},
}


def cluster_settings(series: str) -> dict[str, Any]:
    """Return the lines of rabbitmq.conf that a cluster needs beside the names of its nodes.

    Arguments:
        series: of the version, such as ``4.0``. One that is not known, or between those that are, gets the rule for
            partitions, which 4.3 reads without effect.
    """
    return {**_SETTINGS, **_OF_SERIES[_like(series)]}


def stays_apart(series: str) -> bool:
    """Return whether a node that was frozen stays apart from the others until it is restarted, as with Mnesia.

    Arguments:
        series: of the version; one that is not known, or between those that are, counts as one with Mnesia.
    """
    return _like(series) != "4.3"


def _like(series: str) -> str:
    """Return the series of ``GENERATIONS`` whose rules hold for a series."""
    return series if series in _OF_SERIES else "4.3" if _newer(series) else "3.10"


def _newer(series: str) -> bool:
    numbers = tuple(int(part) for part in series.split(".")) if series else (0, 0)
    return numbers > (4, 3)
