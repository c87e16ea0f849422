#!/usr/bin/env python
"""Run the checks and Molecule's scenarios on several suites of Debian side by side, and say what came of it.

Each run has its own containers, its own scratch folder below build/molecule/ and its own log there; what one does is
not seen by another. A failure shows the log from the step that failed, and the journal's warnings. The longest begin
first, as many at a time as the machine has room for; where the time went is told at the end and kept in
build/molecule/durations.json.

    scripts/run_suites.py bookworm trixie
    scripts/run_suites.py trixie-redis trixie-fleet trixie-chaos
    scripts/run_suites.py --checks gate             what `make test` runs
    scripts/run_suites.py --checks --resume --record=tests/support.json all    what `make test-all` runs
    scripts/run_suites.py --keep-durations          take the durations of the last runs into tests/durations.json
    KEEP=1 scripts/run_suites.py trixie             leaves the containers, and says how to get into them

A stack whose tests take long has several hosts: `trixie` has those without the marker `apart`, `trixie-apart` and
`trixie-releases` have the others. The kinds of runs, and how to add one, are in tools/suites/.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import suites_record
from run_control_nodes import VERSIONS as CORES
from tools.chaos.stacks import STACKS
from tools.lab.images import SUITES
from tools.suites import order
from tools.suites.molecule import (
    APPLICATIONS,
    CELERIES,
    DEBIAN_TESTS,
    SCENARIOS,
    SHARDS,
    WHOLE,
    Application,
    Suite,
)
from tools.suites.programs import Chaos, Checks, ControlNode, Images
from tools.suites.run import ROOT, WORK, Run, say

if TYPE_CHECKING:
    from collections.abc import Sequence

MEASURED = WORK / "durations.json"
DURATIONS = ROOT / "tests" / "durations.json"
#: What `make test` runs: every change has to pass it. A run that is added here has to fit into the time that CI has.
GATE = (
    # Debian 12 and an older Celery in one: both whole, and each with the other, are in `make test-all`.
    "bookworm-celery5.6",
    "trixie",
    "trixie-apart",
    "trixie-releases",
    "trixie-redis",
    "trixie-fleet",
    "trixie-before",
    "trixie-cluster",
    "ansible2.18",
    "ansible2.21",
)
#: And `make test-all`: every stack whole, and what the support table speaks for.
ALL = (
    *(
        "-".join([suite, *part])
        for suite in SUITES
        for part in [
            *([*scenario, *shard] for scenario in ([], ["redis"]) for shard in ([], ["apart"], ["releases"])),
            ["fleet"],
            ["before"],
            ["cluster"],
            ["restore"],
        ]
    ),
    *(f"trixie-celery{version}" for version in CELERIES),
    "bookworm-celery5.6",
    *(f"ansible{version}" for version in CORES),
    *(f"apps-{application}" for application in APPLICATIONS),
    *(f"{name}-chaos" for name in STACKS if name.startswith(("trixie", "redis"))),
)
#: How much may run at the same time, for each processor: a stack under test waits about as long as it works, and with
#: three of them two processors idled a sixth of the time.
PER_PROCESSOR = 2.0
#: And at most, on whatever machine: each of its containers takes inotify instances, of which there are few
#: (tools/lab/engine.py).
MOST = 6.0


def every_run() -> dict[str, Run]:
    """Return everything that can be asked for, by name."""
    runs: list[Run] = [
        Suite(name, scenario, shard)
        for name in SUITES
        for scenario in SCENARIOS
        for shard in (SHARDS if scenario not in WHOLE else SHARDS[:1])
    ]
    runs += [Suite("trixie", SCENARIOS[0], celery=version) for version in CELERIES]
    runs += [Suite("bookworm", SCENARIOS[0], celery="5.6", also=DEBIAN_TESTS)]
    runs += [Application(application) for application in APPLICATIONS]
    runs += [Chaos(name) for name in STACKS]
    runs += [ControlNode(version, suites) for version, suites in CORES.items()]
    return {run.name: run for run in runs}


def stacks() -> dict[str, list[str]]:
    """Return row of the support table -> the runs of `ALL` that it is made of, which have to pass on one tree."""
    every = every_run()
    found: dict[str, list[str]] = {}
    for name in ALL:
        if every[name].row:
            found.setdefault(every[name].row, []).append(name)
    return found


def chosen(names: Sequence[str]) -> list[str]:
    """Return the names of runs that were asked for, each once; `gate` and `all` are what make runs."""
    groups = {"gate": GATE, "all": ALL}
    return list(dict.fromkeys(one for name in names for one in groups.get(name, (name,))))


def capacity(processors: int) -> float:
    """Return how much weight runs at the same time on a machine."""
    return min(MOST, max(2.0, processors * PER_PROCESSOR))


def recorded(run: Run) -> bool:
    """Tell whether a run has a row: the checks look at more than the tree, and are never left out."""
    return run.tests and not run.decisive


def row(run: Run, tree: str) -> dict[str, object]:
    """Return what is kept of a run that has ended."""
    return {
        "tree": tree,
        "row": run.row,
        "suite": run.suite,
        "passed": run.counts["passed"],
        "failed": run.counts["failed"],
        "versions": dict(sorted(run.versions.items())),
    }


def attend_all(runs: Sequence[Run], room: float, record: Path | None, *, keep_going: bool) -> None:
    """Run everything; each row is recorded as soon as it is known."""
    tree = suites_record.identity(ROOT)
    began = time.monotonic()

    def attend(run: Run) -> None:
        run.attend(began)
        if run.counts["failed"] and run.decisive and not keep_going and not Run.stopped.is_set():
            run.say("failed, so the others end too (--keep-going lets them go on)")
            stop(runs)
        try:
            # A file that was changed meanwhile makes it nobody's row.
            if record and recorded(run) and not Run.stopped.is_set() and tree == suites_record.identity(ROOT) != "":
                suites_record.keep(record, run.name, row(run, tree))
        except (OSError, ValueError) as problem:
            run.counts["failed"] += 1
            run.say(f"its row could not be kept: {problem}")

    order.run_by_weight(runs, room, attend)


def stop(runs: Sequence[Run]) -> None:
    """Let nothing more begin, and end what runs; it removes its containers."""
    Run.stopped.set()
    for run in runs:
        run.interrupt()


def outcome(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[key]} {key}" for key in ("passed", "failed", "skipped") if counts[key])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    every = every_run()
    names = ["gate", "all", *every]
    parser.add_argument("runs", nargs="*", metavar="RUN", help=", ".join(names))
    parser.add_argument("--checks", action="store_true", help="run `make checks` beside them; if it fails, all end")
    parser.add_argument("--keep-going", action="store_true", help="let the others go on when the checks fail")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="run every long test too, and keep what came of each run in FILE"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out what has passed on this very tree, as the record says"
    )
    parser.add_argument("--capacity", type=float, default=capacity(os.cpu_count() or 2), help="(default: %(default)s)")
    parser.add_argument(
        "--keep-durations", action="store_true", help="take the last durations into tests/durations.json"
    )
    options = parser.parse_args(arguments)
    if options.keep_durations:
        if not MEASURED.exists():
            parser.error(f"nothing was measured yet: there is no {MEASURED.relative_to(ROOT)}")
        order.keep_durations(MEASURED, DURATIONS)
        return 0
    unknown = [name for name in options.runs if name not in names]
    if unknown or not options.runs:
        parser.error(f"{', '.join(unknown) or 'nothing'} is no run; name some of {', '.join(names)}")
    if options.resume and not options.record:
        parser.error("--resume needs --record: that file says what has passed")
    if options.record:
        os.environ["CELERYOPS_THOROUGH"] = "1"
        try:
            suites_record.read(options.record)
        except ValueError as problem:
            parser.error(f"{options.record}: {problem}")
    WORK.mkdir(parents=True, exist_ok=True)

    # Two runs of one checkout would remove each other's hosts.
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("The suites of this checkout are being tested already.\n")
            return 1
        return test(options, [every[name] for name in chosen(options.runs)])


def test(options: argparse.Namespace, suites: Sequence[Run]) -> int:
    """Run what was asked for, and say what came of it."""
    tree = suites_record.identity(ROOT)
    asked: list[Run] = [*([Checks()] if options.checks else []), *suites]
    rows = suites_record.read(options.record) if options.resume else {}
    before = [run for run in asked if recorded(run) and suites_record.passed(rows.get(run.name), tree)]
    for run in before:
        run.counts["passed"] += rows[run.name]["passed"]
        run.say(f"passed on this very tree on {rows[run.name]['date']}: left out")
    runs = [run for run in asked if run not in before]
    needed = [run.suite for run in runs if run.suite]
    if needed:
        runs.insert(0, Images(needed))
    ordered = order.in_order(runs, order.read_durations(DURATIONS))

    def interrupted(_number: int, _frame: object) -> None:
        stop(ordered)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    stat, began = Path("/proc/stat").read_text(), time.monotonic()
    attend_all(ordered, options.capacity, options.record, keep_going=options.keep_going)
    wall = time.monotonic() - began

    times = {run.name: run.times for run in ordered}
    order.write_times(MEASURED, {name: one for name, one in times.items() if one.wall})
    sys.stdout.write("\n".join(["", *order.budget(times, wall, stat, Path("/proc/stat").read_text()), ""]) + "\n")
    total = sum((run.counts for run in [*before, *ordered]), Counter[str]())
    for run in [*before, *ordered]:
        if run.tests or run.counts["failed"]:
            say(run.name, outcome(run.counts))
    if options.record:
        missing = suites_record.missing(suites_record.read(options.record), ALL, tree)
        if missing:
            sys.stdout.write(f"{options.record}: not seen to pass on this very tree yet: {', '.join(missing)}\n")
    sys.stdout.write(f"{total['passed']} passed, {total['failed']} failed\n")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
