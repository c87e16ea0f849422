"""Queues and routes of an app."""

from __future__ import annotations

from typing import Any

import pytest
from app_plans import BACKEND, only, planned, refused
from problems import told


def test_queues_come_from_everywhere_once_and_the_default_queue_first() -> None:
    document = planned(
        queues=["feeds", {"name": "legacy", "type": "classic"}, "default"],
        routes=[{"task": "shop.pay.*", "queue": "payments"}, {"task": "shop.feed", "queue": "feeds"}],
    )["queues"]
    assert document["queues"] == [
        {"name": "default", "type": "quorum"},
        {"name": "feeds", "type": "quorum"},
        {"name": "legacy", "type": "classic"},
        {"name": "payments", "type": "quorum"},
        {"name": "dead-letters", "type": "quorum"},
    ]
    assert document["routes"][0] == {"task": "shop.pay.*", "queue": "payments"}


def test_queues_on_redis_have_no_type_and_no_dead_letters() -> None:
    assert planned(broker_url=BACKEND, queues=["feeds"])["queues"]["queues"] == [
        {"name": "default"},
        {"name": "feeds"},
    ]


def test_a_queue_or_a_route_more_is_nothing_of_what_units_are_restarted_for() -> None:
    more = planned(queues=["feeds"], routes=[{"task": "shop.feed", "queue": "feeds"}])
    assert more["configuration"] == planned()["configuration"]
    assert more["queues"] != planned()["queues"]
    # The first quorum queue is another matter: delayed tasks wait in the broker then.
    classic = planned(queue_type="classic", queues=["feeds"])["configuration"]
    assert (more["configuration"]["quorum"], classic["quorum"]) == (True, False)
    first = planned(queue_type="classic", queues=[{"name": "feeds", "type": "quorum"}])["configuration"]
    assert first["quorum"] is True
    assert planned(broker_url=BACKEND)["configuration"]["quorum"] is False


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        *((name, "not-a-queue-name") for name in ("a b", "", "a.", "#", "*", "x" * 101, 5)),
        ("celery_delayed_1", "reserved-queue-name"),
        ("amq.x", "reserved-queue-name"),
        ("dead-letters", "dead-letter-queue"),
    ],
)
def test_queue_names_that_are_refused(name: Any, identity: str) -> None:
    assert (identity, "celery_app_queues") in told(refused(queues=[name]))


def test_a_queue_that_ends_in_another_queues_name_is_refused_on_rabbitmq_only() -> None:
    problem = only(refused(queues=["eu.high", "high"]))
    assert (problem.id, problem.value) == ("ends-in-the-name", "eu.high")
    planned(queues=["eu.high", "high"], broker_url=BACKEND)
    planned(queues=["eu-high", "high", "high.eu"])


def test_on_redis_the_list_of_the_dead_letters_is_no_queue() -> None:
    other = {"dead_letter_queue": "morgue", "queues": ["dead-letters"]}
    assert only(refused(**other, broker="redis", broker_url=BACKEND)).value == "dead-letters"
    planned(**other)


def test_the_dead_letter_queue_is_a_queue_of_rabbitmq() -> None:
    assert only(refused(dead_letter_queue="a b")).variable == "celery_app_dead_letter_queue"
    planned(dead_letter_queue="a b", broker_url=BACKEND)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"name": "a", "typ": "classic"}, ("not-a-key", "celery_app_queues.typ")),
        ({"name": "a", "type": "stream"}, ("not-a-queue-type", "celery_app_queues.a.type")),
        ({"type": "quorum"}, ("no-name", "celery_app_queues")),
    ],
)
def test_a_queue_that_is_none_is_refused_and_hides_no_other(entry: dict[str, str], found: tuple[str, str]) -> None:
    assert told(refused(queues=[entry])) == [found]
    assert told(refused(queues=[entry, {}])) == [found, ("no-name", "celery_app_queues")]


@pytest.mark.parametrize(
    ("first", "second"), [("shop.*", "shop.pay.*"), ("shop.pay", "shop.pay"), ("*", "a"), ("a.*.c", "a.b.c")]
)
def test_a_route_that_is_never_reached_is_refused(first: str, second: str) -> None:
    problem = only(refused(routes=[{"task": first, "queue": "x"}, {"task": second, "queue": "y"}]))
    assert problem.value == second
    if first != second:
        planned(routes=[{"task": second, "queue": "y"}, {"task": first, "queue": "x"}])


@pytest.mark.parametrize("task", ["", "a b", "shop.?", "shop.[ab]"])
def test_routes_that_are_no_pattern_are_refused(task: str) -> None:
    assert only(refused(routes=[{"task": task, "queue": "x"}])).variable == "celery_app_routes"


def test_an_apps_own_routes_may_lead_to_what_somebody_consumes() -> None:
    plan = planned(routes="from-app", queues=["payments"])
    assert plan["queues"]["routes"] == "from-app"
    assert [queue["name"] for queue in plan["queues"]["queues"]] == ["default", "payments", "dead-letters"]
    assert plan["consumed"] == ["default", "payments"]


def test_one_wrong_route_hides_no_other() -> None:
    found = refused(routes=[{"task": task, "queue": "x"} for task in ("", "a.*", "a.b.*", "a.b.c", "a.*")])
    assert [problem.value for problem in found[1:]] == ["a.b.*", "a.b.c", "a.*"]
    # What comes too late belongs above the other, and what is there already nowhere.
    assert found[1].instead == found[2].instead != found[3].instead
