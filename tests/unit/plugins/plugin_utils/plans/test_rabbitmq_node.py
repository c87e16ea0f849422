"""The node of a RabbitMQ: its name, its environment, its plugins."""

from __future__ import annotations

from typing import Any

import pytest
from problems import told
from rabbitmq_plans import FACTS, ROLE, planned, refused, variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq import plan as plan_of


def test_the_environment_of_the_server() -> None:
    local = "-kernel inet_dist_use_interface {127,0,0,1}"
    assert planned(node_name="rabbit@mq1.example.org", open_files=65537)["environment"] == [
        {"name": "NODENAME", "value": "rabbit@mq1.example.org", "export": False},
        {"name": "USE_LONGNAME", "value": "true", "export": False},
        {"name": "ERL_EPMD_ADDRESS", "value": "127.0.0.1", "export": True},
        {"name": "SERVER_ADDITIONAL_ERL_ARGS", "value": local, "export": False},
        {"name": "CTL_ERL_ARGS", "value": local, "export": False},
        {"name": "ERL_INETRC", "value": "/etc/rabbitmq/erl_inetrc", "export": True},
        {"name": "ERL_MAX_PORTS", "value": "65537", "export": True},
    ]
    for files in (1024, 65536):
        assert "ERL_MAX_PORTS" not in [entry["name"] for entry in planned(open_files=files)["environment"]]
    elsewhere = [entry["name"] for entry in planned(cluster_listen_address="10.0.0.5")["environment"]]
    assert elsewhere == ["NODENAME", "ERL_EPMD_ADDRESS", "SERVER_ADDITIONAL_ERL_ARGS", "CTL_ERL_ARGS"]


@pytest.mark.parametrize("files", [1024, 2**20])
def test_more_files_than_erlang_expects(files: int) -> None:
    assert ("ERL_MAX_PORTS" in [entry["name"] for entry in planned(open_files=files)["environment"]]) is (files > 65536)


@pytest.mark.parametrize(
    ("connections", "files", "needed"),
    [("0", 65536, 0), ("300", 65536, 450), ("43690", 65536, 65535), (43691, 65536, 65536), ("43692", 131072, 65538)],
)
def test_the_open_files_follow_the_connections(connections: object, files: int, needed: int) -> None:
    plan = planned(connections=connections)
    assert (plan["open_files"], plan["needed_files"]) == (files, needed)
    ports = [entry["value"] for entry in plan["environment"] if entry["name"] == "ERL_MAX_PORTS"]
    assert ports == [str(files)] * (files > 65536)


def test_the_open_files_that_are_written_are_enough() -> None:
    assert planned(connections="2000", open_files=3000)["open_files"] == 3000
    [problem] = refused(connections="2000", open_files=2999)
    assert (problem.id, problem.variable, problem.value) == ("too-few-for-clients", "rabbitmq_open_files", 2999)
    assert "3000 or more" in str(problem)


@pytest.mark.parametrize(
    ("given", "identity"),
    [
        ({"connections": "many"}, "not-a-number"),
        ({"connections": "-1"}, "not-a-number"),
        *(({"open_files": files}, "out-of-range") for files in (1023, 2**20 + 1)),
        ({"cluster_listen_address": "::1"}, "not-an-ipv4-address"),
        ({"node_name": "rabbit"}, "not-the-name"),
        ({"nodes": ["rabbit@a"]}, "does-not-name-this-node"),
        ({"plugins": ["rabbitmq_prometheus"]}, "management-plugin-missing"),
        ({"plugins": ["rabbitmq_management", "Bad"]}, "not-the-name"),
    ],
)
def test_what_no_node_has_is_refused(given: dict[str, Any], identity: str) -> None:
    (name,) = given
    assert (identity, f"rabbitmq_{name}") in told(refused(**given))


def test_a_node_is_told_with_its_own_name() -> None:
    (problem,) = refused(nodes=["rabbit@a"])
    assert problem.instead.startswith("rabbit@mq1 as well,")
    planned(nodes=["rabbit@mq1"])


CLUSTER = {
    "nodes": ["rabbit@mq1", "rabbit@mq2", "rabbit@mq3"],
    "cluster_listen_address": "10.0.0.1",
    "node_addresses": {"rabbit@mq1": "10.0.0.1", "rabbit@mq2": "10.0.0.2"},
}


def test_a_cluster_resolves_the_names_of_its_nodes_itself() -> None:
    plan = planned(**CLUSTER)
    assert plan["hosts"] == [{"name": "mq1", "octets": "10, 0, 0, 1"}, {"name": "mq2", "octets": "10, 0, 0, 2"}]
    assert {"name": "ERL_INETRC", "value": "/etc/rabbitmq/erl_inetrc", "export": True} in plan["environment"]
    assert plan["cluster"] == CLUSTER["nodes"]
    assert planned(nodes=["rabbit@mq1"], node_addresses={"rabbit@mq1": "10.0.0.1"})["hosts"] == []
    # Without an address of a peer, the host's own ways have to do.
    plan = planned(**CLUSTER | {"node_addresses": {}})
    assert "ERL_INETRC" not in [entry["name"] for entry in plan["environment"]]


@pytest.mark.parametrize(
    ("given", "identity", "name"),
    [
        ({"cluster_listen_address": "127.0.0.1"}, "cluster-on-loopback", "cluster_listen_address"),
        ({"nodes": ["rabbit@mq1", "rabbit@mq1"]}, "names-a-node-twice", "nodes"),
        ({"nodes": ["rabbit@mq1", "", "rabbit@mq3"]}, "nodes-not-known", "nodes"),
        ({"nodes": ["rabbit@mq2", "rabbit@mq3", "rabbit@mq4"]}, "does-not-name-this-node", "nodes"),
        ({"node_addresses": {"rabbit@mq1": "mq1"}}, "not-an-ipv4-address", "node_addresses.rabbit@mq1"),
    ],
)
def test_what_no_cluster_has_is_refused(given: dict[str, Any], identity: str, name: str) -> None:
    assert (identity, f"rabbitmq_{name}") in told(refused(**CLUSTER | given))


def debian(number: str, release: str, **given: Any) -> dict[str, Any]:
    facts = {**FACTS, "distribution_major_version": number, "distribution_release": release}
    result, problems = plan_of(variables(**given), facts)
    assert problems == []
    return dict(result)


@pytest.mark.parametrize(
    ("number", "release", "given", "wanted"),
    [
        ("12", "bookworm", CLUSTER, True),
        ("13", "trixie", CLUSTER, True),
        ("14", "forky", CLUSTER, False),
        ("13", "trixie", {}, False),
        ("13", "trixie", {"nodes": ["rabbit@mq1"]}, False),
    ],
)
def test_a_partition_is_watched_where_nobody_else_ends_it(
    number: str, release: str, given: dict[str, Any], *, wanted: bool
) -> None:
    plan = debian(number, release, **given)
    path = "/etc/rabbitmq/celeryops-partition.erl"
    assert plan["partition_watch"] == {"path": path, "wanted": wanted}
    assert ({"path": path} in plan["stale_files"]) is not wanted
    service = render(ROLE / "templates" / "service.conf.j2", {"plan": plan})
    assert (f' -eval {{ok,_}}=file:script(\\\\\\"{path}\\\\\\")"\n' in service) is wanted
    assert ("\nRestartSec=3\n" in service) is wanted


def test_before_the_hosts_are_looked_at_nobody_knows_their_nodes() -> None:
    assert refused({}, **CLUSTER | {"nodes": ["", "", ""], "node_addresses": {"": "10.0.0.3"}}) == []
