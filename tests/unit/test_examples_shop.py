"""The example shop: its tasks do what they say, and nothing in it knows of a broker, a queue or a route."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery.exceptions import Retry

from tools.demo import traffic as demo_traffic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def imported() -> Iterator[ModuleType]:
    """Import the shop once: Celery keeps a list of shared tasks, which a second import would fill again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES / "shop" / "src")
        for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_LOADER"):
            patch.delenv(name, raising=False)
        module = importlib.import_module("shop.celery")
        module.app.loader.import_default_modules()
        yield module
        module.app.close()


@pytest.fixture
def shop(imported: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setenv("SHOP_STATE", str(tmp_path / "state"))
    return imported


def run(shop: ModuleType, name: str, **kwargs: Any) -> dict[str, Any]:
    result: dict[str, Any] = shop.app.tasks[name].apply(kwargs=kwargs).get()
    return result


def test_the_app_says_nothing_about_brokers_queues_and_routes(shop: ModuleType) -> None:
    conf = shop.app.conf
    assert shop.app.main == "shop"
    assert (conf.broker_url, conf.result_backend, conf.task_queues, conf.task_routes) == (None, None, None, None)
    assert conf.task_default_queue == "celery"


def test_the_traffic_sends_every_task_but_the_periodic_ones(shop: ModuleType) -> None:
    own = {name for name in shop.app.tasks if name.startswith("shop.")}
    own -= {"shop.reports.nightly", "shop.reports.monthly"}
    assert own == {kind.task for kind in demo_traffic.KINDS} | {demo_traffic.PERIODIC_TASK}
    assert [entry["task"] for entry in shop.app.conf.beat_schedule.values()] == [demo_traffic.PERIODIC_TASK]


def test_every_planned_task_takes_its_arguments(shop: ModuleType) -> None:
    slow, paced = demo_traffic.plan(330, "r")
    for sending in [*slow, *paced]:
        args = ([],) if sending.kind == "grand total" else ()
        shop.app.tasks[sending.task].__header__(*args, **sending.kwargs)  # a TypeError for wrong arguments


def test_a_report_notes_its_runs_and_fails_for_a_day_that_is_none(shop: ModuleType) -> None:
    assert run(shop, "shop.reports.nightly", day="2026-01-02")["day"] == "2026-01-02"
    with pytest.raises(ValueError, match="monday"):
        run(shop, "shop.reports.monthly", day="monday")
    noted = [(entry["event"], entry["day"]) for entry in importlib.import_module("shop.state").journal()]
    assert noted == [("report begun", "2026-01-02"), ("report done", "2026-01-02"), ("report begun", "monday")]


def test_every_task_tells_who_ran_it(shop: ModuleType) -> None:
    evidence = run(shop, "shop.stock.count", article="a")["ran_by"]
    assert evidence["task"] == "shop.stock.count"
    assert set(evidence) >= {"unit", "node", "queue", "pid", "uid", "user", "host", "started", "retries", "id"}


def test_a_charge_is_taken_once(shop: ModuleType) -> None:
    first = run(shop, "shop.payments.charge", order="o1", cents=100)
    again = run(shop, "shop.payments.charge", order="o1", cents=100)
    assert (first["charged_now"], again["charged_now"]) == (True, False)
    assert first["code"] == again["code"]
    assert run(shop, "shop.payments.refund", order="o1", cents=100)["refunded_now"]
    assert not run(shop, "shop.payments.refund", order="o1", cents=100)["refunded_now"]


def test_a_charge_is_retried_while_the_provider_is_away(shop: ModuleType) -> None:
    result = run(shop, "shop.payments.charge", order="o2", cents=100, provider_away=2, retry_in=0)
    assert result["ran_by"]["retries"] == 2


def test_a_retry_waits_as_long_as_it_was_told(shop: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    charge = shop.app.tasks["shop.payments.charge"]
    seen: dict[str, Any] = {}

    def retry(**options: Any) -> Retry:
        seen.update(options)
        return Retry("later")

    monkeypatch.setattr(charge, "retry", retry)
    with pytest.raises(Retry):
        charge.run(order="o3", cents=100, provider_away=1, retry_in=0.5)
    assert seen["countdown"] == 0.5
    assert "no answer for order o3" in str(seen["exc"])


def test_mails_land_in_the_outbox(shop: ModuleType, tmp_path: Path) -> None:
    receipt = run(shop, "shop.mails.send_receipt", order="o4", to="a@shop.example", cents=1205)
    reminder = run(shop, "shop.mails.remind", order="o4", to="a@shop.example")
    outbox = tmp_path / "state" / "outbox"
    assert "12.05 euros" in (outbox / receipt["mail"]).read_text()
    assert "To: a@shop.example" in (outbox / reminder["mail"]).read_text()


def test_an_order_is_priced_with_tax(shop: ModuleType) -> None:
    assert (
        run(shop, "shop.orders.confirm", order="o5", lines=[[2, 1000], [1, 50]])["cents"] == 2440
    )  # 2439.5, rounded up


def test_the_periodic_task_forgets_what_is_old(shop: ModuleType, tmp_path: Path) -> None:
    run(shop, "shop.orders.confirm", order="new", lines=[[1, 100]])
    run(shop, "shop.orders.confirm", order="old", lines=[[1, 100]])
    orders = tmp_path / "state" / "orders"
    os.utime(orders / "old.json", (0, 0))
    result = run(shop, "shop.orders.expire_carts")
    assert result["gone"] == 1
    assert [path.name for path in orders.iterdir()] == ["new.json"]
    state = importlib.import_module("shop.state")
    (entry,) = state.journal()
    assert entry["event"] == "carts expired"
    assert entry["ran_by"]["task"] == "shop.orders.expire_carts"
    assert list(state.journal(since=entry["time"] + 1)) == []


def test_what_nobody_waits_for_is_noted(shop: ModuleType) -> None:
    assert shop.app.tasks["shop.stock.seen"].ignore_result
    shop.app.tasks["shop.stock.seen"].apply(kwargs={"article": "a"}, throw=True)
    (entry,) = importlib.import_module("shop.state").journal()
    assert (entry["event"], entry["article"]) == ("article seen", "a")


def test_a_feed_is_read_whole(shop: ModuleType, tmp_path: Path) -> None:
    assert run(shop, "shop.feeds.import_feed", supplier="s", articles=20, seconds=0)["articles"] == 20
    prices = json.loads((tmp_path / "state" / "feeds" / "s.json").read_text())
    assert prices["s-1"] == 107


def test_the_figures_of_a_day_are_the_same_every_time(shop: ModuleType) -> None:
    first, again = (run(shop, "shop.reports.daily_sales", day=3, orders=100, seconds=0) for _each in range(2))
    assert (first["cents"], first["median"]) == (again["cents"], again["median"])
    assert first["cents"] > 0


def test_the_parts_of_a_sum_make_its_total(shop: ModuleType) -> None:
    parts = [run(shop, "shop.reports.partial_sum", numbers=numbers) for numbers in ([1, 2], [3])]
    total = run(shop, "shop.reports.grand_total", parts=parts)
    assert (total["sum"], total["parts"]) == (6, 2)


def test_the_leaky_report_keeps_its_pages(shop: ModuleType) -> None:
    assert [run(shop, "shop.reports.leaky", megabytes=1)["kept"] for _each in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/celery-shop-high.service\n", "celery-shop-high.service"),
        ("1:name=systemd:/docker/abc/system.slice/celery-shop-high.service\n0::/\n", "celery-shop-high.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.service\n", "run-1.service"),
        ("0::/user.slice/user-1000.slice/session-2.scope\n", ""),
        ("", ""),
    ],
)
@pytest.mark.usefixtures("shop")
def test_the_unit_is_read_from_the_control_group(cgroups: str, unit: str) -> None:
    assert importlib.import_module("shop.identity").unit_of(cgroups) == unit


@pytest.mark.parametrize(
    ("delivery_info", "queue"),
    [
        ({"routing_key": "payments"}, "payments"),
        ({"routing_key": "0." * 27 + "1.payments"}, "payments"),
        ({"routing_key": "0.1.eu"}, "0.1.eu"),
        ({"routing_key": None}, ""),
        ({}, ""),
    ],
)
@pytest.mark.usefixtures("shop")
def test_the_queue_is_read_from_the_delivery(delivery_info: dict[str, Any], queue: str) -> None:
    assert importlib.import_module("shop.identity").queue_of(delivery_info) == queue


@pytest.mark.parametrize("project", ["shop", "django_shop"])
def test_the_examples_are_packages_with_their_files(project: str) -> None:
    metadata = tomllib.loads((EXAMPLES / project / "pyproject.toml").read_text())
    assert any(dependency.startswith("celery[redis]>=5.4") for dependency in metadata["project"]["dependencies"])
    assert (EXAMPLES / project / metadata["project"]["readme"]).is_file()
    assert (EXAMPLES / project / "src" / project / "celery.py").is_file()


def test_the_django_project_is_set_up_for_another_machine() -> None:
    settings = runpy.run_path(str(EXAMPLES / "django_shop" / "src" / "django_shop" / "settings.py"))
    assert ".invalid" in settings["CELERY_BROKER_URL"]
    assert ".invalid" in settings["CELERY_RESULT_BACKEND"]
    # Each of these is contradicted wherever the project is deployed; without them that would prove nothing.
    assert {"CELERY_TASK_TIME_LIMIT", "CELERY_TASK_DEFAULT_QUEUE", "CELERY_TASK_ROUTES"} <= settings.keys()
    assert settings["SECRET_KEY"]
    assert 'SECRET_KEY = "' not in (EXAMPLES / "django_shop" / "src" / "django_shop" / "settings.py").read_text()
