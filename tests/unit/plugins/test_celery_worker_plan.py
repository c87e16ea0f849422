"""The plan of the role celery_worker: how classes merge, what is refused, and the unit that comes of it."""

from __future__ import annotations

import functools
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_worker import plan, read
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_keys import KEYS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import Layer, merge
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import (
    DURATION_HELP,
    SIZE_HELP,
    parse_duration,
)

ROLE = Path(__file__).resolve().parents[3] / "roles" / "celery_worker"


def variables(**changes: Any) -> dict[str, Any]:
    """Return the role's defaults with ``changes``."""
    values: dict[str, Any] = {
        "app": "shop",
        "import": "shop.celery:app",
        "user": "shop",
        "group": "shop",
        "default_queue": "default",
        "defaults": {},
        "classes": {"default": {}},
        "group_classes": {},
        "host_classes": {},
        "log_max_size": "100M",
        "log_keep": 14,
    }
    return {f"celery_worker_{name}": value for name, value in {**values, **changes}.items()}


def planned(**changes: Any) -> dict[str, Any]:
    """Return the plan for ``changes``, which must have no mistakes."""
    result, problems = plan(variables(**changes), {})
    assert [str(problem) for problem in problems] == []
    return result


def refused(**changes: Any) -> list[Problem]:
    """Return the mistakes in ``changes``."""
    problems = plan(variables(**changes), {})[1]
    assert problems != []
    return problems


def one(**keys: Any) -> dict[str, Any]:
    """Return the plan of a single class with ``keys``."""
    classes: list[dict[str, Any]] = planned(classes={"high": keys})["classes"]
    assert len(classes) == 1
    return classes[0]


def unit(**keys: Any) -> list[str]:
    """Return the lines of the unit of a single class."""
    return render(ROLE / "templates" / "worker.service.j2", {"app": "shop", **one(**keys)}).splitlines()


def command(**keys: Any) -> str:
    """Return the command line of a single class."""
    return str(one(**keys)["command"])


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


def test_of_a_class_with_a_bad_name_or_an_idle_key_all_else_can_be_read() -> None:
    """What is worked out from it is right, so what is wrong there as well is told (consequences.py)."""
    for classes in ({"High": {}}, {"high": {"pool": "threads", "concurrency": 2, "time_limit": "1h"}}):
        _plan, problems = plan(variables(classes=classes), {})
        assert [problem.readable for problem in problems] == [True]
    _plan, problems = plan(variables(classes={"high": {"time_limit": "soon"}}), {})
    assert [problem.readable for problem in problems] == [False]


def test_a_line_for_each_message_is_logged_where_it_is_wanted() -> None:
    for wanted in (True, "yes", 1):
        assert command(log_received=wanted).startswith("/usr/bin/env CELERYOPS_LOG_RECEIVED=1 /opt/")
    for unwanted in (False, "no"):
        assert command(log_received=unwanted).startswith("/opt/")


def test_a_class_that_says_how_much_it_takes_in_advance_has_exactly_that() -> None:
    assert command(prefetch_multiplier=2).startswith("/usr/bin/env CELERYOPS_PREFETCH=fixed /opt/")
    assert "CELERYOPS_PREFETCH" not in command()


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


@pytest.mark.parametrize(
    "line",
    [
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
    ],
)
def test_what_every_unit_says(line: str) -> None:
    assert line in unit()


def test_the_unit_can_be_found_again_by_its_first_line() -> None:
    assert "role celery_worker" in unit()[0]


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


def test_layers_override_key_by_key_and_the_nearest_wins() -> None:
    result = planned(
        defaults={"stop_timeout": "1m", "nice": 1, "environment": {"A": "all", "B": "all"}},
        classes={"high": {"concurrency": 1, "queues": ["a", "b"], "environment": {"B": "class", "C": "class"}}},
        group_classes={"high": {"concurrency": 2, "queues": ["c"], "environment": {"C": "group"}}},
        host_classes={"high": {"concurrency": 3, "nice": None}, "extra": {"queues": ["x"]}},
    )
    high, extra = result["classes"]
    assert (high["name"], extra["name"]) == ("high", "extra")
    assert "--concurrency=3" in high["command"]
    assert "--queues=c " in high["command"]
    assert high["command"].startswith("/usr/bin/env A=all B=class C=group /opt/")
    assert high["resources"] == {}
    assert extra["resources"] == {"Nice": 1}
    assert (high["drain_seconds"], extra["drain_seconds"]) == (60, 60)


def test_an_absent_class_has_no_unit() -> None:
    result = planned(classes={"high": {}, "low": {}}, host_classes={"low": {"state": "absent"}})
    assert [entry["name"] for entry in result["classes"]] == ["high"]
    assert [entry["name"] for entry in result["units"]] == ["celery-shop.target", "celery-shop-high.service"]


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


def test_pools_other_than_prefork() -> None:
    assert "--pool=gevent --concurrency=50" in command(pool="gevent", concurrency=50)
    assert "--pool=threads --concurrency=8" in command(pool="threads", concurrency="8")
    assert "--pool=solo --concurrency=1" in command(pool="solo")


def test_what_has_no_effect_in_a_pool_is_dropped_when_it_is_a_default_for_all() -> None:
    result = planned(
        defaults={"max_tasks_per_child": 1000, "concurrency": 4},
        classes={"io": {"pool": "threads"}, "one": {"pool": "solo"}, "cpu": {}},
    )
    lines = {entry["name"]: entry["command"] for entry in result["classes"]}
    assert "--max-tasks-per-child" not in lines["io"]
    assert "--concurrency=1 " in lines["one"]
    assert "--max-tasks-per-child=1000" in lines["cpu"]


@pytest.mark.parametrize(
    ("keys", "key", "reason", "instead"),
    [
        ({"concurrncy": 2}, "concurrncy", "is not a key", "concurrency (did you mean that?)"),
        ({"concurrency": "many"}, "concurrency", "is not a whole number", "or auto"),
        ({"concurrency": 0}, "concurrency", "is out of range", "from 1"),
        ({"concurrency": True}, "concurrency", "is not a whole number", "or auto"),
        ({"pool": "eventlet"}, "pool", "is not one of its values", "gevent"),
        ({"pool": "gevent"}, "concurrency", "how many tasks", "50"),
        ({"pool": "threads", "concurrency": "auto"}, "concurrency", "how many tasks", "50"),
        ({"pool": "solo", "concurrency": 2}, "concurrency", "one task at a time", "1"),
        ({"pool": "threads", "concurrency": 2, "time_limit": "1h"}, "time_limit", "has no effect", "prefork"),
        ({"pool": "gevent", "concurrency": 2, "max_tasks_per_child": 1}, "max_tasks_per_child", "no effect", "prefork"),
        ({"time_limit": "5x"}, "time_limit", "is not a duration", "90s"),
        ({"time_limit": 0}, "time_limit", "is shorter than 1s", "90s"),
        ({"stop_timeout": "-1"}, "stop_timeout", "is not between", "90s"),
        ({"soft_time_limit": "2h", "time_limit": "1h"}, "soft_time_limit", "never acts", "1h"),
        ({"memory_max": "lots"}, "memory_max", "is not a size", "512M"),
        ({"memory_max": "1M"}, "memory_max", "too little", "512M"),
        ({"memory_high": "2G", "memory_max": "1G"}, "memory_high", "never acts", "1G"),
        ({"max_memory_per_child": "1G", "memory_max": "1G"}, "max_memory_per_child", "never acts", "1G"),
        ({"queues": "payments"}, "queues", "is not a list", "[payments, mails]"),
        ({"queues": []}, "queues", "is not a list", "[payments, mails]"),
        ({"queues": ["a,b"]}, "queues", "cannot be the name", "letters"),
        ({"queues": ["a", "a"]}, "queues", "twice", "once"),
        ({"nice": 20}, "nice", "out of range", "-20 to 19"),
        ({"cpu_weight": 0}, "cpu_weight", "out of range", "1 to 10000"),
        ({"log": "syslog"}, "log", "is not one of its values", "journal"),
        ({"log_level": "LOUD"}, "log_level", "is not one of its values", "INFO"),
        ({"log_received": "maybe"}, "log_received", "is neither true nor false", "true or false"),
        ({"watchdog": "3s"}, "watchdog", "restarts busy workers", "10s"),
        ({"acknowledgement": "never"}, "acknowledgement", "is not one of its values", "late"),
        ({"state": "gone"}, "state", "is not one of its values", "absent"),
        ({"environment": ["A=1"]}, "environment", "is not a dictionary", "value"),
        ({"environment": {"A B": 1}}, "environment.A B", "is not a name", "letters"),
        ({"environment": {"C_FORCE_ROOT": 1}}, "environment.C_FORCE_ROOT", "root", "nothing"),
        (
            {"environment": {"REMAP_SIGTERM": "SIGQUIT"}},
            "environment.REMAP_SIGTERM",
            "without the time",
            "stop_timeout",
        ),
        ({"environment": {"PYTHONPATH": "/x"}}, "environment.PYTHONPATH", "shared configuration", "celery_app"),
        ({"writable_paths": ["media"]}, "writable_paths[0]", "is not an absolute path", "/srv/media"),
        ({"writable_paths": ["/opt/celeryops/shop"]}, "writable_paths[0]", "holds code", "data only"),
        ({"extra_arguments": ["-B"]}, "extra_arguments", "set by the role", "celery_beat"),
        ({"extra_arguments": ["-c8"]}, "extra_arguments", "set by the role", "concurrency"),
        ({"extra_arguments": ["--pool=solo"]}, "extra_arguments", "set by the role", "pool"),
        ({"extra_arguments": ["--purge"]}, "extra_arguments", "set by the role", "delete all waiting tasks"),
        ({"hardening": {"KillMode": "process"}}, "hardening.KillMode", "set by the role", "kills running tasks"),
        ({"hardening": {"User": "root"}}, "hardening.User", "set by the role", "user"),
        ({"hardening": {"StateDirectory": "x"}}, "hardening.StateDirectory", "set by the role", "directories"),
        ({"hardening": {"lower": 1}}, "hardening.lower", "is not a systemd directive", "MemoryDenyWriteExecute"),
        ({"hardening": {"UMask": "0\nUser=root"}}, "hardening.UMask", "is not a value", "text"),
    ],
)
def test_a_mistake_in_a_class_is_named(keys: dict[str, Any], key: str, reason: str, instead: str) -> None:
    (problem,) = refused(classes={"high": keys})
    assert problem.variable == f"celery_worker_classes.high.{key}"
    assert reason in problem.reason
    assert instead in problem.instead


@pytest.mark.parametrize(
    ("name", "value"),
    [("DB_PASSWORD", "hunter2hunter2"), ("API_KEY", "hunter2"), ("SENTRY_DSN", "x"), ("CACHE", "redis://:hunter2@h/0")],
)
def test_a_secret_in_a_unit_is_refused_and_not_repeated(name: str, value: str) -> None:
    (problem,) = refused(classes={"high": {"environment": {name: value}}})
    assert "celery_app_environment" in problem.instead
    assert value not in str(problem)


@pytest.mark.parametrize("name", ["beat", "flower", "High", "1st", "a_b", "a" * 32, "a-", 7])
def test_a_name_that_cannot_be_a_class(name: Any) -> None:
    (problem,) = refused(classes={name: {}})
    assert problem.variable == f"celery_worker_classes.{name}"


@pytest.mark.parametrize("name", ["Bulk_1", "beat", 7])
def test_a_class_is_read_whatever_its_name_is(name: Any) -> None:
    where = f"celery_worker_classes.{name}"
    found = refused(classes={name: {"time_limit": "soon", "concurency": 4}}, group_classes={name: {"nice": 99}})
    assert sorted(problem.variable for problem in found) == sorted(
        [
            where,
            f"{where}.time_limit",
            f"{where}.concurency",
            *(f"celery_worker_group_classes.{name}{key}" for key in ("", ".nice")),
        ]
    )


def test_the_queues_of_a_class_that_is_none_are_not_known() -> None:
    classes, _problems = merge({}, [Layer("celery_worker_classes", {"high": "payments"})])
    assert classes["high"].unread_queues is True
    classes, _problems = merge({}, [Layer("celery_worker_classes", {"Bulk_1": {"queues": ["bulk"]}})])
    assert classes["Bulk_1"].unread_queues is False


def test_all_mistakes_of_a_class_come_at_once() -> None:
    keys = {"time_limit": "5x", "concurrency": "many", "pool": "gevent", "nicee": 1, "hardening": {"User": "root"}}
    assert {problem.variable.rpartition(".high.")[2] for problem in refused(classes={"high": keys})} == {
        "time_limit",
        "concurrency",
        "nicee",
        "hardening.User",
    }


def test_a_mistake_names_the_layer_that_it_is_in() -> None:
    found = refused(
        defaults={"nice": 99},
        classes={"high": {"time_limit": "1h"}},
        group_classes={"high": {"cpu_weight": -1}},
        host_classes={"high": {"time_limit": "x"}, "low": 7},
    )
    assert {problem.variable for problem in found} == {
        "celery_worker_defaults.nice",
        "celery_worker_group_classes.high.cpu_weight",
        "celery_worker_host_classes.high.time_limit",
        "celery_worker_host_classes.low",
    }


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"app": "my-shop"}, "celery_worker_app"),
        ({"import": "shop/celery"}, "celery_worker_import"),
        ({"user": "root"}, "celery_worker_user"),
        ({"group": "root"}, "celery_worker_group"),
        ({"user": "Shop User"}, "celery_worker_user"),
        ({"default_queue": "a b"}, "celery_worker_default_queue"),
        ({"log_max_size": "big"}, "celery_worker_log_max_size"),
        ({"log_keep": -1}, "celery_worker_log_keep"),
        ({"defaults": {"state": "absent"}}, "celery_worker_defaults.state"),
    ],
)
def test_a_mistake_in_another_variable_is_named(changes: dict[str, Any], variable: str) -> None:
    (problem,) = refused(**changes)
    assert problem.variable == variable


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


def test_the_specs_describe_every_key_and_its_default() -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]["celery_worker_defaults"]["options"]
    assert set(options) == set(KEYS) - {"state"}
    for name, option in options.items():
        key = KEYS[name]
        documented = option.get("default")
        assert (parse_duration(documented) if key.kind == "duration" and documented else documented) == key.default, (
            name
        )
        assert tuple(option.get("choices", ())) == key.choices, name


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


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"app": "Shop"},
            Problem(
                "test",
                "celery_worker_app",
                "Shop",
                "is not an app name",
                "a lower-case letter, then at most 24 of a-z, 0-9 and _",
            ),
        ),
        (
            {"host_memory": "plenty"},
            Problem("test", "celery_worker_host_memory", "plenty", "is not a size", SIZE_HELP),
        ),
        (
            {"host_cores": -1},
            Problem("test", "celery_worker_host_cores", -1, "must not be negative", "a number such as 4"),
        ),
        (
            {"log_max_size": 0},
            Problem("test", "celery_worker_log_max_size", 0, "is nothing", SIZE_HELP),
        ),
        (
            {"log_keep": 3651},
            Problem("test", "celery_worker_log_keep", 3651, "is out of range", "how many old files to keep, 0 to 3650"),
        ),
    ],
)
def test_a_mistake_in_a_variable_says_what_to_write(changes: dict[str, Any], problem: Problem) -> None:
    assert refused(**changes) == [problem]


def test_a_machine_may_be_spoken_of() -> None:
    planned(host_memory="16G", host_cores=8)
    planned(host_memory=0, host_cores=0)


@pytest.mark.parametrize("keep", [0, 3650])
def test_old_log_files_are_kept_as_many_as_is_said(keep: int) -> None:
    assert planned(log_keep=keep)["rotation"]["keep"] == keep


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


#: key -> the smallest and the largest number that may be written.
RANGES = {
    "concurrency": (1, 100_000),
    "prefetch_multiplier": (1, 10_000),
    "max_tasks_per_child": (1, 2_147_483_647),
    "nice": (-20, 19),
    "cpu_weight": (1, 10_000),
    "io_weight": (1, 10_000),
    "tasks_max": (4, 4_194_304),
}
#: key -> the shortest duration in seconds, the smallest size in MiB.
SHORTEST = {"time_limit": 1, "soft_time_limit": 1, "start_timeout": 5, "stop_timeout": 1}
SMALLEST = {"max_memory_per_child": 8, "memory_high": 32, "memory_max": 32}


@pytest.mark.parametrize("key", RANGES)
def test_a_number_may_be_as_small_and_as_large_as_is_said(key: str) -> None:
    least, most = RANGES[key]
    one(**{key: least})
    one(**{key: most})
    instead = f"a whole number from {least} to {most}" + (", or auto" if key == "concurrency" else "")
    for value in (least - 1, most + 1):
        expected = Problem("test", f"celery_worker_classes.high.{key}", value, "is out of range", instead)
        assert refused(classes={"high": {key: value}}) == [expected]


@pytest.mark.parametrize("key", SHORTEST)
def test_a_duration_may_be_as_short_as_is_said(key: str) -> None:
    least = SHORTEST[key]
    one(**{key: least})
    expected = Problem(
        "test", f"celery_worker_classes.high.{key}", least - 1, f"is shorter than {least}s", DURATION_HELP
    )
    assert refused(classes={"high": {key: least - 1}}) == [expected]


@pytest.mark.parametrize("key", SMALLEST)
def test_a_size_may_be_as_small_as_is_said(key: str) -> None:
    least = SMALLEST[key]
    one(**{key: f"{least}M"})
    reason = f"is less than {least}M, too little to work in"
    expected = Problem("test", f"celery_worker_classes.high.{key}", least * 1024**2 - 1, reason, SIZE_HELP)
    assert refused(classes={"high": {key: least * 1024**2 - 1}}) == [expected]


@pytest.mark.parametrize(("seconds", "fits"), [(0, True), (1, False), (9, False), (10, True)])
def test_a_watchdog_leaves_time_to_be_busy(seconds: int, fits: bool) -> None:
    instead = "at least 10s, or 0 to turn the watchdog off"
    expected = Problem("test", "celery_worker_classes.high.watchdog", seconds, "restarts busy workers", instead)
    assert plan(variables(classes={"high": {"watchdog": seconds}}), {})[1] == ([] if fits else [expected])


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


@pytest.mark.parametrize("layer", ["group_classes", "host_classes"])
def test_to_take_away_a_class_that_is_not_there_is_a_slip(layer: str) -> None:
    expected = Problem(
        "test",
        f"celery_worker_{layer}.hgih.state",
        "absent",
        "removes a class that does not exist",
        "high (did you mean that?)",
    )
    assert refused(classes={"high": {}}, **{layer: {"hgih": {"state": "absent"}}}) == [expected]
    planned(classes={"high": {}, "low": {"state": "absent"}}, **{layer: {"high": {"state": "absent"}}})


@pytest.mark.parametrize(("name", "whose"), [("flower", "flower"), ("beat", "celery_beat")])
def test_the_name_of_another_roles_unit_is_told(name: str, whose: str) -> None:
    (problem,) = refused(classes={name: {}})
    assert problem.reason == f"is the name of the role {whose}'s unit"


def test_a_class_is_taken_away_where_it_is_not_by_default() -> None:
    (problem,) = refused(classes={"high": {"stat": "absent"}})
    assert problem.instead == "state (did you mean that?)"
    (problem,) = refused(defaults={"stat": "absent"})
    assert problem.instead.startswith("one of acknowledgement, ")
    assert "state" not in problem.instead


@pytest.mark.parametrize(
    ("keys", "queues", "known"),
    [
        ({"queues": ["a"]}, ["a"], True),
        ({"queues": ["a", "b c", "a"]}, ["a"], False),
        ({"queues": "payments, mails"}, ["payments", "mails"], False),
        ({"queues": "no name"}, ["default"], False),
        ({"quues": ["a"]}, ["default"], False),
        ({"quues": ["a"], "nicee": 1}, ["default"], False),
        ({"nicee": 1}, ["default"], True),
    ],
)
def test_what_is_known_of_queues_that_cannot_be_read(keys: dict[str, Any], queues: list[str], known: bool) -> None:
    high = read(variables(classes={"high": keys}))[0]["high"]
    assert ([*high.queues], high.queues_known) == (queues, known)


def test_one_mistake_hides_no_other() -> None:
    found = refused(classes={"Bad": {}, "low": 7, "high": {"nicee": 1, "io_weight": 0, "queues": ["a,b", "c d"]}})
    assert [problem.variable.removeprefix("celery_worker_classes.") for problem in found] == [
        "Bad",
        "low",
        "high.nicee",
        "high.queues",
        "high.io_weight",
    ]
    assert found[3].reason == "holds 'a,b', which cannot be the name of a queue"


def test_what_cannot_be_read_has_one_complaint() -> None:
    for keys in (
        {"pool": "solo", "concurrency": "many"},
        {"pool": "threads", "concurrency": 2, "time_limit": "soon"},
    ):
        (problem,) = refused(classes={"high": keys})
        assert problem.reason.startswith("is not a")
    one(pool="solo", concurrency=1)


def test_a_null_takes_back_one_key_and_no_other() -> None:
    (entry,) = planned(classes={"high": {"nice": 5}}, host_classes={"high": {"nice": None, "cpu_weight": 7}})["classes"]
    assert entry["resources"] == {"CPUWeight": 7}


@pytest.mark.parametrize("value", ["-E", {"-E": 1}, ["-E", 1.5], ["-E", ["-E"]], ["-E\n"]])
def test_what_is_no_list_of_texts(value: Any) -> None:
    expected = Problem(
        "test",
        "celery_worker_classes.high.extra_arguments",
        value,
        "is not a list of texts",
        "a list such as [one, two]",
    )
    assert refused(classes={"high": {"extra_arguments": value}}) == [expected]


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


@pytest.mark.parametrize("said", [0, 100, "three", True, 2.5, [3]])
def test_what_is_no_number_of_workers(said: Any) -> None:
    problems = refused(classes={"repeat": {"workers": said}})
    assert [(problem.variable, problem.instead) for problem in problems] == [
        ("celery_worker_classes.repeat.workers", "a whole number from 1 to 99")
    ]


def test_a_class_must_not_have_the_name_of_a_worker() -> None:
    classes = {"repeat": {"workers": 2}, "repeat-2": {"queues": ["other"]}}
    assert [(problem.variable, problem.reason, problem.instead) for problem in refused(classes=classes)] == [
        ("celery_worker_classes.repeat-2", "is the name of a worker of class repeat, which has 2", "another name")
    ]
    assert planned(classes={**classes, "repeat": {"workers": 1}})
    absent = planned(classes={**classes, "repeat": {"workers": 2, "state": "absent"}})
    assert [entry["name"] for entry in absent["classes"]] == ["repeat-2"]


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


def test_a_class_takes_the_prefix_of_all_classes_back() -> None:
    result = planned(defaults={"command_prefix": "ddtrace-run"}, classes={"high": {"command_prefix": None}, "bulk": {}})
    assert ["ddtrace-run" in entry["command"] for entry in result["classes"]] == [False, True]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["../bin/x"], "is not a command"),
        (["/opt/../x"], "is not a command"),
        (["bin/x"], "is not a command"),
        (["%h"], "is not a command"),
        (["-x"], "is not a command"),
        ("'open", "has a quote that is not closed"),
        ({"a": "b"}, "is not a command"),
        (["sudo", "-u", "root"], "would run the worker as another account, or with other rights"),
        (["/usr/bin/setpriv"], "would run the worker as another account, or with other rights"),
        (["wrap", "--token=abc"], "would be readable by everyone on the host"),
        (["wrap", "http://a:b@host/"], "would be readable by everyone on the host"),
    ],
)
def test_what_is_no_prefix(said: Any, reason: str) -> None:
    problems = refused(classes={"high": {"command_prefix": said}})
    assert [(problem.variable, problem.reason) for problem in problems] == [
        ("celery_worker_classes.high.command_prefix", reason)
    ]
    assert "abc" not in str(problems[0])


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
