"""A run on several Redis servers that are there, or are to have the same data."""

from __future__ import annotations

from typing import Any

from problems import told

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import engine_names
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.redis_replication import (
    primary_not_known,
    separate_servers,
    spared,
)

HOSTS = ("cache1", "cache2", "cache3")
PLANS = {host: {**engine_names("redis"), "replicated": True} for host in HOSTS}
ALONE = {host: {**engine_names("redis"), "replicated": False} for host in HOSTS}
BLANK: dict[str, Any] = {"established": False, "replicated": False, "files": {}, "server": {}}
ONE = {**BLANK, "established": True, "files": {"/var/lib/redis/dump.rdb": "REDIS0012"}}
MEMBER = {**ONE, "replicated": True}


def of_another_hand(**changes: Any) -> dict[str, Any]:
    server = {"running": True, "saved": False, "log": "", "keys": 0}
    return {**BLANK, "server": {**server, **changes}}


def held(*states: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(zip(HOSTS, states, strict=False))


def test_two_servers_with_data_are_not_made_one() -> None:
    (problem,) = separate_servers(PLANS, held(ONE, BLANK, ONE))
    assert told([problem]) == [("separate-servers", "redis")]
    assert problem.value == ["cache1", "cache3"]
    assert "cache3" in problem.instead
    assert "/var/lib/redis" in problem.instead
    assert told(separate_servers(PLANS, held(MEMBER, MEMBER, ONE))) == [("separate-servers", "redis")]


def test_one_server_with_data_may_get_replicas_and_replicas_stay() -> None:
    for states in ([ONE, BLANK, BLANK], [BLANK, ONE], [MEMBER] * 3, [MEMBER, MEMBER, BLANK], [BLANK] * 3, []):
        assert list(separate_servers(PLANS, held(*states))) == []
    assert list(separate_servers(ALONE, held(ONE, ONE))) == []


def test_a_server_of_another_hand_has_data_unless_it_says_that_it_has_none() -> None:
    assert list(separate_servers(PLANS, held(ONE, of_another_hand()))) == []
    for changes in ({"saved": True}, {"log": "/var/lib/redis/appendonlydir"}, {"keys": 3}, {"keys": -1}):
        assert told(separate_servers(PLANS, held(ONE, of_another_hand(**changes)))) == [("separate-servers", "redis")]
    assert list(separate_servers(PLANS, held(ONE, of_another_hand(running=False, keys=-1)))) == []


def test_a_new_server_needs_to_know_the_others() -> None:
    (problem,) = primary_not_known(PLANS, held(BLANK), ["cache1"])
    assert told([problem]) == [("primary-not-known", "redis")]
    assert problem.value == ["cache1"]
    assert "cache2, cache3" in problem.reason
    assert told(primary_not_known(PLANS, {}, ["cache2", "cache3"])) == [("primary-not-known", "redis")]


def test_a_server_that_is_there_tells_a_new_one() -> None:
    assert list(primary_not_known(PLANS, held(MEMBER, BLANK), ["cache1", "cache2"])) == []
    assert list(primary_not_known(PLANS, held(MEMBER), ["cache1"])) == []
    assert list(primary_not_known(PLANS, held(BLANK, BLANK, BLANK), HOSTS)) == []
    assert list(primary_not_known(PLANS, held(BLANK), ["app1"])) == []
    assert list(primary_not_known(ALONE, held(BLANK), ["cache1"])) == []


def test_a_run_goes_on_without_a_minority() -> None:
    watching, whole = ["app1", "cache2", "cache3"], dict.fromkeys(HOSTS, MEMBER)
    left = {"redis": ["cache3"], "sentinel": ["cache3"]}
    assert spared(PLANS, held(MEMBER, MEMBER), watching, ["app1", "cache1", "cache2"]) == left
    assert spared(PLANS, whole, watching, ["cache1", "cache2", "cache3"]) == {"redis": [], "sentinel": ["app1"]}
    assert spared(PLANS, held(MEMBER), watching, ["app1", "cache1"]) == {}, "most servers are lost"
    assert spared(PLANS, held(MEMBER, MEMBER), watching, ["cache1", "cache2"]) == {}, "most Sentinels are lost"
    assert spared(PLANS, held(MEMBER, BLANK), watching, ["app1", "cache1", "cache2"]) == {}, "a server is new"
    assert spared(ALONE, held(ONE), [], ["cache1"]) == {}, "each has data of its own"
