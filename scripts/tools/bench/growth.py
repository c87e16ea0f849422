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


def table(found: Mapping[str, Cost]) -> Table:
    """Return the table that a person reads."""
    view = Table(title=f"The check of hosts with {fleet.CLASSES} classes each")
    for heading in ("hosts", "", "seconds", "of a processor", "memory"):
        view.add_column(heading)
    for name, one in found.items():
        number, kind = name.split("_")
        view.add_row(number, kind, f"{one.seconds:.1f}", f"{one.processor_seconds:.1f}", f"{one.memory_mb} MiB")
    return view


def results(found: Mapping[str, Cost]) -> dict[str, Any]:
    """Return what build/bench.json has of it."""
    return {"check": {name: asdict(one) for name, one in found.items()}}
