"""What the chaos scenario's ledger says of each task, and whether every promise was kept: pure functions, no I/O.

What the words mean:

lost        Sent and confirmed, and never finished.
run twice   A run that began after an earlier one of the same task had finished, or while one ran that finished later:
            what the task does happened twice. Two runs of which the first never finished are none.
again       A run that began after an earlier one was ended before its end: by design for a task that is acknowledged
            late and whose process was killed, or that was still running when its class's ``stop_timeout`` was over.
cut         Of those, at a planned fault: tasks that would have ended within ``stop_timeout``. A stop has to let them.
            Not where nodes of the broker restart: a worker that loses its connection ends what runs, since it could not
            acknowledge it.
sent twice  A second run of a task whose producer was not sure: it had an error, and sent the message again. No broker
            can tell. Counted apart from ``run twice``.
longest wait  Seconds from the first attempt to send a task until it began for the first time.
recovery    Seconds from a strike, or from its end where it lasts, until a task had finished that was sent when the
            strike was over; the longest of the fault's strikes. Where a time is promised, the longest pause between two
            tasks that began, while the class had a free process: other hosts may go on while one waits for what was
            struck.

A task belongs to the last fault that began before the task was finished, or before it should have been, which is
``ledger.PATIENCE`` plus what it takes after it was sent; one that began again to the fault in which it did; a lost one
to the last that began before its last sign of life should have been followed by another; and one that ran twice to the
fault in which its first run ended.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tools.chaos.ledger import Ledger, Run, Task


@dataclass(frozen=True)
class Strike:
    """One blow of a fault.

    Arguments:
        at: when it began, or when it was over where it lasts on purpose: from then on the stack has to come back.
        over: when it was over: what was sent from then on shows whether the stack came back.
        in_flight: class -> how many tasks its killed or cut-off processes can have held; none where it has no entry.
    """

    at: float
    over: float
    in_flight: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """One fault, and the time that belongs to it: until the next one begins.

    Arguments:
        begin: when it began.
        end: when all was well again, or when nobody waited any longer.
        notes: what else a reader has to know.
        within: in how many seconds every class has to be back; 0 where nobody says.
        restarts_broker: whether nodes of the broker restart in it.
        processes: class -> how many it has.
    """

    fault: str
    planned: bool
    begin: float
    end: float
    strikes: tuple[Strike, ...]
    notes: tuple[str, ...] = ()
    within: float = 0.0
    restarts_broker: bool = False
    processes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Window:
        """Return one from what :func:`dataclasses.asdict` made of it."""
        strikes = tuple(Strike(**strike) for strike in data["strikes"])
        return cls(**{**data, "strikes": strikes, "notes": tuple(data["notes"])})


@dataclass(frozen=True)
class Row:
    """One line of the report: a class at a fault."""

    broker: str
    fault: str
    planned: bool
    group: str
    acknowledgement: str
    sent: int
    finished: int
    lost: int
    duplicated: int
    again: int
    cut: int
    sent_twice: int
    longest_wait_s: float
    recovery_s: float | None
    in_flight: int
    within: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that the file has."""
        data = dataclasses.asdict(self)
        data["class"] = data.pop("group")
        return data


def attribute(tasks: Iterable[Task], windows: Sequence[Window]) -> dict[str, list[Task]]:
    """Return the tasks of each fault; those that were over before the first one began are nobody's."""
    found: dict[str, list[Task]] = {window.fault: [] for window in windows}
    ordered = sorted(windows, key=lambda window: window.begin)
    for task in tasks:
        due = task.due
        owner = next((window for window in reversed(ordered) if window.begin <= due), None)
        if owner is not None:
            found[owner.fault].append(task)
    return found


def recovery(tasks: Iterable[Task], strikes: Sequence[Strike]) -> float | None:
    """Return the seconds that a class needed after the worst strike; None when it did not come back."""
    done = [(task.began, task.finished) for task in tasks if task.finished is not None]
    worst = 0.0
    for strike in strikes:
        first = min((finished for began, finished in done if began >= strike.over), default=math.inf)
        worst = max(worst, first - strike.at)
    return None if math.isinf(worst) else round(worst, 1)


def pause(tasks: Iterable[Task], window: Window, processes: int) -> float:
    """Return the longest time in which a class began nothing although it had a process for it, in seconds.

    Tasks that are sent several times a second show it. A backlog of long tasks keeps every process busy, which is no
    pause.

    Arguments:
        tasks: of the class.
        window: the fault.
        processes: how many the class has.
    """
    runs = sorted(((run, task) for task in tasks for run in task.runs), key=lambda pair: pair[0].start)
    first = window.strikes[0].at
    starts = [run.start for run, _task in runs if first < run.start < window.end]
    busy = _busy([(run.start, _end(run, task)) for run, task in runs], processes)
    gaps = itertools.pairwise([first, *starts, window.end])
    return round(max(later - earlier - _within(busy, earlier, later) for earlier, later in gaps), 1)


def _end(run: Run, task: Task) -> float:
    """Return when a run ended; one that was ended did when its task began again, or when it would have been done."""
    later = (one.start for one in task.runs if one.start > run.start)
    return run.finish if run.finish is not None else min(later, default=run.start + task.seconds)


def _busy(spans: Iterable[tuple[float, float]], processes: int) -> list[tuple[float, float]]:
    """Return from when until when all processes had something to do."""
    found, running, since = [], 0, 0.0
    changes = [change for begin, end in spans for change in ((begin, 1), (end, -1))]
    for time, change in sorted(changes):
        if change > 0 and running + change == processes:
            since = time
        if change < 0 and running == processes:
            found.append((since, time))
        running += change
    return found


def _within(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Return how many seconds of a time the spans cover."""
    return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in spans)


def rows(
    ledger: Ledger, windows: Sequence[Window], broker: str, classes: Mapping[str, str], stop_timeout: float
) -> list[Row]:
    """Return the report.

    Arguments:
        ledger: what was written down.
        windows: the faults.
        broker: the name of the broker, for the report.
        classes: class -> ``late`` or ``early``.
        stop_timeout: seconds that a stop lets a running task go on.
    """
    return list(_rows(ledger, windows, broker, classes, stop_timeout))


def _rows(
    ledger: Ledger, windows: Sequence[Window], broker: str, classes: Mapping[str, str], stop_timeout: float
) -> Iterator[Row]:
    everything = list(ledger.tasks.values())
    for window in windows:
        owned = attribute(everything, windows)[window.fault]
        stops = window.planned and not window.restarts_broker
        for group, acknowledgement in classes.items():
            tasks = [task for task in owned if task.group == group]
            of_class = [task for task in everything if task.group == group]
            back = recovery(of_class, window.strikes)
            if back is not None and window.within:
                back = pause(of_class, window, window.processes.get(group, 0))
            waits = [task.runs[0].start - task.began for task in tasks if task.runs]
            unsure, sure = [task for task in tasks if task.unsure], [task for task in tasks if not task.unsure]
            yield Row(
                broker=broker,
                fault=window.fault,
                planned=window.planned,
                group=group,
                acknowledgement=acknowledgement,
                sent=sum(1 for task in tasks if task.sent is not None),
                finished=sum(1 for task in tasks if task.sent is not None and task.finished is not None),
                lost=sum(1 for task in tasks if task.lost),
                duplicated=sum(task.extra for task in sure),
                again=sum(task.again for task in tasks),
                cut=sum(task.again for task in tasks if task.seconds < stop_timeout) if stops else 0,
                sent_twice=sum(task.extra for task in unsure),
                longest_wait_s=round(max(waits, default=0.0), 1),
                recovery_s=back,
                in_flight=sum(strike.in_flight.get(group, 0) for strike in window.strikes),
                within=window.within,
            )


def broken(report: Iterable[Row], *, redis_broker: bool) -> list[str]:
    """Return the promises that were not kept, a sentence each."""
    found = []
    for row in report:
        where = f"{row.broker}, {row.fault}, class {row.group}"
        late = row.acknowledgement == "late"
        if late and row.lost and (row.planned or not redis_broker):
            found.append(f"{where}: {row.lost} lost")
        if row.planned and row.duplicated:
            found.append(f"{where}: {row.duplicated} run twice at a planned operation")
        if not row.planned and row.duplicated > row.in_flight:
            found.append(f"{where}: {row.duplicated} run twice, and only {row.in_flight} were in flight")
        if late and row.cut:
            found.append(f"{where}: {row.cut} cut off before their stop_timeout was over")
        if row.recovery_s is None:
            found.append(f"{where}: did not come back")
        elif row.within and row.recovery_s > row.within:
            found.append(f"{where}: came back after {row.recovery_s:.1f} s, and {row.within:.0f} s are promised")
    return found


def table(report: Sequence[Row], title: str) -> Table:
    """Return the table that a person reads: one line per class and fault, what matters in colour."""
    view = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1))
    view.add_column("fault", no_wrap=True)
    view.add_column("class", no_wrap=True)
    view.add_column("ack")
    for heading in ("sent", "finished", "lost", "run twice", "again", "cut", "sent twice", "longest wait", "recovery"):
        view.add_column(heading, justify="right")
    last = ""
    for row in report:
        new = row.fault != last
        if new and last:
            view.add_section()
        last = row.fault
        late = row.acknowledgement == "late"
        view.add_row(
            (f"[bold]{row.fault}[/]" if row.planned else row.fault) if new else "",
            row.group,
            row.acknowledgement,
            f"{row.sent:,}",
            f"{row.finished:,}",
            _shown(row.lost, bad=late),
            _shown(row.duplicated, bad=row.planned or row.duplicated > row.in_flight),
            _shown(row.again, bad=False),
            _shown(row.cut, bad=late),
            _shown(row.sent_twice, bad=False),
            f"{row.longest_wait_s:.1f} s",
            "[bold red]never[/]" if row.recovery_s is None else f"{row.recovery_s:.1f} s",
        )
    return view


def _shown(number: int, *, bad: bool) -> str:
    if not number:
        return "[dim]0[/]"
    return f"[bold red]{number}[/]" if bad else f"[yellow]{number}[/]"


LEGEND = (
    "[bold]Bold[/] is a planned operation. [bold]lost[/]: confirmed, never finished. [bold]run twice[/]: a second run "
    "of a task that had finished, or beside one that did. [bold]again[/]: a run after one that was ended before its "
    "end, by design where the process was killed or stop_timeout was over. [bold]cut[/]: of those, at a planned "
    "operation, tasks shorter than stop_timeout. [bold]sent twice[/]: the producer had an error and sent it again."
)
