"""The plan of the role rabbitmq: derived limits, merged objects, refused mistakes, and no secret in it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq import config_value, plan
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import message
from ansible_collections.celeryops.stack.plugins.plugin_utils.render import render

ROLE = Path(__file__).resolve().parents[3] / "roles" / "rabbitmq"
GIB = 1024**3
FACTS = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "hostname": "mq1",
    "memtotal_mb": 8192,
    "celeryops_disks": {"/var/lib/rabbitmq": 100 * GIB},
}
SECRETS = {
    "rabbitmq_admin_password": "the-admin-password",
    "rabbitmq_erlang_cookie": "TheErlangCookie0123456789",
}


def variables(**given: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    defaults |= {**SECRETS, "rabbitmq_extra_definitions": {}, "rabbitmq_consumer_timeout": "30m"}
    return defaults | {f"rabbitmq_{name}": value for name, value in given.items()}


def planned(**given: Any) -> dict[str, Any]:
    result, problems = plan(variables(**given), FACTS)
    assert problems == []
    return result


def settings(**given: Any) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in planned(**given)["settings"]}


def refused(**given: Any) -> str:
    return message(plan(variables(**given), FACTS)[1])


def test_defaults_are_loopback_only_and_without_guest() -> None:
    result = planned()
    conf = {entry["key"]: entry["value"] for entry in result["settings"]}
    assert conf["listeners.tcp.1"] == "127.0.0.1:5672"
    assert conf["management.tcp.ip"] == "127.0.0.1"
    assert result["epmd_listen"] == ["127.0.0.1:4369"]
    assert result["loopback_host"] == "mq1"
    assert [entry["name"] for entry in result["definitions"]["users"]] == ["admin"]
    assert {"name": "ERL_EPMD_ADDRESS", "value": "127.0.0.1", "export": True} in result["environment"]


def test_secrets_are_not_in_the_plan() -> None:
    given: dict[str, Any] = {
        "vhosts": [{"name": "shop"}],
        "users": [{"name": "shop", "password": "the-user-password"}, {"name": "b", "password_hash": "AAAAhash"}],
        "secret_config": {"auth_ldap.dn_lookup_bind.password": "the-ldap-password"},
    }
    text = repr(planned(**given))
    for secret in (*SECRETS.values(), "the-user-password", "AAAAhash", "the-ldap-password"):
        assert secret not in text


@pytest.mark.parametrize(
    ("watermark", "expected"),
    [
        (0.4, ("vm_memory_high_watermark.relative", "0.4")),
        ("60%", ("vm_memory_high_watermark.relative", "0.6")),
        ("2G", ("vm_memory_high_watermark.absolute", str(2 * GIB))),
    ],
)
def test_watermark_is_a_share_or_a_size(watermark: Any, expected: tuple[str, str]) -> None:
    assert expected in settings(memory_high_watermark=watermark).items()


@pytest.mark.parametrize("watermark", [0.05, 0.9, "95%", "7G", "64M", "much", True])
def test_watermark_out_of_range_is_refused(watermark: Any) -> None:
    assert "rabbitmq_memory_high_watermark" in refused(memory_high_watermark=watermark)


@pytest.mark.parametrize(
    ("memory", "disk", "expected"),
    [(8, 100, int(8192 * 0.4) * 1024**2), (2, 100, 2 * GIB), (64, 20, 5 * GIB)],
    ids=["the watermark", "not below 2 GiB", "not above a quarter of the disk"],
)
def test_disk_limit_follows_from_the_host(memory: int, disk: int, expected: int) -> None:
    facts = {**FACTS, "memtotal_mb": memory * 1024, "celeryops_disks": {"/var/lib/rabbitmq": disk * GIB}}
    lines = {entry["key"]: entry["value"] for entry in plan(variables(), facts)[0]["settings"]}
    assert int(lines["disk_free_limit.absolute"]) == expected


def test_the_users_own_key_wins() -> None:
    assert settings(config={"log.console.level": "debug"})["log.console.level"] == "debug"


def test_open_listeners_are_asked_for() -> None:
    everywhere = "0.0.0.0"
    result = planned(
        listen_addresses=[everywhere, "::"],
        cluster_listen_address=everywhere,
        management_listen_address="10.0.0.5",
    )
    conf = {entry["key"]: entry["value"] for entry in result["settings"]}
    assert (conf["listeners.tcp.1"], conf["listeners.tcp.2"]) == ("0.0.0.0:5672", ":::5672")
    assert result["epmd_listen"] == ["4369"]
    assert result["loopback_host"] == ""
    assert result["api"]["host"] == "10.0.0.5"
    assert not any(entry["name"] == "ERL_EPMD_ADDRESS" for entry in result["environment"])


def test_more_files_than_erlang_expects() -> None:
    names = [entry["name"] for entry in planned(open_files=200000)["environment"]]
    assert "ERL_MAX_PORTS" in names
    assert "ERL_MAX_PORTS" not in [entry["name"] for entry in planned()["environment"]]


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


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"admin_user": "guest"}, "rabbitmq_admin_user"),
        ({"admin_password": "short"}, "rabbitmq_admin_password"),
        ({"erlang_cookie": "has spaces in it, sadly"}, "rabbitmq_erlang_cookie"),
        ({"plugins": ["rabbitmq_prometheus"]}, "rabbitmq_plugins"),
        ({"listen_addresses": []}, "rabbitmq_listen_addresses"),
        ({"listen_addresses": ["localhost"]}, "rabbitmq_listen_addresses"),
        ({"cluster_listen_address": "::1"}, "rabbitmq_cluster_listen_address"),
        ({"port": 25672}, "rabbitmq_port"),
        ({"management_port": 5672}, "rabbitmq_management_port"),
        ({"nodes": ["rabbit@a", "rabbit@b"]}, "rabbitmq_nodes"),
        ({"node_name": "rabbit"}, "rabbitmq_node_name"),
        ({"open_files": 10}, "rabbitmq_open_files"),
        ({"stop_timeout": "soon"}, "rabbitmq_stop_timeout"),
        ({"disk_free_limit": "plenty"}, "rabbitmq_disk_free_limit"),
        ({"version": "four"}, "rabbitmq_version"),
        ({"config": {"default_pass": "abc"}}, "rabbitmq_config.default_pass"),
        ({"config": {"heartbeat": "1\nlisteners.tcp.2 = 0.0.0.0:5672"}}, "rabbitmq_config.heartbeat"),
        ({"config": {"heartbeat": ""}}, "rabbitmq_config.heartbeat"),
        ({"config": {"heartbeat": " 30"}}, "rabbitmq_config.heartbeat"),
        ({"config": {"Not a key": 1}}, "rabbitmq_config"),
        ({"repository": {"uris": ["https://h/p"]}}, "rabbitmq_repository.suites"),
        ({"repository": {"uris": ["h/p"], "suites": ["a/"], "key": "/k"}}, "rabbitmq_repository.uris"),
        ({"repository": {"uris": ["https://u:p@h/p"], "suites": ["a/"], "key": "/k"}}, "rabbitmq_repository.uris"),
        ({"repository": {"uris": ["https://h/p"], "suites": ["a"], "key": "/k"}}, "rabbitmq_repository.components"),
        ({"repository": {"uris": ["https://h/p"], "suites": ["a/"], "key": "k"}}, "rabbitmq_repository.key"),
        ({"users": [{"name": "a"}]}, "rabbitmq_users.a"),
        ({"users": [{"name": "guest", "password": "long enough"}]}, "rabbitmq_users"),
        ({"users": [{"name": "a", "password": "short"}]}, "rabbitmq_users.a.password"),
        ({"users": [{"name": "a", "password": "long enough", "permissions": [{"vhost": "x"}]}]}, "permissions"),
        ({"users": [{"name": "a", "password": "long enough"}] * 2}, "rabbitmq_users"),
        ({"queues": [{"name": "q", "vhost": "x"}]}, "rabbitmq_queues.q.vhost"),
        ({"policies": [{"name": "p", "vhost": "x", "pattern": "(", "definition": {}}]}, "rabbitmq_policies.p.pattern"),
    ],
)
def test_mistakes_are_refused(given: dict[str, Any], named: str) -> None:
    assert named in refused(**given)


def test_a_refusal_shows_no_secret() -> None:
    text = refused(
        admin_password="pw-77",
        erlang_cookie="cookie 77",
        config={"default_pass": "conf-77"},
        secret_config={"a": "x'77"},
    )
    assert "77" not in text


@pytest.mark.parametrize(
    "facts", [{"distribution": "Fedora"}, {"distribution": "Debian", "distribution_major_version": "11"}]
)
def test_other_systems_are_refused(facts: dict[str, Any]) -> None:
    assert plan(variables(), facts)[1]


def test_nothing_is_asked_of_a_host_without_facts() -> None:
    assert plan(variables(), {})[1] == []


def test_variables_are_not_modified() -> None:
    given = variables(vhosts=[{"name": "shop"}], config={"heartbeat": 30})
    before = copy.deepcopy(given)
    plan(given, FACTS)
    assert given == before


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "true"), (30, "30"), ("info", "info"), ("abc#def", "'abc#def'"), ("a b", "a b"), ("a'b", "a'b")],
)
def test_values_of_the_configuration(value: Any, expected: str) -> None:
    assert config_value(value) == expected


@pytest.mark.parametrize(
    ("key", "field", "fetched", "left"),
    [
        ("/etc/apt/keyrings/own.gpg", "Signed-By: /etc/apt/keyrings/own.gpg", "", {"asc", "gpg"}),
        ("https://h/key", "Signed-By: /etc/apt/keyrings/celeryops-rabbitmq.asc", "https://h/key", {"gpg"}),
        ("https://h/key.gpg", "Signed-By: /etc/apt/keyrings/celeryops-rabbitmq.gpg", "https://h/key.gpg", {"asc"}),
        (
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n",
            "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----",
            "",
            {"asc", "gpg"},
        ),
    ],
)
def test_the_key_of_a_repository(key: str, field: str, fetched: str, left: set[str]) -> None:
    result = planned(repository={"uris": ["https://h/p"], "suites": ["trixie"], "components": ["main"], "key": key})
    text = render(ROLE / "templates" / "repository.sources.j2", {"repository": result["repository"]})
    assert text.endswith(f"URIs: https://h/p\nSuites: trixie\nComponents: main\n{field}\n")
    assert result["repository"]["key_url"] == fetched
    stale = {entry["path"] for entry in result["stale_files"]}
    assert {path.rpartition(".")[2] for path in stale if "keyrings" in path} == left
    assert "/etc/apt/sources.list.d/celeryops-rabbitmq.sources" not in stale
    assert "/etc/apt/sources.list.d/celeryops-rabbitmq.sources" in {entry["path"] for entry in planned()["stale_files"]}


def test_templates_print_the_plan() -> None:
    result = planned(version="4.0.*", erlang_version="1:27*", plugins=["rabbitmq_management", "rabbitmq_prometheus"])
    templates = ROLE / "templates"
    environment = render(templates / "rabbitmq-env.conf.j2", {"environment": result["environment"]})
    assert 'NODENAME="rabbit@mq1"\nexport ERL_EPMD_ADDRESS="127.0.0.1"\n' in environment
    assert render(templates / "enabled_plugins.j2", {"plugins": result["plugins"]}) == (
        "[rabbitmq_management,rabbitmq_prometheus].\n"
    )
    assert '["mq1"]' in render(templates / "erl_inetrc.j2", {"host": result["loopback_host"]})
    socket = render(templates / "epmd.socket.conf.j2", {"listen": result["epmd_listen"]})
    assert socket.endswith("ListenStream=\nListenStream=127.0.0.1:4369\n")
    pins = render(templates / "preferences.j2", {"pins": result["pins"]})
    assert "Package: rabbitmq-server\nPin: version 4.0.*\n" in pins
    assert "LimitNOFILE=65536\nTimeoutStopSec=300\n" in render(templates / "service.conf.j2", {"plan": result})


def test_a_comment_sign_is_quoted_where_the_server_knows_quotes() -> None:
    given = {"config": {"default_vhost": "a#b"}}
    assert settings(**given)["default_vhost"] == "'a#b'"
    older = {**FACTS, "distribution_major_version": "12"}
    assert "rabbitmq_config.default_vhost" in message(plan(variables(**given), older)[1])
    text = render(ROLE / "templates" / "secrets.conf.j2", {"settings": {"a": "b#c", "d": "e"}})
    assert text.endswith("a = 'b#c'\nd = e\n")


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ("30m", "1800000"),
        (0, "0"),
        (False, "a whole number, without quotes"),
        ("undefined", "a whole number, without quotes"),
        (-5, "a whole number, without quotes"),
        (1.5, "a whole number, without quotes"),
    ],
)
def test_a_consumer_timeout_that_rabbitmq_would_not_start_with(value: Any, instead: str) -> None:
    reason = "is not a whole number of milliseconds, and RabbitMQ would not start"
    expected = f"rabbitmq_config.consumer_timeout: {value!r} {reason}; write {instead}"
    assert expected in refused(config={"consumer_timeout": value})
    assert settings(config={"consumer_timeout": 1})["consumer_timeout"] == "1"
    assert settings(config={"consumer_timeout": "60000"})["consumer_timeout"] == "60000"
    assert "'********' is not a whole number" in refused(secret_config={"consumer_timeout": value})


# Policies


def policy_problems(facts: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    entry = {"name": "p", "vhost": "shop", "pattern": "^a", "definition": {"max-length": 5}, **changes}
    told: set[str] = set()
    for kind in ("policies", "operator_policies"):
        given = {"vhosts": [{"name": "shop"}], kind: [entry]}
        told |= {
            str(problem).removeprefix(f"rabbitmq_{kind}.p.") for problem in plan(variables(**given), facts or FACTS)[1]
        }
    return sorted(told)


@pytest.mark.parametrize(
    "definition",
    [
        {"max-length": 0, "message-ttl": 0, "max-length-bytes": 1},
        {"delivery-limit": -1},
        {"expires": 1, "consumer-timeout": 1, "target-group-size": 1},
        {"overflow": "reject-publish", "queue-leader-locator": "balanced", "dead-letter-exchange": ""},
        {"shard-count": 3, "ha-mode": "all"},
    ],
)
def test_what_policies_may_say(definition: dict[str, Any]) -> None:
    assert policy_problems(definition=definition) == []


@pytest.mark.parametrize(
    ("definition", "line"),
    [
        (
            {"max-lenght": 5},
            "definition.max-lenght: 5 is no key of a policy; write max-length (did you mean that?)",
        ),
        (
            {"delivery_limit": 5},
            "definition.delivery_limit: 5 is no key of a policy; write delivery-limit (did you mean that?)",
        ),
        (
            {"message-ttl": "30m"},
            "definition.message-ttl: '30m' is not a whole number of milliseconds; write 1800000",
        ),
        (
            {"max-length-bytes": "1G"},
            "definition.max-length-bytes: '1G' is not a whole number of bytes; write 1073741824",
        ),
        (
            {"max-length": "5"},
            "definition.max-length: '5' is not a whole number of messages; write a whole number, without quotes",
        ),
        (
            {"expires": True},
            "definition.expires: True is not a whole number of milliseconds; write a whole number, without quotes",
        ),
        (
            {"delivery-limit": 1.5},
            "definition.delivery-limit: 1.5 is not a whole number of deliveries; write a whole number, without quotes",
        ),
        (
            {"delivery-limit": -2},
            "definition.delivery-limit: -2 is out of range; write a whole number of deliveries from -1 on",
        ),
        ({"max-length": -1}, "definition.max-length: -1 is out of range; write a whole number of messages from 0 on"),
        ({"expires": 0}, "definition.expires: 0 is out of range; write a whole number of milliseconds from 1 on"),
        (
            {"consumer-timeout": 0},
            "definition.consumer-timeout: 0 is out of range; write a whole number of milliseconds from 1 on",
        ),
    ],
)
def test_what_policies_cannot_say(definition: dict[str, Any], line: str) -> None:
    assert policy_problems(definition=definition) == [line]


def test_what_the_server_of_debian_12_does_not_know() -> None:
    old = {**FACTS, "distribution_major_version": "12"}
    refuses = "is not known to RabbitMQ 3.10, which would refuse the policy"
    for apply_to in ("classic_queues", "quorum_queues", "streams"):
        assert policy_problems(old, apply_to=apply_to) == [f"apply_to: '{apply_to}' {refuses}; write queues"]
        assert policy_problems(apply_to=apply_to) == []
    for apply_to in ("queues", "exchanges", "all"):
        assert policy_problems(old, apply_to=apply_to) == []
    assert policy_problems(old, definition={"consumer-timeout": 5}) == [
        f"definition.consumer-timeout: 5 {refuses}; write rabbitmq_consumer_timeout, for all queues"
    ]
