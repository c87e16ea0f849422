"""The lines of rabbitmq.conf: what is derived, what is given, and the limits of both."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from problems import told
from rabbitmq_plans import FACTS, GIB, ROLE, planned, refused, settings, variables

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq import plan
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_configuration import config_value

WATERMARK = "rabbitmq_memory_high_watermark"


def lines(facts: dict[str, Any], **given: Any) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in plan(variables(**given), facts)[0]["settings"]}


def test_defaults_are_loopback_only_and_without_guest() -> None:
    result = planned()
    conf = {entry["key"]: entry["value"] for entry in result["settings"]}
    assert conf["listeners.tcp.1"] == "127.0.0.1:5672"
    assert conf["management.tcp.ip"] == "127.0.0.1"
    assert result["epmd_listen"] == ["127.0.0.1:4369"]
    assert result["loopback_host"] == "mq1"
    assert [entry["name"] for entry in result["definitions"]["users"]] == ["admin"]
    assert {"name": "ERL_EPMD_ADDRESS", "value": "127.0.0.1", "export": True} in result["environment"]


def test_the_configuration_of_a_server_that_nobody_says_anything_about() -> None:
    assert settings() == {
        "listeners.tcp.1": "127.0.0.1:5672",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": "15672",
        "auth_mechanisms.1": "PLAIN",
        "auth_mechanisms.2": "AMQPLAIN",
        "loopback_users.guest": "true",
        "load_definitions": "/etc/rabbitmq/definitions.json",
        "vm_memory_high_watermark.relative": "0.4",
        "disk_free_limit.absolute": str(3276 * 1024**2),
        "log.console": "true",
        "log.console.level": "info",
        "log.file": "false",
    }
    result = planned()
    assert (result["secret_files"], result["journal"], result["stop_timeout"], result["open_files"]) == (
        [],
        True,
        300,
        65536,
    )
    assert [entry["path"] for entry in result["stale_files"]] == [
        "/etc/apt/preferences.d/celeryops-rabbitmq.pref",
        "/etc/apt/sources.list.d/celeryops-rabbitmq.sources",
        "/etc/apt/keyrings/celeryops-rabbitmq.asc",
        "/etc/apt/keyrings/celeryops-rabbitmq.gpg",
        "/etc/rabbitmq/conf.d/50-celeryops.conf",
        "/etc/rabbitmq/celeryops-partition.erl",
    ]


def test_a_log_file_instead_of_the_journal() -> None:
    result = planned(log_to="file", log_level="debug")
    assert result["journal"] is False
    conf = {entry["key"]: entry["value"] for entry in result["settings"]}
    assert {key: value for key, value in conf.items() if key.startswith("log.")} == {
        "log.console": "false",
        "log.file.level": "debug",
    }


def test_the_consumer_timeout_is_in_a_file_that_restarts_nobody() -> None:
    result = planned(consumer_timeout="8h")
    live = result["live"]
    assert live["settings"] == [{"key": "consumer_timeout", "value": "28800000"}]
    assert live["path"] == "/etc/rabbitmq/conf.d/40-celeryops.conf"
    assert "consumer_timeout" not in {entry["key"] for entry in result["settings"]}
    # How it is read again is a line of the unit, whose change is a restart: the value is not in it.
    assert live["reload"] == planned(consumer_timeout="16h")["live"]["reload"]
    words = shlex.split(live["reload"])
    assert words[:5] == ["/usr/bin/env", "--unset=ERL_AFLAGS", "/usr/sbin/rabbitmqctl", "--quiet", "eval"]
    assert words[5].startswith(f'{{ok, File}} = file:read_file("{live["path"]}"), ')
    assert words[5].endswith("application:set_env(rabbit, consumer_timeout, list_to_integer(Value)).")
    assert not set("$%\\") & set(words[5])
    # A secret one is in the file of those.
    assert planned(secret_config={"consumer_timeout": 60000})["live"]["settings"] == []


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


def test_secret_lines_are_in_a_file_of_their_own_only() -> None:
    result = planned(secret_config={"listeners.tcp.1": "10.0.0.1:5672"})
    assert result["secret_files"] == [{"name": "50-celeryops.conf"}]
    assert "listeners.tcp.1" not in {entry["key"] for entry in result["settings"]}
    assert "/etc/rabbitmq/conf.d/50-celeryops.conf" not in {entry["path"] for entry in result["stale_files"]}
    (problem,) = refused(config={"heartbeat": 30}, secret_config={"heartbeat": 30})
    assert (problem.variable, problem.value) == ("rabbitmq_secret_config", "heartbeat")


# Memory and disk


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


@pytest.mark.parametrize(
    ("memory", "disk", "expected"),
    [(8, 100, int(8192 * 0.4) * 1024**2), (2, 100, 2 * GIB), (64, 20, 5 * GIB)],
    ids=["the watermark", "not below 2 GiB", "not above a quarter of the disk"],
)
def test_disk_limit_follows_from_the_host(memory: int, disk: int, expected: int) -> None:
    facts = {**FACTS, "memtotal_mb": memory * 1024, "celeryops_disks": {"/var/lib/rabbitmq": disk * GIB}}
    lines = {entry["key"]: entry["value"] for entry in plan(variables(), facts)[0]["settings"]}
    assert int(lines["disk_free_limit.absolute"]) == expected


@pytest.mark.parametrize(
    ("watermark", "identity"),
    [
        (0.05, "out-of-range"),
        (0.81, "out-of-range"),
        ("9%", "out-of-range"),
        ("95%", "out-of-range"),
        ("7G", "out-of-range"),
        (128 * 1024**2 - 1, "out-of-range"),
        ("much", "not-a-share-or-size"),
        (True, "not-a-share-or-size"),
    ],
)
def test_a_watermark_that_is_refused(watermark: Any, identity: str) -> None:
    assert told(refused(memory_high_watermark=watermark)) == [(identity, WATERMARK)]


@pytest.mark.parametrize("watermark", [0.1, 0.8, "10%", "128M"])
def test_a_watermark_at_its_bounds(watermark: Any) -> None:
    planned(memory_high_watermark=watermark)


@pytest.mark.parametrize(("watermark", "fits"), [(8 * GIB, True), (8 * GIB + 1, False)])
def test_a_size_of_memory_has_a_bound_where_the_memory_is_known(watermark: Any, fits: bool) -> None:
    # 8G is four fifths of it.
    assert bool(refused({**FACTS, "memtotal_mb": 10240}, memory_high_watermark=watermark)) is not fits
    assert refused({}, memory_high_watermark=watermark) == []


def test_the_free_space_where_little_is_known() -> None:
    assert lines({})["disk_free_limit.relative"] == "0.4"
    unread = lines({}, memory_high_watermark="much")
    assert (unread["vm_memory_high_watermark.absolute"], unread["disk_free_limit.relative"]) == ("0", "1.0")
    assert lines({"memtotal_mb": 8192})["disk_free_limit.absolute"] == str(3276 * 1024**2)
    assert lines({}, memory_high_watermark="3G")["disk_free_limit.absolute"] == str(3 * GIB)


def test_the_free_space_that_is_given() -> None:
    assert settings(disk_free_limit="5G")["disk_free_limit.absolute"] == str(5 * GIB)
    assert told(refused(disk_free_limit=0)) == [("let-the-disk-fill-up", "rabbitmq_disk_free_limit")]
    assert told(refused(disk_free_limit="plenty")) == [("not-a-size", "rabbitmq_disk_free_limit")]


# Values and addresses


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "true"), (30, "30"), ("info", "info"), ("abc#def", "'abc#def'"), ("a b", "a b"), ("a'b", "a'b")],
)
def test_values_of_the_configuration(value: Any, expected: str) -> None:
    assert config_value(value) == expected


def test_a_comment_sign_is_quoted_where_the_server_knows_quotes() -> None:
    given = {"config": {"default_vhost": "a#b"}}
    assert settings(**given)["default_vhost"] == "'a#b'"
    older = {**FACTS, "distribution_major_version": "12"}
    assert told(refused(older, **given)) == [("begins-a-comment-in-rabbitmq", "rabbitmq_config.default_vhost")]
    text = render(ROLE / "templates" / "secrets.conf.j2", {"settings": {"a": "b#c", "d": "e"}})
    assert text.endswith("a = 'b#c'\nd = e\n")


@pytest.mark.parametrize(
    ("value", "instead"), [("30m", "1800000"), (0, "0"), *((value, "") for value in (False, "undefined", -5, 1.5))]
)
def test_a_consumer_timeout_that_rabbitmq_would_not_start_with(value: Any, instead: str) -> None:
    (problem,) = refused(config={"consumer_timeout": value})
    assert (*told([problem]), problem.value) == (("not-a-whole-number", "rabbitmq_config.consumer_timeout"), value)
    assert problem.instead.startswith(instead)
    assert problem.instead[0].isdigit() is bool(instead)
    (problem,) = refused(secret_config={"consumer_timeout": value})
    assert (problem.variable, problem.value) == ("rabbitmq_secret_config.consumer_timeout", "(not shown)")


@pytest.mark.parametrize(("value", "live"), [(1, "1"), ("60000", "60000")])
def test_a_consumer_timeout_of_ones_own(value: Any, live: str) -> None:
    result = planned(config={"consumer_timeout": value})
    assert result["live"]["settings"] == [{"key": "consumer_timeout", "value": live}]


@pytest.mark.parametrize(
    ("config", "identity", "key"),
    [
        ({"default_pass": "abc"}, "looks-like-a-secret", ".default_pass"),
        ({"Not a line": 1}, "not-a-key-of-rabbitmq-conf", ""),
        *(({"heartbeat": value}, "not-a-single-value", ".heartbeat") for value in (["a"], {"a": 1}, None)),
        *(
            ({"heartbeat": value}, "does-not-fit", ".heartbeat")
            for value in ("1\nlisteners.tcp.2 = 0.0.0.0:5672", "", " 30")
        ),
    ],
)
def test_lines_that_are_refused(config: dict[str, Any], identity: str, key: str) -> None:
    assert told(refused(config=config)) == [(identity, f"rabbitmq_config{key}")]


@pytest.mark.parametrize(
    ("given", "identity"),
    [
        ({"listen_addresses": []}, "empty"),
        ({"listen_addresses": ["localhost"]}, "not-an-ip-address"),
        ({"management_listen_address": "here"}, "not-an-ip-address"),
        ({"port": 25672}, "port"),
        ({"port": 0}, "not-a-port"),
        ({"port": 65536}, "not-a-port"),
        ({"management_port": 5672}, "port"),
    ],
)
def test_addresses_and_ports_that_are_refused(given: dict[str, Any], identity: str) -> None:
    (name,) = given
    assert told(refused(**given)) == [(identity, f"rabbitmq_{name}")]


@pytest.mark.parametrize("port", [1, 65535])
def test_ports_at_their_bounds(port: int) -> None:
    planned(port=port)


@pytest.mark.parametrize(("listen", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.5", "10.0.0.5")])
def test_the_api_is_asked_where_it_listens(listen: str, host: str) -> None:
    given = {"management_listen_address": listen, "admin_password": "long-and-random-enough"}
    assert planned(**given)["api"] == {"host": host, "port": 15672}
