"""Machines, duties and servers in the model of a deployment."""

from __future__ import annotations

from typing import Any

import pytest
from assembled import GIB, app, machine, model, rabbitmq, role, worker
from worker_plans import variables as worker_variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.build import Planned
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Duty, Machine, Server

# Machines


def test_what_is_known_of_a_machine_counts_before_what_is_said() -> None:
    assert machine({}) == Machine("app1", "app1")
    said = {"ansible_host": "10.0.0.1", "celery_worker_host_cores": 1, "celery_worker_host_memory": "2G"}
    assert machine({}, **said) == Machine("app1", "10.0.0.1", cores=1, memory=2 * GIB)
    facts = {
        "hostname": "web",
        "processor_vcpus": 4,
        "memtotal_mb": 1024,
        "distribution": "Debian",
        "distribution_major_version": "13",
    }
    known = Machine("app1", "10.0.0.1", hostname="web", cores=4, memory=GIB, distribution="Debian 13")
    assert machine(facts, **said) == known


@pytest.mark.parametrize(
    ("said", "identity"),
    [
        ({}, "app1"),
        ({"ansible_host": "Web.Example.com."}, "web.example.com"),
        ({"ansible_host": "127.0.0.1", "ansible_port": 2222}, "[127.0.0.1]:2222"),
        ({"ansible_host": "127.0.0.1", "ansible_port": "2222"}, "[127.0.0.1]:2222"),
        ({"ansible_host": "10.0.0.1", "ansible_port": 22}, "10.0.0.1"),
        ({"ansible_port": "22"}, "app1"),
    ],
)
def test_one_name_for_a_machine(said: dict[str, Any], identity: str) -> None:
    assert machine({}, **said).identity == identity


def test_loopback_is_another_machine_behind_each_port() -> None:
    own = app(once_url="redis://u:p@127.0.0.1/0")
    ports = {("app1", "ansible_port"): 2222, ("app2", "ansible_port"): 2200}
    said = {**ports, ("app1", "ansible_host"): "127.0.0.1", ("app2", "ansible_host"): "127.0.0.1"}
    found = model({("celery_app", "app1"): own, ("celery_app", "app2"): own}, said=said).apps["shop"]
    places = [variables["celery_app_once_url"] for _host, variables in found.variants]
    assert places == [("[127.0.0.1]:2222:6379/0",), ("[127.0.0.1]:2200:6379/0",)]


def test_a_node_has_the_whole_name_of_its_machine() -> None:
    assert machine({"hostname": "app1", "nodename": "app1.eu.example.com"}).hostname == "app1.eu.example.com"
    assert machine({"hostname": "app1"}).hostname == "app1"
    assert machine({"hostname": ""}).hostname is None


@pytest.mark.parametrize("cores", [4, "4", " 4 "])
def test_a_number_of_processors_may_be_text(cores: Any) -> None:
    assert machine({}, celery_worker_host_cores=cores).cores == 4


@pytest.mark.parametrize("cores", [0, -1, "0", "-1", "many", True, None, "\u00b2"])
def test_what_is_no_number_of_processors_is_not_known(cores: Any) -> None:
    assert machine({}, celery_worker_host_cores=cores).cores is None


def test_what_is_no_size_is_no_memory() -> None:
    assert machine({}, celery_worker_host_memory="plenty").memory is None


# Duties, accounts, servers


def test_beat_and_flower_are_duties_where_they_are_not_absent() -> None:
    beat = {"celery_beat_app": "shop", "celery_beat_state": "present"}
    flower = {"flower_app": "shop", "flower_state": "absent"}
    found = model({("celery_beat", "app1"): role(beat), ("flower", "app1"): role(flower), ("flower", "app2"): role({})})
    assert found.duties == (Duty("celery_beat", "shop", "app1", beat), Duty("flower", "", "app2", {}))


def test_a_role_that_is_told_to_run_another_app() -> None:
    hosts = {
        ("celery_app", "app1"): app(),
        ("celery_worker", "app1"): worker("celery_worker_app", app="crm"),
        ("celery_beat", "app1"): role({"celery_beat_app": "crm"}),
        ("flower", "app1"): role({"flower_app": "shop"}, "flower_app"),
        ("flower", "mon1"): role({"flower_app": "crm"}, "flower_app"),
    }
    assert model(hosts).strays == (("celery_worker_app", "crm", "app1", "shop"),)


def test_processes_with_another_account_than_their_app() -> None:
    def accounts(own: Planned, **of_app: Any) -> tuple[Any, ...]:
        return model({("celery_app", "app1"): app(**of_app), ("celery_worker", "app1"): own}).accounts

    assert accounts(worker()) == ()
    assert accounts(worker(user="third")) == (("celery_worker_user", "third", "app1", "shop", "shop"),)
    assert accounts(worker(group="third"), group="crew") == (("celery_worker_group", "third", "app1", "shop", "crew"),)
    for told in ("root", "No Name"):
        assert accounts(worker(user=told)) == ()
        assert [account for _variable, account, *_rest in accounts(worker(user=told, group="third"))] == ["third"]
    for variable in ("celery_worker_user", "celery_app_user"):
        assert accounts(role(worker_variables(user="third"), unusable=frozenset({variable}))) == ()
    beat = {"celery_beat_user": "third", "celery_beat_group": "shop"}
    found = model({("celery_app", "app1"): app(), ("celery_beat", "app1"): role(beat), ("flower", "app1"): role({})})
    assert found.accounts == (("celery_beat_user", "third", "app1", "shop", "shop"),)
    assert model({("celery_beat", "app1"): role(beat)}).accounts == ()


def test_the_model_of_a_server() -> None:
    own = {"rabbitmq_port": 5673, "rabbitmq_listen_addresses": ["10.0.0.1"], "rabbitmq_consumer_timeout": "3h"}
    planned = {
        ("rabbitmq", "mq1"): role(own, "rabbitmq_port"),
        ("redis", "mq1"): role({"redis_port": 6380, "redis_bind": ["-::1"]}),
    }
    debian = {"distribution": "Debian", "distribution_major_version": "13"}
    assert model(planned, facts={"mq1": debian}).servers == (
        Server("rabbitmq", "mq1", ("10.0.0.1",), 5673, (4, 0), 3 * 3600, own, frozenset({"rabbitmq_port"})),
        Server("redis", "mq1", ("::1",), 6380, variables={"redis_port": 6380, "redis_bind": ["-::1"]}),
    )
    assert rabbitmq(rabbitmq_port="x").port == 0


@pytest.mark.parametrize(
    ("own", "seconds"),
    [
        ({"rabbitmq_consumer_timeout": "30m"}, 1800),
        ({"rabbitmq_consumer_timeout": "soon"}, 0),
        ({"rabbitmq_config": {"consumer_timeout": 7_200_999}}, 7200),
        ({"rabbitmq_config": {"consumer_timeout": "3600000"}}, 3600),
        ({"rabbitmq_config": {"consumer_timeout": "undefined"}}, 1800),
        ({"rabbitmq_config": {"consumer_timeout": 10**18}}, 1800),
        ({"rabbitmq_config": {"consumer_timeout": 10**18 - 1}}, 10**15 - 1),
        ({"rabbitmq_config": ["x"]}, 1800),
    ],
)
def test_how_long_rabbitmq_waits(own: dict[str, Any], seconds: int) -> None:
    assert rabbitmq(**own).consumer_timeout == seconds


@pytest.mark.parametrize(
    ("facts", "own", "version"),
    [
        ({}, {}, None),
        ({"distribution": "Ubuntu", "distribution_major_version": "12"}, {}, None),
        ({"distribution": "Debian", "distribution_major_version": "12"}, {}, (3, 10)),
        ({"distribution": "Debian", "distribution_major_version": "13"}, {}, (4, 0)),
        ({"distribution": "Debian", "distribution_major_version": "testing"}, {}, (4, 3)),
        ({"distribution": "Debian"}, {"rabbitmq_repository": {"url": "x"}}, None),
        ({"distribution": "Debian"}, {"rabbitmq_version": "4.2.1-1"}, (4, 2)),
        ({}, {"rabbitmq_version": "1:3.13"}, (3, 13)),
        ({}, {"rabbitmq_version": "latest"}, None),
    ],
)
def test_the_version_of_rabbitmq_where_it_is_known(
    facts: dict[str, Any], own: dict[str, Any], version: tuple[int, int] | None
) -> None:
    assert rabbitmq(facts, **own).version == version


# Logins


@pytest.mark.parametrize(
    ("url", "hosts", "direct"),
    [
        ("redis://shop:x@c1:6379/0", {"c1"}, True),
        ("sentinel://shop:x@s1:26379/0;sentinel://shop:x@s2:26379/0", {"c1", "c2"}, False),
        ("sentinel://shop:x@elsewhere:26379/0", set(), None),
        ("rediss://shop:x@c1:6379/0", set(), None),
    ],
)
def test_sentinels_lead_to_each_server_that_they_watch(url: str, hosts: set[str], direct: bool | None) -> None:
    planned = {
        ("celery_app", "app1"): app("celery_app_result_backend", result_backend=url, sentinel_master_name="x"),
        **{("redis", host): role({"redis_port": 6379, "redis_bind": ["0.0.0.0"]}) for host in ("c1", "c2")},
        ("celery_app", "s1"): app(),
    }
    groups = {"redis": ["c1", "c2"], "sentinel": ["s1", "s2"]}
    logins = model(planned, groups).apps["shop"].logins
    assert {login.host for login in logins} == hosts
    assert {(login.user, login.direct) for login in logins} == ({("shop", direct)} if hosts else set())
