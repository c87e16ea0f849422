"""Objects of RabbitMQ: what is declared, with what it is when nothing more is said, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from rabbitmq_plans import planned, refused

SHOP = {"vhosts": [{"name": "shop"}]}


def test_own_objects_are_merged_over_the_extra_ones() -> None:
    extra = {
        "vhosts": [{"name": "shop"}],
        "policies": [{"name": "p", "vhost": "shop", "pattern": "^a", "definition": {"delivery-limit": 5}}],
    }
    own = [{"name": "p", "vhost": "shop", "definition": {"delivery-limit": 9}}]
    result = planned(extra_definitions=extra, policies=own)["definitions"]
    assert result["policies"] == [
        {
            "vhost": "shop",
            "name": "p",
            "pattern": "^a",
            "apply-to": "queues",
            "priority": 0,
            "definition": own[0]["definition"],
        }
    ]


def test_document_of_all_kinds() -> None:
    result = planned(
        vhosts=[{"name": "shop", "description": "d", "max_queues": 9}],
        users=[
            {
                "name": "shop",
                "password": "long enough",
                "permissions": [{"vhost": "shop", "read": ".*"}],
                "topic_permissions": [{"vhost": "shop", "exchange": "e", "write": "^a"}],
                "max_channels": 5,
            }
        ],
        operator_policies=[{"name": "o", "vhost": "shop", "pattern": ".*", "definition": {"max-length": 5}}],
        queues=[{"name": "q", "vhost": "shop"}],
        exchanges=[{"name": "e", "vhost": "shop", "type": "topic"}],
        bindings=[{"vhost": "shop", "source": "e", "destination": "q"}],
        cluster_name="shop",
    )["definitions"]
    assert result["permissions"] == [
        {"vhost": "shop", "user": "admin", "configure": ".*", "write": ".*", "read": ".*"},
        {"vhost": "shop", "user": "shop", "configure": "", "write": "", "read": ".*"},
    ]
    assert result["users"][1] == {"name": "shop", "tags": [], "limits": {"max-channels": 5}}
    assert [entry["component"] for entry in result["parameters"]] == ["vhost-limits", "operator_policy"]
    assert result["queues"][0]["arguments"] == {"x-queue-type": "quorum"}
    assert result["bindings"][0]["destination_type"] == "queue"
    assert result["global_parameters"] == [{"name": "cluster_name", "value": "shop"}]


def test_what_an_object_is_when_only_its_name_is_given() -> None:
    objects = {
        "exchanges": [
            {"name": "e", "vhost": "shop"},
            {"name": "t", "vhost": "shop", "type": "topic", "durable": False},
        ],
        "bindings": [{"vhost": "shop", "source": "e", "destination": "q"}],
    }
    result = planned(vhosts=[{"name": "shop"}, {"name": "crm", "tags": ["a"]}], **objects)["definitions"]
    assert result["vhosts"] == [{"name": "shop"}, {"name": "crm", "tags": ["a"], "metadata": {"tags": ["a"]}}]
    assert [(entry["type"], entry["durable"]) for entry in result["exchanges"]] == [("direct", True), ("topic", False)]
    assert result["bindings"][0]["routing_key"] == ""


def test_bindings_differ_by_their_arguments_and_others_by_their_names() -> None:
    one = {"vhost": "shop", "source": "e", "destination": "q", "routing_key": "a"}
    other = {**one, "arguments": {"x": 1}}
    result = planned(**SHOP, bindings=[one, other])["definitions"]["bindings"]
    assert [(entry["routing_key"], entry["arguments"]) for entry in result] == [("a", {}), ("a", {"x": 1})]
    queues = [{"name": "q", "vhost": "shop"}, {"name": "r", "vhost": "shop"}]
    assert len(planned(**SHOP, queues=queues)["definitions"]["queues"]) == 2


VHOSTLESS = {"name": "a", "password": "long enough"}


@pytest.mark.parametrize(
    ("given", "identity", "where", "value"),
    [
        ({"admin_user": "guest"}, "cannot-be-the-administrators-name", "admin_user", "guest"),
        ({"admin_password": "7 chars"}, "too-short", "admin_password", "(not shown)"),
        ({"erlang_cookie": "has spaces in it, sadly"}, "not-an-erlang-cookie", "erlang_cookie", "(not shown)"),
        ({"users": [{"name": "a"}]}, "password-missing", "users.a", "a"),
        ({"users": [{"name": "guest", "password": "long enough"}]}, "user-name-not-allowed", "users", "guest"),
        ({"users": [{"name": "a", "password": "short"}]}, "too-short", "users.a.password", "(not shown)"),
        (
            {"users": [{**VHOSTLESS, "permissions": [{"vhost": "x"}]}]},
            "no-declared-virtual-host",
            "users.a.permissions",
            "x",
        ),
        (
            {"users": [{**VHOSTLESS, "permissions": [{"vhost": "shop", "read": "("}]}]},
            "not-a-regular-expression",
            "users.a.permissions.read",
            "(",
        ),
        ({"users": [VHOSTLESS] * 2}, "declared-twice", "users", "a"),
        ({"queues": [{"name": "q", "vhost": "shop"}] * 2}, "declared-twice", "queues", "shop/q"),
        (
            {"queues": [{"name": "q", "vhost": "shop"}, {"name": "q", "vhost": "shop", "arguments": {"x": 1}}]},
            "declared-twice",
            "queues",
            "shop/q",
        ),
        (
            {"bindings": [{"vhost": "shop", "source": "e", "destination": "q", "routing_key": "a"}] * 2},
            "declared-twice",
            "bindings",
            "shop/e/q/a",
        ),
        ({"queues": [{"name": "q", "vhost": "x"}]}, "not-declared", "queues.q.vhost", "x"),
        ({"prune": ["queue"]}, "no-kind-of-object", "prune", "queue"),
    ],
)
def test_objects_that_are_refused(given: dict[str, Any], identity: str, where: str, value: str) -> None:
    (problem,) = refused(**{**SHOP, **given})
    assert (problem.id, problem.variable, problem.value) == (identity, f"rabbitmq_{where}", value)


def test_objects_that_are_removed_are_of_a_kind() -> None:
    assert refused(prune=["queue"])[0].instead == "queues (did you mean that?)"
    planned(prune=["queues"])


def test_a_password_on_loopback_has_eight_characters() -> None:
    planned(admin_password="8 chars!")
    assert " 8 " in refused(admin_password="7 chars")[0].instead


@pytest.mark.parametrize(
    ("queue", "fits"),
    [
        ({"type": "classic", "durable": False}, True),
        ({"type": "classic", "auto_delete": True}, True),
        ({"type": "quorum"}, True),
        ({"type": "quorum", "durable": False}, False),
        ({"auto_delete": True}, False),
        ({"type": "stream", "durable": False}, False),
    ],
)
def test_queues_that_keep_copies_stay(queue: dict[str, Any], fits: bool) -> None:
    problems = refused(**SHOP, queues=[{"name": "q", "vhost": "shop", **queue}])
    assert [(problem.variable, problem.value) for problem in problems] == (
        [] if fits else [("rabbitmq_queues.q", queue.get("type", "quorum"))]
    )
