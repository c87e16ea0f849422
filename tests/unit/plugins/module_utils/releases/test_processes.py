"""Which releases processes run from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases.processes import in_use, running_from


def test_a_process_runs_from_the_release_that_was_current_when_it_started() -> None:
    base, history = "/opt/celeryops/shop", [(100.0, "a"), (200.0, "b"), (300.0, "c")]

    def found(words: list[str], started: float) -> list[str]:
        return running_from(base, words, started, history, ["a", "b", "c"])

    assert found([f"{base}/current/bin/python"], 250.0) == ["b"]
    assert found([f"{base}/current/bin/python"], 201.0) == ["b"]
    assert found([f"{base}/current/bin/python"], 199.0) == ["b"]  # within the clock's grain
    assert found([f"{base}/current"], 150.0) == ["a"]
    assert found([f"{base}/releases/a/lib/x.so"], 999.0) == ["a"]
    assert found([f"{base}/releases/gone/bin/python"], 999.0) == []
    assert found([f"{base}/currently/x", "/opt/celeryops/shop2/current/x"], 250.0) == []


@pytest.mark.parametrize(
    ("started", "releases"),
    [(197.0, ["z"]), (198.0, ["a"]), (201.0, ["a", "b"]), (202.0, ["a", "b"]), (202.5, ["b"]), (204.1, ["b"])],
)
def test_of_two_switches_in_a_row_both_releases_may_be_in_use(started: float, releases: list[str]) -> None:
    base, history = "/opt/celeryops/shop", [(100.0, "z"), (200.0, "a"), (202.0, "b")]
    assert running_from(base, [f"{base}/current/x"], started, history, ["z", "a", "b"]) == releases


def test_a_process_that_runs_is_seen(tmp_path: Path) -> None:
    base = tmp_path / "shop"
    for name in ("one", "two", "three"):
        (base / "releases" / name).mkdir(parents=True)
    (base / "current").symlink_to("releases/two")
    now = time.time()
    with (
        subprocess.Popen(["sleep", "60"], cwd=base / "releases" / "one") as inside,
        # One process: a child of a shell would be seen for a moment after both were told to end.
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)", f"{base}/current/bin/python"]
        ) as started,
    ):
        activations = [(now - 1000, "three"), (now - 500, "two"), (now + 500, "three")]
        try:
            found = in_use(str(base), activations, ["one", "two", "three"])
        finally:
            inside.kill()
            started.kill()
    assert found == ["one", "two"]
    assert in_use(str(base), activations, ["one", "two", "three"]) == []


def process(proc: Path, number: int, words: str, maps: str = "", stat: str | None = None) -> None:
    """Make what proc(5) has of a process; without ``stat`` it ends while it is looked at."""
    folder = proc / str(number)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_text(words)
    (folder / "maps").write_text(maps)
    (folder / "cwd").symlink_to("/")
    if stat is not None:
        (folder / "stat").write_text(stat)


def fields(name: str, seconds: float) -> str:
    ticks = round(seconds * os.sysconf("SC_CLK_TCK"))
    return f"7 ({name}) S {' '.join(['0'] * 18)} {ticks} 0 0\n"


#: The host was started at 100; each of these is one second and a half or more from the others.
SWITCHES = [(97.5, "before"), (98.0, "at"), (102.5, "after"), (110.0, "later"), (120.5, "last")]
NAMES = [name for _when, name in SWITCHES]


@pytest.mark.parametrize(
    ("stat", "found"),
    [
        # It has ended, or is of another kind: taken for one from the start of the host.
        (None, ["at"]),
        ("7 (python) S 0\n", ["at"]),
        (fields("python", 1.0), ["after"]),
        # Half a second counts; what a program calls itself does not.
        (fields("python", 18.5), ["last"]),
        (fields("python", 7.5), ["after"]),
        (fields("python", 8.0), ["later"]),
        (fields(") S 1 (x) 0", 8.0), ["later"]),
    ],
)
def test_when_a_process_was_started_is_read(tmp_path: Path, stat: str | None, found: list[str]) -> None:
    (tmp_path / "stat").write_text("cpu 1\nbtime 100\n")
    process(tmp_path, 7, "/opt/shop/current/bin/python\0-m\0celery", stat=stat)
    assert in_use("/opt/shop", SWITCHES, NAMES, str(tmp_path)) == found


def test_what_a_process_has_in_its_memory_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("btime 100\n")
    line = "7f00-7f01 r-xp 00000000 08:01 123 "
    maps = f"{line}   /opt/shop/releases/at/lib/one two.so\n{line}/usr/lib/releases/x\n"
    process(tmp_path, 7, "uwsgi", maps, fields("uwsgi", 1.0))
    assert in_use("/opt/shop", SWITCHES, NAMES, str(tmp_path)) == ["at"]
    process(tmp_path, 8, "uwsgi", f"{line}   /opt/shop/current/one two.so\n", fields("uwsgi", 1.0))
    assert in_use("/opt/shop", SWITCHES, NAMES, str(tmp_path)) == ["after", "at"]
