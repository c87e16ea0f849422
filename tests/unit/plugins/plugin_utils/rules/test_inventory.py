"""Groups, hosts and servers that do not fit together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployments import (
    RABBITMQ,
    REDIS,
    REDIS_BROKER,
    SHOP,
    STACK,
    about,
    beats,
    found,
    only,
    two_apps,
    with_app,
    with_server,
)

from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment, Login, Machine, Server
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, judge
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES

# Groups


@pytest.mark.parametrize(
    ("groups", "value"),
    [
        ({}, []),
        ({"all": [], "ungrouped": []}, []),
        ({"all": ["web1"], "empty": []}, []),
        ({"all": ["a"], "ungrouped": ["a"]}, ["ungrouped"]),
        ({"all": ["web1"], "web": ["web1"], "redis": []}, ["web"]),
    ],
)
def test_an_inventory_without_a_duty_is_told_with_its_groups(groups: dict[str, list[str]], value: list[str]) -> None:
    problem = only(Deployment(groups=groups), "no-duty").problem
    assert problem.value == value
    # Without any the inventory itself may be another one than was meant.
    assert ("path" in problem.instead) is not bool(value)


def test_a_misspelt_group_is_told_and_neither_a_lack_of_duties_nor_of_hosts() -> None:
    only(Deployment(groups={"celery_worker": ["app1"]}, unplaced={"high": ("app1",)}), "unknown-group")
    (finding,) = found(Deployment(groups={"web": ["web1"], "celery_worker": ["app1"]}))["unknown-group"]
    assert finding.problem.instead == "celery_workers"


def test_groups_that_nearly_are_duties() -> None:
    def told(**groups: list[str]) -> list[tuple[str, str]]:
        findings = found(replace(STACK, groups={**STACK.groups, **groups})).get("unknown-group", [])
        return [(finding.problem.value, finding.problem.instead) for finding in findings]

    misspelt = told(celery_worker=["a"], redis2=[], flowers=["b"])
    assert misspelt == [("celery_worker", "celery_workers"), ("flowers", "flower")]
    # Nobody is missed there: the hosts have the duty, or the group is a part of the right one or beside it.
    assert told(celery_worker=STACK.groups["celery_workers"][:1]) == []
    assert told(celery_workers_old=["a"]) == told(redis_exporter=["a"]) == []
    assert told(rabbit=["a"], Redis=["a"]) == [("rabbit", "rabbitmq"), ("Redis", "redis")]
    assert told(flower=["b"], flowers=["b"]) == []
    several = {"rabbitmqs": ["a"], "celery_beats": ["b"], "flowers": ["c"], "celery_workers": ["d"]}
    findings = found(replace(STACK, groups=several))["unknown-group"]
    assert [finding.problem.instead for finding in findings] == ["rabbitmq", "celery_beat", "flower"]


@pytest.mark.parametrize(
    ("servers", "sentinels", "identity"),
    [
        (1, 0, ""), (2, 3, ""), (9, 5, ""),
        (1, 3, "nothing-to-replace"), (0, 3, "nothing-to-replace"),
        (2, 0, "number-of-sentinels"), (3, 1, "number-of-sentinels"), (3, 2, "number-of-sentinels"),
        (3, 4, "number-of-sentinels"), (3, 7, "number-of-sentinels"), (10, 3, "too-many-replicas"),
    ],
)  # fmt: skip
def test_how_many_servers_have_the_same_data_and_who_watches_them(servers: int, sentinels: int, identity: str) -> None:
    caches = [replace(REDIS, host=f"cache{number}") for number in range(servers)]
    watching = [Server("sentinel", f"watch{number}") for number in range(sentinels)]
    findings = _of_replication(*caches, *watching)
    assert [finding.problem.id for finding in findings] == [identity] * bool(identity)


def _of_replication(*servers: Server) -> list[Finding]:
    machines = {server.host: Machine(server.host, "192.0.2.1") for server in servers}
    return found(replace(STACK, servers=servers, machines={**STACK.machines, **machines})).get("replication", [])


def test_one_engine_does_not_replicate_the_other() -> None:
    caches = [replace(REDIS, host=name, variables={"redis_implementation": name}) for name in ("redis", "valkey")]
    watching = [Server("sentinel", f"watch{number}") for number in range(3)]
    (finding,) = _of_replication(*caches, *watching)
    assert finding.problem.value == ["redis on redis", "valkey on valkey"]


def test_a_replica_is_no_address_for_a_client() -> None:
    direct = Login("celery_app_result_backend", "redis", "mq1", "shop")
    others = (replace(direct, direct=False), Login("celery_app_broker_url", "rabbitmq", "mq1", "shop", "shop"))
    watched = replace(
        STACK, servers=(*STACK.servers, replace(REDIS, host="app2")), groups={**STACK.groups, "sentinel": ["mq1"]}
    )
    (finding,) = found(with_app(watched, logins=frozenset({direct, *others})))["direct-to-replica"]
    assert about(finding) == ("celery_app_result_backend", "(not shown)", "celery_app_result_backend", "shop")
    assert "mq1" in finding.problem.reason
    assert "direct-to-replica" not in found(with_app(watched, logins=frozenset(others)))
    assert "direct-to-replica" not in found(with_app(logins=frozenset({direct})))


def test_a_host_runs_the_app_that_it_carries() -> None:
    finding = only(replace(STACK, strays=(("celery_worker_app", "crm", "app1", "shop"),)), "another-app")
    assert (finding.problem.variable, finding.problem.value) == ("celery_worker_app", "crm")


def test_a_weak_password_is_never_shown() -> None:
    finding = only(with_app(weak_passwords={"celery_app_broker_url": "is empty"}), "weak-password")
    assert (finding.subject, finding.problem.value) == ("celery_app_broker_url", "(not shown)")


# Beat

REDBEAT = ("redbeat.RedBeatScheduler", "redbeat:RedBeatScheduler")


def test_two_beats_need_redbeat() -> None:
    assert only(beats("", ""), "several-beats").problem.value == ["app1", "app2"]
    assert only(beats("redbeat.RedBeatScheduler", ""), "several-beats").subject == "shop"
    assert found(beats("redbeat.RedBeatScheduler", "redbeat.RedBeatScheduler")) == {}
    assert found(beats("redbeat:RedBeatScheduler", "redbeat.schedulers:RedBeatScheduler")) == {}
    assert only(beats("redbeater.Scheduler", "redbeater.Scheduler"), "several-beats")
    assert found(beats("")) == {}
    apart = two_apps(beats("", ""))
    split = (apart.duties[0], replace(apart.duties[1], app="blog"))
    assert "several-beats" not in found(replace(apart, duties=split))


def test_a_scheduler_of_ones_own_may_hold_a_lock() -> None:
    stack = beats("shop.beat:OurRedBeatScheduler", "shop.beat:OurRedBeatScheduler")
    assert only(stack, "several-beats").subject == "shop"
    accepted = replace(stack, apps={"shop": replace(SHOP, accepted=frozenset({"several-beats:shop"}))})
    assert judge(accepted, RULES).problems == []


def test_the_scheduler_may_stand_in_the_settings_of_the_app() -> None:
    def with_setting(stack: Deployment, scheduler: str) -> Deployment:
        return replace(stack, apps={"shop": replace(SHOP, own_settings={"beat_scheduler": scheduler})})

    assert found(with_setting(beats("", ""), "redbeat.RedBeatScheduler")) == {}
    assert only(with_setting(beats("", ""), "celery.beat.PersistentScheduler"), "several-beats")
    told = found(with_setting(beats("", "a.Scheduler"), "redbeat.RedBeatScheduler"))
    assert list(told) == ["several-beats", "given-twice"]


@pytest.mark.parametrize("scheduler", REDBEAT)
def test_redbeat_needs_a_redis(scheduler: str) -> None:
    def told(**changes: Any) -> Deployment:
        return replace(with_app(**changes), duties=beats(scheduler).duties)

    finding = only(told(has_results=False), "redbeat-without-redis")
    assert about(finding) == ("celery_beat_scheduler", scheduler, "shop", "shop")
    assert only(told(results_at="postgresql at db:5432/x"), "redbeat-without-redis")
    setting = replace(with_app(has_results=False, own_settings={"beat_scheduler": scheduler}), duties=beats("").duties)
    assert only(setting, "redbeat-without-redis").problem.value == scheduler
    for changes in (
        {},
        {"results_at": "Redis at cache:6379/0"},
        {**REDIS_BROKER, "has_results": False},
        {"has_results": False, "own_settings": {"redbeat_redis_url": "redis://cache/1"}},
    ):
        assert found(told(**changes)) == {}
    stranger = replace(beats(scheduler).duties[0], app="blog")
    assert found(replace(with_app(has_results=False), duties=(stranger,))) == {}
    assert found(replace(with_app(has_results=False), duties=beats("a.Scheduler").duties)) == {}


def test_every_beat_is_asked_for_its_redis() -> None:
    stack = beats("celery.beat:PersistentScheduler", "redbeat.RedBeatScheduler")
    bare = replace(stack, apps={"shop": replace(SHOP, has_results=False)})
    assert len(found(bare)["redbeat-without-redis"]) == 1


@pytest.mark.parametrize("schedule", [{"nightly": {"task": "a.b", "schedule": 60}}, {"nightly": None}])
def test_a_schedule_that_no_host_runs(schedule: dict[str, Any]) -> None:
    stack = with_app(own_settings={"beat_schedule": schedule})
    finding = only(stack, "schedule-without-beat")
    assert about(finding) == ("celery_app_settings.beat_schedule", ["nightly"], "shop", "shop")
    assert found(replace(stack, duties=beats("").duties)) == {}
    (other,) = beats("").duties
    assert only(replace(stack, duties=(replace(other, app="blog"),)), "schedule-without-beat")


@pytest.mark.parametrize("schedule", [{}, None, ["nightly"], "nightly"])
def test_what_is_no_schedule_needs_no_beat(schedule: Any) -> None:
    assert found(with_app(own_settings={"beat_schedule": schedule})) == {}


# Who reaches whom


def test_a_server_on_loopback_that_others_need() -> None:
    finding = only(with_server(RABBITMQ, listen=("127.0.0.1", "::1")), "server-out-of-reach")
    assert finding.problem.variable == "rabbitmq_listen_addresses"
    assert found(with_server(RABBITMQ, listen=("127.0.0.1", "10.0.0.1"))) == {}
    assert only(with_server(REDIS, listen=("127.0.0.1",)), "server-out-of-reach").problem.variable == "redis_bind"
    written = {"redis_bind": ["127.0.0.1", "-::1"]}
    finding = only(with_server(REDIS, listen=("127.0.0.1", "::1"), variables=written), "server-out-of-reach")
    assert finding.problem.value == written["redis_bind"]
    here = {"app1": Machine("app1", "mq1"), "mq1": Machine("mq1", "mq1")}
    assert found(replace(with_server(REDIS, listen=("127.0.0.1",)), machines=here)) == {}


@pytest.mark.parametrize(("hosts", "named"), [("a", "a"), ("abc", "a, b, c"), ("abcd", "a, b, c, ...")])
def test_three_of_the_hosts_that_miss_a_server_are_named(hosts: str, named: str) -> None:
    machines = {name: Machine(name, name) for name in ("mq1", *hosts)}
    stack = replace(with_app(hosts=("mq1", *hosts)), machines={**STACK.machines, **machines})
    far = replace(stack, servers=(replace(RABBITMQ, listen=("127.0.0.1",)), REDIS))
    assert only(far, "server-out-of-reach").problem.reason.endswith(f" {named}")
    local = replace(on_loopback(hosts=tuple(hosts)), machines={**stack.machines, "mq1": Machine("mq1", "localhost")})
    assert f" {named} " in only(local, "server-on-loopback").problem.reason


def test_a_rabbitmq_that_no_app_uses_may_listen_where_it_wants() -> None:
    stack = with_app(**REDIS_BROKER)
    unused = replace(RABBITMQ, listen=("127.0.0.1",))
    assert found(replace(stack, servers=(unused, REDIS))) == {}
    assert list(found(replace(stack, servers=(unused, replace(REDIS, listen=("127.0.0.1",)))))) == [
        "server-out-of-reach"
    ]


def on_loopback(
    address: str = "localhost", others: str = "app1", listen: str = "0.0.0.0", **changes: Any
) -> Deployment:
    machines = {"mq1": Machine("mq1", address), "app1": Machine("app1", others)}
    servers = (replace(RABBITMQ, listen=(listen,)), replace(REDIS, listen=(listen,)))
    return replace(with_app(**changes), machines={**STACK.machines, **machines}, servers=servers)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "LOCALHOST", "::1"])
def test_a_server_on_loopback_to_ansible_that_others_need(address: str) -> None:
    finding = only(on_loopback(address), "server-on-loopback")
    assert about(finding) == ("ansible_host", address, "mq1", None)
    assert "the RabbitMQ and Redis of mq1" in finding.problem.reason
    assert finding.problem.instead.endswith("rabbitmq_listen_addresses and redis_bind")


def test_on_loopback_only_what_is_told_to_others_counts() -> None:
    rule = "server-on-loopback"
    assert found(on_loopback("10.0.0.1")) == found(on_loopback("localhost.example.com")) == {}
    assert found(on_loopback(others="127.0.0.1")) == found(on_loopback(others="localhost")) == {}
    assert found(on_loopback(listen="10.0.0.1")) == {}
    assert rule not in found(on_loopback(listen="127.0.0.1"))
    assert found(on_loopback(hosts=("mq1",))) == {}
    broker, results = {"celery_app_broker_url"}, {"celery_app_result_backend"}
    assert found(on_loopback(given=frozenset(broker | results))) == {}
    for given, name in ((broker, "the Redis of"), (results, "the RabbitMQ of")):
        assert name in only(on_loopback(given=frozenset(given)), rule).problem.reason
    assert "the Redis of" in only(on_loopback(**REDIS_BROKER, given=frozenset(results)), rule).problem.reason
    assert rule in found(on_loopback(**REDIS_BROKER, given=frozenset(broker)))
    tunnel = {"mq1": Machine("mq1", "127.0.0.1", port="2222"), "app1": Machine("app1", "127.0.0.1", port="2200")}
    assert only(replace(on_loopback(), machines=tunnel), rule)
    first = replace(on_loopback(), servers=(replace(RABBITMQ, listen=("10.0.0.1",)), replace(REDIS, listen=("::",))))
    assert "the Redis of" in only(first, rule).problem.reason


# TLS, and no broker


@pytest.mark.parametrize(
    ("setting", "variable"),
    [("broker_use_ssl", "celery_app_broker_url"), ("redis_backend_use_ssl", "celery_app_result_backend")],
)
@pytest.mark.parametrize("value", [True, {"ca_certs": "/x"}])
def test_tls_with_a_server_of_the_inventory(setting: str, variable: str, value: Any) -> None:
    own = {"own_settings": {setting: value}}
    finding = only(with_app(**own), "tls-without-server")
    assert about(finding) == (f"celery_app_settings.{setting}", value, setting, "shop")
    assert variable in finding.problem.instead
    assert found(with_app(**own, given=frozenset({variable}))) == {}
    for other in (False, {}, None, ["x"], "true"):
        assert found(with_app(own_settings={setting: other})) == {}
    assert (found(with_app(**own, has_results=False)) == {}) is (setting == "redis_backend_use_ssl")


@pytest.mark.parametrize("setting", ["broker_use_ssl", "redis_backend_use_ssl"])
def test_tls_that_verifies_nothing(setting: str) -> None:
    given = frozenset({"celery_app_broker_url", "celery_app_result_backend"})
    finding = only(with_app(own_settings={setting: {"cert_reqs": "none"}}, given=given), "unverified-tls")
    assert about(finding) == (f"celery_app_settings.{setting}", {"cert_reqs": "none"}, setting, "shop")
    assert found(with_app(own_settings={setting: {"cert_reqs": "required"}}, given=given)) == {}


def test_urls_that_verify_nothing() -> None:
    def told(requirement: str) -> str:
        variable, said = "celery_app_result_backend", f"ssl_cert_reqs={requirement}"
        finding = only(with_app(lax_urls={variable: (said, requirement)}), "unverified-tls")
        assert about(finding) == (variable, said, variable, "shop")
        return finding.problem.reason

    # What is meant for servers is another matter, as clients verify then.
    assert told("none") == told("0") != told("optional")


def test_an_app_without_a_broker() -> None:
    finding = only(replace(STACK, servers=(REDIS,)), "no-broker")
    assert (finding.problem.variable, finding.problem.value) == ("celery_app_broker", "rabbitmq")
    own = replace(SHOP, given=frozenset({"celery_app_broker_url"}))
    assert found(replace(STACK, apps={"shop": own}, servers=(REDIS,))) == {}
    blog = replace(SHOP, name="blog", hosts=(), classes=())
    assert only(replace(STACK, apps={"shop": own, "blog": blog}, servers=(REDIS,)), "no-broker").app == "blog"
    assert found(replace(STACK, apps={"": replace(SHOP, name="")}, servers=(REDIS,))) == {}
