#!/usr/bin/env python
"""What three nodes are worth, and what they cost: a cluster of the collection beside one made by hand.

Both have the same hosts and the same load, one after the other. The one made by hand is RabbitMQ and Celery as their
manuals have them: three nodes that joined, quorum queues, late acknowledgement, publisher confirms, all nodes in
`broker_url`. Each node is killed in its turn and kept down for a minute.

On the collection's own, before and after it grows from one node to three, it also measures how many messages a second
go through, and how long a publish takes that is confirmed by one member of a quorum queue, or by three. All nodes are
on this machine, so what is shown is what they cost, and not what three machines would do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tools.bench.by_hand import ByHand
from tools.bench.common import keep, spread
from tools.chaos import report as reports
from tools.chaos.faults import FAULTS
from tools.chaos.scenario import ROOT, Scenario

if TYPE_CHECKING:
    from tools.chaos.report import Row

NAME = "trixie-cluster"
TRAFFIC = Path(ROOT, "scripts", "tools", "bench", "messages.py")


def traffic(scenario: Scenario, members: int, rounds: int) -> dict[str, list[float]]:
    """Return what messages.py measures on the host of the producer, as often as it is repeated."""
    found: dict[str, list[float]] = {}
    for _round in range(rounds):
        said = scenario.produce_with(TRAFFIC.read_text(), str(members))
        for key, value in json.loads(said.splitlines()[-1]).items():
            found.setdefault(key, []).append(value)
    return found


def kills(scenario: Scenario, title: str) -> list[Row]:
    """Kill each node in its turn, under load; return the rows of the report."""
    scenario.go([fault for fault in FAULTS if fault.key == "node-kill"])
    return reports.rows(scenario.ledger, scenario.windows, title, scenario.classes, scenario.stop_timeout)


def worst(rows: list[Row]) -> float:
    """Return the longest time in which a class began nothing, in seconds; the whole wait of one that was never back."""
    return max(120.0 if row.recovery_s is None else row.recovery_s for row in rows)


def main() -> None:
    """Measure, print and write into build/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=5, help="repetitions of each measurement of messages (default: 5)"
    )
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    ours, hand = Scenario(NAME, console), ByHand(NAME, console)
    try:
        ours.brokers = "first_node"
        ours.create()
        one = traffic(ours, 1, options.rounds)
        ours.brokers = "cluster"
        ours.create()
        three, single = traffic(ours, 3, options.rounds), traffic(ours, 1, options.rounds)
        ours_rows = kills(ours, "the collection's cluster")
    finally:
        ours.remove()
    try:
        hand_rows = kills(hand, "a cluster made by hand")
    finally:
        hand.remove()
    for rows in (ours_rows, hand_rows):
        console.print(reports.table(rows, f"kill -9 of each node, {rows[0].broker}"))
    console.print("Messages (least, median, most):")
    for title, found in (("one node", one), ("three nodes, three members", three), ("three nodes, one member", single)):
        for key, values in found.items():
            console.print(f"  {title:28} {key:36} {spread(values)}")
    median = statistics.median
    keep(
        {
            "cluster_kill_recovery_s": worst(ours_rows),
            "by_hand_kill_recovery_s": worst(hand_rows),
            "messages_three_nodes_over_one": round(median(three["per_second"]) / median(one["per_second"]), 2),
            "publish_three_members_over_one": round(median(three["publish_ms"]) / median(single["publish_ms"]), 2),
        }
    )


if __name__ == "__main__":
    main()
