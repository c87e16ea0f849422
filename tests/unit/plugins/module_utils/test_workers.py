"""What running workers say of themselves against what is planned; and routes to tasks that nobody has."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.workers import (
    Shared,
    ask,
    differences,
    message,
    no_answer,
    read_report,
    shared,
    tasks,
)
from ansible_collections.celeryops.stack.plugins.modules.facts import answers_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.rollout.route_check import unregistered

WANTED: dict[str, Any] = {
    "name": "bulk",
    "unit": "celery-shop-bulk.service",
    "queues": ["reports", "feeds"],
    "pool": "prefork",
    "concurrency": "2",
    "time_limit": 3600,
    "max_tasks_per_child": 40,
}
SETTINGS = {"worker_prefetch_multiplier": 3, "task_acks_late": True, "task_soft_time_limit": None}
REPORT: dict[str, Any] = {
    "format": 1,
    "pid": 7,
    "phase": "consuming",
    "interval": 10.0,
    "queues": ["feeds", "reports"],
    "pool": "prefork",
    "concurrency": 2,
    "prefetch": 6,
    "prefetch_multiplier": 3,
    "time_limit": 3600.0,
    "soft_time_limit": None,
    "max_tasks_per_child": 40,
    "max_memory_per_child": 5000,
    "acks_late": True,
    "configuration": "abc",
    "tasks": ["shop.b", "shop.a"],
}


def compared(wanted: dict[str, Any] | None = None, report: dict[str, Any] | None = None) -> list[tuple[str, Any, Any]]:
    found = differences({**WANTED, **(wanted or {})}, {**REPORT, **(report or {})}, SETTINGS, "abc")
    return [(one.what, one.wanted, one.found) for one in found]


def test_a_worker_that_does_what_is_planned() -> None:
    assert compared() == []


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ({"queues": ["feeds"]}, [("queues", ["feeds", "reports"], ["feeds"])]),
        ({"queues": []}, [("queues", ["feeds", "reports"], [])]),
        ({"concurrency": 3, "prefetch": 9}, [("concurrency", 2, 3)]),
        ({"prefetch_multiplier": 4, "prefetch": 8}, [("prefetch_multiplier", 3, 4)]),
        # ETA tasks wait in the worker.
        ({"prefetch": 60}, []),
        ({"time_limit": None}, [("time_limit", 3600, None)]),
        ({"max_tasks_per_child": 41}, [("max_tasks_per_child", 40, 41)]),
        ({"acks_late": False}, [("acks_late", True, False)]),
        ({"configuration": "abd"}, [("configuration", "abc", "abd")]),
        # Nobody says anything about it, so it is the app's own matter.
        ({"max_memory_per_child": 1}, []),
        ({"soft_time_limit": 5}, []),
    ],
)
def test_each_difference_is_found(report: dict[str, Any], found: list[tuple[str, Any, Any]]) -> None:
    assert compared(report=report) == found


@pytest.mark.parametrize(
    ("wanted", "report", "found"),
    [
        ({"acks_late": False}, {}, [("acks_late", False, True)]),
        ({"prefetch_multiplier": 3}, {}, []),
        ({"soft_time_limit": 30}, {"soft_time_limit": 30}, []),
        ({"soft_time_limit": 30}, {}, [("soft_time_limit", 30, None)]),
        ({"max_memory_per_child": 5001}, {}, [("max_memory_per_child", 5001, 5000)]),
        ({"concurrency": "auto"}, {"concurrency": 9, "prefetch": 27}, []),
        # Threads have no limits: what the shared configuration says for the others is not theirs.
        ({"pool": "threads"}, {"pool": "threads", "time_limit": None, "max_tasks_per_child": None}, []),
    ],
)
def test_the_class_decides_before_the_shared_configuration(
    wanted: dict[str, Any], report: dict[str, Any], found: list[tuple[str, Any, Any]]
) -> None:
    assert compared(wanted, report) == found


@pytest.mark.parametrize(
    ("report", "pid", "age", "why"),
    [
        ({}, 7, 0.0, ""),
        ({}, 7, 24.0, ""),
        ({}, 7, 26.0, "its last sign of life is 26 seconds old"),
        ({}, 0, 0.0, "it does not run"),
        ({}, 8, 0.0, "its report is of process 7, and process 8 runs"),
        ({"phase": "offline"}, 7, 0.0, "it has no connection to the broker"),
        ({"phase": "leaving"}, 7, 0.0, "it is stopping"),
        ({"phase": "starting"}, 7, 0.0, "it does not consume yet"),
        ({"format": 2}, 7, 0.0, "its report has format 2, not 1: it runs an older version of the runtime"),
        ({"interval": None}, 7, 26.0, "its last sign of life is 26 seconds old"),
    ],
)
def test_only_the_process_that_runs_now_answers(report: dict[str, Any], pid: int, age: float, why: str) -> None:
    assert no_answer({**REPORT, **report}, pid, age) == why


def test_no_file_is_no_answer() -> None:
    assert no_answer(None, 7, 0.0) == "it has not written its report"


def test_one_message_lists_everything() -> None:
    found = differences(WANTED, {**REPORT, "queues": [], "acks_late": False}, SETTINGS, "other")
    text = message("shop", {"celery-shop-high.service": "it does not run"}, found)
    assert text.splitlines()[:2] == [
        "the running workers of shop are not what is planned:",
        "  - celery-shop-high.service does not answer: it does not run; see journalctl --unit=celery-shop-high.service",
    ]
    assert (
        "  - bulk: consumes nothing, planned is feeds, reports; run systemctl restart celery-shop-bulk.service" in text
    )
    assert "bulk: its acknowledgement is early, planned is late" in text
    assert "its version of the shared configuration is abc, planned is other" in text
    assert message("shop", {}, []) == ""


def test_tasks_of_all_workers() -> None:
    assert tasks([REPORT, {"tasks": ["shop.c", "shop.a"]}, {"tasks": None}]) == ["shop.a", "shop.b", "shop.c"]


def test_a_report_is_a_plain_file(tmp_path: Path) -> None:
    path, target = tmp_path / "worker.json", tmp_path / "target"
    assert read_report(str(path)) == (None, 0.0)
    target.write_text(json.dumps(REPORT))
    path.symlink_to(target)
    assert read_report(str(path)) == (None, 0.0), "a link leads out of the directory"
    path.unlink()
    os.mkfifo(path)
    assert read_report(str(path)) == (None, 0.0), "a pipe would be waited for"
    path.unlink()
    target.rename(path)
    os.utime(path, (5.0, 5.0))
    assert read_report(str(path)) == (REPORT, 5.0)
    for text in ("", "{", "[]"):
        path.write_text(text)
        assert read_report(str(path))[0] is None


def answer(**other: Any) -> dict[str, Any]:
    of_app = {"app": "shop", "elsewhere": []}
    tasks = ["shop.mails.send", "shop.pay"]
    return {**of_app, "tasks": tasks, "routes": ["shop.mails.*", "shop.pay"], "complete": True, **other}


def test_routes_that_workers_can_serve() -> None:
    assert unregistered([answer()], 1, limited=False) == []


def test_a_misspelt_route_is_told_once_with_what_was_meant() -> None:
    wrong = answer(routes=["shop.mail.*", "shop.mails.sent"])
    [pattern, exact] = unregistered([wrong, wrong], 2, limited=False)
    assert pattern.startswith("celery_app_routes: 'shop.mail.*' is a pattern that no task of a worker matches; write ")
    assert exact == (
        "celery_app_routes: 'shop.mails.sent' is a task that no worker has; write shop.mails.send (did you mean that?)"
        "; list it in celery_worker_tasks_elsewhere if workers outside of this inventory run it"
    )


def test_a_route_that_is_served_hides_no_other() -> None:
    assert len(unregistered([answer(routes=["shop.pay", "old.thing", "shop.mails.*"])], 1, limited=False)) == 1


def test_one_hosts_worker_is_enough() -> None:
    assert unregistered([answer(tasks=["shop.pay"]), answer(tasks=["shop.mails.x"])], 2, limited=False) == []


@pytest.mark.parametrize("elsewhere", ["old.thing", "old.*", "*"])
def test_tasks_of_other_workers_can_be_named(elsewhere: str) -> None:
    assert unregistered([answer(routes=["old.thing"], elsewhere=[elsewhere])], 1, limited=False) == []


@pytest.mark.parametrize(
    ("answers", "hosts", "limited"),
    [([answer()], 2, False), ([answer()], 1, True), ([answer(complete=False)], 1, False)],
)
def test_a_part_of_the_workers_cannot_tell_for_all(answers: list[dict[str, Any]], hosts: int, limited: bool) -> None:
    answers = [{**one, "routes": ["old.thing"]} for one in answers]
    [text] = unregistered(answers, hosts, limited=limited)
    assert text.endswith(f"(not every worker was asked: 1 of {hosts} hosts)")


def test_each_app_has_tasks_and_others_of_its_own() -> None:
    ours = answer(routes=["shop.pay", "crm.sync", "old.thing"], elsewhere=["old.*"])
    theirs = answer(app="crm", tasks=["crm.sync"], routes=["crm.sync", "old.thing", "shop.pay"])
    found = unregistered([ours, theirs], 2, limited=False)
    assert [(text.split("'")[1], text[-10:]) for text in found] == [
        ("crm.sync", "(app shop)"),
        ("old.thing", " (app crm)"),
        ("shop.pay", " (app crm)"),
    ]


def test_before_the_first_run_there_is_nobody_to_ask() -> None:
    assert unregistered([answer(tasks=[], complete=False)], 1, limited=False) == []


def test_a_report_is_two_mebibytes_at_most(tmp_path: Path) -> None:
    path = tmp_path / "worker.json"
    for length, fits in ((2 * 1024**2, True), (2 * 1024**2 + 1, False)):
        path.write_text(json.dumps({"a": "x" * (length - 9)}))
        assert path.stat().st_size == length
        os.utime(path, (5.0, 5.0))
        report, when = read_report(str(path))
        assert (report is not None, when) == (fits, 5.0 if fits else 0.0)


@pytest.mark.parametrize(("age", "told"), [(24.9, False), (25.0, False), (25.1, True)])
def test_a_worker_may_miss_one_sign_of_life(age: float, told: bool) -> None:
    assert bool(no_answer(REPORT, 7, age)) is told


def test_a_difference_says_what_to_do_about_it() -> None:
    report = {**REPORT, "configuration": "0123456789abcdef", "time_limit": None, "pool": "x" * 70}
    settings = {"task_soft_time_limit": None}
    found = {one.what: str(one) for one in differences(WANTED, report, settings, "fedcba9876543210")}
    again = "run systemctl restart celery-shop-bulk.service"
    assert found == {
        "configuration": (
            "bulk: its version of the shared configuration is 0123456789ab, planned is fedcba987654; "
            f"{again}, it started with an older file"
        ),
        "pool": (
            f"bulk: its pool is {'x' * 60}, planned is prefork; {again}, somebody may have changed it while it runs "
            "(celery control); if that does not help, the app's code or extra_arguments set it: remove that"
        ),
    }
    (limit,) = differences(WANTED, {**REPORT, "time_limit": None}, {}, "")
    assert "its time limit in seconds is none, planned is 3600; " in str(limit)
    (unknown,) = differences(WANTED, {**REPORT, "configuration": None}, {}, "abc")
    assert "its version of the shared configuration is unknown, planned is abc; " in str(unknown)


def test_the_routes_are_read_where_the_app_has_them(tmp_path: Path) -> None:
    """They have a file of their own, which is no part of what a worker was started with."""
    settings, queues = tmp_path / "celery.json", tmp_path / "queues.json"
    assert shared(str(settings), str(queues)) == Shared({}, "", [])
    settings.write_text(json.dumps({"settings": {"task_acks_late": True}}))
    queues.write_text(json.dumps({"routes": [{"task": "shop.mails.*", "queue": "mails"}]}))
    digest = hashlib.sha256(settings.read_bytes()).hexdigest()
    assert shared(str(settings), str(queues)) == Shared({"task_acks_late": True}, digest, ["shop.mails.*"])
    queues.write_text(json.dumps({"routes": "from-app"}))
    assert shared(str(settings), str(queues)).routes == []
    queues.write_text("{")
    with pytest.raises(ValueError, match=re.escape(str(queues))):
        shared(str(settings), str(queues))


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """What the module is asked for, and a worker that reports what is planned."""
    (tmp_path / "celery.json").write_text(json.dumps({"settings": SETTINGS}))
    (tmp_path / "queues.json").write_text(json.dumps({"routes": [{"task": "shop.mails.*", "queue": "mails"}]}))
    digest = hashlib.sha256((tmp_path / "celery.json").read_bytes()).hexdigest()
    (tmp_path / "worker.json").write_text(json.dumps({**REPORT, "configuration": digest}))
    worker = {**WANTED, "report": str(tmp_path / "worker.json")}
    return {"workers": [worker], "settings": str(tmp_path / "celery.json"), "queues": str(tmp_path / "queues.json")}


def status(pid: int) -> dict[str, Any]:
    return {WANTED["unit"]: SimpleNamespace(pid=pid)}


def test_the_facts_have_the_answers_of_workers_that_do_as_planned(given: dict[str, Any]) -> None:
    assert answers_of(given, status(REPORT["pid"])) == {
        "answered": ["bulk"],
        "tasks": sorted(REPORT["tasks"]),
        "routes": ["shop.mails.*"],
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given["workers"][0].update(time_limit=60),
        lambda given: Path(given["workers"][0]["report"]).unlink(),
        lambda given: Path(given["settings"]).write_text("{}"),
        lambda given: Path(given["settings"]).write_text("{"),
        lambda given: os.utime(given["workers"][0]["report"], (0, 0)),
    ],
    ids=["differs", "no report", "other settings", "no settings", "an old report"],
)
def test_whoever_has_to_be_waited_for_or_told_of_is_asked(
    given: dict[str, Any], change: Callable[[dict[str, Any]], Any]
) -> None:
    change(given)
    assert answers_of(given, status(REPORT["pid"])) is None


def test_a_worker_that_was_started_again_is_asked(given: dict[str, Any]) -> None:
    assert answers_of(given, status(8)) is None
    assert answers_of(given, status(0)) is None


def test_a_difference_in_an_old_report_may_have_been_put_right(given: dict[str, Any]) -> None:
    told = shared(given["settings"], given["queues"])
    wanted = [{**given["workers"][0], "time_limit": 60}]
    pids = {WANTED["unit"]: REPORT["pid"]}
    now = Path(given["workers"][0]["report"]).stat().st_mtime
    assert [ask(wanted, pids, told, started).outdated for started in (now - 1, now + 1)] == [False, True]
