#!/usr/bin/env python
"""Fault a running stack in every way that production knows, under load, and count what became of each task.

    scripts/chaos.py                              all four brokers, one after another: about an hour and a half
    scripts/chaos.py trixie redis                 some of them
    scripts/chaos.py trixie-celery5.4             the same on an older Celery
    scripts/chaos.py --cluster                    three nodes, each generation: 40 minutes each
    scripts/chaos.py --short trixie               the faults that take seconds: what `make test-all` has
    scripts/chaos.py --without late trixie        with one protection switched off: the table shows what it is for
    scripts/chaos.py --only kill-main trixie      some of the faults
    scripts/chaos.py --keep trixie                leave the containers; the next run goes on with them
    scripts/chaos.py --append --only reboot trixie    add to what was found last, on containers that were kept
    scripts/chaos.py --report                     print again what was found last

The app (tests/chaos/app) writes a line into a ledger for each task that is sent, started and finished: files of this
machine that the containers have mounted, which no fault reaches. A second container sends a steady load, as a web
server would. What the columns mean and which promises are checked is in tools/chaos/report.py; what came of it is in
docs/delivery.md. It ends with 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tools.chaos import report as reports
from tools.chaos.faults import FAULTS, WITHOUT, chosen
from tools.chaos.ledger import Ledger
from tools.chaos.report import Row, Window
from tools.chaos.scenario import PARTS, ROOT, ChaosError, Scenario, results_of
from tools.chaos.stacks import CLUSTERS, NEWEST, STACKS

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS = ROOT / "build" / "chaos.json"


def report(kept: Path, name: str) -> list[Row]:
    """Make the report of a run from what it left in its folder."""
    data = json.loads((kept / "windows.json").read_text())
    ledger = Ledger()
    for part in PARTS:
        for line in (kept / part).read_text().splitlines():
            ledger.add(line)
    title = STACKS[name].title + (f", without {data['without']}" if data["without"] else "")
    windows = [Window.load(window) for window in data["windows"]]
    return reports.rows(ledger, windows, title, data["classes"], data["stop_timeout"])


def show(console: Console, names: Iterable[str], without: str, file: Path) -> list[str]:
    """Print the report of these runs, write it into a file, and return the promises that were broken."""
    everything: list[Row] = []
    problems: list[str] = []
    for name in names:
        kept = results_of(name, without)
        found = report(kept, name)
        data = json.loads((kept / "windows.json").read_text())
        console.print(reports.table(found, f"{found[0].broker}: {sum(row.sent for row in found):,} tasks"))
        for window in data["windows"]:
            for note in window["notes"]:
                console.print(f"  {window['fault']}: {note}")
                forced = note.startswith("systemd had to end") and window["planned"]
                if forced or note.startswith("the cluster is not whole"):
                    problems.append(f"{found[0].broker}, {window['fault']}: {note}")
        problems += reports.broken(found, redis_broker=STACKS[name].broker == "redis")
        everything += found
    console.print(reports.LEGEND)
    file.write_text(json.dumps([row.as_json() for row in everything], indent=1) + "\n")
    console.print(f"{sum(row.sent for row in everything):,} tasks in all; {file} has the rows.")
    for problem in problems:
        console.print(f"[bold red]broken:[/] {problem}")
    if not problems:
        console.print("[bold green]Every promise was kept.[/]")
    return problems


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "brokers", nargs="*", metavar="BROKER", help=f"{', '.join(STACKS)} (default: {', '.join(NEWEST)})"
    )
    parser.add_argument("--cluster", action="store_true", help=f"the same as {', '.join(CLUSTERS)}")
    parser.add_argument("--short", action="store_true", help="only faults that take seconds, each once")
    parser.add_argument("--without", choices=WITHOUT, default="", help="switch a protection off, and see")
    parser.add_argument("--only", action="append", choices=[fault.key for fault in FAULTS], metavar="FAULT")
    parser.add_argument("--keep", action="store_true", help="leave the containers")
    parser.add_argument("--append", action="store_true", help="add to what was found last")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the rows go (default: build/chaos.json)")
    parser.add_argument("--report", action="store_true", help="print what was found last, and do nothing else")
    options = parser.parse_args()
    unknown = set(options.brokers) - set(STACKS)
    if unknown:
        parser.error(f"no such broker: {', '.join(sorted(unknown))}")
    names = list(dict.fromkeys([*options.brokers, *(CLUSTERS if options.cluster else ())])) or list(NEWEST)
    console = Console(width=None if sys.stdout.isatty() else 140)
    # The containers go, whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for name in [] if options.report else names:
            scenario = Scenario(name, console, options.without, short=options.short, append=options.append)
            try:
                scenario.go(chosen(options, scenario.broker, cluster=scenario.cluster))
            finally:
                if not options.keep:
                    scenario.remove()
    except ChaosError as error:
        console.print("[bold red]chaos:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        return 2
    there = [name for name in names if (results_of(name, options.without) / "windows.json").exists()]
    file = RESULTS.with_name(f"chaos-without-{options.without}.json") if options.without else RESULTS
    problems = show(console, there, options.without, options.json or file)
    return 1 if problems and not options.without else 0


if __name__ == "__main__":
    sys.exit(main())
