"""The plan of the role celery_beat: the unit, its removal, and what is refused."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import celery_worker
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_beat import plan

ROLE = Path(__file__).resolve().parents[5] / "roles" / "celery_beat"


def variables(**changes: Any) -> dict[str, Any]:
    """Return the role's defaults with ``changes``."""
    values: dict[str, Any] = {
        "app": "shop",
        "import": "shop.celery:app",
        "user": "shop",
        "group": "shop",
        "state": "present",
        "scheduler": "",
        "max_interval": 0,
        "log_level": "INFO",
        "environment": {},
        "start_timeout": "2m",
        "stop_timeout": "30s",
        "hardening": {},
    }
    return {f"celery_beat_{name}": value for name, value in {**values, **changes}.items()}


def planned(**changes: Any) -> dict[str, Any]:
    """Return the plan for ``changes``, which must have no mistakes."""
    result, problems = plan(variables(**changes), {})
    assert told(problems) == []
    return result


def unit(**changes: Any) -> list[str]:
    """Return the lines of the unit."""
    return render(ROLE / "templates" / "beat.service.j2", planned(**changes)["service"]).splitlines()


def start(**changes: Any) -> str:
    """Return the command line, without the program."""
    (line,) = [line for line in unit(**changes) if line.startswith("ExecStart=")]
    return line.partition(" ")[2]


def test_the_app_can_write_where_it_can_in_a_worker() -> None:
    lines = [line for line in unit() if line.startswith("ReadWritePaths=")]
    assert lines == ["ReadWritePaths=-/var/lib/celeryops/shop", "ReadWritePaths=-/var/log/celeryops/shop"]


def test_celerys_scheduler_keeps_its_schedule_in_the_state_directory() -> None:
    assert start() == "--app=shop.celery:app beat --loglevel=INFO --schedule=/var/lib/celeryops/shop/beat/schedule"
    assert "StateDirectory=celeryops/shop/beat" in unit()


def test_what_beat_alone_reads_is_tried_before_its_unit_is_placed() -> None:
    assert planned()["service"]["validate"] == ""
    words = shlex.split(planned(environment={"DJANGO_SETTINGS_MODULE": "shop.settings"})["service"]["validate"])
    assert words[3:7] == [
        "/usr/local/bin/celeryops-run",
        "shop",
        "/usr/bin/env",
        "DJANGO_SETTINGS_MODULE=shop.settings",
    ]
    assert words[-1] == "shop.celery:app"
    assert "symbol_by_name" not in words[-2]
    words = shlex.split(planned(scheduler="shop.beats:Scheduler")["service"]["validate"])
    assert words[3:6] == ["/usr/local/bin/celeryops-run", "shop", "/opt/celeryops/shop/current/bin/python"]
    assert words[-2:] == ["shop.celery:app", "shop.beats:Scheduler"]


@pytest.mark.parametrize(
    ("scheduler", "error"),
    [
        ("celery.beat:PersistentScheduler", ""),
        ("celery.beat.Scheduler", ""),
        ("celery.beats:Scheduler", "No module named 'celery.beats'"),
        ("celery.beat:Schedular", "Schedular"),
    ],
)
def test_a_scheduler_is_found_as_beat_finds_it(tmp_path: Path, scheduler: str, error: str) -> None:
    (tmp_path / "tried.py").write_text("import celery\napp = celery.Celery()\n")
    program = shlex.split(planned(scheduler=scheduler)["service"]["validate"])[-3]
    command = [sys.executable, "-c", program, "tried:app", scheduler]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode == 0, error in run.stderr) == (not error, True)


def test_a_scheduler_of_the_users_has_no_schedule_file() -> None:
    scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
    assert start(scheduler=scheduler, max_interval="30s", log_level="DEBUG") == (
        f"--app=shop.celery:app beat --loglevel=DEBUG --scheduler={scheduler} --max-interval=30"
    )


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "KillMode=mixed",
        "Restart=always",
        "User=shop",
        "TimeoutStopSec=30",
        "PartOf=celery-shop.target",
        "ProtectSystem=strict",
        "EnvironmentFile=/etc/celeryops/shop/celery.env",
    ],
)
def test_what_the_unit_says(line: str) -> None:
    assert line in unit()


def test_a_crash_leaves_nothing_that_prevents_the_next_start() -> None:
    assert "--pidfile" not in start()


def test_absent_is_a_unit_less() -> None:
    result = planned(state="absent")
    assert (result["units"], result["present"]) == ([], False)


def test_the_target_is_the_same_text_from_workers_and_from_beat() -> None:
    worker = {
        "app": "shop",
        "import": "shop.celery:app",
        "user": "shop",
        "group": "shop",
        "default_queue": "default",
        "defaults": {},
        "classes": {},
        "group_classes": {},
        "host_classes": {},
        "log_max_size": "1M",
        "log_keep": 1,
    }
    other = celery_worker.plan({f"celery_worker_{name}": value for name, value in worker.items()}, {})[0]
    assert planned()["target"] == other["target"]


@pytest.mark.parametrize(
    ("changes", "key", "identity"),
    [
        ({"app": "Shop"}, "app", "not-an-app-name"),
        ({"import": "shop.celery:app --broker x"}, "import", "not-an-import-path"),
        ({"user": "root"}, "user", "privileged-account"),
        ({"scheduler": "no such thing"}, "scheduler", "not-an-import-path"),
        ({"max_interval": "often"}, "max_interval", "not-a-duration"),
        ({"stop_timeout": 0}, "stop_timeout", "too-short"),
        ({"start_timeout": "1s"}, "start_timeout", "too-short"),
        ({"environment": {"DB_PASSWORD": "x"}}, "environment.DB_PASSWORD", "looks-like-a-secret"),
        ({"hardening": {"ExecStart": "/bin/sh"}}, "hardening.ExecStart", "set-by-the-role-itself"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], key: str, identity: str) -> None:
    assert told(plan(variables(**changes), {})[1]) == [(identity, f"celery_beat_{key}")]


def test_the_units_of_a_host() -> None:
    always = {"enabled": True, "state": "started"}
    target, beat = planned()["units"]
    assert target == {"name": "celery-shop.target", **always}
    assert {key: beat[key] for key in ("name", "enabled", "state")} == {"name": "celery-shop-beat.service", **always}


@pytest.mark.parametrize(("name", "least"), [("start_timeout", 5), ("stop_timeout", 1)])
def test_a_timeout_may_be_as_short_as_is_said(name: str, least: int) -> None:
    assert planned(**{name: least})["service"][name] == least
    (problem,) = plan(variables(**{name: least - 1}), {})[1]
    assert told([problem]) == [("too-short", f"celery_beat_{name}")]
    assert problem.reason.endswith(f" {least}s")


@pytest.mark.parametrize(
    ("scheduler", "interval", "seconds"),
    [
        ("redbeat.RedBeatScheduler", 0, " --max-interval=5"),
        ("redbeat.RedBeatScheduler", "20s", " --max-interval=20"),
        ("other.Scheduler", 0, ""),
    ],
)
def test_redbeat_renews_its_lock_in_time(scheduler: str, interval: object, seconds: str) -> None:
    assert start(scheduler=scheduler, max_interval=interval).endswith(f"--scheduler={scheduler}{seconds}")


def test_of_an_app_that_is_none_nothing_is_planned() -> None:
    assert plan(variables(app="Shop"), {})[0] == {}
