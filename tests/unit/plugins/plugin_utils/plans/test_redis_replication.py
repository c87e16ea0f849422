"""One of several Redis servers: whose data it gets, who logs in to it, and what it is told."""

from __future__ import annotations

from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_replication import (
    first_primary,
    is_replicated,
    replication_lines,
    replication_problems,
    replication_users,
)

MIB = 1024**2
NODES = [{"host": f"10.0.0.{number}", "port": 6379} for number in (1, 2, 3)]


def variables(**changes: Any) -> dict[str, Any]:
    values = {
        "nodes": NODES,
        "announce_ip": "10.0.0.1",
        "port": 6379,
        "users": [],
        "extra_users": [{"name": "shop"}],
        "admin_user": "admin",
        "replication_user": "replica",
        "sentinel_user": "sentinel",
        **changes,
    }
    return {f"redis_{name}": value for name, value in values.items()}


def seen(number: int, **changes: Any) -> dict[str, Any]:
    blank = {"established": False, "data": False, "role": "", "primary": {}, "link": False, "followers": 0}
    return {**NODES[number - 1], **blank, **changes}


def up(number: int, **changes: Any) -> dict[str, Any]:
    return seen(number, established=True, data=True, **changes)


class TestFirstPrimary:
    def test_of_new_servers_it_is_the_first(self) -> None:
        assert first_primary([seen(1), seen(2), seen(3)], NODES) == NODES[0]

    def test_it_is_the_one_with_data(self) -> None:
        assert first_primary([seen(1), seen(2, data=True), seen(3)], NODES) == NODES[1]
        # One of this role's may have them in its memory.
        assert first_primary([seen(1), seen(2, data=True), seen(3, established=True)], NODES) == NODES[2]

    def test_it_is_the_one_that_runs(self) -> None:
        assert first_primary([seen(1), up(2, role="primary", followers=1), up(3)], NODES) == NODES[1]
        # What runs and is not this role's yet is restarted with the others.
        assert first_primary([seen(1, role="primary"), up(2), seen(3)], NODES) == NODES[1]

    def test_of_two_it_is_the_one_that_is_followed(self) -> None:
        """One that comes back from a failure says so for some seconds as well."""
        found = [seen(1), up(2, role="primary", followers=0), up(3, role="primary", followers=1)]
        assert first_primary(found, NODES) == NODES[2]

    def test_it_is_whom_a_replica_follows(self) -> None:
        found = [seen(1), up(2, role="replica", primary={"host": "10.0.0.3", "port": 6379})]
        assert first_primary(found, NODES) == NODES[2]

    def test_what_was_not_looked_at_may_be_it(self) -> None:
        with pytest.raises(ValueError, match="all hosts of the group redis"):
            first_primary([seen(1), seen(2)], NODES)


class TestPlan:
    def test_a_server_that_is_alone_is_as_ever(self) -> None:
        for nodes in ([], NODES[:1]):
            alone = variables(nodes=nodes, announce_ip="")
            assert not is_replicated(alone)
            assert replication_users(alone) == []
            assert replication_lines(alone, 4096 * MIB) == []
            assert list(replication_problems(alone, {"hostname": "cache1"})) == []

    def test_the_users_of_the_others_may_do_what_they_need(self) -> None:
        replica, sentinel = replication_users(variables())
        assert (replica["name"], sentinel["name"]) == ("replica", "sentinel")
        assert set(replica["rules"].split()) == {
            "resetkeys", "resetchannels", "-@all", "+psync", "+replconf", "+ping",
        }  # fmt: skip
        assert "&__sentinel__:hello" in sentinel["rules"].split()
        assert not {"~*", "&*", "+@all", "allkeys"} & set(sentinel["rules"].split())

    @pytest.mark.parametrize(("memory", "size"), [(0, 1), (16 * MIB, 1), (160 * MIB, 10), (8192 * MIB, 64)])
    def test_what_a_replica_missed_is_kept_as_far_as_the_memory_allows(self, memory: int, size: int) -> None:
        assert dict(replication_lines(variables(), memory))["repl-backlog-size"] == size * MIB

    def test_a_primary_without_replicas_goes_on(self) -> None:
        lines = dict(replication_lines(variables(), 0))
        assert lines["min-replicas-to-write"] == 0
        assert lines["replica-announce-ip"] == "10.0.0.1"

    @pytest.mark.parametrize("address", ["", "127.0.0.1", "0.0.0.0", "cache1"])
    def test_an_address_that_others_cannot_use(self, address: str) -> None:
        found = list(replication_problems(variables(announce_ip=address), {}))
        assert told(found) == [("address-not-known", "redis_announce_ip")]

    def test_the_server_is_one_of_them(self) -> None:
        other = variables(announce_ip="10.0.0.9")
        assert told(list(replication_problems(other, {"hostname": "x"}))) == [
            ("does-not-name-this-server", "redis_nodes")
        ]
        # Before all hosts were looked at, it may not be known.
        assert list(replication_problems(other, {})) == []
        assert list(replication_problems(variables(port="6379"), {"hostname": "x"})) == []

    def test_each_has_a_place_of_its_own(self) -> None:
        found = list(replication_problems(variables(nodes=[NODES[0], NODES[0]]), {}))
        assert told(found) == [("names-a-server-twice", "redis_nodes")]
        # Of these nothing is known yet.
        nowhere = [{"host": "", "port": 6379}] * 2
        assert told(list(replication_problems(variables(nodes=nowhere, announce_ip=""), {}))) == [
            ("address-not-known", "redis_announce_ip")
        ]

    @pytest.mark.parametrize("name", ["admin", "shop", "replica"])
    def test_each_account_has_a_name_of_its_own(self, name: str) -> None:
        found = list(replication_problems(variables(sentinel_user=name), {}))
        assert told(found) == [("user-twice", "redis_sentinel_user")]
