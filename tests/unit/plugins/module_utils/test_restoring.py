"""What a restore would do to a server: it adds to RabbitMQ and changes nothing, and Redis loses no keys by mistake."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.restoring import (
    additions,
    keys_in,
    keys_of_file,
    keys_read,
    why_not,
)


def queue(name: str, **arguments: Any) -> dict[str, Any]:
    return {"vhost": "shop", "name": name, "durable": True, "auto_delete": False, "arguments": arguments}


def user(name: str, tags: Any = (), digest: str = "h1") -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": digest,
        "hashing_algorithm": "sha256",
        "tags": list(tags),
        "limits": {},
    }


def rights(name: str) -> dict[str, Any]:
    return {"user": name, "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}


BACKUP = {
    "vhosts": [{"name": "shop"}],
    "users": [user("admin", ["administrator"]), user("shop")],
    "permissions": [rights("shop")],
    "queues": [queue("payments", **{"x-queue-type": "quorum"})],
}


def test_a_fresh_server_gets_everything_as_it_was_written() -> None:
    found = additions(BACKUP, {})
    assert found.document == BACKUP
    assert found.added == [
        "vhost shop", "user admin", "user shop", "permission shop/shop", "queue shop/payments",
    ]  # fmt: skip
    assert found.kept == []


def test_a_second_restore_adds_nothing() -> None:
    found = additions(BACKUP, BACKUP)
    assert (found.document, found.added, found.kept) == ({}, [], [])


def test_what_a_server_has_otherwise_stays() -> None:
    """A queue cannot be altered without its messages, and a policy may be the inventory's of today."""
    present = {**BACKUP, "queues": [queue("payments", **{"x-queue-type": "classic"}), queue("new")]}
    found = additions(BACKUP, present)
    assert (found.document, found.kept) == ({}, ["queue shop/payments"])


def test_a_user_keeps_the_password_that_it_has() -> None:
    present = {**BACKUP, "users": [user("admin", ["administrator"], "h2"), user("shop", ["monitoring"], "h2")]}
    found = additions(BACKUP, present)
    assert found.document == {}
    # A hash that differs may be the same password: each has a salt of its own.
    assert found.kept == ["user shop"]


def test_guest_stays_away() -> None:
    backup = {
        **BACKUP,
        "users": [*BACKUP["users"], user("guest")],
        "permissions": [*BACKUP["permissions"], rights("guest")],
        "topic_permissions": [{**rights("guest"), "exchange": "x"}],
        "vhosts": [*BACKUP["vhosts"], {"name": "guest"}],
    }
    found = additions(backup, {})
    assert [entry["name"] for entry in found.document["users"]] == ["admin", "shop"]
    assert [entry["user"] for entry in found.document["permissions"]] == ["shop"]
    assert "topic_permissions" not in found.document
    assert {"name": "guest"} in found.document["vhosts"]


def binding(destination: str, kind: str = "queue") -> dict[str, Any]:
    return {
        "vhost": "shop", "source": "amq.topic", "destination_type": kind, "destination": destination,
        "routing_key": "x", "arguments": {},
    }  # fmt: skip


def test_a_binding_to_a_queue_that_no_backup_has_is_left_out() -> None:
    """An exclusive queue ends with its connection; the import would be refused."""
    there = [binding("payments"), binding("new"), binding("amq.fanout", "exchange")]
    backup = {**BACKUP, "bindings": [*there, binding("w@h.celery.pidbox"), binding("gone", "exchange")]}
    found = additions(backup, {"queues": [queue("new")]})
    assert found.document["bindings"] == there
    assert additions(backup, {**BACKUP, "queues": [*BACKUP["queues"], queue("new")], "bindings": there}).added == []


def test_a_cluster_keeps_its_identity() -> None:
    backup = {
        **BACKUP,
        "global_parameters": [
            {"name": "internal_cluster_id", "value": "old"},
            {"name": "cluster_name", "value": "old"},
            {"name": "own", "value": 1},
        ],
    }
    found = additions(backup, {**BACKUP, "global_parameters": [{"name": "cluster_name", "value": "new"}]})
    assert found.document == {"global_parameters": [{"name": "own", "value": 1}]}
    assert found.added == ["global parameter own"]


def test_keys_of_all_databases_count() -> None:
    assert keys_in("# Keyspace\ndb0:keys=12,expires=3,avg_ttl=0\ndb11:keys=30,expires=0,avg_ttl=0\n") == 42
    assert keys_in("# Keyspace\n") == 0


ALONE = {"role": "primary", "followers": 0}


@pytest.mark.parametrize(
    ("found", "keys", "options", "why"),
    [
        (ALONE, 0, {}, ""),
        (ALONE, 7, {"over": True}, ""),
        (ALONE, 7, {"watched": True}, "holds 7 keys, which would be gone; with celeryops_restore_over: true"),
        ({**ALONE, "role": "replica"}, 0, {"over": True, "watched": True}, "is a replica"),
        ({**ALONE, "followers": 2}, 0, {"over": True}, "has 2 replicas"),
        ({**ALONE, "followers": 2}, 0, {"watched": True}, ""),
        ({**ALONE, "role": ""}, 0, {"over": True}, "is a replica"),
    ],
)
def test_a_server_is_given_other_data_only_if_nobody_misses_its_own(
    found: dict[str, Any], keys: int, options: dict[str, bool], why: str
) -> None:
    told = why_not(found, keys, **{"over": False, "watched": False, **options})
    assert told.startswith(why)
    assert bool(told) == bool(why)


def test_what_a_server_has_read_is_compared_with_its_file() -> None:
    report = "[offset 113] Checksum OK\n[info] 30 keys read\n[info] 9 expires\n[info] 4 already expired\n"
    assert keys_of_file(report) == 30
    assert keys_of_file("--- RDB ERROR DETECTED ---") == -1
    assert keys_read("loading:0\nrdb_last_load_keys_expired:4\nrdb_last_load_keys_loaded:26\naof_enabled:1\n") == 30
    assert keys_read("loading:0\n") == 0
