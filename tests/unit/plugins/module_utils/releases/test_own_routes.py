"""An app's own routes hold only where they lead to queues that somebody consumes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases.own_routes import doubts, refusal, strays


def report(**parts: Any) -> dict[str, Any]:
    return {"named": {}, "tasks": {}, "asked": [], "failed": {}, **parts}


def test_routes_to_queues_that_are_consumed_are_taken() -> None:
    routes = report(named={"shop.*": "payments"}, tasks={"shop.pay": "payments", "shop.mail": "default"})
    assert refusal(routes, ["default", "payments"]) == ""
    assert doubts(routes) == []


def test_each_route_and_task_that_leads_nowhere_is_named_once_with_what_to_write() -> None:
    routes = report(
        named={"shop.feeds.*": "feeds", "shop.pay": "payments", "shop.key": None},
        tasks={"shop.feeds.read": "feeds", "shop.own": "far", "shop.pay": "payments"},
    )
    said = refusal(routes, ["payments"])
    assert "where these lead: shop.feeds.* to feeds, shop.key to no queue that it names, shop.own to far. Cons" in said
    assert "Consumed are payments. Write far, feeds into the queues of a class in celery_worker_classes (or" in said
    assert said.endswith("or celery_app_routes as a list")
    many = refusal(report(tasks={f"shop.t{number}": "far" for number in range(10)}), [])
    assert "shop.t7 to far and 2 more. Consumed are none." in many
    assert refusal(report(named={"a": None}), ["b"]).endswith("Consumed are b. Write celery_app_routes as a list")


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        (report(asked=["shop.routing.route"]), "cannot be known"),
        (
            report(asked=["shop.routing.route"], failed={"shop.pay": "KeyError"}),
            "and it failed for shop.pay (KeyError)",
        ),
        (report(), "the app has no task_routes"),
    ],
)
def test_what_cannot_be_known_is_told(routes: dict[str, Any], said: str) -> None:
    (warning,) = doubts(routes)
    assert warning.startswith("celery_app_routes: from-app")
    assert warning.endswith(said) or said in warning


def test_a_queue_in_a_tasks_own_code_that_nobody_consumes_is_told() -> None:
    assert strays({"shop.pay": "payments"}, ["payments"]) == []
    (said,) = strays({"shop.pay": "payments", "shop.own": "far", "shop.send": "near"}, ["payments"])
    assert "where these lead: shop.own to far, shop.send to near. Their" in said
    assert "Write far, near into the queues of a class" in said
    (said,) = strays({f"shop.t{number}": "far" for number in range(10)}, ["payments"])
    assert "shop.t7 to far and 2 more." in said
