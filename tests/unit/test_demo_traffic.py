"""The demo's traffic: what is planned, and how the answers are gathered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import TimeoutError as NotThereYetError

from tools.demo import traffic as demo_traffic
from tools.demo.traffic import KINDS, PARTS, PERIODIC_TASK, Kind, Sending, Traffic, interleave, mix, plan


@pytest.mark.parametrize("total", [60, 300, 330, 1000, 1001])
def test_mix_adds_up_and_leaves_no_kind_out(total: int) -> None:
    counts = mix(total)
    assert sum(counts.values()) == total
    assert list(counts) == [kind.name for kind in KINDS]
    assert all(counts[kind.name] >= kind.least for kind in KINDS)
    assert counts["partial sum"] == PARTS
    assert counts["grand total"] == 1


def test_mix_refuses_too_few() -> None:
    with pytest.raises(ValueError, match="10 tasks are too few"):
        mix(10)


def test_mix_gives_the_rounding_to_the_largest_share() -> None:
    kinds = [Kind("a", "t.a", 1, "paced"), Kind("b", "t.b", 5, "paced"), Kind("c", "t.c", 1, "paced")]
    assert mix(10, kinds) == {"a": 1, "b": 8, "c": 1}


def test_interleave_spreads_each_group_evenly() -> None:
    few = [Sending("few", "t") for _each in range(2)]
    many = [Sending("many", "t") for _each in range(8)]
    order = [item.kind for item in interleave([few, many])]
    assert Counter(order) == {"few": 2, "many": 8}
    assert Counter(order[:5]) == {"few": 1, "many": 4}


def test_interleave_of_nothing_is_nothing() -> None:
    assert interleave([[], []]) == []


def test_plan_sends_what_is_slow_first_and_the_chord_last_of_it() -> None:
    slow, paced = plan(330, "r")
    assert len(slow) + len(paced) == 330
    assert [item.kind for item in slow[-PARTS - 1 :]] == ["partial sum"] * PARTS + ["grand total"]
    assert {item.task.split(".")[1] for item in slow} == {"feeds", "reports"}
    assert {item.task.split(".")[1] for item in paced} == {"payments", "mails", "orders", "stock"}


def test_plan_names_every_order_once() -> None:
    orders = [item.kwargs["order"] for item in plan(330, "r")[1] if "order" in item.kwargs]
    assert len(orders) == len(set(orders)) > 200


def test_plan_has_delays_above_and_below_a_second() -> None:
    paced = plan(330, "r")[1]
    assert {item.kwargs["retry_in"] for item in paced if "retry_in" in item.kwargs} == {0.5, 1.0}
    assert {(item.countdown, item.eta) for item in paced if item.kind == "reminder, later"} == {
        (0.5, None),
        (None, 5.0),
    }


def test_parts_of_the_sum_make_up_the_whole() -> None:
    parts = [item.kwargs["numbers"] for item in plan(330, "r")[0] if item.kind == "partial sum"]
    assert sorted(number for part in parts for number in part) == demo_traffic.NUMBERS


class FakeResult:
    def __init__(self, task_id: str) -> None:
        self.id = task_id


class FakeTask:
    def __init__(self, app: FakeApp, name: str) -> None:
        self.app, self.name, self.ignore_result = app, name, name == "shop.stock.seen"

    def apply_async(self, kwargs: dict[str, Any], **options: Any) -> FakeResult:
        self.app.calls.append((self.name, kwargs, options))
        if self.app.refuses(options):
            raise ValueError("countdown must be a positive number")
        return FakeResult(f"id-{len(self.app.calls)}")


class FakeBackend:
    """Answers one waiting task at each call, as a busy worker would."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.silent = False

    def get_many(self, ids: set[str], timeout: float) -> Iterator[tuple[str, dict[str, Any]]]:
        assert timeout == 0
        if ids and not self.silent:
            task_id = min(ids)
            yield task_id, {"status": "SUCCESS", "result": {"n": 1, "ran_by": {"id": task_id, "unit": "u"}}}
            ids = ids - {task_id}
        if ids:
            raise NotThereYetError

    def get_state(self, task_id: str) -> str:
        return "SUCCESS" if task_id in self.kept else "PENDING"


class FakeApp:
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.backend = FakeBackend()
        self.tasks = {kind.task: FakeTask(self, kind.task) for kind in KINDS}
        self.refused_countdown: float | None = None
        self.down = False

    def refuses(self, options: dict[str, Any]) -> bool:
        return self.down or (self.refused_countdown is not None and options.get("countdown") == self.refused_countdown)


def periodic_entry(_since: float) -> Iterator[dict[str, Any]]:
    yield {"event": "carts expired", "time": 5.0, "ran_by": {"id": "p", "task": PERIODIC_TASK, "unit": "u"}}


def traffic_of(app: FakeApp, journal: Any = periodic_entry) -> tuple[Traffic, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return Traffic(app, journal, events.append), events


def test_run_gathers_results_and_the_periodic_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_traffic.time, "sleep", lambda _seconds: None)
    traffic, events = traffic_of(FakeApp())
    traffic.run(
        [Sending("feed", "shop.feeds.import_feed")], [Sending("refund", "shop.payments.refund", {"order": "o"})], 0, 5
    )
    report = traffic.report()
    assert [(record["kind"], record["state"], record["value"]) for record in report["records"]] == [
        ("feed", "SUCCESS", {"n": 1}),
        ("refund", "SUCCESS", {"n": 1}),
    ]
    assert [record["ran_by"]["id"] for record in report["periodic"]] == ["p"]
    assert events[-1] == {"event": "progress", "total": 2, "sent": 2, "done": 2, "waiting_for": ""}


def test_run_gives_up_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_traffic.time, "sleep", lambda _seconds: None)
    app = FakeApp()
    app.backend.silent = True
    traffic, events = traffic_of(app, lambda _since: iter(()))
    traffic.run([], [Sending("refund", "shop.payments.refund")], 0, 0.05)
    assert [record["state"] for record in traffic.report()["records"]] == ["PENDING"]
    assert traffic.report()["periodic"] == []
    assert events[-1]["done"] == 0
    assert events[-1]["waiting_for"] == "the periodic task"


@pytest.mark.parametrize(("kept", "state"), [(False, "IGNORED"), (True, "KEPT")])
def test_an_ignored_result_is_found_in_the_journal_and_not_in_the_backend(kept: bool, state: str) -> None:
    def journal(since: float) -> Iterator[dict[str, Any]]:
        yield from periodic_entry(since)
        yield {"event": "article seen", "time": 6.0, "ran_by": {"id": "id-1", "task": "shop.stock.seen", "unit": "u"}}

    app = FakeApp()
    app.backend.kept = {"id-1"} if kept else set()
    traffic, _other = traffic_of(app, journal)
    traffic.run([], [Sending("seen, result ignored", "shop.stock.seen")], 0, 5)
    assert [(record["id"], record["state"]) for record in traffic.report()["records"]] == [("id-1", state)]


def test_a_task_that_cannot_be_sent_is_reported() -> None:
    app = FakeApp()
    app.refused_countdown = 0.5
    traffic, events = traffic_of(app)
    later = Sending("reminder, later", "shop.mails.remind", countdown=0.5)
    traffic.run([], [Sending("refund", "shop.payments.refund"), later], 0, 5)
    assert [record["state"] for record in traffic.report()["records"]] == ["SUCCESS", "NOT SENT"]
    assert traffic.report()["records"][1]["value"] == "ValueError: countdown must be a positive number"
    assert events[-1]["sent"] == 2


def test_a_broker_that_refuses_the_first_task_ends_the_demo() -> None:
    app = FakeApp()
    app.down = True
    with pytest.raises(ValueError, match="countdown"):
        traffic_of(app)[0].run([], [Sending("refund", "shop.payments.refund")], 0, 5)


def test_a_failure_keeps_its_reason() -> None:
    record = demo_traffic.record_of(Sending("refund", "shop.payments.refund"), "x", 1.0)
    demo_traffic.settle(record, "FAILURE", KeyError("cents"))
    assert (record["state"], record["value"], record["ran_by"]) == ("FAILURE", "'cents'", None)
