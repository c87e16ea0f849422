"""The scheduler moves to another host, or waits on one for the other's end: nothing is skipped, nothing sent twice."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import APP, CLASSES, INVENTORY, ROOT, STATE, Fleet
from hosts import wait

UNIT = f"celery-{APP}-beat.service"
SCHEDULE = f"{STATE}/beat/schedule.json"
#: The app's schedule has one task that is due so often.
OFTEN = 4.0
#: How long a dead scheduler's lock outlives it, and how often a standby looks (celeryops_runtime.beat).
TAKEN_OVER = 30.0
#: What a busy machine may add to everything.
SLACK = 5.0
#: Let the hourly task be due in so many seconds, as if it had run 41 times.
ALMOST_DUE = """
import datetime, json, pathlib
path = pathlib.Path({path!r})
document = json.loads(path.read_text())
last = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=3600 - {seconds})
document["entries"]["hourly"] = {{"last_run_at": last.isoformat(), "runs": 41}}
path.write_text(json.dumps(document))
"""


@pytest.fixture
def with_beat_on() -> Iterator[Callable[..., Path]]:
    """Return an inventory that differs from the scenario's in who has the scheduler."""
    # As deep below the checkout as the inventory itself, whose paths are relative.
    folder = ROOT / "build" / "molecule" / f"{APP}-beat"

    def make(*hosts: str) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(INVENTORY, folder, ignore=shutil.ignore_patterns(".celeryops"))
        text = (folder / "hosts.yml").read_text()
        line = "celery_beat: {hosts: {app1: {}}}\n"
        assert line in text
        members = ", ".join(f"{host}: {{}}" for host in hosts)
        (folder / "hosts.yml").write_text(text.replace(line, f"celery_beat: {{hosts: {{{members}}}}}\n"))
        return folder

    yield make
    shutil.rmtree(folder, ignore_errors=True)


def sent(fleet: Fleet, entry: str, since: float) -> list[tuple[float, str]]:
    """Return when a task was sent since then, and from which host, in that order."""
    command = f"journalctl --no-pager --quiet --output=short-unix --unit={UNIT} --since=@{int(since)}"
    return sorted(
        (float(line.split()[0]), host)
        for host, text in fleet.each(command).items()
        for line in text.splitlines()
        if f"Sending due task {entry} " in line and float(line.split()[0]) >= since
    )


def lock_taken(fleet: Fleet, since: float) -> set[str]:
    """Return the hosts whose scheduler got the lock since then."""
    command = f"journalctl --no-pager --quiet --output=cat --unit={UNIT} --since=@{int(since)}"
    return {host for host, text in fleet.each(command).items() if "beat: Acquired lock" in text}


def gaps(times: list[tuple[float, str]]) -> list[float]:
    return [later - earlier for (earlier, _first), (later, _second) in itertools.pairwise(times)]


def known(fleet: Fleet, host: str) -> Any:
    return json.loads(fleet.on(host, f"cat {SCHEDULE}"))["entries"]


def test_the_scheduler_moves_with_what_it_knows(fleet: Fleet, with_beat_on: Callable[..., Path]) -> None:
    # What another run of this test may have left there would do as well.
    fleet.on("app2", f"rm -f {SCHEDULE}")
    program = ALMOST_DUE.format(path=SCHEDULE, seconds=20)
    fleet.on("app1", f"systemctl stop {UNIT} && python3 - <<'END'\n{program}END\nsystemctl start {UNIT}")
    since = time.time()
    wait(lambda: sent(fleet, "often", since) != [], 60, "nothing was sent")
    run = fleet.play("site", inventory=with_beat_on("app2"))
    assert run.messages == []
    assert fleet.on("app1", f"systemctl show --property=LoadState --value {UNIT}") == "not-found"
    assert not fleet.hosts["app1"].file(f"/etc/systemd/system/{UNIT}").exists
    assert fleet.hosts["app2"].service(UNIT).is_running
    wait(lambda: known(fleet, "app2")["hourly"]["runs"] == 42, 90, "the hourly task was skipped, or its runs forgotten")
    moved = time.time()
    wait(lambda: sent(fleet, "often", moved) != [], 30, "nothing is sent any more")
    assert len(sent(fleet, "hourly", since)) == 1
    times = sent(fleet, "often", since)
    assert min(gaps(times)) > OFTEN - 1, times
    hosts = [host for _other, host in times]
    assert hosts == sorted(hosts), "both schedulers sent"
    # While it moved some were due: they are made up for once, at once.
    first = next(when for when, host in times if host == "app2")
    last = max(when for when, host in times if host == "app1")
    started = fleet.on("app2", f"systemctl show --property=ActiveEnterTimestamp --value --timestamp=unix {UNIT}")
    assert first < max(float(started.removeprefix("@")), last + OFTEN) + SLACK
    assert max(gap for gap in gaps(times) if gap != first - last) < OFTEN + SLACK, times


def test_a_standby_takes_over_from_a_scheduler_that_dies_or_stops(
    fleet: Fleet, with_beat_on: Callable[..., Path]
) -> None:
    before = time.time()
    run = fleet.play("site", inventory=with_beat_on("app1", "app2"), celery_beat_scheduler="redbeat.RedBeatScheduler")
    assert run.messages == []
    since = time.time()
    wait(lambda: sent(fleet, "often", since) != [], 60, "nothing was sent")
    [active] = {host for _other, host in sent(fleet, "often", since)}
    [standby] = CLASSES.keys() - {active}
    assert fleet.hosts[standby].service(UNIT).is_running
    assert lock_taken(fleet, before) == {active}

    # systemd would start it again, and a host that is gone does not come back.
    fleet.on(active, f"systemctl kill --signal=KILL {UNIT}; systemctl stop {UNIT}")
    died = time.time()
    wait(lambda: standby in {host for _other, host in sent(fleet, "often", died)}, 60, "nobody took over")
    taken = sent(fleet, "often", died)[0][0]
    assert taken - died < TAKEN_OVER + SLACK

    fleet.on(active, f"systemctl start {UNIT}")
    stopped = time.time()
    fleet.on(standby, f"systemctl stop {UNIT}")
    wait(lambda: active in {host for _other, host in sent(fleet, "often", stopped)}, 40, "nobody took over")
    back = next(when for when, host in sent(fleet, "often", stopped) if host == active)
    assert back - stopped < OFTEN + 5 + SLACK

    times = sent(fleet, "often", since)
    assert min(gaps(times)) > OFTEN - 1, times
    assert max(gaps(times)) < OFTEN + TAKEN_OVER + SLACK, times
