"""What the chaos scenario's ledger says of each task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PATIENCE = 5.0
"""Seconds after which a task that was sent in quiet times has begun for sure."""

SECONDS: Mapping[str, float] = {"short": 0.02, "medium": 1.0, "long": 10.0}
"""How long the tasks of each kind take (tests/chaos/app); of any other kind, no time."""

EVENTS = frozenset({"sending", "unsure", "sent", "start", "finish"})


@dataclass
class Run:
    """One run of a task: in which process, from when until when. None: it never finished."""

    pid: int
    start: float
    finish: float | None = None


@dataclass
class Task:
    """What the ledger says of one task. Times are seconds of the ledger's clock."""

    id: str
    group: str
    kind: str
    sending: float | None = None
    sent: float | None = None
    unsure: int = 0
    runs: list[Run] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Return how long one run takes."""
        return SECONDS.get(self.kind, 0.0)

    @property
    def began(self) -> float:
        """Return when it was sent; of a task that nobody wrote down, when it ran."""
        known = [time for time in (self.sending, self.sent, *(run.start for run in self.runs)) if time is not None]
        return min(known, default=0.0)

    @property
    def finished(self) -> float | None:
        """Return when its first run that came to an end did."""
        return min((run.finish for run in self.runs if run.finish is not None), default=None)

    @property
    def lost(self) -> bool:
        """Whether it was confirmed and never finished."""
        return self.sent is not None and self.finished is None

    @property
    def extra(self) -> int:
        """Return how many runs were a second time: after one that had finished, or beside one that did."""
        runs = sorted(self.runs, key=lambda run: run.start)
        return sum(1 for index, run in enumerate(runs) if any(one.finish is not None for one in runs[:index]))

    @property
    def again(self) -> int:
        """Return how many runs followed one that never finished, and none that did."""
        return max(0, len(self.runs) - 1 - self.extra)

    @property
    def due(self) -> float:
        """Return when it should have been finished at the latest, for the fault that it belongs to."""
        if self.finished is None:
            return max(run.start for run in self.runs) + self.seconds if self.runs else self.began + PATIENCE
        if self.extra:
            return self.finished
        # A run that was ended was so before the next one began.
        return min(self.finished, self.began + PATIENCE + self.seconds, *(run.start for run in self.runs[1:]))


class Ledger:
    """All tasks, from the lines of the ledger in any order of files."""

    def __init__(self) -> None:
        """Begin with none."""
        self.tasks: dict[str, Task] = {}
        self._open: dict[tuple[str, int], Run] = {}
        self._early: dict[tuple[str, int], float] = {}

    def add(self, line: str) -> None:
        """Take in one line; ``chaos_app.ledger`` says what is in it.

        Raises:
            ValueError: when it is no line of a ledger.
        """
        clock, event, task_id, group, kind, process = line.split()
        if event not in EVENTS:
            raise ValueError(f"{event} is no event of the ledger: {line!r}")
        time, pid = float(clock), int(process)
        task = self.tasks.setdefault(task_id, Task(task_id, group, kind))
        match event:
            case "sending":
                task.sending = time
            case "unsure":
                task.unsure += 1
            case "sent":
                task.sent = time
            case "start":
                run = Run(pid, time)
                task.runs.append(run)
                self._open[task_id, pid] = run
            case _:
                # The file has the lines in their order: a finish without its start is none of ours.
                run = self._open.pop((task_id, pid))
                run.finish = time

    def running(self, group: str, kinds: Iterable[str]) -> list[tuple[Task, Run]]:
        """Return the runs of a class that have begun and not finished, the oldest first."""
        wanted = set(kinds)
        found = [
            (self.tasks[task_id], run)
            for (task_id, _pid), run in self._open.items()
            if self.tasks[task_id].group == group and self.tasks[task_id].kind in wanted
        ]
        return sorted(found, key=lambda pair: pair[1].start)
