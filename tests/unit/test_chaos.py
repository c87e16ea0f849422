"""The chaos scenario's accounting: what counts as lost, as run twice, as begun again, and to which fault it belongs."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from tools.chaos import faults, whole
from tools.chaos import ledger as ledgers
from tools.chaos import report as reports
from tools.chaos import scenario as scenarios
from tools.chaos.ledger import Ledger
from tools.chaos.report import Row, Strike, Window, attribute, broken, recovery, rows

#: Two faults, the second 100 s after the first, each striking once, 2 s after it began.
WINDOWS = (
    Window("restart", True, 100.0, 130.0, (Strike(102.0, 102.0),)),
    Window("kill", False, 200.0, 230.0, (Strike(202.0, 202.0, {"swift": 1}),)),
)
CLASSES = {"swift": "late", "fleeting": "early"}
APP = Path(__file__).resolve().parents[1] / "chaos" / "app" / "src"


@pytest.fixture(scope="module")
def tasks() -> Iterator[ModuleType]:
    """Import the scenario's app once: Celery keeps a list of shared tasks, which a second import would fill again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(APP)
        for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_LOADER"):
            patch.delenv(name, raising=False)
        module = importlib.import_module("chaos_app.tasks")
        yield module
        module.app.close()


def ledger(*lines: str) -> Ledger:
    """Read a ledger from lines without the class and the process: both are the same wherever they do not matter."""
    found = Ledger()
    for line in lines:
        clock, event, task, *rest = line.split()
        kind, pid, group = (*rest, *("short", "7", "swift")[len(rest) :])
        found.add(f"{clock} {event} {task} {group} {kind} {pid}")
    return found


def task(*lines: str) -> ledgers.Task:
    (only,) = ledger(*lines).tasks.values()
    return only


def test_a_task_that_ran_once() -> None:
    one = task("1.0 sending a", "1.1 sent a", "1.2 start a", "1.3 finish a")
    assert (one.lost, one.extra, one.again, one.finished) == (False, 0, 0, 1.3)


def test_a_confirmed_task_that_never_finished_is_lost() -> None:
    assert task("1.0 sending a", "1.1 sent a").lost
    assert task("1.0 sending a", "1.1 sent a", "1.2 start a").lost


def test_a_task_that_was_never_confirmed_is_not_lost() -> None:
    assert not task("1.0 sending a", "1.1 unsure a").lost


@pytest.mark.parametrize(
    "second",
    [("1.4 start a short 8", "1.5 finish a short 8"), ("1.4 start a short 8",)],
    ids=["finished too", "was killed"],
)
def test_a_run_after_one_that_finished_is_one_too_many(second: tuple[str, ...]) -> None:
    one = task("1.0 sending a", "1.1 sent a", "1.2 start a", "1.3 finish a", *second)
    assert (one.extra, one.again) == (1, 0)


def test_a_run_beside_one_that_finished_later_is_one_too_many() -> None:
    one = task("1.1 sent a", "1.2 start a", "1.25 start a short 8", "1.3 finish a", "1.4 finish a short 8")
    assert (one.extra, one.again, one.finished) == (1, 0, 1.3)


def test_a_run_after_one_that_was_ended_is_no_second_one() -> None:
    one = task("1.1 sent a", "1.2 start a", "9.0 start a short 8", "9.1 finish a short 8")
    assert (one.extra, one.again, one.lost) == (0, 1, False)


def test_the_same_process_can_run_a_task_again() -> None:
    one = task("1.1 sent a", "1.2 start a", "1.3 finish a", "1.4 start a", "1.5 finish a")
    assert [run.finish for run in one.runs] == [1.3, 1.5]
    assert one.extra == 1


def test_what_is_no_line_of_a_ledger_is_refused() -> None:
    with pytest.raises(ValueError, match="no event"):
        ledger("1.0 vanished a")
    with pytest.raises(KeyError):
        ledger("1.0 finish a")


def test_what_runs_is_known_with_its_process() -> None:
    found = ledger("1.0 start a long 3", "2.0 start b long 4", "3.0 finish a long 3", "4.0 start c short 5")
    assert [run.pid for _task, run in found.running("swift", ["long"])] == [4]


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        pytest.param(("150 sending a", "150 sent a", "150 start a", "151 finish a"), "restart", id="in quiet times"),
        pytest.param(
            ("199 sending a", "199 sent a", "201 start a", "201 finish a"), "kill", id="waiting when it began"
        ),
        pytest.param(
            ("193 sending a long", "193 sent a long", "194 start a long", "204 finish a long"),
            "kill",
            id="running when it began",
        ),
        pytest.param(("196 sending a", "196 sent a"), "kill", id="lost in the queue"),
        pytest.param(("110 sending a", "110 sent a"), "restart", id="lost long before"),
        pytest.param(
            ("110 sending a long", "110 sent a long", "195 start a long"), "kill", id="lost when it began again"
        ),
        pytest.param(
            ("197 sending a long", "197 sent a long", "197 start a long", "199 start a long 8", "209 finish a long 8"),
            "restart",
            id="begun again before it began",
        ),
        pytest.param(
            ("120 sending a", "120 sent a", "210 start a", "210 finish a"), "restart", id="back after a long time"
        ),
        pytest.param(
            ("120 sending a", "120 sent a", "201 start a", "201 finish a", "203 start a", "203 finish a"),
            "kill",
            id="run twice after a long time",
        ),
    ],
)
def test_a_task_belongs_to_one_fault(lines: tuple[str, ...], fault: str) -> None:
    found = attribute(ledger(*lines).tasks.values(), WINDOWS)
    assert {name: len(tasks) for name, tasks in found.items() if tasks} == {fault: 1}


def test_what_was_over_before_the_first_fault_is_nobodys() -> None:
    found = attribute(ledger("10 sending a", "10 sent a", "11 start a", "11 finish a").tasks.values(), WINDOWS)
    assert not any(found.values())


def test_recovery_is_until_something_sent_afterwards_is_done() -> None:
    tasks = ledger(
        "101 sending a", "101 sent a", "105 start a", "105.5 finish a", "103 sending b", "109 start b", "110 finish b"
    ).tasks.values()
    assert recovery(tasks, [Strike(102.0, 102.0)]) == 8.0
    assert recovery(tasks, [Strike(102.0, 102.0), Strike(90.0, 90.0)]) == 15.5
    assert recovery(tasks, [Strike(101.0, 103.0)]) == 9.0
    assert recovery(tasks, [Strike(104.0, 104.0)]) is None


def test_the_rows() -> None:
    found = ledger(
        # Cut off, and a second time in full; it is short, so that the restart had to wait for it.
        *("101 sending a", "101 sent a", "101 start a", "103 start a short 8", "103 finish a short 8"),
        # As long as a stop does not wait.
        *("101 sending b long", "101 sent b long", "101 start b long", "108 start b long 8", "118 finish b long 8"),
        # Lost early.
        *("101 sending c long 9 fleeting", "101 sent c long 9 fleeting", "102 start c long 9 fleeting"),
        # Run twice.
        *("201 sending d", "201 sent d", "201.5 start d", "201.6 finish d", "206 start d", "206 finish d"),
        # Twice because it was sent twice.
        *("201 sending e", "202 unsure e", "203 sent e", "204 start e", "204 finish e", "205 start e", "205 finish e"),
    )
    report = {(row.fault, row.group): row for row in rows(found, WINDOWS, "broker", CLASSES, 6.0)}
    assert report["restart", "swift"] == Row(
        "broker", "restart", True, "swift", "late", 2, 2, 0, 0, 2, 1, 0, 0.0, 99.6, 0
    )
    early = report["restart", "fleeting"]
    assert (early.sent, early.finished, early.lost, early.recovery_s) == (1, 0, 1, None)
    kill = report["kill", "swift"]
    assert (kill.sent, kill.duplicated, kill.sent_twice, kill.in_flight, kill.longest_wait_s) == (2, 1, 1, 1, 3.0)
    assert kill.as_json()["class"] == "swift"


GOOD = Row("RabbitMQ", "kill", False, "swift", "late", 9, 9, 0, 0, 0, 0, 0, 0.1, 1.0, 2)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"lost": 1}, False),
        ({"lost": 1, "acknowledgement": "early"}, True),
        ({"duplicated": 2}, True),
        ({"duplicated": 3}, False),
        ({"duplicated": 1, "planned": True}, False),
        ({"again": 5, "planned": True}, True),
        ({"cut": 1, "planned": True}, False),
        ({"cut": 1, "planned": True, "acknowledgement": "early"}, True),
        ({"sent_twice": 4}, True),
        ({"recovery_s": None}, False),
        ({"recovery_s": 5.0, "within": 5.0}, True),
        ({"recovery_s": 5.1, "within": 5.0}, False),
    ],
)
def test_a_broken_promise_is_told(change: dict[str, object], *, kept: bool) -> None:
    said = broken([dataclasses.replace(GOOD, **change)], redis_broker=False)
    assert bool(said) is not kept
    assert all("RabbitMQ, kill, class swift" in line for line in said)


@pytest.mark.parametrize(("planned", "kept"), [(False, True), (True, False)])
def test_redis_may_lose_at_a_fault_and_not_at_a_planned_operation(*, planned: bool, kept: bool) -> None:
    said = broken([dataclasses.replace(GOOD, lost=1, planned=planned)], redis_broker=True)
    assert bool(said) is not kept


def test_a_window_survives_its_file() -> None:
    assert [Window.load(dataclasses.asdict(window)) for window in WINDOWS] == list(WINDOWS)


def test_the_table_has_a_line_for_each_class_of_each_fault() -> None:
    report = rows(ledger(), WINDOWS, "broker", CLASSES, 6.0)
    assert reports.table(report, "title").row_count == len(WINDOWS) * len(CLASSES)


def test_the_ledger_reads_what_a_task_writes(
    tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.ledger, "DIRECTORY", tmp_path)
    tasks.app.tasks["steady.short"].apply(task_id="one", throw=True)
    found = Ledger()
    for line in (tmp_path / "work.log").read_text().splitlines():
        found.add(line)
    (one,) = found.tasks.values()
    (run,) = one.runs
    assert (one.id, one.group, one.kind) == ("one", "steady", "short")
    assert run.finish is not None
    assert one.seconds <= run.finish - run.start < one.seconds + 1


def test_both_sides_know_the_same_kinds(tasks: ModuleType) -> None:
    assert {kind: seconds for kind, seconds in tasks.SECONDS.items() if seconds} == dict(ledgers.SECONDS)


def test_a_task_ends_its_process_only_once(tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.ledger, "DIRECTORY", tmp_path)
    assert [tasks.ledger.first_time("one") for _each in range(2)] == [True, False]


@pytest.mark.parametrize("without", sorted(faults.WITHOUT))
def test_what_is_switched_off_is_shown_by_a_fault(without: str) -> None:
    options = argparse.Namespace(without=without, only=None, short=False)
    assert {fault.key: fault.times for fault in faults.chosen(options, "rabbitmq")} == faults.WITHOUT[without]


def test_a_broker_has_the_faults_that_mean_something_there() -> None:
    options = argparse.Namespace(without="", only=None, short=False)
    keys = {broker: [fault.key for fault in faults.chosen(options, broker)] for broker in ("rabbitmq", "redis")}
    keys["cluster"] = [fault.key for fault in faults.chosen(options, "rabbitmq", cluster=True)]
    assert sorted(keys["rabbitmq"] + keys["cluster"]) == sorted({fault.key for fault in faults.FAULTS})
    # It begins with one node.
    assert keys["cluster"][0] == "grow"
    assert set(keys["rabbitmq"]) - set(keys["redis"]) == {"rabbitmq-restart", "rabbitmq-change", "disk-alarm"}
    planned = {fault.key for fault in faults.FAULTS if fault.planned}
    assert planned == {"quiet", "rolling-restart", "deploy", "broken-deploy", "restart-by-hand", "reboot"} | {
        "rabbitmq-change",
        "grow",
        "change-all",
        "upgrade",
    }


def test_a_broken_release_breaks_in_a_worker_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WORK", tmp_path)
    scenario = scenarios.Scenario("trixie", Console())
    good, bad = scenario.source(), scenario.source(broken=True)
    assert good != bad
    outcomes = {
        (name, argument): subprocess.run(
            [sys.executable, "-B", "-c", "import chaos_app.tasks", argument],
            check=False,
            capture_output=True,
            cwd=Path(source["path"]) / "src",
        ).returncode
        for name, source in (("good", good), ("bad", bad))
        for argument in ("check", "worker")
    }
    assert outcomes == {("good", "check"): 0, ("good", "worker"): 0, ("bad", "check"): 0, ("bad", "worker"): 1}


def test_the_scenario_knows_its_classes_from_the_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WORK", tmp_path)
    assert scenarios.Scenario("redis", Console()).classes == {"swift": "late", "steady": "late", "fleeting": "early"}
    assert set(scenarios.Scenario("redis", Console(), "late").classes.values()) == {"early"}


def test_a_stack_on_an_older_celery_holds_its_release_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WORK", tmp_path)
    found = {
        name: scenarios.Scenario(name, Console(quiet=True)).source().get("constraints", "")
        for name in ("trixie", "trixie-celery5.4", "redis-celery5.4", "redis-celery5.6")
    }
    assert found == {
        "trixie": "",
        "trixie-celery5.4": "celery==5.4.*",
        "redis-celery5.4": "celery==5.4.*\nkombu<5.7",
        "redis-celery5.6": "celery==5.6.*",
    }


WHOLE = '{"running_nodes": ["a", "b", "c"], "disk_nodes": ["a", "b", "c"], "partitions": {}}'
QUEUES = '[{"name": "q", "type": "%s", "members": ["a", "b", "c"], "online": ["a", "b", "c"]}]'


@pytest.mark.parametrize(
    ("status", "queues", "told"),
    [
        (WHOLE, QUEUES % "quorum", []),
        (WHOLE, QUEUES % "rabbit_quorum_queue", []),
        ("Error: unable to perform an operation on node", QUEUES % "quorum", ["x does not answer"]),
        (WHOLE.replace("{}", '{"a": ["c"]}'), QUEUES % "quorum", ["x sees a partition: {'a': ['c']}"]),
        (WHOLE.replace(', "c"', "", 1), QUEUES % "quorum", ["x sees ['a', 'b'] of ['a', 'b', 'c']"]),
        (WHOLE, QUEUES.replace(', "c"]}]', "]}]") % "quorum", ["x lacks members of 1 of 1 queues"]),
        # One that has no queue of the app has lost them all.
        (WHOLE, QUEUES % "classic", ["x lacks members of 0 of 0 queues"]),
    ],
)
def test_a_cluster_that_is_not_whole_is_told(status: str, queues: str, told: list[str]) -> None:
    assert whole.rabbitmq_faults("x", 3, status, queues) == told


PRIMARY = "# Replication\nrole:master\nconnected_slaves:2\n"
REPLICA = "# Replication\nrole:slave\nmaster_link_status:up\n"
SERVERS = {"a": PRIMARY, "b": REPLICA, "c": REPLICA}
AGREED = dict.fromkeys("abc", "10.0.0.1")


@pytest.mark.parametrize(
    ("primaries", "servers", "told"),
    [
        ({}, {}, []),
        ({"c": "10.0.0.3"}, {}, ["the Sentinels name the primaries", "c is not the primary of 2 replicas"]),
        ({"c": ""}, {}, ["the Sentinels name the primaries ['', '10.0.0.1']"]),
        ({}, {"a": PRIMARY.replace("2", "1")}, ["a is not the primary of 2 replicas"]),
        ({}, {"b": PRIMARY}, ["b is no replica that follows"]),
        ({}, {"c": REPLICA.replace("up", "down")}, ["c is no replica that follows"]),
        ({}, {"c": ""}, ["c is no replica that follows"]),
    ],
)
def test_redis_that_is_not_whole_is_told(primaries: dict[str, str], servers: dict[str, str], told: list[str]) -> None:
    addresses = {node: f"10.0.0.{number}" for number, node in enumerate("abc", 1)}
    faults = whole.redis_faults(AGREED | primaries, SERVERS | servers, addresses)
    assert len(faults) == len(told)
    assert all(fault.startswith(start) for fault, start in zip(faults, told, strict=True))


def test_a_sentinel_that_was_frozen_does_not_watch_yet() -> None:
    states = {"mq1": "sentinel_tilt:0\n", "mq2": "sentinel_tilt:1\n", "mq3": ""}
    assert whole.tilted({"mq1": "10.0.0.1", "mq2": "10.0.0.1", "mq3": ""}, states) == [
        "the Sentinel of mq2 does not watch yet"
    ]


def test_the_primary_is_who_a_sentinel_says() -> None:
    assert whole.address_of_primary("10.0.0.2\n6379\n") == "10.0.0.2"
    assert whole.address_of_primary("") == ""


def test_where_a_time_is_promised_a_class_may_not_pause_for_longer() -> None:
    """One host goes on at once, the other one waits until the node is back."""
    whole_run = ("sending", "sent", "start", "finish")
    lines = [f"{100 + number} {event} t{number}" for number in range(4) for event in whole_run]
    later = [f"{120 + number} {event} l{number}" for number in range(3) for event in whole_run]
    kill = Window("node-kill", False, 100.0, 122.5, (Strike(100.5, 100.5),), processes={"swift": 2})
    found = ledger(*lines, *later)
    assert rows(found, [kill], "x", {"swift": "late"}, 6.0)[0].recovery_s == 0.5
    promised = dataclasses.replace(kill, within=5.0)
    (row,) = rows(found, [promised], "x", {"swift": "late"}, 6.0)
    assert row.recovery_s == 17.0
    assert "came back after 17.0 s, and 5 s are promised" in broken([row], redis_broker=False)[0]
    # One process that is busy leaves another one free; two leave none.
    one = ("101 sending a long", "101 start a long 8", "111 finish a long 8")
    assert rows(ledger(*lines, *later, *one), [promised], "x", {"swift": "late"}, 6.0)[0].recovery_s == 17.0
    # The second one was ended, and came again when the node was back.
    two = ("102 sending b long", "102 start b long 9", "119 start b long 8", "120 finish b long 8")
    assert rows(ledger(*lines, *later, *one, *two), [promised], "x", {"swift": "late"}, 6.0)[0].recovery_s == 8.0


def test_a_class_with_a_second_host_has_twice_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WORK", tmp_path)
    processes = scenarios.Scenario("trixie-cluster", Console(quiet=True)).processes
    assert processes == {"swift": 4, "steady": 8, "fleeting": 4}
    assert set(scenarios.Scenario("trixie", Console(quiet=True)).processes.values()) == {4}
