"""Which releases processes run from."""

from __future__ import annotations

import subprocess
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
        subprocess.Popen(["sh", "-c", "sleep 60; true", f"{base}/current/bin/python"]) as started,
    ):
        activations = [(now - 1000, "three"), (now - 500, "two"), (now + 500, "three")]
        try:
            found = in_use(str(base), activations, ["one", "two", "three"])
        finally:
            inside.kill()
            subprocess.run(["pkill", "-P", str(started.pid)], check=False)
            started.kill()
    assert found == ["one", "two"]
    assert in_use(str(base), activations, ["one", "two", "three"]) == []
