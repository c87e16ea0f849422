"""Comparing RabbitMQ definitions: hashes, versions, removals, and that no password comes out."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.filter.rabbitmq_document import rabbitmq_document
from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_differences as objects
from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_password as passwords

#: From RabbitMQ's documentation ("Credentials and Passwords", computing a password hash).
DOCUMENTED = ("test12", bytes.fromhex("908DC60A"), "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR")
PASSWORD = "a long password"


def test_hash_is_the_documented_one() -> None:
    password, salt, expected = DOCUMENTED
    assert passwords.hash_password(password, salt) == expected


@pytest.mark.parametrize("algorithm", passwords.ALGORITHMS)
def test_hash_matches_its_password_only(algorithm: str) -> None:
    stored = passwords.hash_password("pässword", algorithm=algorithm)
    assert passwords.password_matches("pässword", stored, algorithm)
    assert not passwords.password_matches("password", stored, algorithm)


@pytest.mark.parametrize("stored", ["", "AAA=", "not base64!", "é"])
def test_broken_hash_matches_nothing(stored: str) -> None:
    assert not passwords.password_matches("", stored)


def test_unknown_algorithm_matches_nothing() -> None:
    assert not passwords.password_matches("test12", DOCUMENTED[2], "rabbit_password_hashing_other")


def test_salt_is_stable_and_differs_between_users_and_keys() -> None:
    assert passwords.stable_salt("k", "a") == passwords.stable_salt("k", "a")
    salts = {passwords.stable_salt(key, user) for key in ("k", "l") for user in ("a", "b")}
    assert len(salts) == 4
    assert {len(salt) for salt in salts} == {passwords.SALT_LENGTH}


def wanted(**kinds: Any) -> dict[str, Any]:
    return {"vhosts": [{"name": "shop"}], "users": [{"name": "shop", "tags": []}], **kinds}


def server(**kinds: Any) -> dict[str, Any]:
    user = {
        "name": "shop",
        "password_hash": passwords.hash_password(PASSWORD),
        "hashing_algorithm": passwords.DEFAULT_ALGORITHM,
        "tags": [],
        "limits": {},
    }
    return {"vhosts": [{"name": "shop"}], "users": [user], "global_parameters": [], **kinds}


def compare(want: dict[str, Any], have: dict[str, Any], **credentials: dict[str, str]) -> objects.Comparison:
    given = objects.Credentials(
        passwords=credentials.get("passwords", {"shop": PASSWORD}), hashes=credentials.get("hashes", {})
    )
    return objects.compare(want, have, given)


def names(comparison: objects.Comparison) -> list[str]:
    return [f"{change.action} {objects.label(change.kind, change.key)}" for change in comparison.changes]


def test_equal_servers_need_nothing() -> None:
    result = compare(wanted(), server())
    assert (result.changes, result.conflicts, result.document) == ([], [], {})


def test_empty_server_gets_everything() -> None:
    assert names(compare(wanted(), {})) == ["create vhost shop", "create user shop"]


def test_other_password_is_an_update_that_shows_no_hash() -> None:
    result = compare(wanted(), server(), passwords={"shop": "another password"})
    assert names(result) == ["update user shop"]
    hashed = result.document["users"][0]["password_hash"]
    assert passwords.password_matches("another password", hashed)
    assert hashed not in repr(result.changes)
    assert "another password" not in repr(result)


def test_changed_tags_keep_the_stored_hash() -> None:
    have = server()
    result = compare(wanted(users=[{"name": "shop", "tags": ["monitoring"]}]), have)
    assert result.document["users"][0]["password_hash"] == have["users"][0]["password_hash"]


def test_given_hash_is_compared_as_it_is() -> None:
    stored = passwords.hash_password(PASSWORD)
    have = server()
    have["users"][0]["password_hash"] = stored
    assert not compare(wanted(), have, passwords={}, hashes={"shop": stored}).changes
    other = passwords.hash_password(PASSWORD)
    assert names(compare(wanted(), have, passwords={}, hashes={"shop": other})) == ["update user shop"]


def test_tags_as_text_of_old_servers() -> None:
    have = server()
    have["users"][0]["tags"] = "management, monitoring"
    assert not compare(wanted(users=[{"name": "shop", "tags": ["monitoring", "management"]}]), have).changes


def test_limit_set_by_hand_is_found() -> None:
    have = server()
    have["users"][0]["limits"] = {"max-channels": 3}
    result = compare(wanted(), have)
    assert names(result) == ["update user shop"]
    assert result.stray_limits == [("shop", "max-channels")]


def test_virtual_host_of_a_server_that_tells_no_metadata() -> None:
    want = wanted(vhosts=[{"name": "shop", "description": "x", "metadata": {"description": "x"}}])
    assert not compare(want, server()).changes
    newer = server(vhosts=[{"name": "shop", "description": "", "metadata": {"description": "", "tags": []}}])
    assert names(compare(want, newer)) == ["update vhost shop"]


def test_policy_is_compared_with_its_defaults() -> None:
    policy = {"vhost": "shop", "name": "p", "pattern": "^a", "definition": {"delivery-limit": 5}}
    full = {**policy, "apply-to": "all", "priority": 0}
    assert not compare(wanted(policies=[policy]), server(policies=[full])).changes
    changed = {**full, "definition": {"delivery-limit": 6}}
    assert names(compare(wanted(policies=[policy]), server(policies=[changed]))) == ["update policy shop/p"]


def queue(kind: str | None, **more: Any) -> dict[str, Any]:
    arguments = {"x-queue-type": kind} if kind else {}
    return {"vhost": "shop", "name": "q", "durable": True, "auto_delete": False, "arguments": {**arguments, **more}}


def test_queue_type_that_differs_is_a_conflict_and_not_imported() -> None:
    result = compare(wanted(queues=[queue("quorum")]), server(queues=[queue("classic")]))
    assert [objects.label(change.kind, change.key) for change in result.conflicts] == ["queue shop/q"]
    assert result.document == {}


def test_queue_without_a_type_is_a_classic_one() -> None:
    result = compare(wanted(queues=[queue("classic")]), server(queues=[queue(None)]))
    assert (result.changes, result.conflicts) == ([], [])


def test_binding_is_identified_by_its_arguments_too() -> None:
    binding = {"vhost": "shop", "source": "e", "destination_type": "queue", "destination": "q", "routing_key": "k"}
    have = server(bindings=[{**binding, "arguments": {"a": 1}}])
    assert not compare(wanted(bindings=[{**binding, "arguments": {"a": 1}}]), have).changes
    assert names(compare(wanted(bindings=[{**binding, "arguments": {}}]), have)) == ["create binding shop/e/queue/q/k"]


def record(owner: str, **kinds: list[list[str]]) -> dict[str, Any]:
    return {"name": objects.record_name(owner), "value": kinds}


def user(name: str) -> dict[str, Any]:
    return {**server()["users"][0], "name": name}


def test_what_was_declared_once_goes_and_a_stranger_stays() -> None:
    have = server(
        users=[user("shop"), user("old"), user("stranger")],
        global_parameters=[record("celeryops", users=[["old"], ["shop"]])],
    )
    assert objects.leftovers(wanted(), have, "celeryops", []) == [("users", ("old",))]


def test_prune_takes_strangers_of_that_kind_but_not_another_owners_nor_the_login() -> None:
    have = server(
        users=[user("shop"), user("stranger"), user("theirs"), user("admin")],
        global_parameters=[record("other", users=[["theirs"]])],
    )
    found = objects.leftovers(wanted(), have, "celeryops", ["users"], keep_users=["admin"])
    assert found == [("users", ("stranger",))]
    assert objects.leftovers(wanted(), have, "celeryops", ["policies"], keep_users=["admin"]) == []


def test_guest_always_goes() -> None:
    have = server(users=[user("shop"), user("guest")])
    assert objects.leftovers(wanted(), have, "celeryops", []) == [("users", ("guest",))]


def test_what_lies_in_a_removed_virtual_host_is_not_removed_by_itself() -> None:
    have = server(
        vhosts=[{"name": "shop"}, {"name": "old"}],
        queues=[{**queue("quorum"), "vhost": "old"}],
        permissions=[{"vhost": "old", "user": "shop", "configure": "", "write": "", "read": ""}],
        global_parameters=[record("celeryops", vhosts=[["old"]], queues=[["old", "q"]], permissions=[["old", "shop"]])],
    )
    assert objects.leftovers(wanted(), have, "celeryops", []) == [("vhosts", ("old",))]


def test_exchange_is_in_use_until_its_bindings_go() -> None:
    binding = {"vhost": "shop", "source": "e", "destination_type": "queue", "destination": "q", "routing_key": "k"}
    have = server(bindings=[binding])
    key = ("shop", "e", "queue", "q", "k", "{}")
    assert objects.exchange_in_use(("shop", "e"), have, [])
    assert not objects.exchange_in_use(("shop", "e"), have, [("bindings", key)])
    assert not objects.exchange_in_use(("shop", "e"), have, [("queues", ("shop", "q"))])


def test_redact_hides_passwords_of_urls() -> None:
    assert objects.redact({"uri": ["amqp://u:secret@h/v"]}) == {"uri": ["amqp://u:***@h/v"]}


def test_document_starts_a_node_that_the_first_comparison_finds_equal() -> None:
    text = rabbitmq_document(wanted(), {"shop": PASSWORD}, salt_key="cookie")
    assert text == rabbitmq_document(wanted(), {"shop": PASSWORD}, salt_key="cookie")
    assert PASSWORD not in text
    document = json.loads(text)
    assert not compare(wanted(), document).changes
    assert objects.stored_record(document, "celeryops") is None
    salt = base64.b64decode(document["users"][0]["password_hash"])[:4]
    assert salt == passwords.stable_salt("cookie", "shop")


def test_one_object_hides_no_other() -> None:
    users = [{"name": name, "tags": []} for name in ("shop", "second", "third")]
    given = dict.fromkeys(("shop", "second", "third"), PASSWORD)
    assert names(compare(wanted(users=users), server(), passwords=given)) == ["create user second", "create user third"]
    queues = [queue("quorum"), {**queue("quorum"), "name": "r"}]
    assert names(compare(wanted(queues=queues), server(queues=queues[:1]))) == ["create queue shop/r"]


def test_a_hash_of_another_algorithm_stays_where_it_fits() -> None:
    have = server()
    algorithm = "rabbit_password_hashing_sha512"
    stored = passwords.hash_password(PASSWORD, algorithm=algorithm)
    have["users"][0] |= {"hashing_algorithm": algorithm, "password_hash": stored}
    assert not compare(wanted(), have).changes
    (changed,) = compare(wanted(users=[{"name": "shop", "tags": ["monitoring"]}]), have).document["users"]
    assert (changed["hashing_algorithm"], changed["password_hash"]) == (algorithm, stored)
    (changed,) = compare(wanted(), have, passwords={"shop": "another password"}).document["users"]
    assert changed["hashing_algorithm"] == passwords.DEFAULT_ALGORITHM


def test_the_order_of_arguments_has_no_meaning() -> None:
    binding = {"vhost": "shop", "source": "e", "destination_type": "queue", "destination": "q", "routing_key": "k"}
    one, other = {**binding, "arguments": {"a": 1, "b": 2}}, {**binding, "arguments": {"b": 2, "a": 1}}
    assert not compare(wanted(bindings=[one]), server(bindings=[other])).changes


def test_an_exchange_of_other_arguments_is_a_conflict() -> None:
    plain = {"vhost": "shop", "name": "e", "type": "topic"}
    full = {**plain, "durable": True, "auto_delete": False, "internal": False, "arguments": {}}
    assert not compare(wanted(exchanges=[plain]), server(exchanges=[full])).conflicts
    for other in ({"arguments": {"x": 1}}, {"durable": False}, {"internal": True}, {"type": "direct"}):
        result = compare(wanted(exchanges=[plain]), server(exchanges=[{**full, **other}]))
        assert [objects.label(change.kind, change.key) for change in result.conflicts] == ["exchange shop/e"]


def test_permissions_are_compared_one_by_one() -> None:
    permission = {"vhost": "shop", "user": "shop", "configure": "", "write": "^a", "read": ".*"}
    assert not compare(wanted(permissions=[permission]), server(permissions=[permission])).changes
    other = {**permission, "write": ""}
    result = compare(wanted(permissions=[permission]), server(permissions=[other]))
    assert names(result) == ["update permission shop/shop"]
    assert result.changes[0].before == {"configure": "", "write": "", "read": ".*"}


def test_the_record_lists_what_is_declared_and_what_could_not_go_yet() -> None:
    assert objects.record_of(wanted(), [("queues", ("shop", "old"))]) == {
        "vhosts": [["shop"]],
        "users": [["shop"]],
        "queues": [["shop", "old"]],
    }


def test_the_record_of_an_owner_is_found_among_others() -> None:
    have = server(
        global_parameters=[
            {"name": "cluster_name", "value": "shop"},
            record("other", users=[["theirs"]]),
            record("celeryops", users=[["old"]]),
        ]
    )
    assert objects.stored_record(have, "celeryops") == {"users": [["old"]]}
    assert objects.stored_record(have, "nobody") is None
    broken = server(global_parameters=[{"name": objects.record_name("celeryops"), "value": "text"}])
    assert objects.stored_record(broken, "celeryops") is None


def test_only_global_parameters_that_differ_are_set() -> None:
    want = {"global_parameters": [{"name": "a", "value": 1}, {"name": "b", "value": 2}, {"name": "c", "value": 3}]}
    have = {"global_parameters": [{"name": "a", "value": 1}, {"name": "b", "value": 9}]}
    assert objects.global_parameters(want, have) == want["global_parameters"][1:]
    assert objects.global_parameters({}, have) == []


def test_only_records_tell_who_made_what() -> None:
    parameters = [
        {"name": "cluster_name", "value": {"users": [["old"]]}},
        {"name": objects.record_name("broken"), "value": "text"},
        record("celeryops", users=[["old"]]),
    ]
    have = server(users=[user("shop"), user("old")], global_parameters=parameters)
    assert objects.leftovers(wanted(), have, "celeryops", []) == [("users", ("old",))]


def test_each_object_goes_by_itself_unless_it_goes_with_another() -> None:
    permissions = [
        {"vhost": "shop", "user": name, "configure": "", "write": "", "read": ""} for name in ("shop", "old")
    ]
    have = server(
        users=[user("shop"), user("old")],
        permissions=permissions,
        queues=[{**queue("quorum"), "name": "old"}],
        global_parameters=[
            record(
                "celeryops", users=[["old"]], permissions=[["shop", "shop"], ["shop", "old"]], queues=[["shop", "old"]]
            )
        ],
    )
    # The permissions of an account go with it.
    assert objects.leftovers(wanted(), have, "celeryops", []) == [
        ("queues", ("shop", "old")),
        ("permissions", ("shop", "shop")),
        ("users", ("old",)),
    ]


PRESENT: dict[str, Any] = {
    "vhosts": [{"name": "shop"}, {"name": "other"}],
    "queues": [{"vhost": "shop", "name": "mails", "durable": True, "arguments": {"x-queue-type": "quorum"}}],
    "exchanges": [{"vhost": "shop", "name": "tasks", "durable": True, "type": "direct"}],
    "bindings": [
        {"vhost": "shop", "source": "tasks", "destination": "mails", "destination_type": "queue", "routing_key": "m"}
    ],
}


def with_more(kind: str, **entry: Any) -> dict[str, Any]:
    return {**PRESENT, kind: [*PRESENT[kind], {"vhost": "shop", **entry}]}


@pytest.mark.parametrize(
    "present",
    [
        {**PRESENT, "queues": []},
        {**PRESENT, "bindings": []},
        {**PRESENT, "exchanges": [{**PRESENT["exchanges"][0], "type": "topic"}]},
        with_more("queues", name="feeds", durable=True),
        with_more("bindings", source="tasks", destination="mails", destination_type="queue", routing_key="n"),
    ],
    ids=["no queue", "no binding", "another type", "one more queue", "one more binding"],
)
def test_what_an_app_has_declared_is_known_by_its_digest(present: dict[str, Any]) -> None:
    assert objects.topology(present)["shop"] != objects.topology(PRESENT)["shop"]
    assert objects.topology(present)["other"] == objects.topology(PRESENT)["other"]


@pytest.mark.parametrize(
    "present",
    [
        with_more("queues", name="reply", durable=False),
        with_more("exchanges", name="reply.celery.pidbox", durable=False),
        with_more("bindings", source="pidbox", destination="high@a.pidbox", destination_type="queue", routing_key=""),
        {**PRESENT, "queues": [dict(reversed(PRESENT["queues"][0].items()))]},
    ],
    ids=["a queue of a process", "an exchange of one", "its binding", "in another order"],
)
def test_what_lives_as_long_as_a_process_does_not_count(present: dict[str, Any]) -> None:
    assert objects.topology(present) == objects.topology(PRESENT)


def test_the_digest_is_of_each_virtual_host() -> None:
    assert set(objects.topology(PRESENT)) == {"shop", "other"}
    assert objects.topology({}) == {}
