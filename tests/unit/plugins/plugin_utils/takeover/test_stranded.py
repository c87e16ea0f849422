"""Queues that lose their consumers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.ours import addresses
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
    App,
    Deployment,
    Machine,
    RunningClass,
    Server,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.stranded import (
    judge,
    moves,
    not_readable,
    questions,
)

HIGH = RunningClass("shop", "app1", "high", ("payments",))
DEFAULT = RunningClass("shop", "app1", "default", ("default",))
SHOP = App("shop", hosts=("app1",), classes=(HIGH, DEFAULT), queues={"default": "quorum", "payments": "quorum"})
QUEUES = ["default", "payments", "dead-letters"]
WORKS = {"celery-shop-high.service": "celery_worker"}


def host(queues: list[str], retired: list[str] | None = None, **own: Any) -> dict[str, Any]:
    app = {"units": WORKS, "brokers": [{"host": "mq1"}], "queues": queues, "retired": retired or [], **own}
    return {"ours": {"apps": {"shop": app}}}


def asked(app: App | None, seen: dict[str, Any], gone: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return questions({"shop": app} if app else {}, seen, set(seen) - {"left-out"}, gone)


def test_nobody_is_asked_while_every_queue_has_a_class() -> None:
    assert asked(SHOP, {"app1": host(QUEUES), "app2": host([])}) == []


@pytest.mark.parametrize(
    "app",
    [
        replace(SHOP, classes=(DEFAULT,)),
        replace(SHOP, classes=(replace(HIGH, queues=("other",)), DEFAULT)),
        replace(SHOP, classes=(DEFAULT,), queues={"default": "quorum"}),
    ],
)
def test_a_queue_whose_class_leaves(app: App) -> None:
    assert asked(app, {"app1": host(QUEUES)}) == [
        {"app": "shop", "host": "app1", "queues": ["payments"], "leaving": ["payments"]}
    ]


def test_a_queue_that_somebody_else_may_read_or_that_keeps_messages() -> None:
    assert asked(replace(SHOP, classes=(DEFAULT,), declared=("payments",)), {"app1": host(QUEUES)}) == []
    kept = replace(SHOP, variables={"celery_app_dead_letter_queue": "morgue"})
    assert asked(kept, {"app1": host(["default", "payments", "morgue"])}) == []


def test_a_queue_that_left_earlier_is_asked_of_again() -> None:
    [question] = asked(SHOP, {"app1": host(QUEUES, ["feeds"])})
    assert (question["queues"], question["leaving"]) == (["feeds"], [])
    # It has a class again.
    feeds = replace(SHOP, classes=(*SHOP.classes, replace(HIGH, queues=("feeds",))))
    assert asked(feeds, {"app1": host(QUEUES, ["feeds"])}) == []


def test_one_host_of_the_run_that_can_ask_is_enough() -> None:
    seen = {"left-out": host(QUEUES), "bare": host(QUEUES, brokers=[]), "app1": host([]), "app2": host(QUEUES)}
    [question] = asked(replace(SHOP, classes=(DEFAULT,)), seen)
    assert question["host"] == "app1"
    assert asked(replace(SHOP, classes=(DEFAULT,)), {"left-out": host(QUEUES)}) == []


def test_producers_whose_workers_are_elsewhere() -> None:
    assert asked(replace(SHOP, classes=()), {"web1": host(QUEUES, units={})}) == []
    # But here they were.
    assert len(asked(replace(SHOP, classes=()), {"web1": host(QUEUES)})) == 1


def test_an_app_that_leaves_whole() -> None:
    [question] = asked(None, {"app1": host(QUEUES)}, ("shop",))
    assert question["leaving"] == ["default", "payments"]
    # Another inventory's.
    assert asked(None, {"app1": host(QUEUES)}) == []


QUESTION = {"app": "shop", "host": "app1", "queues": ["feeds", "old"], "leaving": ["feeds"]}


def outcome(waiting: Any, accepted: tuple[str, ...] = ()) -> tuple[list[str], list[str], dict[str, list[str]]]:
    refused, told, remembered = judge([{**QUESTION, "waiting": waiting}], accepted)
    return [str(one) for one in refused], told, remembered


def test_tasks_that_would_be_left_behind() -> None:
    [text], told, _remembered = outcome({"feeds": 201, "old": 0})
    assert text == (
        "celery_worker_classes: on app1, 201 tasks wait in the queue feeds of shop, which no class would consume any "
        "more; keep a class for it without its routes until it is empty, or let this run wait for that "
        "(celeryops_drain: 30m), or write celeryops_leave_messages: [feeds] to leave them there"
    )
    assert told == []


def test_tasks_that_were_left_behind_or_may_be() -> None:
    refused, [text], remembered = outcome({"feeds": 0, "old": 1})
    assert refused == []
    assert text.startswith("1 task waits in the queue old of shop, which no class consumes; write a class with queues:")
    assert remembered == {"shop": ["feeds", "old"]}
    refused, told, _remembered = outcome({"feeds": 7, "old": None}, ("feeds",))
    assert (refused, len(told)) == ([], 1)


def test_what_is_gone_is_forgotten() -> None:
    assert outcome({"feeds": None, "old": None}) == ([], [], {"shop": []})


def test_not_knowing_is_no_emptiness() -> None:
    [text], _told, remembered = outcome("the broker: Connection refused")
    assert "whether tasks of shop wait in feeds is not known (the broker: Connection refused)" in text
    assert remembered == {"shop": ["feeds", "old"]}
    assert outcome("x", ("feeds",))[0] == []
    assert judge([{**QUESTION, "leaving": [], "waiting": "x"}], ())[0] == []


@pytest.mark.parametrize(("key", "file"), [("queues", "queues.json"), ("retired", "retired.json")])
def test_a_file_that_cannot_be_read_is_not_an_empty_one(key: str, file: str) -> None:
    seen = {"app1": host(QUEUES)}
    assert list(not_readable(["shop"], seen, seen, [])) == []
    seen["app1"]["ours"]["apps"]["shop"][key] = None
    assert [question["app"] for question in asked(replace(SHOP, classes=(DEFAULT,)), seen)] in ([], ["shop"])
    for apps, gone in ((["shop"], []), ([], ["shop"])):
        [found] = not_readable(apps, seen, seen, gone)
        assert f"on app1, which queues shop had is not known: /etc/celeryops/shop/{file} cannot be read" in str(found)
    # Another inventory's, and a host that this run leaves out.
    assert list(not_readable([], seen, seen, [])) == list(not_readable(["shop"], seen, [], [])) == []


DEPLOYMENT = Deployment(
    machines={name: Machine(name, f"10.0.0.{number}") for number, name in enumerate(("app1", "mq1", "mq2", "r1"))},
    servers=(
        Server("rabbitmq", "mq1", ("0.0.0.0",), 5672),
        Server("rabbitmq", "mq2", ("192.168.0.2",), 5672),
        Server("redis", "r1", ("0.0.0.0",), 6379),
    ),
)


def move(before: str, kind: str, *after: str, host: str = "app1") -> dict[str, dict[str, str]]:
    """Return what is told of a host whose environment file has the URL ``before``."""
    app = {"units": WORKS, "brokers": list(addresses(before)), "queues": QUEUES, "retired": ["old"]}
    wanted = replace(SHOP, broker=kind, broker_addresses=after)
    seen = {host: {"ours": {"apps": {"shop": app}}}}
    return moves(replace(DEPLOYMENT, apps={"shop": wanted}), seen, ["app1"])


@pytest.mark.parametrize(
    ("before", "kind", "after"),
    [
        ("amqp://shop:x@10.0.0.1:5672/shop", "rabbitmq", ("10.0.0.1:5672/shop",)),
        # By another of its names, on another port, one node of several.
        ("amqp://shop:x@mq2:5672/shop", "rabbitmq", ("10.0.0.2:5672/shop",)),
        ("amqp://shop:x@192.168.0.2:5672/shop", "rabbitmq", ("10.0.0.2:5673/shop",)),
        ("amqp://shop:x@127.0.0.1:5672/shop", "rabbitmq", ("10.0.0.0:5672/shop",)),
        ("amqps://u:x@mq.example.org:5671/a%2Fb", "rabbitmq", ("mq.example.org:5672/a/b",)),
        ("amqp://shop:x@mq1:5672/shop;amqp://shop:x@mq2:5672/shop", "rabbitmq", ("10.0.0.2:5672/shop",)),
        ("redis://shop:x@r1:6379/0", "redis", ("10.0.0.3:6380/0",)),
        ("redis://shop:x@cache.example.org/", "redis", ("cache.example.org:6379/0",)),
        ("sentinel://:x@s1.example.org:26379/0;sentinel://:x@s2.example.org/0", "redis", ("s2.example.org:26379/0",)),
        # It has none yet, or what it gets is not known.
        ("", "rabbitmq", ("10.0.0.1:5672/shop",)),
        ("amqp://shop:x@mq1:5672/shop", "rabbitmq", ()),
    ],
)
def test_the_same_broker_by_another_name_is_no_other(before: str, kind: str, after: tuple[str, ...]) -> None:
    assert move(before, kind, *after) == {}


@pytest.mark.parametrize(
    ("before", "kind", "after"),
    [
        ("amqp://shop:x@mq1:5672/shop", "rabbitmq", "10.0.0.2:5672/shop"),
        ("amqp://shop:x@gone.example.org:5672/shop", "rabbitmq", "10.0.0.2:5672/shop"),
        ("amqp://shop:x@127.0.0.1:5672/shop", "rabbitmq", "10.0.0.1:5672/shop"),
        ("amqp://shop:x@mq1:5672/other", "rabbitmq", "10.0.0.1:5672/shop"),
        ("redis://shop:x@r1:6379/0", "rabbitmq", "10.0.0.1:5672/shop"),
        ("redis://shop:x@r1:6379/1", "redis", "10.0.0.3:6379/0"),
        # Of a server that nobody here knows there may be several on a machine.
        ("redis://shop:x@cache.example.org:6380/0", "redis", "cache.example.org:6379/0"),
    ],
)
def test_another_broker_is_told(before: str, kind: str, after: str) -> None:
    told = move(before, kind, after)["shop"]
    assert (told["host"], told["after"]) == ("app1", after)
    assert "x@" not in str(told)
    # A host that this run leaves alone, or that is not the app's any more.
    assert move(before, kind, after, host="mq1") == {}


def test_all_queues_of_a_broker_that_is_left_are_asked_of() -> None:
    moved = move("amqp://shop:x@mq1:5672/shop", "rabbitmq", "10.0.0.2:5672/shop")
    seen = {"app1": host(QUEUES, ["old"]), "app2": host(["feeds"])}
    [question] = questions({"shop": SHOP}, seen, ["app1"], [], moved)
    assert question["queues"] == question["leaving"]
    assert question["leaving"][:5] == ["default", "feeds", "old", "payments", "celery_delayed_0"]
    assert "dead-letters" not in question["queues"]
    assert len(question["queues"]) == 4 + 28
    [question] = questions({"shop": SHOP}, seen, ["app1"], [], move("redis://r1", "rabbitmq", "10.0.0.1:5672/shop"))
    assert question["queues"] == ["default", "feeds", "old", "payments"]


def test_tasks_that_would_be_left_on_another_broker() -> None:
    moved = move("amqp://shop:x@mq1:5672/shop", "rabbitmq", "10.0.0.2:5672/shop")
    [question] = questions({"shop": SHOP}, {"app1": host(QUEUES)}, ["app1"], [], moved)

    def told(waiting: Any, *accepted: str) -> tuple[list[str], list[str], dict[str, list[str]]]:
        refused, warned, remembered = judge([{**question, "waiting": waiting}], accepted)
        return [str(one) for one in refused], warned, remembered

    assert told({"default": 0, "payments": None}) == ([], [], {})
    [text] = told({"default": 3, "celery_delayed_9": 1, "payments": 0})[0]
    assert text.startswith(
        "celery_app_broker: on app1, 4 tasks wait in default, celery_delayed_9 of shop, on the broker at "
        "10.0.0.1:5672/shop, and this run would have it use 10.0.0.2:5672/shop; let this run wait"
    )
    assert "celeryops_leave_messages: [default, celery_delayed_9]" in text
    assert told({"default": 3}, "default") == ([], [], {})
    [text] = told("Connection refused")[0]
    assert "whether tasks of shop wait in default, payments is not known (Connection refused), on the broker" in text
    assert told("Connection refused", "default", "payments") == ([], [], {})
