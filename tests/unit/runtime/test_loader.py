"""The shared configuration wins over whatever an app does: every row of the precedence table, in real processes."""

from __future__ import annotations

import json
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import SecurityError

from celeryops_runtime.loader import PinnedSettings, hush_received, refuse_pickle, refuse_root

from .conftest import APPS, BACKEND, BROKER

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]

ROWS = [
    "plain",
    "constructor",
    "from_object",
    "from_object_forced",
    "conf_update",
    "attributes",
    "read_then_update",
    "after_finalize",
    "defaults",
    "own_receiver",
    "namespace",
    "namespace_late",
    "old_names",
    "old_names_update",
    "subclass",
]


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """Room for what the apps report, made once: an interpreter with Celery takes a third of a second to start."""
    return {}


def report(python: Python, reports: dict[str, Any], row: str) -> dict[str, Any]:
    """What the app of a row has become."""
    if not reports:
        done = python(str(APPS / "precedence_apps.py"), *ROWS)
        reports.update(json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr})
    assert "error" not in reports, reports["error"]
    found: dict[str, Any] = reports[row]
    return found


@pytest.mark.parametrize("row", ROWS)
def test_shared_configuration_wins(python: Python, reports: dict[str, Any], row: str) -> None:
    found = report(python, reports, row)
    assert found["broker"] == BROKER
    assert found["write"] == found["read"] == "broker.invalid"
    assert found["tls"] == [False, False, None]
    assert found["backend"] == BACKEND
    assert found["time_limit"] == found["bracket"] == 777
    assert found["visibility"] == 77
    assert found["acks_late"] == [True, True]
    assert found["accept"] == ["json"]
    assert found["accept_results"] is None
    assert found["queues"] == ["default", "payments"]
    assert found["routed"] == {"shop.pay": "payments", "shop.other": "default"}
    assert found["exchange"] == "tasks:topic"
    assert not {"broker_read_url", "broker_write_url"} & set(found["shown"]), "each would be warned of"


@pytest.mark.parametrize("row", ["constructor", "from_object", "conf_update", "attributes", "namespace", "old_names"])
def test_what_is_not_shared_stays_the_apps(python: Python, reports: dict[str, Any], row: str) -> None:
    assert report(python, reports, row)["prefetch"] == 9


def test_apps_own_loader_is_the_exception(python: Python) -> None:
    # The URLs come from the environment, so they still win; nothing else does.
    found = json.loads(python(str(APPS / "precedence_apps.py"), "own_loader").stdout)["own_loader"]
    assert found["broker"] == BROKER
    assert found["time_limit"] == 5
    assert found["queues"] != ["default", "payments"]


def test_without_the_loader_the_apps_differ(python: Python) -> None:
    # Proves that the table's apps really ask for something else.
    done = python(str(APPS / "precedence_apps.py"), *[r for r in ROWS if r != "plain"], env={"CELERY_LOADER": ""})
    assert done.returncode == 0, done.stderr
    for row, found in json.loads(done.stdout).items():
        assert found["time_limit"] in {5, 6, None}, row
        assert found["queues"] != ["default", "payments"], row


def test_default_app(python: Python) -> None:
    # `celery flower --broker ...` without -A works with the app that Celery makes up.
    done = python("-c", "from celery import current_app as a; print(a.conf.task_time_limit, sorted(a.amqp.queues))")
    assert done.stdout.split(maxsplit=1) == ["777", "['default', 'payments']\n"], done.stderr


def test_two_apps_in_one_process_do_not_share_queues(python: Python) -> None:
    code = (
        "from celery import Celery; a, b = Celery('a'), Celery('b');"
        "print(a.amqp.queues['default'] is b.amqp.queues['default'], a.conf.task_time_limit, b.conf.task_time_limit)"
    )
    assert python("-c", code).stdout.split() == ["False", "777", "777"]


def test_command_line_wins(python: Python) -> None:
    code = (
        "from celery import Celery; a = Celery('a'); {read}"
        "a.config_from_cmdline(['task.time_limit=9', 'task.acks_late=False', '.prefetch_multiplier=3'], 'worker');"
        "a.conf.task_time_limit = 5; a.finalize();"
        "print(a.conf.task_time_limit, a.conf.task_acks_late, a.conf.worker_prefetch_multiplier, sorted(a.amqp.queues))"
    )
    for read in ("", "a.conf.timezone;"):
        done = python("-c", code.format(read=read))
        assert done.stdout == "9.0 False 3 ['default', 'payments']\n", done.stderr


def test_settings_of_one_process(python: Python) -> None:
    # The app is finalized while it is imported: its tasks have copied the setting before a command line is read.
    code = (
        "from celery import Celery; a = Celery('a'); a.conf.task_acks_late = True\n"
        "@a.task(name='t')\ndef t(): pass\n"
        "a.finalize(); before = a.tasks['t'].acks_late\n"
        "a.config_from_cmdline(['task.time_limit=9'], 'worker')\n"
        "print(before, a.conf.task_acks_late, a.conf.task_time_limit, a.conf.worker_prefetch_multiplier)"
    )
    own = {"CELERYOPS_SETTINGS": '{"task_acks_late": false, "task_time_limit": 8, "worker_prefetch_multiplier": 3}'}
    assert python("-c", code, env=own).stdout == "False False 9.0 3\n"
    for wrong, reason in (("{", "is not JSON"), ("[]", "settings is list"), ('{"A": 1}', "settings.A: not a Celery")):
        done = python("-c", code, env={"CELERYOPS_SETTINGS": wrong})
        last = done.stderr.strip().splitlines()[-1]
        assert "CELERYOPS_SETTINGS in the environment" in last
        assert reason in last


def test_worker_with_some_of_the_queues(python: Python) -> None:
    code = (
        "from celery import Celery; a = Celery('a'); a.amqp.queues.select(['payments']);"
        "print(sorted(a.amqp.queues.consume_from), sorted(a.amqp.queues))"
    )
    assert python("-c", code).stdout == "['payments'] ['default', 'payments']\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        ("{", "is not JSON"),
        ('{"format": 99}', "format is 99"),
        ("[]", "the document is list"),
    ],
)
def test_a_bad_file_is_one_clear_error(python: Python, config_file: Path, content: str | None, reason: str) -> None:
    if content is None:
        config_file.unlink()
    else:
        config_file.write_text(content, encoding="utf-8")
    done = python("-c", "from celery import Celery; Celery('a').conf.task_time_limit")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigError" in last
    assert str(config_file) in last
    assert reason in last


def test_missing_variable_is_named(python: Python) -> None:
    done = python("-c", "from celery import Celery; Celery('a').conf.task_time_limit", env={"CELERYOPS_CONFIG": ""})
    assert "CELERYOPS_CONFIG is not set" in done.stderr.strip().splitlines()[-1]


def test_importing_and_creating_an_app_reads_nothing(python: Python, config_file: Path) -> None:
    config_file.unlink()
    code = (
        "import celeryops_runtime, celeryops_runtime.loader, sys; from celery import Celery; a = Celery('a'); a.loader;"
        "from celery.app import base, task; mended = [getattr(base, 'calculate_routing_key', None),"
        "task.Context.as_execution_options]; names = ('__celeryops__', '__celeryops_versions__');"
        "print(*[any(hasattr(one, name) for name in names) for one in mended],"
        "'celeryops_runtime.readiness' in sys.modules, 'celeryops_runtime.topology' in sys.modules)"
    )
    done = python("-c", code)
    assert done.stdout.split() == ["False"] * 4, done.stderr


def test_worker_refuses_root(python: Python) -> None:
    code = "import os; os.getuid = lambda: {uid}; os.geteuid = lambda: {uid}; from celery.__main__ import main; main()"
    for uid, env, reason in ((0, {}, "would run as root"), (1000, {"C_FORCE_ROOT": "1"}, "C_FORCE_ROOT is set")):
        done = python("-c", code.format(uid=uid), "-A", "celery:current_app", "worker", "-P", "solo", env=env)
        assert done.returncode == 1
        assert reason in done.stderr + done.stdout
        assert "Traceback" not in done.stderr


@pytest.fixture
def received() -> Iterator[logging.Logger]:
    found, everything = logging.getLogger("celery.worker.strategy"), logging.getLogger()
    before = found.level, everything.level
    found.setLevel(logging.NOTSET)
    yield found
    found.setLevel(before[0])
    everything.setLevel(before[1])


@pytest.mark.parametrize(
    ("level", "environ", "logged"),
    [
        (logging.INFO, {}, False),
        (logging.INFO, {"CELERYOPS_LOG_RECEIVED": "1"}, True),
        (logging.DEBUG, {}, True),
        (logging.WARNING, {}, False),
    ],
)
def test_the_line_of_each_message_is_for_those_who_want_it(
    received: logging.Logger, level: int, environ: dict[str, str], logged: bool
) -> None:
    logging.getLogger().setLevel(level)
    hush_received(environ)
    assert received.isEnabledFor(logging.INFO) is logged


def test_a_level_that_the_app_has_given_stays(received: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger().setLevel(logging.INFO)
    received.setLevel(logging.INFO)
    hush_received({})
    assert received.isEnabledFor(logging.INFO)
    received.setLevel(logging.NOTSET)
    monkeypatch.setenv("CELERYOPS_LOG_RECEIVED", "1")
    hush_received()
    assert received.isEnabledFor(logging.INFO)


def test_refuse_root_by_each_id() -> None:
    refuse_root((1000, 1000), {"C_FORCE_ROOT": ""})
    for uids in ((0, 1000), (1000, 0)):
        with pytest.raises(SecurityError, match="as root"):
            refuse_root(uids, {})
    with pytest.raises(SecurityError, match="C_FORCE_ROOT"):
        refuse_root((1000, 1000), {"C_FORCE_ROOT": "0"})


def test_refuse_pickle() -> None:
    refuse_pickle(["json", "msgpack"], ["json"])
    refuse_pickle(["json", "pickle"], ["json", "application/x-python-serialize"])
    for accepted in (["pickle"], ["json", "application/x-python-serialize"]):
        with pytest.raises(SecurityError, match="would accept pickle"):
            refuse_pickle(accepted, ["json"])


@pytest.mark.parametrize("name", ["accept_content", "result_accept_content"])
def test_worker_refuses_pickle(python: Python, name: str) -> None:
    start = "import os; os.getuid = os.geteuid = lambda: 1000; from celery.__main__ import main; main()"
    settings = json.dumps({name: ["json", "pickle"]})
    done = python("-c", start, "-A", "celery:current_app", "worker", "-P", "solo", env={"CELERYOPS_SETTINGS": settings})
    assert done.returncode == 1
    assert "refusing to start: this process would accept pickle" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_pinned_settings() -> None:
    pinned = PinnedSettings({"a": 1, "A": 2, "free": 3}, {"a": 10}, {"a", "A"})
    assert pinned == {"a": 10, "free": 3}
    pinned["a"] = pinned["A"] = 5
    pinned.update({"a": 5}, A=5, other=1)
    pinned |= {"a": 5}
    del pinned["a"]
    assert pinned.setdefault("a", 5) == pinned.pop("a", 5) == 10
    assert pinned.setdefault("new", 7) == 7
    assert pinned == {"a": 10, "free": 3, "other": 1, "new": 7}
    assert pinned.pop("free") == 3
    assert pinned.popitem() == ("new", 7)
    pinned.clear()
    assert pinned == {"a": 10}
    with pytest.raises(KeyError):
        pinned.popitem()
    assert pickle.loads(pickle.dumps(pinned)).__class__ is dict  # noqa: S301 (made one line above)


def test_a_producer_imports_nothing_that_protects_a_worker(python: Python) -> None:
    code = """
import sys, celery
app = celery.Celery("shop")
app.conf.task_time_limit
print(*{"celeryops_runtime." + name for name in ("malformed", "outage", "quiet", "publish")} & {*sys.modules})
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["celeryops_runtime.publish"]


def test_where_an_app_sends_its_events_is_noted(python: Python) -> None:
    code = (
        "import celery; from celeryops_runtime import publish; app = celery.Celery('shop');"
        "app.conf.event_exchange = 'own'; app.conf.task_acks_late; app.finalize();"
        "print(sorted(publish._events))"
    )
    done = python("-c", code)
    assert done.stdout == "['celeryev', 'own']\n", done.stderr
