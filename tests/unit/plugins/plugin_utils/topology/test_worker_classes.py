"""Keys of worker classes: what each may be, and what does not fit together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from problems import told
from worker_plans import ROLE, one, planned, refused

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_keys import KEYS
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_duration


def found(**keys: Any) -> list[tuple[str, str]]:
    """Return the mistakes of a class, by their ids and by what in the class they are about."""
    return [
        (identity, variable.removeprefix("celery_worker_classes.high."))
        for identity, variable in told(refused(classes={"high": keys}))
    ]


@pytest.mark.parametrize(
    ("keys", "key", "identity"),
    [
        ({"concurrncy": 2}, "concurrncy", "unknown-key-of-class"),
        ({"concurrency": "many"}, "concurrency", "not-a-whole-number"),
        ({"concurrency": True}, "concurrency", "not-a-whole-number"),
        ({"pool": "eventlet"}, "pool", "not-a-choice"),
        ({"pool": "gevent"}, "concurrency", "concurrency-missing"),
        ({"pool": "threads", "concurrency": "auto"}, "concurrency", "concurrency-missing"),
        ({"pool": "solo", "concurrency": 2}, "concurrency", "solo-runs-one-task"),
        ({"pool": "threads", "concurrency": 2, "time_limit": "1h"}, "time_limit", "no-effect-in-pool"),
        ({"pool": "gevent", "concurrency": 2, "max_tasks_per_child": 1}, "max_tasks_per_child", "no-effect-in-pool"),
        # What cannot be read has one complaint.
        ({"pool": "solo", "concurrency": "many"}, "concurrency", "not-a-whole-number"),
        ({"pool": "threads", "concurrency": 2, "time_limit": "soon"}, "time_limit", "not-a-duration"),
        ({"time_limit": "5x"}, "time_limit", "not-a-duration"),
        ({"stop_timeout": "-1"}, "stop_timeout", "duration-out-of-range"),
        ({"soft_time_limit": "2h", "time_limit": "1h"}, "soft_time_limit", "limit-never-acts"),
        ({"memory_max": "lots"}, "memory_max", "not-a-size"),
        ({"memory_high": "2G", "memory_max": "1G"}, "memory_high", "limit-never-acts"),
        ({"max_memory_per_child": "1G", "memory_max": "1G"}, "max_memory_per_child", "limit-never-acts"),
        ({"queues": "payments"}, "queues", "not-a-list-of-queues"),
        ({"queues": []}, "queues", "not-a-list-of-queues"),
        ({"queues": ["a,b"]}, "queues", "entry-not-a-queue-name"),
        ({"queues": ["a", "a"]}, "queues", "names-a-queue-twice"),
        ({"log": "syslog"}, "log", "not-a-choice"),
        ({"log_level": "LOUD"}, "log_level", "not-a-choice"),
        ({"log_received": "maybe"}, "log_received", "not-a-boolean"),
        ({"watchdog": 1}, "watchdog", "restarts-busy-workers"),
        ({"watchdog": 9}, "watchdog", "restarts-busy-workers"),
        ({"acknowledgement": "never"}, "acknowledgement", "not-a-choice"),
        ({"state": "gone"}, "state", "not-a-choice"),
        ({"environment": ["A=1"]}, "environment", "not-a-dictionary"),
        ({"environment": {"A B": 1}}, "environment.A B", "not-a-name"),
        ({"environment": {"C_FORCE_ROOT": 1}}, "environment.C_FORCE_ROOT", "lets-celery-run-as-root"),
        ({"environment": {"REMAP_SIGTERM": "SIGQUIT"}}, "environment.REMAP_SIGTERM", "ends-running-tasks"),
        ({"environment": {"PYTHONPATH": "/x"}}, "environment.PYTHONPATH", "belongs-to-the-shared-configuration"),
        ({"writable_paths": ["media"]}, "writable_paths[0]", "not-an-absolute-path"),
        ({"writable_paths": ["/opt/celeryops/shop"]}, "writable_paths[0]", "writable-code"),
        ({"extra_arguments": ["-B"]}, "extra_arguments", "argument-not-allowed"),
        ({"extra_arguments": ["-c8"]}, "extra_arguments", "argument-not-allowed"),
        ({"extra_arguments": ["--pool=solo"]}, "extra_arguments", "argument-not-allowed"),
        ({"extra_arguments": ["--purge"]}, "extra_arguments", "argument-not-allowed"),
        *(
            ({"extra_arguments": value}, "extra_arguments", "not-a-list-of-texts")
            for value in ("-E", {"-E": 1}, ["-E", 1.5], ["-E", ["-E"]], ["-E\n"])
        ),
        ({"hardening": {"KillMode": "process"}}, "hardening.KillMode", "set-by-the-role-itself"),
        ({"hardening": {"User": "root"}}, "hardening.User", "set-by-the-role-itself"),
        ({"hardening": {"StateDirectory": "x"}}, "hardening.StateDirectory", "set-by-the-role-itself"),
        ({"hardening": {"lower": 1}}, "hardening.lower", "not-a-systemd-directive"),
        ({"hardening": {"UMask": "0\nUser=root"}}, "hardening.UMask", "not-a-value"),
        *(({"workers": value}, "workers", "out-of-range") for value in (0, 100)),
        *(({"workers": value}, "workers", "not-a-whole-number") for value in ("three", True, 2.5, [3])),
        *(
            ({"command_prefix": value}, "command_prefix", "not-a-command")
            for value in (["../bin/x"], ["/opt/../x"], ["bin/x"], ["%h"], ["-x"], {"a": "b"})
        ),
        ({"command_prefix": "'open"}, "command_prefix", "quote-that-is-not-closed"),
        ({"command_prefix": ["sudo", "-u", "root"]}, "command_prefix", "runs-as-another-account"),
        ({"command_prefix": ["/usr/bin/setpriv"]}, "command_prefix", "runs-as-another-account"),
        ({"command_prefix": ["wrap", "--token=abc"]}, "command_prefix", "readable-by-everyone"),
        ({"command_prefix": ["wrap", "http://a:b@host/"]}, "command_prefix", "readable-by-everyone"),
    ],
)
def test_a_mistake_in_a_class_is_named(keys: dict[str, Any], key: str, identity: str) -> None:
    assert found(**keys) == [(identity, key)]


@pytest.mark.parametrize(
    ("keys", "instead"),
    [
        ({"concurrncy": 2}, "concurrency (did you mean that?)"),
        ({"concurrency": "many"}, ", or auto"),
        ({"pool": "gevent"}, "50"),
        ({"soft_time_limit": "2h", "time_limit": "1h"}, "1h"),
        ({"memory_high": "2G", "memory_max": "1G"}, "1G"),
        ({"max_memory_per_child": "1G", "memory_max": "1G"}, "1G"),
        ({"watchdog": 9}, "at least 10s"),
        ({"extra_arguments": ["-B"]}, "celery_beat"),
        ({"extra_arguments": ["-c8"]}, "concurrency"),
        ({"extra_arguments": ["--pool=solo"]}, "pool"),
        ({"extra_arguments": ["--purge"]}, "delete all waiting tasks"),
        ({"hardening": {"KillMode": "process"}}, "kills running tasks"),
        ({"hardening": {"User": "root"}}, "user"),
        ({"hardening": {"StateDirectory": "x"}}, "directories"),
        ({"workers": 100}, " 1 to 99"),
    ],
)
def test_a_mistake_in_a_class_says_what_is_meant(keys: dict[str, Any], instead: str) -> None:
    (problem,) = refused(classes={"high": keys})
    assert instead in problem.instead


@pytest.mark.parametrize(
    ("name", "value"),
    [("DB_PASSWORD", "hunter2hunter2"), ("API_KEY", "hunter2"), ("SENTRY_DSN", "x"), ("CACHE", "redis://:hunter2@h/0")],
)
def test_a_secret_in_a_unit_is_refused_and_not_repeated(name: str, value: str) -> None:
    (problem,) = refused(classes={"high": {"environment": {name: value}}})
    assert told([problem]) == [("looks-like-a-secret", f"celery_worker_classes.high.environment.{name}")]
    assert value not in str(problem)


def test_a_secret_in_a_prefix_is_not_repeated() -> None:
    (problem,) = refused(classes={"high": {"command_prefix": ["wrap", "--token=abc"]}})
    assert "abc" not in str(problem)


def test_all_mistakes_of_a_class_come_at_once() -> None:
    keys = {"time_limit": "5x", "concurrency": "many", "pool": "gevent", "nicee": 1, "hardening": {"User": "root"}}
    assert {key for _identity, key in found(**keys)} == {"time_limit", "concurrency", "nicee", "hardening.User"}


# Limits

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
    for value in (least - 1, most + 1):
        (problem,) = refused(classes={"high": {key: value}})
        assert told([problem]) == [("out-of-range", f"celery_worker_classes.high.{key}")]
        assert f" from {least} to {most}" in problem.instead
        assert problem.instead.endswith(", or auto") is (key == "concurrency")


@pytest.mark.parametrize("key", SHORTEST)
def test_a_duration_may_be_as_short_as_is_said(key: str) -> None:
    least = SHORTEST[key]
    one(**{key: least})
    (problem,) = refused(classes={"high": {key: least - 1}})
    assert told([problem]) == [("too-short", f"celery_worker_classes.high.{key}")]
    assert problem.reason.endswith(f" {least}s")


@pytest.mark.parametrize("key", SMALLEST)
def test_a_size_may_be_as_small_as_is_said(key: str) -> None:
    least = SMALLEST[key]
    one(**{key: f"{least}M"})
    (problem,) = refused(classes={"high": {key: least * 1024**2 - 1}})
    assert told([problem]) == [("too-small", f"celery_worker_classes.high.{key}")]
    assert f" {least}M" in problem.reason


@pytest.mark.parametrize("keys", [{"watchdog": 0}, {"watchdog": 10}, {"pool": "solo", "concurrency": 1}])
def test_what_just_fits(keys: dict[str, Any]) -> None:
    one(**keys)


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


def test_a_class_must_not_have_the_name_of_a_worker() -> None:
    classes = {"repeat": {"workers": 2}, "repeat-2": {"queues": ["other"]}}
    assert told(refused(classes=classes)) == [("name-of-a-worker", "celery_worker_classes.repeat-2")]
    assert planned(classes={**classes, "repeat": {"workers": 1}})
    absent = planned(classes={**classes, "repeat": {"workers": 2, "state": "absent"}})
    assert [entry["name"] for entry in absent["classes"]] == ["repeat-2"]
