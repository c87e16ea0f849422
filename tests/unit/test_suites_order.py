"""The order of the gate's runs, their places, and where the time went."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from tools.suites.order import (
    Times,
    budget,
    by_module,
    in_order,
    keep_durations,
    processors,
    read_durations,
    run_by_weight,
    slowest,
    times_of_tests,
    write_times,
)

REPORT = """\
<testsuites><testsuite tests="3">
<testcase classname="tests.test_stops" name="test_one" time="1.5"/>
<testcase classname="tests.test_stops" name="test_two[a b]" time="20"/>
<testcase classname="test_once" name="test_one" time="0.25"><failure>no</failure></testcase>
</testsuite></testsuites>
"""
BEFORE = "cpu  1000 0 500 4000 500 0 0 0 0 0\ncpu0 1 1 1 1\n"
AFTER = "cpu  1600 0 600 4200 600 0 0 0 0 0\ncpu0 1 1 1 1\n"


@dataclasses.dataclass
class Job:
    name: str
    weight: float = 1.0
    urgent: bool = False


def test_the_longest_begin_first_and_what_others_wait_for_before_them() -> None:
    jobs = [Job("short"), Job("long"), Job("checks", urgent=True), Job("middle"), Job("new")]
    seconds = {"short": 100, "long": 1200, "checks": 50, "middle": 300}
    # Nobody knows how long the new one takes, so it does not come last.
    assert [job.name for job in in_order(jobs, seconds)] == ["checks", "long", "new", "middle", "short"]


class Places:
    """Run jobs that end when they are told to, and see who runs beside whom."""

    def __init__(self, jobs: list[Job], capacity: float) -> None:
        self.running: set[str] = set()
        self.begun: list[str] = []
        self.ends = {job.name: threading.Event() for job in jobs}
        self.changed = threading.Condition()
        self.whole = threading.Thread(target=run_by_weight, args=(jobs, capacity, self.attend), daemon=True)
        self.whole.start()

    def attend(self, job: Job) -> None:
        with self.changed:
            self.running.add(job.name)
            self.begun.append(job.name)
            self.changed.notify_all()
        assert self.ends[job.name].wait(20)
        with self.changed:
            self.running.discard(job.name)
            self.changed.notify_all()

    def see(self, *names: str) -> None:
        """Wait until exactly these run, and see that nobody joins them."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.running == set(names), 10), self.running
            assert not self.changed.wait_for(lambda: self.running != set(names), 0.05), self.running

    def end(self, name: str) -> None:
        self.ends[name].set()


def test_runs_share_the_machine_by_weight() -> None:
    jobs = [Job("a"), Job("b"), Job("c"), Job("light", 0.5), Job("d")]
    places = Places(jobs, 2.5)
    places.see("a", "b", "light")
    places.end("a")
    places.see("b", "c", "light")
    places.end("light")
    places.see("b", "c")
    places.end("b")
    places.see("c", "d")
    for job in jobs:
        places.end(job.name)
    places.whole.join(10)
    assert not places.whole.is_alive()
    assert sorted(places.begun) == ["a", "b", "c", "d", "light"]


def test_what_weighs_nothing_begins_at_once_and_what_weighs_too_much_runs_alone() -> None:
    jobs = [Job("a"), Job("huge", 9), Job("nothing", 0)]
    places = Places(jobs, 2)
    places.see("a", "nothing")
    places.end("a")
    places.see("huge", "nothing")
    places.end("huge")
    places.end("nothing")
    places.whole.join(10)
    assert not places.whole.is_alive()


@pytest.mark.filterwarnings("ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_that_raises_gives_its_place_back() -> None:
    seen: list[str] = []

    def attend(job: Job) -> None:
        seen.append(job.name)
        if job.name == "a":
            raise RuntimeError

    run_by_weight([Job("a"), Job("b")], 1, attend)
    assert seen == ["a", "b"]


def test_the_times_of_single_tests_are_read(tmp_path: Path) -> None:
    (tmp_path / "verify.xml").write_text(REPORT)
    times = times_of_tests(tmp_path / "verify.xml")
    assert times == {"test_stops::test_one": 1.5, "test_stops::test_two[a b]": 20.0, "test_once::test_one": 0.25}
    assert by_module(times) == {"test_stops": 21.5, "test_once": 0.25}
    assert slowest({"x": Times(tests=times), "y": Times(tests={"test_a::b": 3.0})}, 2) == [
        (20.0, "x", "test_stops::test_two[a b]"),
        (3.0, "y", "test_a::b"),
    ]


def test_the_budget_says_where_the_time_went() -> None:
    assert processors(BEFORE) == (1500, 4500)
    times = {
        "trixie": Times(wall=300, waited=0, phases={"create": 10, "verify": 250}, tests={"test_a::slow": 60.5}),
        "chaos": Times(wall=100, waited=40, phases={"faults": 100}),
    }
    lines = budget(times, 400.0, BEFORE, AFTER)
    assert lines[0].split() == ["wall", "waited", "create", "verify", "faults"]
    assert lines[1].split() == ["trixie", "300", "0", "10", "250"]
    assert lines[2].split() == ["chaos", "100", "40", "100"]
    assert lines[4].split() == ["60.5", "s", "trixie", "test_a::slow"]
    # 700 of 1000 hundredths were worked.
    assert lines[-1].strip() == (
        "400 s in all: the runs took 400 s and waited 40 s for a place; the processors worked 70% of the time and"
        " waited 120 s"
    )


def test_what_was_measured_becomes_the_order_of_the_next_time(tmp_path: Path) -> None:
    measured, durations = tmp_path / "measured.json", tmp_path / "durations.json"
    assert read_durations(durations) == {}
    durations.write_text('{"old": 77, "trixie": 1}')
    write_times(measured, {"other": Times(wall=5)})
    write_times(measured, {"trixie": Times(wall=123.4, phases={"create": 10.04}, tests={"a::b": 1.0, "a::c": 2.0})})
    entry = json.loads(measured.read_text())["trixie"]
    assert (entry["phases"], entry["modules"]) == ({"create": 10.0}, {"a": 3.0})
    assert list(entry["tests"]) == ["a::c", "a::b"]
    keep_durations(measured, durations)
    assert read_durations(durations) == {"old": 77, "other": 5, "trixie": 123}
