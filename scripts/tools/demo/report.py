"""What the demo's traffic proved: pure functions from records, inventory and host to checks and tables."""

from __future__ import annotations

import fnmatch
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "collections"))

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import (
    app_layout,
    worker_unit,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import read_classes

Record = Mapping[str, Any]

RETRIED = "charge, provider away"
REMINDED = "reminder, later"
UNROUTED = "count, no route"
UNKEPT = "seen, result ignored"
LEAKY = "leaky report"
CHORD_PART, CHORD_TOTAL = "partial sum", "grand total"
# RabbitMQ's delayed delivery counts whole seconds, and Celery rounds down to one.
EARLY = 1.0
# What waits on purpose says nothing about the latency.
UNTIMED = frozenset({RETRIED, REMINDED, CHORD_TOTAL})


@dataclass(frozen=True)
class Expected:
    """What the inventory promises: which class reads which queues, and which queue a task goes to."""

    app: str
    classes: Mapping[str, tuple[str, ...]]
    routes: tuple[tuple[str, str], ...]
    default_queue: str = "default"
    user: str = ""

    @property
    def paths(self) -> Mapping[str, Any]:
        """Name the app's paths on the host."""
        layout: Mapping[str, Any] = app_layout(self.app)
        return layout

    def queue_for(self, task: str) -> str:
        """Name the queue of a task: the first route that matches decides."""
        return next((queue for pattern, queue in self.routes if fnmatch.fnmatchcase(task, pattern)), self.default_queue)

    def class_for(self, queue: str) -> str:
        """Name the class that reads a queue, or nothing when none does."""
        return next((name for name, queues in self.classes.items() if queue in queues), "")

    def unit_of(self, name: str) -> str:
        """Name the systemd unit of a class."""
        return str(worker_unit(self.app, name))


@dataclass(frozen=True)
class Unit:
    """A unit as systemd has it, with its processes."""

    name: str
    state: str
    user: str
    main_pid: int
    children: tuple[int, ...] = ()


@dataclass(frozen=True)
class Check:
    """Something that had to happen, and whether it did."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Page:
    """A web page that the stack serves, and what it answered without and with its password."""

    name: str
    url: str
    user: str
    secret: str
    refused: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the table: a class, or one of the units beside them."""

    name: str
    unit: Unit
    queues: tuple[str, ...] = ()
    done: int = 0
    latencies: tuple[float, ...] = field(default=(), repr=False)


def expected(variables: Mapping[str, Any]) -> Expected:
    """Read a host's variables: the same ones that the roles read."""
    default_queue = str(variables.get("celery_app_default_queue") or "default")
    read, _problems = read_classes(variables)
    classes = {name: found.queues or (default_queue,) for name, found in read.items() if found.present}
    routes = tuple((route["task"], route["queue"]) for route in variables.get("celery_app_routes") or ())
    app = str(variables["celery_app_name"])
    return Expected(app, classes, routes, default_queue, str(variables.get("celery_app_user") or app))


def parse_units(show: str, processes: str) -> list[Unit]:
    """Read `systemctl show` (a paragraph per unit) and `ps -eo pid=,ppid=,user=`."""
    table = [line.split(None, 2) for line in processes.splitlines() if line.strip()]
    users = {int(pid): user.strip() for pid, _other, user in table}
    units = []
    for paragraph in show.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        if not values.get("Id"):
            continue
        main = int(values.get("MainPID") or 0)
        children = tuple(int(pid) for pid, parent, _other in table if main and int(parent) == main)
        user = users.get(main, "")
        # A dynamic user is known to systemd alone, unless the host's name service asks it: ps has its number then.
        if user.isdigit() and user == values.get("UID"):
            user = values.get("User") or user
        units.append(Unit(values["Id"], values.get("ActiveState", ""), user, main, children))
    return sorted(units, key=lambda unit: unit.name)


def latency(record: Record) -> float:
    """Return the seconds from the sending to the start."""
    return max(0.0, float(record["ran_by"]["started"]) - float(record["sent"]))


def ran_in(records: Iterable[Record], unit: str) -> list[Record]:
    """Select what a unit ran."""
    return [record for record in records if record["ran_by"] and record["ran_by"]["unit"] == unit]


def rows(promise: Expected, units: Sequence[Unit], records: Sequence[Record]) -> list[Row]:
    """Make a row per class of the inventory, whether it has a unit or not, and one per other unit of the app."""
    by_name = {unit.name: unit for unit in units}
    table = []
    for name in promise.classes:
        unit = by_name.pop(promise.unit_of(name), Unit(promise.unit_of(name), "missing", "", 0))
        done = ran_in(records, unit.name)
        timed = tuple(sorted(latency(record) for record in done if record["kind"] not in UNTIMED))
        queues = tuple(sorted({record["ran_by"]["queue"] for record in done}))
        table.append(Row(name, unit, queues, len(done), timed))
    # The quickest first: an inventory's listing is in alphabetical order, which says nothing.
    table.sort(key=lambda row: statistics.median(row.latencies) if row.latencies else float("inf"))
    prefix, suffix = f"celery-{promise.app}-", ".service"
    return table + [Row(name.removeprefix(prefix).removesuffix(suffix), unit) for name, unit in by_name.items()]


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """Select the records of one kind."""
    return [record for record in records if record["kind"] == kind]


def check_answers(records: Sequence[Record], least: int) -> Check:
    """Every task was sent and succeeded, and there were enough of them."""
    good = [record for record in records if record["state"] in {"SUCCESS", "IGNORED"}]
    bad = [record for record in records if record["state"] not in {"SUCCESS", "IGNORED"}]
    detail = f"{len(good)} of {len(records)} tasks done, their results read back from the result backend"
    if bad:
        worst = bad[0]
        detail += f"; {len(bad)} are not: {worst['kind']} is {worst['state']}"
        detail += f" ({worst['value']})" if worst["value"] else ""
    if len(records) < least:
        detail += f"; at least {least} were to be sent"
    return Check("Every task answered", not bad and len(records) >= least, detail)


def check_routing(promise: Expected, records: Sequence[Record]) -> Check:
    """Each task came through the queue that its name says, in the unit of the class that reads this queue."""
    wrong = []
    ran = [record for record in records if record["ran_by"]]
    for record in ran:
        queue = promise.queue_for(record["task"])
        unit = promise.unit_of(promise.class_for(queue))
        seen = record["ran_by"]
        if (seen["queue"], seen["unit"]) != (queue, unit):
            wrong.append(
                f"{record['task']} ran in {seen['unit'] or 'no unit'} from {seen['queue']}, not {unit} from {queue}"
            )
    idle = [name for name in promise.classes if not ran_in(ran, promise.unit_of(name))]
    detail = f"{len(ran) - len(wrong)} of {len(ran)} tasks ran in the unit of the class that their route names"
    if wrong:
        detail += f"; {wrong[0]}"
    if idle:
        detail += f"; nothing ran in {', '.join(idle)}"
    return Check("Routes decide", bool(ran) and not wrong and not idle, detail)


def check_units(promise: Expected, table: Sequence[Row]) -> Check:
    """Every class has a running unit of an ordinary user."""
    bad = [row.unit.name for row in table if row.unit.state != "active" or row.unit.user in {"", "root"}]
    running = [row for row in table if row.unit.name not in bad]
    users = sorted({row.unit.user for row in running})
    detail = f"{len(running)} units run as {', '.join(users) or 'nobody'}"
    if bad:
        detail += f"; not running as an ordinary user: {', '.join(bad)}"
    return Check("Units run unprivileged", bool(promise.classes) and not bad, detail)


def check_user(table: Sequence[Row], records: Sequence[Record]) -> Check:
    """Each task says that it ran as its unit's user."""
    users = {row.unit.name: row.unit.user for row in table}
    ran = [record for record in records if record["ran_by"]]
    wrong = [
        record
        for record in ran
        if record["ran_by"]["uid"] == 0 or users.get(record["ran_by"]["unit"]) != record["ran_by"]["user"]
    ]
    detail = f"{len(ran) - len(wrong)} of {len(ran)} tasks ran as the user of their unit"
    return Check("Tasks run unprivileged", bool(ran) and not wrong, detail)


def check_urgent(promise: Expected, records: Sequence[Record]) -> Check:
    """Urgent tasks started while slow ones that had been sent before them were still waiting."""
    ran = [record for record in records if record["ran_by"]]
    slow_class = promise.class_for(promise.queue_for("shop.feeds.import_feed"))
    urgent_class = promise.class_for(promise.queue_for("shop.payments.charge"))
    slow = [record for record in ran_in(ran, promise.unit_of(slow_class)) if record["kind"] not in UNTIMED]
    urgent = [record for record in ran_in(ran, promise.unit_of(urgent_class)) if record["kind"] not in UNTIMED]
    if not slow or not urgent:
        return Check("Urgent work does not wait", False, "there were no urgent tasks, or no slow ones")
    last = max(slow, key=lambda record: record["ran_by"]["started"])
    overtook = [
        record
        for record in urgent
        if record["sent"] > last["sent"] and record["ran_by"]["started"] < last["ran_by"]["started"]
    ]
    typical, waited = statistics.median(map(latency, urgent)), statistics.median(map(latency, slow))
    detail = f"{len(overtook)} urgent tasks were taken up before slow ones that had been sent earlier"
    detail += f"; they waited {duration(typical)}, the slow ones {duration(waited)}"
    return Check("Urgent work does not wait", bool(overtook) and typical < waited, detail)


def check_retries(records: Sequence[Record]) -> Check:
    """Each payment whose provider was away came through, after as many retries as that took."""
    retried = of_kind(records, RETRIED)
    ran = [record for record in retried if record["ran_by"]]
    right = [record for record in ran if record["ran_by"]["retries"] == record["kwargs"]["provider_away"]]
    times = sum(record["ran_by"]["retries"] for record in ran)
    detail = f"{times} retries, and then {len(right)} of {len(retried)} payments came through"
    return Check("Retries", bool(retried) and len(right) == len(retried), detail)


def check_eta(records: Sequence[Record]) -> Check:
    """Nothing that was meant for later started before its time."""
    later = of_kind(records, REMINDED)
    lags = [record["ran_by"]["started"] - record["due"] for record in later if record["ran_by"]]
    ok = bool(later) and len(lags) == len(later) and min(lags) >= -EARLY
    detail = f"{len(lags)} of {len(later)} reminders came"
    if lags:
        detail += f", between {min(lags):+.1f} and {max(lags):+.1f} s of their time"
    return Check("ETA and countdown", ok, detail)


def check_chord(records: Sequence[Record]) -> Check:
    """The sum of the parts is the whole."""
    right = sum(sum(record["kwargs"]["numbers"]) for record in of_kind(records, CHORD_PART))
    parts = [record for record in of_kind(records, CHORD_PART) if record["ran_by"]]
    totals = [record["value"]["sum"] for record in of_kind(records, CHORD_TOTAL) if record["ran_by"]]
    detail = f"{len(parts)} parts add up to {totals[0]}" if totals else f"{len(parts)} parts, and no total"
    if totals and totals[0] != right:
        detail += f", which is {right} in truth"
    return Check("Chord", bool(parts) and totals == [right], detail)


def check_periodic(periodic: Sequence[Record]) -> Check:
    """Beat's task ran while the traffic did."""
    units = sorted({record["ran_by"]["unit"] for record in periodic})
    detail = f"seen {len(periodic)}x, in {', '.join(units)}" if periodic else "not seen"
    return Check("Periodic task", bool(periodic), detail)


def check_ignored(records: Sequence[Record]) -> Check:
    """What nobody waits for was done, and left nothing in the result backend."""
    ignored = of_kind(records, UNKEPT)
    done = [record for record in ignored if record["state"] == "IGNORED"]
    ok = bool(ignored) and len(done) == len(ignored)
    return Check("Ignored results", ok, f"{len(done)} of {len(ignored)} tasks done, with nothing kept of them")


def check_leak(table: Sequence[Row], records: Sequence[Record]) -> Check:
    """The class that leaks went through more processes than it has."""
    leaky = [record for record in of_kind(records, LEAKY) if record["ran_by"]]
    units = {record["ran_by"]["unit"] for record in leaky}
    row = next((row for row in table if row.unit.name in units), None)
    if row is None:
        return Check("Leaking process replaced", False, "no leaky report ran")
    pids = {record["ran_by"]["pid"] for record in ran_in(records, row.unit.name)}
    slots = max(1, len(row.unit.children))
    most = max(record["value"]["kept"] for record in leaky)
    detail = f"{len(pids)} processes in turn did the work of {slots}; none kept more than {most} MiB"
    return Check("Leaking process replaced", len(pids) > slots, detail)


def check_pages(pages: Sequence[Page]) -> list[Check]:
    """Each page refuses a caller without its password, and takes one with it."""
    checks = []
    for page in pages:
        detail = f"answers {page.refused or 'nothing'} without its password, {page.accepted or 'nothing'} with it"
        checks.append(Check(f"{page.name} is locked", page.refused in {401, 403} and page.accepted == 200, detail))
    return checks


def judge(
    promise: Expected,
    table: Sequence[Row],
    report: Mapping[str, Any],
    pages: Sequence[Page] = (),
    *,
    least: int,
) -> list[Check]:
    """Check everything that the demo claims."""
    records = report["records"]
    return [
        check_answers(records, least),
        check_routing(promise, records + report["periodic"]),
        check_units(promise, table),
        check_user(table, records + report["periodic"]),
        check_urgent(promise, records),
        check_retries(records),
        check_eta(records),
        check_chord(records),
        check_periodic(report["periodic"]),
        check_ignored(records),
        check_leak(table, records),
        *check_pages(pages),
    ]


def duration(seconds: float) -> str:
    """Write a time as a person reads it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _process(unit: Unit) -> str:
    if unit.state != "active":
        return unit.state
    return f"{unit.main_pid} + {len(unit.children)}" if unit.children else str(unit.main_pid)


def class_table(table: Sequence[Row], title: str) -> Table:
    """Print the classes, and below them what else the app runs."""
    # Made to fit into 80 columns: no frame, no suffix, and the queues may take several lines.
    view = Table(title=title, title_style="bold", header_style="bold", title_justify="left")
    view.box, view.padding = box.SIMPLE_HEAD, (0, 1, 0, 0)
    for heading in ("Class", "Unit", "User", "Process"):
        view.add_column(heading, no_wrap=True)
    view.add_column("Queues", min_width=9)
    for heading in ("Tasks", "Median", "Worst"):
        view.add_column(heading, justify="right", no_wrap=True)
    for row in table:
        times = (
            [duration(statistics.median(row.latencies)), duration(row.latencies[-1])] if row.latencies else ["-", "-"]
        )
        unit = row.unit.name.removesuffix(".service")
        cells = [
            row.name,
            unit,
            row.unit.user or "-",
            _process(row.unit),
            ", ".join(row.queues) or "-",
            str(row.done or "-"),
        ]
        view.add_row(*map(escape, cells + times), style=None if row.queues else "dim")
    return view


def check_table(checks: Sequence[Check]) -> Table:
    """Print what had to happen, with what happened."""
    view = Table(box=None, show_header=False, padding=(0, 1))
    view.add_column(no_wrap=True)
    view.add_column(no_wrap=True, style="bold")
    view.add_column()
    for check in checks:
        view.add_row("[green]yes[/]" if check.ok else "[bold red]NO[/]", escape(check.name), escape(check.detail))
    return view


def page_table(pages: Sequence[Page], stop: str) -> Table:
    """Print where to look, with which password, and how to end it."""
    view = Table(box=None, show_header=False, padding=(0, 1))
    view.add_column(no_wrap=True, style="bold")
    view.add_column(no_wrap=True, style="cyan")
    view.add_column()
    for page in pages:
        view.add_row(escape(page.name), escape(page.url), escape(f"user {page.user}, password in {page.secret}"))
    view.add_row("To stop", escape(stop), "")
    return view
