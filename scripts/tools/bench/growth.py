"""What the check costs as an inventory grows, with hosts that are alike and with hosts that all differ."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tools.bench import fleet
from tools.bench.common import BUILD, ENVIRONMENT, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

NUMBERS = (10, 100, 1000)


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Arguments:
        seconds: from its begin to its end.
        processor_seconds: that it and its children worked, which says the same on a machine that does other things too.
        memory_mb: the most that one process of it held at a time, in MiB.
    """

    seconds: float
    processor_seconds: float
    memory_mb: int


def cost(command: Sequence[str]) -> Cost:
    """Run a command and return what it took.

    Raises:
        SystemExit: when it failed, with the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as said:
        started = time.monotonic()
        running = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, cwd=ROOT, env=ENVIRONMENT)
        _pid, status, used = os.wait4(running.pid, 0)
        seconds = time.monotonic() - started
        running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode:
            said.seek(0)
            sys.exit(said.read()[-6000:])
    return Cost(round(seconds, 1), round(used.ru_utime + used.ru_stime, 1), used.ru_maxrss // 1024)


def growth(console: Console) -> dict[str, Cost]:
    """Return what the check of each inventory took; no host is contacted."""
    found: dict[str, Cost] = {}
    for number in NUMBERS:
        for kind in ("alike", "different"):
            inventory = fleet.write(BUILD / f"fleet-{number}-{kind}", number, different=kind == "different")
            found[f"{number}_{kind}"] = cost(["ansible-playbook", "-i", str(inventory), "celeryops.stack.check"])
            console.print(f"  check of {number} hosts, {kind}: {found[f'{number}_{kind}'].seconds} s")
    return found


def each_more(found: Mapping[str, Cost]) -> dict[str, float]:
    """Return the seconds of a processor that each further host costs, from one number of hosts to the next.

    They stay alike while the cost is linear. What a run costs at its start, whatever the inventory, has no part in it.
    """
    before: dict[str, tuple[int, float]] = {}
    costs: dict[str, float] = {}
    for name, one in found.items():
        number, kind = name.split("_")
        if kind in before:
            fewer, took = before[kind]
            costs[name] = (one.processor_seconds - took) / (int(number) - fewer)
        before[kind] = int(number), one.processor_seconds
    return costs


def table(found: Mapping[str, Cost]) -> Table:
    """Return the table that a person reads."""
    view = Table(title=f"The check of hosts with {fleet.CLASSES} classes each")
    for heading in ("hosts", "", "seconds", "of a processor", "each further host", "memory"):
        view.add_column(heading)
    more = each_more(found)
    for name, one in found.items():
        number, kind = name.split("_")
        further = f"{1000 * more[name]:.1f} ms" if name in more else ""
        view.add_row(
            number, kind, f"{one.seconds:.1f}", f"{one.processor_seconds:.1f}", further, f"{one.memory_mb} MiB"
        )
    return view


def results(found: Mapping[str, Cost]) -> dict[str, Any]:
    """Return what build/bench.json has of it."""
    return {
        "check": {name: asdict(one) for name, one in found.items()},
        "check_each_further_host": {name: round(seconds, 5) for name, seconds in each_more(found).items()},
    }
