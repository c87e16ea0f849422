"""What the answers of the management API say of a cluster."""

from __future__ import annotations

from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_cluster import (
    alone,
    cannot_leave,
    consuming_on,
    kept_only_on,
    leave_command,
    member_called,
    members_on,
    missing_members,
    node_faults,
    offline_members,
    streams_without,
)

NODES = ["rabbit@a", "rabbit@b", "rabbit@c"]


def nodes(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return three nodes that run; a keyword says what is otherwise of one, None that it is not there."""
    return [
        {"name": f"rabbit@{name}", "running": True, "partitions": [], **changes.get(name, {})}
        for name in "abc"
        if changes.get(name, {}) is not None
    ]


def queue(name: str, members: str, online: str | None = None, **more: Any) -> dict[str, Any]:
    where = [f"rabbit@{one}" for one in members]
    up = [f"rabbit@{one}" for one in (members if online is None else online)]
    return {"vhost": "shop", "name": name, "type": "quorum", "members": where, "online": up, **more}


def test_a_whole_cluster_has_no_fault() -> None:
    assert node_faults(NODES, nodes()) == []
    # A node that has just started does not tell of partitions yet.
    assert node_faults(NODES, [{"name": name, "running": True} for name in NODES]) == []


def test_every_fault_of_a_cluster_is_told() -> None:
    assert node_faults(NODES, nodes()[:2]) == ["rabbit@c is not a member"]
    assert node_faults(NODES[:2], nodes()) == ["rabbit@c is a member and not in the inventory"]
    assert node_faults(NODES, nodes(b={"running": False})) == ["rabbit@b does not run"]
    assert node_faults(NODES, nodes(a={"partitions": ["rabbit@b", "rabbit@c"]})) == [
        "rabbit@a does not see rabbit@b, rabbit@c (a partition)"
    ]


def test_a_node_that_may_be_down_is_no_fault() -> None:
    down = nodes(a={"partitions": ["rabbit@c"]}, c={"running": False, "partitions": ["rabbit@a"]})
    assert node_faults(NODES, down, ["rabbit@c"]) == []
    assert node_faults(NODES, nodes()[:2], ["rabbit@c"]) == ["rabbit@c is not a member"]
    both = nodes(a={"partitions": ["rabbit@b", "rabbit@c"]}, b={"running": False}, c={"running": False})
    assert node_faults(NODES, both, ["rabbit@c"]) == [
        "rabbit@a does not see rabbit@b (a partition)",
        "rabbit@b does not run",
    ]


def test_a_node_that_is_a_broker_of_its_own() -> None:
    assert alone("rabbit@a", nodes()[:1])
    assert not alone("rabbit@a", nodes())
    assert not alone("rabbit@a", nodes()[1:2])


def test_queues_without_a_member_on_a_node() -> None:
    classic = {"vhost": "shop", "name": "old", "type": "classic"}
    queues = [queue("one", "abc"), queue("two", "a"), queue("three", "ab"), classic]
    assert missing_members(NODES, queues) == {"rabbit@b": ["shop/two"], "rabbit@c": ["shop/two", "shop/three"]}
    assert missing_members(NODES, queues[:1]) == {}


def test_queues_with_a_member_that_is_not_online() -> None:
    assert offline_members([queue("one", "abc"), queue("two", "abc", "ab")]) == ["shop/two"]
    assert offline_members([{"vhost": "shop", "name": "old", "type": "classic", "members": ["rabbit@a"]}]) == []
    assert offline_members([queue("one", "abc", "ab"), queue("two", "abc", "a")], ["rabbit@c"]) == ["shop/two"]


def test_a_member_is_called_by_its_name_or_its_host() -> None:
    assert member_called("rabbit@b", nodes()) == member_called("b", nodes()) == "rabbit@b"
    assert member_called("d", nodes()) == ""
    # Two nodes on one host.
    assert member_called("a", [*nodes(), {"name": "other@a"}]) == ""


def test_a_member_that_runs_leaves_a_whole_cluster() -> None:
    queues = [queue("one", "abc"), queue("two", "a")]
    assert cannot_leave("rabbit@a", nodes(), queues) == ([], [])
    assert cannot_leave("rabbit@a", nodes(b={"running": False}), queues) == (["rabbit@b does not run"], [])
    assert cannot_leave("rabbit@a", nodes()[:1], queues) == (["it is the only member"], [])
    assert cannot_leave("rabbit@a", nodes()[:2], queues) == ([], [])
    apart = nodes(c={"partitions": ["rabbit@a"]})
    assert cannot_leave("rabbit@a", apart, queues) == (["rabbit@c is partitioned from others"], [])


def test_a_member_that_is_dead_leaves_a_majority() -> None:
    dead = {"running": False}
    queues = [queue("one", "abc", "bc"), queue("elsewhere", "bc")]
    assert cannot_leave("rabbit@a", nodes(a=dead), queues) == ([], [])
    (reason,) = cannot_leave("rabbit@a", nodes(a=dead, b=dead), [])[0]
    assert reason == "only 1 of 3 members run, and that is no majority"
    # Half of them is no majority either, unless the Erlang node of the other one still runs.
    assert cannot_leave("rabbit@a", nodes(a=dead)[:2], [])[0] == ["only 1 of 2 members run, and that is no majority"]
    assert cannot_leave("rabbit@a", nodes(a=dead)[:2], [], erlang_runs=True)[0] == []
    # Of three it says nothing of the third one.
    assert cannot_leave("rabbit@a", nodes(a=dead, b=dead), [], erlang_runs=True)[0] == [reason]


def test_what_is_lost_with_a_member_that_is_dead() -> None:
    dead = nodes(a={"running": False})
    queues = [queue("alone", "a", ""), queue("half", "ab", "b"), queue("rest", "abc", "bc")]
    assert cannot_leave("rabbit@a", dead, queues) == (
        [],
        ["shop/alone, which has lost its quorum", "shop/half, which has lost its quorum"],
    )


def test_queues_on_one_node_alone() -> None:
    lasting = {"vhost": "shop", "node": "rabbit@a", "durable": True, "type": "classic"}
    queues = [
        {**lasting, "name": "kept"},
        {**lasting, "name": "own", "exclusive": True},
        {**lasting, "name": "passing", "auto_delete": True},
        {**lasting, "name": "fleeting", "durable": False},
        {**lasting, "name": "other", "node": "rabbit@b"},
        queue("quorum", "a", node="rabbit@a", durable=True),
    ]
    assert kept_only_on("rabbit@a", queues) == [("shop", "kept")]


def test_members_on_a_node() -> None:
    queues = [queue("one", "ab"), queue("log", "bc", type="stream"), {"vhost": "shop", "name": "old"}]
    assert members_on("rabbit@a", queues) == ["shop/one"]
    assert members_on("rabbit@b", queues) == ["shop/one", "shop/log"]
    assert streams_without(NODES, queues) == [(("shop", "log"), ["rabbit@a"])]


def consumer(client: str, node: str = "a", **more: Any) -> dict[str, Any]:
    where = {"connection_name": f"{client} -> 10.0.0.1:5672", "node": f"rabbit@{node}"}
    return {"ack_required": True, "channel_details": where, "queue": {"vhost": "shop", "name": "high"}, **more}


def test_tasks_are_consumed_where_messages_are_acknowledged() -> None:
    consumers = [
        consumer("10.0.0.8:4001"),
        consumer("10.0.0.8:4001"),
        consumer("10.0.0.9:4002", node="b"),
        # Remote control and events.
        consumer("10.0.0.9:4003", ack_required=False),
        # The channel has ended meanwhile.
        consumer("10.0.0.9:4004", channel_details={}),
        consumer("10.0.0.9:4005", queue={"vhost": "billing", "name": "high"}),
    ]
    assert consuming_on("rabbit@a", consumers) == {
        "10.0.0.8:4001 -> 10.0.0.1:5672": "shop",
        "10.0.0.9:4005 -> 10.0.0.1:5672": "billing",
    }


def test_workers_are_told_of_their_node_by_its_addresses_and_on_its_own_host_by_their_ports() -> None:
    names = [
        "10.0.0.8:4001 -> 10.0.0.1:5672",
        "10.0.0.9:4002 -> 10.0.0.1:5672",
        "[2001:db8::8]:4003 -> [2001:db8::1]:5672",
        "127.0.0.1:4005 -> 127.0.0.1:5672",
        "[::1]:4004 -> [::1]:5672",
    ]
    assert leave_command(names, 30) == {
        "method": "celeryops_leave",
        "arguments": {"addresses": ["10.0.0.1", "2001:db8::1"], "ports": [4004, 4005], "seconds": 30},
        "destination": None,
    }
