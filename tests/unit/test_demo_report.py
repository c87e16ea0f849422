"""What the demo claims: each claim holds for good traffic, and fails when what it claims did not happen."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tools.demo import report as demo_report
from tools.demo.report import Check, Expected, Page, Row, Unit, expected, judge, parse_units, rows

VARIABLES: dict[str, Any] = {
    "celery_app_name": "shop",
    "celery_app_routes": [
        {"task": "shop.payments.*", "queue": "payments"},
        {"task": "shop.mails.*", "queue": "mails"},
        {"task": "shop.feeds.*", "queue": "feeds"},
        {"task": "shop.reports.*", "queue": "reports"},
    ],
    "celery_worker_classes": {
        "high": {"queues": ["payments", "mails"]},
        "default": {},
        "bulk": {"queues": ["feeds", "reports"]},
    },
}
PROMISE = expected(VARIABLES)
UNITS = [
    Unit("celery-shop-beat.service", "active", "shop", 9),
    Unit("celery-shop-bulk.service", "active", "shop", 10, (30,)),
    Unit("celery-shop-default.service", "active", "shop", 11, (31, 32)),
    Unit("celery-shop-high.service", "active", "shop", 12, (33, 34)),
]
PAGE = Page("Flower", "http://127.0.0.1:5555", "admin", "secrets/flower", refused=401, accepted=200)


def record(kind: str, task: str, sent: float, waited: float, **changes: Any) -> dict[str, Any]:
    queue = PROMISE.queue_for(task)
    ran_by = {
        "unit": PROMISE.unit_of(PROMISE.class_for(queue)),
        "queue": queue,
        "user": "shop",
        "uid": 998,
        "pid": 30,
        "retries": 0,
        "started": sent + waited,
    }
    ran_by |= changes.pop("ran_by", {})
    base = {
        "kind": kind,
        "task": task,
        "kwargs": {},
        "id": "x",
        "sent": sent,
        "due": None,
        "state": "SUCCESS",
        "value": {},
    }
    return {**base, "ran_by": ran_by, **changes}


def good() -> dict[str, Any]:
    """Make a report in which everything happened."""
    away = {"kwargs": {"provider_away": 2}, "ran_by": {"retries": 2}}
    records = [
        record("feed", "shop.feeds.import_feed", 1.0, 0.1),
        record("leaky report", "shop.reports.leaky", 1.0, 2.0, value={"kept": 48}, ran_by={"pid": 30}),
        record("leaky report", "shop.reports.leaky", 1.0, 4.0, value={"kept": 24}, ran_by={"pid": 40}),
        record("partial sum", "shop.reports.partial_sum", 1.0, 1.0, kwargs={"numbers": [1, 3]}, value={"sum": 4}),
        record("partial sum", "shop.reports.partial_sum", 1.0, 1.0, kwargs={"numbers": [2, 4]}, value={"sum": 6}),
        record("grand total", "shop.reports.grand_total", 1.0, 3.0, value={"sum": 10}),
        record("charge", "shop.payments.charge", 2.0, 0.01),
        record("charge, provider away", "shop.payments.charge", 2.0, 2.5, **away),
        record("receipt", "shop.mails.send_receipt", 2.0, 0.02),
        record("reminder, later", "shop.mails.remind", 2.0, 5.1, due=7.0),
        record("count, no route", "shop.stock.count", 2.0, 0.01),
        record("seen, result ignored", "shop.stock.seen", 2.0, 0.01, state="IGNORED"),
    ]
    periodic = [record("expire carts, periodic", "shop.orders.expire_carts", 3.0, 0.0)]
    return {"begin": 1.0, "end": 9.0, "records": records, "periodic": periodic}


def judged(
    report: dict[str, Any], units: list[Unit] | None = None, pages: tuple[Page, ...] = (PAGE,)
) -> dict[str, Check]:
    table = rows(PROMISE, UNITS if units is None else units, report["records"] + report["periodic"])
    return {check.name: check for check in judge(PROMISE, table, report, pages, least=10)}


def test_good_traffic_passes_every_check() -> None:
    checks = judged(good())
    assert [check for check in checks.values() if not check.ok] == []
    assert len(checks) == 12


def spoil(kind: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that changes the first record of a kind; keys of `ran_by` are given as `ran_by`."""

    def change(report: dict[str, Any]) -> None:
        one = next(record for record in report["records"] if record["kind"] == kind)
        ran_by = changes.get("ran_by", {})
        one.update({key: value for key, value in changes.items() if key != "ran_by"})
        one["ran_by"] = None if ran_by is None else {**one["ran_by"], **ran_by}

    return change


def without(kind: str) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        report["records"] = [record for record in report["records"] if record["kind"] != kind]

    return change


def no_periodic(report: dict[str, Any]) -> None:
    report["periodic"] = []


def no_urgent_before_slow(report: dict[str, Any]) -> None:
    for one in report["records"]:
        if "shop.payments" in one["task"] or "shop.mails" in one["task"]:
            one["ran_by"]["started"] = 100.0


def no_urgent(report: dict[str, Any]) -> None:
    without("charge")(report)
    without("receipt")(report)


def one_process(report: dict[str, Any]) -> None:
    for one in report["records"]:
        one["ran_by"]["pid"] = 30


SPOILED = [
    ("Every task answered", spoil("receipt", state="PENDING", ran_by=None)),
    ("Every task answered", spoil("receipt", state="FAILURE", value="boom")),
    ("Every task answered", spoil("receipt", state="NOT SENT")),
    ("Routes decide", spoil("charge", ran_by={"unit": "celery-shop-default.service"})),
    ("Routes decide", spoil("charge", ran_by={"queue": "default"})),
    ("Routes decide", spoil("count, no route", ran_by={"unit": "celery-shop-bulk.service", "queue": "feeds"})),
    ("Tasks run unprivileged", spoil("charge", ran_by={"uid": 0, "user": "root"})),
    ("Tasks run unprivileged", spoil("charge", ran_by={"user": "www-data"})),
    ("Urgent work does not wait", no_urgent_before_slow),
    ("Urgent work does not wait", no_urgent),
    ("Retries", spoil("charge, provider away", ran_by={"retries": 1})),
    ("Retries", spoil("charge, provider away", ran_by=None)),
    ("Retries", without("charge, provider away")),
    ("ETA and countdown", spoil("reminder, later", ran_by={"started": 5.9})),
    ("ETA and countdown", spoil("reminder, later", ran_by=None)),
    ("ETA and countdown", without("reminder, later")),
    ("Chord", spoil("grand total", value={"sum": 11})),
    ("Chord", spoil("grand total", ran_by=None)),
    ("Periodic task", no_periodic),
    ("Ignored results", spoil("seen, result ignored", state="KEPT")),
    ("Ignored results", spoil("seen, result ignored", state="PENDING", ran_by=None)),
    ("Ignored results", without("seen, result ignored")),
    ("Leaking process replaced", one_process),
    ("Leaking process replaced", without("leaky report")),
]


@pytest.mark.parametrize(("name", "change"), SPOILED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_claim_that_does_not_hold_is_seen(name: str, change: Callable[[dict[str, Any]], None]) -> None:
    report = good()
    change(report)
    assert not judged(report)[name].ok


def test_too_few_tasks_are_seen() -> None:
    report = good()
    report["records"] = report["records"][:9]
    check = judged(report)["Every task answered"]
    assert not check.ok
    assert "at least 10 were to be sent" in check.detail


def test_the_reason_of_a_failure_is_told() -> None:
    report = good()
    spoil("receipt", state="FAILURE", value="no such mailbox")(report)
    assert "receipt is FAILURE (no such mailbox)" in judged(report)["Every task answered"].detail


@pytest.mark.parametrize("change", [{"state": "failed"}, {"user": "root"}, {"user": ""}])
def test_a_unit_that_is_down_or_of_root_is_seen(change: dict[str, str]) -> None:
    units = [dataclasses.replace(UNITS[0], **change), *UNITS[1:]]  # type: ignore[arg-type]  # all three are strings
    assert not judged(good(), units)["Units run unprivileged"].ok


def test_a_class_without_its_unit_is_seen() -> None:
    check = judged(good(), UNITS[:3])["Units run unprivileged"]
    assert not check.ok
    assert "celery-shop-high.service" in check.detail


def test_a_class_that_ran_nothing_is_seen() -> None:
    promise = dataclasses.replace(PROMISE, classes={**PROMISE.classes, "idle": ("nothing",)})
    check = demo_report.check_routing(promise, good()["records"])
    assert not check.ok
    assert "nothing ran in idle" in check.detail


@pytest.mark.parametrize("answers", [{"refused": 200}, {"refused": 0}, {"accepted": 401}, {"accepted": 0}])
def test_a_page_that_is_open_or_closed_to_all_is_seen(answers: dict[str, int]) -> None:
    page = dataclasses.replace(PAGE, **answers)  # type: ignore[arg-type]  # these two fields are numbers
    assert not judged(good(), pages=(page,))["Flower is locked"].ok


def test_nothing_at_all_passes_no_check() -> None:
    checks = judged({"begin": 0.0, "end": 1.0, "records": [], "periodic": []}, [])
    del checks["Flower is locked"]
    assert [name for name, check in checks.items() if check.ok] == []


def test_expected_follows_the_first_route_and_the_default() -> None:
    routes = (("shop.mails.*", "mails"), ("shop.*", "rest"))
    promise = Expected("shop", {"all": ("mails", "rest", "default")}, routes)
    assert promise.queue_for("shop.mails.remind") == "mails"
    assert promise.queue_for("shop.stock.count") == "rest"
    assert promise.queue_for("other.task") == "default"
    assert promise.class_for("nobody's") == ""


def test_expected_reads_the_variables_as_the_roles_do() -> None:
    variables = copy.deepcopy(VARIABLES)
    variables["celery_app_default_queue"] = "ordinary"
    variables["celery_worker_classes"]["old"] = {"queues": ["feeds"], "state": "absent"}
    variables["celery_worker_group_classes"] = {"high": {"queues": ["payments"]}}
    variables["celery_worker_host_classes"] = {"mail": {"queues": ["mails"]}, "bulk": {"concurrency": 1}}
    promise = expected(variables)
    assert promise.classes == {
        "high": ("payments",),
        "default": ("ordinary",),
        "bulk": ("feeds", "reports"),
        "mail": ("mails",),
    }
    assert promise.default_queue == "ordinary"
    assert promise.user == "shop"
    assert expected({**variables, "celery_app_user": "seller"}).user == "seller"


def test_parse_units_joins_systemd_and_processes() -> None:
    show = (
        "MainPID=12\nId=celery-shop-high.service\nActiveState=active\n\n"
        "MainPID=0\nId=celery-shop-bulk.service\nActiveState=failed\n"
    )
    processes = "    1     0 root\n   12     1 shop\n   33    12 shop\n   34    12 shop\n   40    33 shop\n"
    assert parse_units(show, processes) == [
        Unit("celery-shop-bulk.service", "failed", "", 0),
        Unit("celery-shop-high.service", "active", "shop", 12, (33, 34)),
    ]


@pytest.mark.parametrize(("uid", "user"), [("64578", "shop-flower"), ("1", "64578")])
def test_a_dynamic_user_has_the_name_that_systemd_gave_it(uid: str, user: str) -> None:
    show = f"Id=celery-shop-flower.service\nActiveState=active\nMainPID=5\nUser=shop-flower\nUID={uid}\n"
    assert parse_units(show, "5 1 64578\n") == [Unit("celery-shop-flower.service", "active", user, 5)]


def test_parse_units_of_a_host_without_any() -> None:
    assert parse_units("\n", "1 0 root\n") == []


def test_rows_count_and_time_what_each_class_did() -> None:
    table = {row.name: row for row in rows(PROMISE, UNITS, good()["records"])}
    assert list(table) == ["default", "high", "bulk", "beat"]
    assert table["high"].done == 4
    assert table["high"].queues == ("mails", "payments")
    # Neither the retried payment nor the reminder: they waited on purpose.
    assert table["high"].latencies == pytest.approx((0.01, 0.02))
    assert table["beat"] == Row("beat", UNITS[0])


@pytest.mark.parametrize(("seconds", "text"), [(0.0124, "12 ms"), (0.9994, "999 ms"), (1.26, "1.3 s"), (75, "75.0 s")])
def test_duration(seconds: float, text: str) -> None:
    assert demo_report.duration(seconds) == text


def test_the_table_fits_into_80_columns_and_shows_what_is_down() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(demo_report.class_table(rows(PROMISE, UNITS[:3], good()["records"]), "a title"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # it is the StringIO from above
    assert any("celery-shop-high" in line and "missing" in line for line in lines)
    assert any("celery-shop-bulk" in line and "feeds," in line for line in lines)


def test_the_tables_show_what_a_person_looks_for() -> None:
    console = Console(file=io.StringIO(), width=140, color_system=None)
    report = good()
    table = rows(PROMISE, UNITS, report["records"])
    console.print(demo_report.class_table(table, "a title"))
    console.print(demo_report.check_table(judge(PROMISE, table, report, (PAGE,), least=10)))
    console.print(demo_report.check_table([Check("a [name]", False, "a [detail]")]))
    console.print(demo_report.page_table((PAGE,), "make demo-down"))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    for expectation in (
        "celery-shop-high ",
        "12 + 2",
        "mails, payments",
        "15 ms",
        "20 ms",
        "yes  Chord",
        "NO  a [name]",
        "http://127.0.0.1:5555",
        "user admin, password in secrets/flower",
        "make demo-down",
    ):
        assert expectation in text
