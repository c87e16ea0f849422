"""The plan of the role celery_worker: commands and units of the classes, and what is refused beside these."""

from __future__ import annotations

import functools
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from problems import told
from worker_plans import ROLE, command, one, planned, refused, unit, variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_worker import plan

# Commands


def test_a_class_without_keys_consumes_the_default_queue_with_all_processors() -> None:
    (entry,) = planned(default_queue="work", classes={"default": None})["classes"]
    assert entry["command"] == (
        "/opt/celeryops/shop/current/bin/celery --app=shop.celery:app worker --hostname=default@%%h --queues=work "
        "--pool=prefork --concurrency=auto --loglevel=INFO --without-gossip"
    )
    assert (entry["drain_seconds"], entry["stop_timeout"]) == (300, 330)
    assert (entry["watchdog"], entry["log_file"]) == (60, "")


def test_every_key_reaches_the_command_line_in_celerys_units() -> None:
    line = command(
        queues=["payments", "mails"],
        concurrency=4,
        prefetch_multiplier=2,
        time_limit="1h",
        soft_time_limit="55m",
        max_tasks_per_child=40,
        max_memory_per_child="200M",
        log="file",
        log_level="debug",
        extra_arguments=["--without-mingle"],
        acknowledgement="early",
    )
    assert line.split()[7:] == [
        "--hostname=high@%%h",
        "--queues=payments,mails",
        "--pool=prefork",
        "--concurrency=4",
        "--loglevel=DEBUG",
        "--without-gossip",
        "--prefetch-multiplier=2",
        "--time-limit=3600",
        "--soft-time-limit=3300",
        "--max-tasks-per-child=40",
        "--max-memory-per-child=204800",
        "--logfile=/var/log/celeryops/shop/high.log",
        "--without-mingle",
    ]


def test_late_acknowledgement_gives_a_killed_task_back() -> None:
    late, early = command(acknowledgement="late"), command(acknowledgement="early")
    assert r'"CELERYOPS_SETTINGS={\"task_acks_late\": true, \"task_reject_on_worker_lost\": true}" /opt/' in late
    assert early.startswith(r'/usr/bin/env "CELERYOPS_SETTINGS={\"task_acks_late\": false}" /opt/')
    assert command().startswith("/opt/")


def test_a_line_for_each_message_is_logged_where_it_is_wanted() -> None:
    for wanted in (True, "yes", 1):
        assert command(log_received=wanted).startswith("/usr/bin/env CELERYOPS_LOG_RECEIVED=1 /opt/")
    for unwanted in (False, "no"):
        assert command(log_received=unwanted).startswith("/opt/")


def test_a_class_that_says_how_much_it_takes_in_advance_has_exactly_that() -> None:
    assert command(prefetch_multiplier=2).startswith("/usr/bin/env CELERYOPS_PREFETCH=fixed /opt/")
    assert "CELERYOPS_PREFETCH" not in command()


def test_pools_other_than_prefork() -> None:
    assert "--pool=gevent --concurrency=50" in command(pool="gevent", concurrency=50)
    assert "--pool=threads --concurrency=8" in command(pool="threads", concurrency="8")
    assert "--pool=solo --concurrency=1" in command(pool="solo")


@pytest.mark.parametrize(
    ("said", "begins"),
    [
        (["ddtrace-run"], "/opt/celeryops/shop/current/bin/ddtrace-run "),
        ("ddtrace-run", "/opt/celeryops/shop/current/bin/ddtrace-run "),
        (
            "opentelemetry-instrument --traces_exporter 'a b'",
            "/opt/celeryops/shop/current/bin/opentelemetry-instrument ",
        ),
        (["/usr/bin/nice", "-n", 5], "/usr/bin/nice -n 5 "),
        ([], ""),
        (None, ""),
    ],
)
def test_a_worker_is_started_through_its_prefix(said: Any, begins: str) -> None:
    command = one(command_prefix=said)["command"]
    assert command.startswith(f"{begins}" if begins else "/opt/celeryops/shop/current/bin/celery ")
    assert " /opt/celeryops/shop/current/bin/celery --app=shop.celery:app worker " in f" {command}"


def test_a_prefix_sees_the_environment_of_the_class() -> None:
    command = one(command_prefix=["ddtrace-run"], environment={"DD_ENV": "test"})["command"]
    prefix = "/opt/celeryops/shop/current/bin/ddtrace-run"
    assert command.startswith(f"/usr/bin/env DD_ENV=test {prefix} /opt/celeryops/shop/current/bin/celery ")


# Units


def test_resources_reach_the_unit() -> None:
    lines = unit(
        nice=5, cpu_weight=400, io_weight=50, memory_high="512M", memory_max="1G", tasks_max=100, stop_timeout="75m"
    )
    wanted = ["Nice=5", "CPUWeight=400", "IOWeight=50", "MemoryHigh=536870912", "MemoryMax=1073741824", "TasksMax=100"]
    assert [line for line in lines if line in wanted] == wanted
    assert {"Environment=CELERYOPS_STOP_TIMEOUT=4500", "TimeoutStopSec=4530"} <= set(lines)
    assert [line for line in unit() if line.startswith(("Nice", "CPU", "IO", "Memory", "Tasks"))] == [
        "MemoryDenyWriteExecute=yes"
    ]


def test_what_every_unit_says() -> None:
    lines = unit()
    assert "role celery_worker" in lines[0]
    assert {
        "Type=notify",
        "NotifyAccess=main",
        "KillMode=mixed",
        "KillSignal=SIGTERM",
        "OOMPolicy=continue",
        "Restart=always",
        "WatchdogSec=60",
        "User=shop",
        "Group=shop",
        "EnvironmentFile=/etc/celeryops/shop/celery.env",
        "AssertPathExists=/etc/celeryops/shop/celery.env",
        "PartOf=celery-shop.target",
        "WantedBy=celery-shop.target",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "ReadWritePaths=-/var/lib/celeryops/shop",
        "ReadWritePaths=-/var/log/celeryops/shop",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
    } <= set(lines)


def test_the_environment_of_a_class_wins_over_the_apps_and_is_quoted_for_systemd() -> None:
    line = command(environment={"FLAVOUR": '50% "sweet" $x', "COUNT": 3})
    assert line.startswith(r'/usr/bin/env "FLAVOUR=50%% \"sweet\" $$x" COUNT=3 /opt/celeryops/shop/current/bin/celery')


def test_the_environment_of_a_class_is_tried_before_its_unit_is_placed() -> None:
    classes = {"high": {"environment": {"MODE": "a b'c", "DJANGO_SETTINGS_MODULE": "shop.settings"}}, "low": {}}
    high, low = planned(classes=classes)["classes"]
    words = shlex.split(high["validate"])
    assert words[:3] == ["sh", "-c", '[ ! -x "$0" ] || exec "$0" "$@"']
    assert words[3:7] == ["/usr/local/bin/celeryops-run", "shop", "/usr/bin/env", "MODE=a b'c"]
    assert words[-1] == "shop.celery:app"
    assert low["validate"] == ""


def test_what_a_worker_is_started_through_and_its_pool_are_tried(tmp_path: Path) -> None:
    wrapper = tmp_path / "wrapper"
    classes = {"own": {"command_prefix": [str(wrapper), "-x"]}, "pool": {"pool": "gevent", "concurrency": 9}}
    own, pool = (shlex.split(entry["validate"]) for entry in planned(classes=classes)["classes"])
    assert own[3:6] == ["/usr/local/bin/celeryops-run", "shop", "/opt/celeryops/shop/current/bin/python"]
    assert own[-2:] == ["shop.celery:app", str(wrapper)]
    assert pool[-2].endswith("; import gevent")
    # The programs themselves, with an app that can be imported anywhere.
    own[-2] = "proj:app"
    (tmp_path / "proj.py").write_text("from celery import Celery\napp = Celery('x')\n")
    words = [sys.executable, *own[6:]]
    run = functools.partial(subprocess.run, words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"{wrapper} is no program on this host" in run().stderr
    wrapper.write_text("#!/bin/sh\n")
    wrapper.chmod(0o755)
    assert run().returncode == 0


def test_a_program_of_the_release_is_looked_for_there() -> None:
    (entry,) = planned(classes={"own": {"command_prefix": "ddtrace-run"}})["classes"]
    assert shlex.split(entry["validate"])[-1] == "/opt/celeryops/shop/current/bin/ddtrace-run"


def test_the_environment_of_several_workers_is_tried_once() -> None:
    classes = planned(classes={"high": {"workers": 3, "environment": {"A": "1"}}, "low": {"environment": {"A": "2"}}})[
        "classes"
    ]
    assert [bool(entry["validate"]) for entry in classes] == [True, False, False, True]


def test_directives_of_the_sandbox_can_be_changed_removed_and_repeated() -> None:
    lines = unit(
        hardening={
            "MemoryDenyWriteExecute": False,
            "ProtectHome": None,
            "RestrictAddressFamilies": "AF_UNIX",
            "InaccessiblePaths": ["/srv/a", "-/srv/b"],
        },
        writable_paths=["/srv/media"],
    )
    assert "MemoryDenyWriteExecute=no" in lines
    assert "MemoryDenyWriteExecute=yes" not in lines
    assert [line for line in lines if line.startswith("ProtectHome")] == []
    assert [line for line in lines if line.startswith("RestrictAddressFamilies")] == ["RestrictAddressFamilies=AF_UNIX"]
    closed = [line for line in lines if line.startswith("InaccessiblePaths")]
    assert closed == ["InaccessiblePaths=/srv/a", "InaccessiblePaths=-/srv/b"]
    assert "ReadWritePaths=-/srv/media" in lines


def test_only_what_a_worker_reads_restarts_it() -> None:
    target, worker = planned()["units"]
    assert "restart_on" not in target
    assert worker["restart_on"] == [
        "/etc/celeryops/shop/celery.json",
        "/etc/celeryops/shop/celery.env",
        "/opt/celeryops/shop/runtime/celeryops_runtime",
    ]
    assert worker["runs_from"] == "/opt/celeryops/shop/current"


def test_a_class_changes_nothing_about_another() -> None:
    before = planned(classes={"a": {}, "b": {"nice": 1}})["classes"][0]
    after = planned(classes={"a": {}, "b": {"nice": 2}, "c": {}})["classes"][0]
    assert before == after


def test_logs_are_rotated_by_renaming_as_the_apps_user() -> None:
    rotation = planned(classes={"a": {"log": "file"}, "b": {}, "c": {"log": "file"}}, log_keep=3)["rotation"]
    text = render(ROLE / "templates" / "logrotate.j2", rotation)
    assert "/var/log/celeryops/shop/a.log\n/var/log/celeryops/shop/c.log\n{" in text
    assert "b.log" not in text
    for line in ("su shop shop", "rotate 3", "maxsize 104857600", "nocreate", "missingok", "delaycompress"):
        assert f"    {line}\n" in text
    assert "    copytruncate" not in text


def test_what_a_running_worker_is_compared_with() -> None:
    said = {
        "queues": ["x"],
        "concurrency": 3,
        "prefetch_multiplier": 2,
        "time_limit": "1h",
        "soft_time_limit": "50m",
        "max_tasks_per_child": 40,
        "max_memory_per_child": "512M",
        "acknowledgement": "early",
    }
    assert planned(classes={"a": {}, "b": said, "gone": {"state": "absent"}})["promises"] == [
        {
            "name": "a",
            "unit": "celery-shop-a.service",
            "report": "/run/celeryops/shop/a/worker.json",
            "queues": ["default"],
            "pool": "prefork",
            "concurrency": "auto",
        },
        {
            "name": "b",
            "unit": "celery-shop-b.service",
            "report": "/run/celeryops/shop/b/worker.json",
            "queues": ["x"],
            "pool": "prefork",
            "concurrency": "3",
            "prefetch_multiplier": 2,
            "time_limit": 3600,
            "soft_time_limit": 3000,
            "max_tasks_per_child": 40,
            "max_memory_per_child": 512 * 1024,
            "acks_late": False,
        },
    ]


def test_the_units_of_a_host() -> None:
    always = {"enabled": True, "state": "started"}
    target, worker = planned()["units"]
    assert target == {"name": "celery-shop.target", **always}
    assert {key: worker[key] for key in ("name", "enabled", "state")} == {
        "name": "celery-shop-default.service",
        **always,
    }


def test_what_is_no_size_rotates_at_none() -> None:
    assert plan(variables(log_max_size="big"), {})[0]["rotation"]["max_size"] == 0


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        (600, 630),
        ("600", 630),
        (599.9, 629),
        (270, 300),
        (None, 300),
        (0, 300),
        ("1h", 300),
        (float("inf"), 300),
        ([], 300),
    ],
)
def test_a_stop_waits_for_the_time_limit_of_the_app(limit: Any, seconds: int) -> None:
    (entry,) = planned(default_time_limit=limit)["classes"]
    assert entry["drain_seconds"] == seconds


@pytest.mark.parametrize(
    ("app", "keys", "number"),
    [
        ("", {"time_limit": "1h"}, None),
        ("", {"time_limit": 3601}, 1),
        (None, {"time_limit": 3601}, 1),
        ("", {"time_limit": 3601, "prefetch_multiplier": 3}, 3),
        # It was said of the app, 0 too, which is without end.
        (8, {"time_limit": 3601}, None),
        (0, {"time_limit": 3601}, None),
        ("", {}, None),
    ],
)
def test_long_tasks_are_not_taken_in_advance(app: Any, keys: dict[str, Any], number: int | None) -> None:
    plan = planned(default_prefetch_multiplier=app, classes={"high": keys, "default": {}})
    option = f"--prefetch-multiplier={number} "
    assert (option in plan["classes"][0]["command"]) is (number is not None)
    assert plan["promises"][0].get("prefetch_multiplier") == number
    # The others' units are what they were.
    assert plan["classes"][1] == planned(classes={"default": {}})["classes"][0]


def test_a_class_connects_again_when_its_tasks_may_take_longer() -> None:
    def unit_of(longest: Any, **keys: Any) -> str:
        (entry,) = planned(longest_task=longest, classes={"high": keys})["classes"]
        return render(ROLE / "templates" / "worker.service.j2", {"app": "shop", **entry})

    assert "\n# Its tasks may take 21600 s." in unit_of("6h")
    assert unit_of("6h") != unit_of("12h")
    # What it says itself is on its command line; what nobody says, or cannot be read, is nothing.
    assert unit_of("6h", time_limit="1h") == unit_of("", time_limit="1h")
    assert unit_of("") == unit_of(None) == unit_of("soon")


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [
        ({"time_limit": "1h"}, 3630),
        ({"time_limit": "4m"}, 300),
        ({"time_limit": "1h", "stop_timeout": "1m"}, 60),
    ],
)
def test_a_stop_waits_for_the_time_limit_of_the_class(keys: dict[str, Any], seconds: int) -> None:
    (entry,) = planned(default_time_limit=600, classes={"high": keys})["classes"]
    assert entry["drain_seconds"] == seconds


def test_a_class_of_three_workers_has_three_units_that_differ_in_their_names_only() -> None:
    result = planned(classes={"repeat": {"workers": 3, "log": "file", "memory_max": "1G"}})
    units = [entry["unit"] for entry in result["classes"]]
    assert units == ["celery-shop-repeat.service", "celery-shop-repeat-2.service", "celery-shop-repeat-3.service"]
    assert [entry["name"] for entry in result["units"]] == ["celery-shop.target", *units]
    assert [promise["unit"] for promise in result["promises"]] == units
    assert [entry["unit"] for entry in result["running"]] == units
    first, *others = result["classes"]
    for number, other in enumerate(others, start=2):
        assert f"--hostname=repeat-{number}@" in other["command"]
        as_first = {
            key: value.replace(f"repeat-{number}", "repeat") if isinstance(value, str) else value
            for key, value in other.items()
        }
        assert as_first == first
    logs = [f"/var/log/celeryops/shop/{name}.log" for name in ("repeat", "repeat-2", "repeat-3")]
    assert result["rotation"]["files"] == logs


def test_a_class_that_grows_leaves_the_units_that_were_there_as_they_are() -> None:
    before, after = (planned(classes={"repeat": {"workers": number}}) for number in (1, 3))
    assert after["classes"][:1] == before["classes"]
    assert after["units"][:2] == before["units"]


def test_a_class_restarts_for_the_files_of_the_app_that_it_reads() -> None:
    files = [{"path": "all.conf"}, {"path": "/etc/acme/one", "restarts": ["high"]}]
    plan = planned(files=files, classes={"high": {"workers": 2}, "bulk": {}})
    reads = {unit["name"]: unit.get("restart_on", []) for unit in plan["units"]}
    everybodys = "/etc/celeryops/shop/files/all.conf"
    assert [name for name, paths in reads.items() if everybodys in paths] == [
        "celery-shop-high.service", "celery-shop-high-2.service", "celery-shop-bulk.service",
    ]  # fmt: skip
    assert [name for name, paths in reads.items() if "/etc/acme/one" in paths] == [
        "celery-shop-high.service", "celery-shop-high-2.service",
    ]  # fmt: skip


# What is refused beside the classes


@pytest.mark.parametrize(
    ("changes", "key", "identity"),
    [
        ({"app": "my-shop"}, "app", "not-an-app-name"),
        ({"app": "Shop"}, "app", "not-an-app-name"),
        ({"import": "shop/celery"}, "import", "not-an-import-path"),
        ({"user": "root"}, "user", "privileged-account"),
        ({"group": "root"}, "group", "privileged-account"),
        ({"user": "Shop User"}, "user", "not-an-account-name"),
        ({"default_queue": "a b"}, "default_queue", "cannot-be-the-name"),
        ({"log_max_size": "big"}, "log_max_size", "not-a-size"),
        ({"log_max_size": 0}, "log_max_size", "zero-size"),
        ({"log_keep": -1}, "log_keep", "out-of-range"),
        ({"log_keep": 3651}, "log_keep", "out-of-range"),
        ({"host_memory": "plenty"}, "host_memory", "not-a-size"),
        ({"host_cores": -1}, "host_cores", "negative"),
        ({"defaults": {"state": "absent"}}, "defaults.state", "unknown-key-of-class"),
    ],
)
def test_a_mistake_in_another_variable_is_named(changes: dict[str, Any], key: str, identity: str) -> None:
    assert told(refused(**changes)) == [(identity, f"celery_worker_{key}")]


@pytest.mark.parametrize(("memory", "cores"), [("16G", 8), (0, 0)])
def test_a_machine_may_be_spoken_of(memory: Any, cores: int) -> None:
    planned(host_memory=memory, host_cores=cores)


@pytest.mark.parametrize("keep", [0, 3650])
def test_old_log_files_are_kept_as_many_as_is_said(keep: int) -> None:
    assert planned(log_keep=keep)["rotation"]["keep"] == keep


@pytest.mark.parametrize(
    ("facts", "wrong"),
    [
        ({"os_family": "RedHat", "distribution": "Rocky", "service_mgr": "systemd"}, 1),
        ({"os_family": "Debian", "distribution": "Debian", "service_mgr": "openrc"}, 1),
        ({"os_family": "Debian", "distribution": "Debian", "service_mgr": "systemd"}, 0),
        ({"distribution": "Debian", "distribution_major_version": "11", "service_mgr": "systemd"}, 1),
        ({"distribution": "Debian", "distribution_major_version": "12", "service_mgr": "systemd"}, 0),
        ({}, 0),
    ],
)
def test_a_host_that_cannot_carry_the_units_is_refused(facts: dict[str, Any], wrong: int) -> None:
    assert len(plan(variables(), facts)[1]) == wrong
