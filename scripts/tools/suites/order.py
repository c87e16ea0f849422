"""In which order the runs of the gate begin, how many at a time, and how long each of them and each test took."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

#: What a run takes that nobody has measured, in seconds: as long as a long one, so that it does not come last.
UNKNOWN = 900.0
#: How many of the slowest tests are shown.
SLOWEST = 10


class Weighed(Protocol):
    """What the order is made from."""

    name: str
    #: How much of the machine it keeps busy: 1 is a stack under test, 0 one that may always begin.
    weight: float
    #: Whether others wait for it, or for what it says: it begins before them.
    urgent: bool


Entry = TypeVar("Entry", bound=Weighed)


def in_order(runs: Iterable[Entry], seconds: Mapping[str, float]) -> list[Entry]:
    """Return the runs, urgent ones first, then the longest; the sum is shortest when the last ones are short.

    Args:
        runs: what is to be run, in any order.
        seconds: name -> how long it took when it was measured.
    """
    return sorted(runs, key=lambda run: (not run.urgent, -seconds.get(run.name, UNKNOWN), run.name))


def run_by_weight(runs: Sequence[Entry], capacity: float, attend: Callable[[Entry], None]) -> None:
    """Call ``attend`` for each run, in this order, with no more than ``capacity`` of weight at the same time.

    A light one passes a heavy one for which there is no room yet; one that is heavier than all the room has it alone.

    Args:
        runs: in the order in which they are to begin.
        capacity: the sum of the weights of what runs at the same time.
        attend: runs one of them, in a thread of its own; what it raises is its own affair.
    """
    changed, used, waiting, threads = threading.Condition(), 0.0, list(runs), []

    def work(run: Entry, taken: float) -> None:
        nonlocal used
        try:
            attend(run)
        finally:
            with changed:
                used -= taken
                changed.notify()

    with changed:
        while waiting:
            fits = next((run for run in waiting if used + min(run.weight, capacity) <= capacity + 1e-9), None)
            if fits is None:
                changed.wait()
                continue
            waiting.remove(fits)
            taken = min(fits.weight, capacity)
            used += taken
            thread = threading.Thread(target=work, args=(fits, taken), name=fits.name)
            threads.append(thread)
            thread.start()
    for thread in threads:
        thread.join()


@dataclasses.dataclass
class Times:
    """How long one run took, in seconds."""

    #: All of it, from when it had a place.
    wall: float = 0.0
    #: How long it waited for a place.
    waited: float = 0.0
    #: Phase -> seconds, in their order.
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    #: Test -> seconds, with its fixtures: those of a module count for its first test that needs them.
    tests: dict[str, float] = dataclasses.field(default_factory=dict)


def times_of_tests(report: Path) -> dict[str, float]:
    """Return the seconds of each test of a JUnit report, by its module and name."""
    found: dict[str, float] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 (pytest wrote it a moment ago)
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}"
        found[name] = found.get(name, 0.0) + float(case.get("time", "0"))
    return found


def slowest(times: Mapping[str, Times], count: int = SLOWEST) -> list[tuple[float, str, str]]:
    """Return seconds, run and test of the slowest tests of all runs, the slowest first."""
    every = [(seconds, run, test) for run, one in times.items() for test, seconds in one.tests.items()]
    return sorted(every, key=lambda entry: (-entry[0], *entry[1:]))[:count]


def by_module(tests: Mapping[str, float]) -> dict[str, float]:
    """Return module -> seconds of its tests: what a shard of a suite would take with it."""
    found: dict[str, float] = {}
    for test, seconds in tests.items():
        module = test.partition("::")[0]
        found[module] = found.get(module, 0.0) + seconds
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def processors(stat: str) -> tuple[float, float]:
    """Return how long all processors together have worked and idled, in hundredths of a second.

    Args:
        stat: the text of /proc/stat (proc(5): user, nice, system, idle, iowait, irq, softirq, steal).
    """
    numbers = [float(number) for number in stat.splitlines()[0].split()[1:9]]
    idle = numbers[3] + numbers[4]
    return sum(numbers) - idle, idle


def budget(times: Mapping[str, Times], wall: float, before: str, after: str) -> list[str]:
    """Return the lines that say where the time went.

    Args:
        times: run -> its times.
        wall: how long everything took, in seconds.
        before: /proc/stat when it began.
        after: /proc/stat at its end.
    """
    phases = list(dict.fromkeys(phase for one in times.values() for phase in one.phases))
    width = max([len(name) for name in times] + [4])
    lines = [f"  {'':{width}}   wall waited" + "".join(f" {phase:>11}" for phase in phases)]
    for name, one in times.items():
        cells = "".join(f" {one.phases[phase]:11.0f}" if phase in one.phases else " " * 12 for phase in phases)
        lines.append(f"  {name:{width}} {one.wall:6.0f} {one.waited:6.0f}{cells}".rstrip())
    lines.append("")
    lines += [f"  {seconds:6.1f} s  {run:{width}}  {test}" for seconds, run, test in slowest(times)]
    worked, idled = (late - early for late, early in zip(processors(after), processors(before), strict=True))
    share = worked / (worked + idled) if worked + idled else 0.0
    lines.append("")
    lines.append(
        f"  {wall:.0f} s in all: the runs took {sum(one.wall for one in times.values()):.0f} s and waited"
        f" {sum(one.waited for one in times.values()):.0f} s for a place; the processors worked {share:.0%} of the"
        f" time and waited {(1 - share) * wall:.0f} s"
    )
    return lines


def write_times(path: Path, times: Mapping[str, Times]) -> None:
    """Keep the times of these runs beside those of others that are in the file already."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, one in times.items():
        rounded = {key: round(value, 1) for key, value in sorted(one.tests.items(), key=lambda entry: -entry[1])}
        known[name] = {
            "wall": round(one.wall, 1),
            "waited": round(one.waited, 1),
            "phases": {key: round(value, 1) for key, value in one.phases.items()},
            "modules": {key: round(value, 1) for key, value in by_module(one.tests).items()},
            "tests": rounded,
        }
    path.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")


def read_durations(path: Path) -> dict[str, float]:
    """Return run -> seconds of the committed file; nothing where there is none."""
    return {name: float(seconds) for name, seconds in json.loads(path.read_text()).items()} if path.exists() else {}


def keep_durations(measured: Path, path: Path) -> dict[str, float]:
    """Take what was measured last into the committed file, and return what it has now."""
    known = read_durations(path)
    known |= {name: float(round(entry["wall"])) for name, entry in json.loads(measured.read_text()).items()}
    path.write_text(json.dumps({name: int(known[name]) for name in sorted(known)}, indent=2) + "\n")
    return known
