"""The benchmarks' own arithmetic: what is refused as a measurement, and what is made of one."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import bench_cluster
import bench_priorities
from bench_priorities import Latencies, flaws
from tools.bench import common, fleet, growth, traffic
from tools.chaos.report import Row

FLOODED = {"waiting": [4_600, 4_000, 3_700], "left": 3_600, "processors_busy": 0.98}


def test_a_flood_that_lasted_is_accepted() -> None:
    assert flaws(FLOODED, 5_000) == []
    assert flaws({"waiting": [0, 0], "left": 0, "processors_busy": 0.1}, 0) == []


@pytest.mark.parametrize(
    ("changes", "slow", "told"),
    [
        pytest.param({"waiting": [4_600, 999]}, 5_000, "only 999 of 5000", id="worked off too early"),
        pytest.param({"waiting": [0, 0, 0]}, 5_000, "only 0 of 5000", id="never queued"),
        pytest.param({"left": 4_600}, 5_000, "no worker took any", id="nobody works on it"),
        pytest.param({"processors_busy": 0.6}, 5_000, "busy for only 60%", id="processors to spare"),
        pytest.param({}, 0, "had to be idle", id="a flood on the idle system"),
    ],
)
def test_a_flood_that_was_none_is_refused(changes: dict[str, Any], slow: int, told: str) -> None:
    found = flaws({**FLOODED, **changes}, slow)
    assert any(told in text for text in found), found


def test_ratios_are_of_medians_and_of_values_that_were_measured() -> None:
    idle = Latencies("idle", "", [0.010] * 94 + [0.020] * 6)
    flooded = Latencies("under_flood", "", [0.015] * 95 + [0.100] * 5)
    assert bench_priorities.results([idle, flooded], idle) == {
        "urgent_latency_under_flood_over_idle": 1.5,
        "urgent_latency_p95_under_flood_over_idle": 0.75,
    }


def test_weights_off_leaves_no_weight_and_changes_nothing_else() -> None:
    keys = ("cpu_weight", "io_weight", "nice")
    on, off = (bench_priorities.variables(weights=weights) for weights in (True, False))
    weighted = on["celery_worker_classes"]
    assert weighted["high"]["cpu_weight"] > 100
    without = {name: {key: one[key] for key in one if key not in keys} for name, one in weighted.items()}
    assert off == {**on, "celery_worker_classes": without}
    assert bench_priorities.processes() == 9  # scripts/README.md says so


def test_the_flood_is_mostly_work() -> None:
    names = [traffic.slow(number)[0] for number in range(5_000)]
    assert names.count(traffic.BUSY[0]) == 4_500
    assert names.count(traffic.SLEEPY[0]) == 500


def test_busy_ticks_leave_out_idle_and_waiting_for_disks() -> None:
    assert traffic.busy_and_all("cpu  10 1 5 100 20 2 3 4 7 7\ncpu0 0 0 0 0\n") == (25, 145)


def test_results_of_the_benchmarks_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path / "bench.json")
    common.keep({"one": 1.5, "two": 2.0})
    common.keep({"two": 3.0})
    assert json.loads((tmp_path / "bench.json").read_text()) == {"one": 1.5, "two": 3.0}


def test_hosts_of_a_fleet_are_alike_or_all_differ(tmp_path: Path) -> None:
    for number, different in ((10, False), (300, True)):
        folder = fleet.write(tmp_path / "fleet", number, different=different)
        hosts = yaml.safe_load((folder / "hosts.yml").read_text())["celery_workers"]["hosts"]
        assert len({own["ansible_host"] for own in hosts.values()}) == len(hosts) == number
        own = [path.read_text() for path in (folder / "host_vars").iterdir()]
        assert len(set(own)) == len(own) == (number if different else 2)


def test_a_run_is_known_by_what_its_children_took() -> None:
    spends = (
        "import subprocess, sys, time; b = bytearray(150 << 20); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    )
    works = "import time; b = bytearray(300 << 20)\nwhile time.process_time() < 0.5: pass"
    took = growth.cost([sys.executable, "-c", spends, works])
    assert took.processor_seconds >= 0.5
    assert 300 <= took.memory_mb < 400
    with pytest.raises(SystemExit, match="because"):
        growth.cost([sys.executable, "-c", "raise SystemExit('because')"])
    shown = Console(record=True, width=120, file=io.StringIO())
    shown.print(growth.table({"10_alike": growth.Cost(1.25, 2.0, 66)}))
    text = shown.export_text()
    assert "1.2" in text
    assert "66 MiB" in text
    assert growth.results({"10_alike": growth.Cost(1.0, 2.0, 66)}) == {
        "check": {"10_alike": {"seconds": 1.0, "processor_seconds": 2.0, "memory_mb": 66}},
        "check_each_further_host": {},
    }


def test_what_each_further_host_costs_leaves_out_the_start() -> None:
    linear = {f"{number}_alike": growth.Cost(0, 2.0 + number / 100, 60) for number in (10, 100, 1000)}
    square = {f"{number}_different": growth.Cost(0, 2.0 + number**2 / 1000, 60) for number in (10, 100, 1000)}
    found = growth.each_more({**linear, **square})
    assert {name: round(seconds, 6) for name, seconds in found.items()} == {
        "100_alike": 0.01, "1000_alike": 0.01, "100_different": 0.11, "1000_different": 1.1,
    }  # fmt: skip
    shown = Console(record=True, width=120, file=io.StringIO())
    shown.print(growth.table(linear))
    assert shown.export_text().count("10.0 ms") == 2


def test_the_fleet_is_as_large_as_the_benchmark_says(tmp_path: Path) -> None:
    folder = fleet.write(tmp_path / "fleet")
    hosts = yaml.safe_load((folder / "hosts.yml").read_text())
    everywhere = yaml.safe_load((folder / "group_vars" / "all.yml").read_text())
    assert len(hosts["celery_workers"]["hosts"]) == 50
    assert all(len(hosts[group]["hosts"]) == 1 for group in ("rabbitmq", "redis", "celery_beat", "flower"))
    assert len(everywhere["celery_worker_classes"]) == 20
    overridden = [path.stem for path in (folder / "host_vars").iterdir()]
    assert len(overridden) == 2
    assert set(overridden) <= set(hosts["celery_workers"]["hosts"])


def test_a_class_that_never_came_back_counts_as_the_whole_wait() -> None:
    rows = [
        Row("x", "node-kill", False, group, "late", 1, 1, 0, 0, 0, 0, 0, 0.1, recovery, 0)
        for group, recovery in (("swift", 3.5), ("steady", 21.0))
    ]
    assert bench_cluster.worst(rows) == 21.0
    assert bench_cluster.worst([*rows, dataclasses.replace(rows[0], recovery_s=None)]) == 120.0
