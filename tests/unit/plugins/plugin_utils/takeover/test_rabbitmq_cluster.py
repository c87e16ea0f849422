"""A run on a RabbitMQ cluster that is there."""

from __future__ import annotations

from typing import Any

from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.rabbitmq_cluster import (
    different_series,
    emptied_nodes,
    separate_brokers,
    spared,
)


def plans(blank: str = "", **series: str) -> dict[str, dict[str, Any]]:
    nodes = [f"rabbit@{name}" for name in ("mq1", "mq2", "mq3")]
    return {
        name: {
            "node": {"name": f"rabbit@{name}"},
            "cluster": nodes,
            "blank": name == blank,
            "series": series.get(name, ""),
        }
        for name in ("mq1", "mq2", "mq3")
    }


FOUND = {
    "mq1": {"peers": {"rabbit@mq1": ["rabbit@mq2", "rabbit@mq3"]}},
    "mq2": {"peers": {"rabbit@mq2": ["rabbit@mq1", "rabbit@mq3"]}},
}


def test_an_emptied_node_is_forgotten_first() -> None:
    (problem,) = emptied_nodes(plans(blank="mq3"), FOUND)
    assert told([problem]) == [("forget-the-node-first", "rabbitmq_nodes")]
    assert problem.instead.endswith("celeryops.stack.remove_node with -e celeryops_remove_node=mq3")


def test_a_node_that_nobody_knows_may_join() -> None:
    known = {"mq1": {"peers": {"rabbit@mq1": ["rabbit@mq2"]}}, "mq2": {"peers": {"rabbit@mq2": ["rabbit@mq1"]}}}
    assert list(emptied_nodes(plans(blank="mq3"), known)) == []
    assert list(emptied_nodes(plans(blank="mq3"), {})) == []
    assert list(emptied_nodes(plans(), FOUND)) == []


def test_two_brokers_are_not_made_one() -> None:
    known = plans(mq1="4.0", mq2="4.0", mq3="4.0")
    lone = {"nodes": ["rabbit@x"], "peers": {}}
    (problem,) = separate_brokers(known, {"mq1": lone, "mq2": lone})
    assert told([problem]) == [("separate-brokers", "rabbitmq")]
    # One that grows, and one cluster of which a node has not been told of the last one yet.
    blank = {**known, "mq2": {**known["mq2"], "blank": True}, "mq3": {**known["mq3"], "blank": True}}
    assert list(separate_brokers(blank, {"mq1": lone, "mq2": {}, "mq3": {}})) == []
    assert list(separate_brokers(known, {**FOUND, "mq3": lone})) == []
    # Khepri does not tell.
    assert list(separate_brokers(plans(mq1="4.3", mq2="4.3", mq3="4.3"), {"mq1": lone, "mq2": lone})) == []


def test_nodes_of_one_cluster_have_one_version() -> None:
    assert list(different_series(plans(mq1="4.0", mq2="4.0"))) == []
    (problem,) = different_series(plans(mq1="4.0", mq2="4.0", mq3="4.3"))
    assert told([problem]) == [("different-versions", "rabbitmq")]
    assert "4.3 on mq3" in problem.reason
    # Two brokers that have nothing to do with each other.
    apart = {host: {**plan, "cluster": []} for host, plan in plans(mq1="4.0", mq2="4.3").items()}
    assert list(different_series(apart)) == []


def test_a_run_goes_on_without_a_minority_of_the_nodes() -> None:
    everybody = {"mq1", "mq2", "mq3"}
    assert spared(plans(), everybody, {"mq3"}) == ["mq3"]
    assert spared(plans(), everybody, {"mq2", "mq3"}) == [], "most are lost"
    assert spared(plans(), {"mq1", "mq3"}, {"mq3"}) == [], "nobody has looked at mq2"
    assert spared(plans(), everybody, everybody) == []
    assert spared(plans(), everybody, ()) == []
    assert spared({"mq1": {"cluster": []}}, {"mq1"}, {"mq1"}) == [], "the only server"


def test_no_run_goes_on_without_a_node_while_others_join_or_nobody_knows_its_name() -> None:
    everybody = {"mq1", "mq2", "mq3"}
    assert spared(plans(blank="mq2"), everybody, {"mq3"}) == []
    # Of a lost host nobody knows what it has.
    assert spared(plans(blank="mq3"), everybody, {"mq3"}) == ["mq3"]
    nameless = {host: {**plan, "cluster": ["rabbit@mq1", "rabbit@mq2", ""]} for host, plan in plans().items()}
    assert spared(nameless, everybody, {"mq3"}) == []
