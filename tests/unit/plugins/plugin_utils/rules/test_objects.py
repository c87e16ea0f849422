"""Objects of RabbitMQ that the inventory and an app declare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployments import (
    DEAD,
    RABBITMQ,
    REDIS,
    REDIS_BROKER,
    SHOP,
    STACK,
    about,
    apps,
    declaring,
    found,
    limit,
    named,
    only,
    with_app,
)

TASKS = with_app(variables={**SHOP.variables, "celery_app_exchange": "tasks"})


@pytest.mark.parametrize(
    ("entry", "differs"),
    [
        ({}, {}),
        ({"type": "quorum", "durable": True, "auto_delete": False, "arguments": {}}, {}),
        ({"type": None, "durable": None}, {}),
        ({"type": "classic"}, {"type": "classic"}),
        ({"durable": False}, {"durable": False}),
        ({"auto_delete": True}, {"auto_delete": True}),
        ({"arguments": {"x-consumer-timeout": 9}}, {"arguments": {"x-consumer-timeout": 9}}),
        ({"name": "mails", "type": "classic"}, {}),
        ({"vhost": "blog", "type": "classic"}, {}),
    ],
)
def test_a_queue_that_the_inventory_declares_as_well(entry: dict[str, Any], differs: dict[str, Any]) -> None:
    stack = declaring(queues=[{"vhost": "shop", "name": "payments", **entry}])
    expected = [("rabbitmq_queues.payments", differs, "payments", "shop")] if differs else []
    assert [about(finding) for finding in found(stack).get("declared-otherwise", [])] == expected


@pytest.mark.parametrize(
    ("entry", "differs"),
    [
        ({"type": "topic"}, {}),
        ({"type": "topic", "internal": False, "durable": True}, {}),
        ({}, {"type": "direct"}),
        ({"type": "topic", "internal": True}, {"internal": True}),
        ({"type": "fanout", "durable": False}, {"durable": False, "type": "fanout"}),
        ({"type": "topic", "arguments": {"alternate-exchange": "x"}}, {"arguments": {"alternate-exchange": "x"}}),
        ({"name": "other"}, {}),
        ({"vhost": "blog"}, {}),
    ],
)
def test_an_exchange_that_the_inventory_declares_as_well(entry: dict[str, Any], differs: dict[str, Any]) -> None:
    stack = declaring(TASKS, exchanges=[{"vhost": "shop", "name": "tasks", **entry}])
    expected = [("rabbitmq_exchanges.tasks", differs, "tasks", "shop")] if differs else []
    assert [about(finding) for finding in found(stack).get("declared-otherwise", [])] == expected


@pytest.mark.parametrize("name", ["shop", "shop-flower"])
@pytest.mark.parametrize("secret", ["password", "password_hash"])
def test_an_account_of_an_app_with_another_password(name: str, secret: str) -> None:
    users = [{"name": name, secret: "Zq8wLm2xVt5rKd4n"}]
    finding = only(declaring(users=users), "account-of-an-app")
    assert about(finding) == (f"rabbitmq_users.{name}.{secret}", "(not shown)", name, "shop")
    assert found(declaring(users=[{"name": name, "tags": ["management"]}])) == {}
    assert found(declaring(users=[{"name": f"{name}s", secret: "x"}])) == {}
    assert found(declaring(with_app(given=frozenset({"celery_app_broker_url"})), users=users)) == {}
    assert found(declaring(with_app(broker_addresses=("mq1:5672/other",)), users=users)) == {}
    own = replace(RABBITMQ, variables={"rabbitmq_users": users}, given=frozenset({"rabbitmq_extra_definitions"}))
    assert found(replace(STACK, servers=(own, REDIS))) == {}


def test_objects_of_rabbitmq_are_nothing_to_an_app_on_redis() -> None:
    stack = with_app(**{**REDIS_BROKER, "broker_addresses": ("mq1:5672/shop",)})
    everything = {"policies": [limit()], "queues": [{"vhost": "shop", "name": "payments", "type": "classic"}]}
    assert found(declaring(stack, **everything)) == {}


def test_every_place_and_every_object_there_is_looked_at() -> None:
    guest = named("guest", broker_addresses=("mq1:5672/shop",), queues={})
    stack = apps(guest, replace(SHOP, **DEAD))
    accounts = found(declaring(stack, users=[{"name": "shop", "password": "long enough"}]))["account-of-an-app"]
    assert [finding.subject for finding in accounts] == ["shop"]
    displaced = found(declaring(stack, policies=[limit()]))["policy-without-dead-letters"]
    assert [finding.app for finding in displaced] == ["shop"]
    objects = {
        kind: [{"vhost": "blog", "name": name}, {"vhost": "shop", "name": name, "durable": False}]
        for kind, name in (("queues", "payments"), ("exchanges", "tasks"))
    }
    findings = found(declaring(TASKS, **objects))["declared-otherwise"]
    assert [finding.problem.variable for finding in findings] == [
        "rabbitmq_queues.payments",
        "rabbitmq_exchanges.tasks",
    ]
