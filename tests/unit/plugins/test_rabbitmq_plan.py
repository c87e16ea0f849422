"""The plan of the role rabbitmq: derived limits, merged objects, refused mistakes, and no secret in it."""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, message
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq import plan
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.rabbitmq_configuration import config_value

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
    service = render(templates / "service.conf.j2", {"plan": result})
    assert "LimitNOFILE=65536\nTimeoutStopSec=300\n" in service
    assert "\nStartLimitIntervalSec=0\n" in service
    check = "ExecStartPre=/bin/sh /etc/rabbitmq/celeryops-disk.sh /var/lib/rabbitmq/mnesia 64 60"
    # systemd makes \\" of this, and erl a quote.
    watch = r'Environment="ERL_AFLAGS=-eval {ok,_}=file:script(\\\"/etc/rabbitmq/celeryops-disk.erl\\\")"'
    assert f"\n{check}\n" in service
    assert f"\n{watch}\n" in service
    assert '\nExecStopPost=/bin/sh -c \'test "$$EXIT_STATUS" != 74 || echo "RabbitMQ ended because' in service


def test_the_disk_is_that_of_the_logs() -> None:
    command = planned(config={"raft.data_dir": "/srv/quorum 100%"})["disk"]["command"]
    assert command == '/bin/sh /etc/rabbitmq/celeryops-disk.sh "/srv/quorum 100%%" 64 60'


def test_before_the_first_start_no_room_is_asked_for(tmp_path: Path) -> None:
    look_at(tmp_path, ["0"], "1000")
    (tmp_path / "store").rmdir()
    assert start_check(tmp_path, 0).returncode == 0


@pytest.mark.parametrize(
    ("free", "size", "logs", "wanted"),
    [
        pytest.param("0", "1000", (), 64, id="full"),
        pytest.param("63", "1000", (), 64, id="a MiB too little"),
        pytest.param("64", "1000", (), 0, id="just enough"),
        pytest.param("66", "1000", (1, 2), 67, id="not enough for the logs"),
        pytest.param("67", "1000", (1, 2), 0, id="enough for the logs"),
        pytest.param("9", "50", (1,), 10, id="not a fifth of the disk"),
        pytest.param("10", "50", (1,), 0, id="a fifth of the disk"),
        pytest.param("-", "-", (), 0, id="a file system without numbers"),
        pytest.param("", "", (), 0, id="nothing to be read"),
    ],
)
def test_the_server_does_not_start_on_a_full_disk(
    tmp_path: Path, free: str, size: str, logs: tuple[int, ...], wanted: int
) -> None:
    """The script itself, on real logs, with a disk whose room is written down. ``wanted``: what it asks for, or 0."""
    look_at(tmp_path, [free], size)
    # The store may be a link to another disk.
    (tmp_path / "store" / "quorum").symlink_to(tmp_path / "disk")
    for number, mebibytes in enumerate(logs):
        folder = tmp_path / "disk" / f"node-{number}"
        folder.mkdir(parents=True)
        (folder / "00000001.wal").write_bytes(bytes(mebibytes << 20))
    done = start_check(tmp_path, 0)
    assert done.returncode == bool(wanted)
    told = f"{tmp_path}/store has {free} MiB left, and RabbitMQ needs {wanted} MiB to start: "
    assert done.stderr.startswith(told) if wanted else "MiB" not in done.stderr


@pytest.mark.parametrize(("rooms", "status", "sleeps"), [(["0", "63", "64"], 0, 2), (["0"], 1, 3)])
def test_a_start_waits_for_room_and_tells_it_once(tmp_path: Path, rooms: list[str], status: int, sleeps: int) -> None:
    look_at(tmp_path, rooms, "1000")
    done = start_check(tmp_path, 3)
    assert (done.returncode, done.stderr.count("has 0 MiB left")) == (status, 1)
    assert (tmp_path / "slept").read_text() == "1\n" * sleeps


def look_at(folder: Path, rooms: list[str], size: str) -> None:
    """Make a df that finds so much room, a line at each look and the last for ever, and a sleep that takes no time."""
    (folder / "rooms").write_text("\n".join(rooms))
    (folder / "df").write_text(
        f"#!/bin/sh\ncd {folder}\necho heading\ncase $1 in\n"
        f"*avail) head -n 1 rooms; [ $(wc -l <rooms) -eq 0 ] || sed -i 1d rooms ;;\n*) echo {size} ;;\nesac\n"
    )
    (folder / "sleep").write_text(f"#!/bin/sh\necho $1 >>{folder}/slept\n")
    for command in ("df", "sleep"):
        (folder / command).chmod(0o755)
    (folder / "store").mkdir()


def start_check(folder: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run the script as the unit does, with the commands of :func:`look_at`."""
    script = folder / "disk.sh"
    script.write_text(render(ROLE / "templates" / "disk.sh.j2", {}))
    command = ["/bin/sh", script, folder / "store", "64", str(seconds)]
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=30)


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
    for own, live in ((1, "1"), ("60000", "60000")):
        result = planned(config={"consumer_timeout": own})
        assert result["live"]["settings"] == [{"key": "consumer_timeout", "value": live}]
    assert "'(not shown)' is not a whole number" in refused(secret_config={"consumer_timeout": value})


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
            "definition.max-lenght: 5 is not a key of a policy; write max-length (did you mean that?)",
        ),
        (
            {"delivery_limit": 5},
            "definition.delivery_limit: 5 is not a key of a policy; write delivery-limit (did you mean that?)",
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
            "definition.max-length: '5' is not a whole number of messages; write 5, without quotes",
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


# What exactly comes of the variables, and where each limit is


def told(**given: Any) -> list[str]:
    """Return the mistakes as a person reads them, without the prefix of the role's variables."""
    return [str(problem).removeprefix("rabbitmq_") for problem in plan(variables(**given), FACTS)[1]]


def lines(facts: dict[str, Any], **given: Any) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in plan(variables(**given), facts)[0]["settings"]}


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


def test_secret_lines_are_in_a_file_of_their_own_only() -> None:
    result = planned(secret_config={"listeners.tcp.1": "10.0.0.1:5672"})
    assert result["secret_files"] == [{"name": "50-celeryops.conf"}]
    assert "listeners.tcp.1" not in {entry["key"] for entry in result["settings"]}
    assert "/etc/rabbitmq/conf.d/50-celeryops.conf" not in {entry["path"] for entry in result["stale_files"]}
    assert told(config={"heartbeat": 30}, secret_config={"heartbeat": 30}) == [
        "secret_config: 'heartbeat' is in rabbitmq_config as well; write it in one of the two"
    ]


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


def test_a_password_in_the_environment_of_the_installation_is_refused() -> None:
    def told(**environment: str) -> list[Problem]:
        _plan, problems = plan(variables(install_environment=environment), {})
        return problems

    (problem,) = told(http_proxy="http://proxy:3128", https_proxy="http://me:s3cret@proxy:3128")
    assert (problem.variable, problem.value) == ("rabbitmq_install_environment.https_proxy", "(not shown)")
    assert told(http_proxy="http://proxy:3128") == []


def test_pinned_versions_come_with_their_packages_in_the_order_of_their_needs() -> None:
    result = planned(version="4.0.*", erlang_version="1:27*")
    assert result["packages"] == ["erlang-base=1:27*", "rabbitmq-server=4.0.*"]
    assert "/etc/apt/preferences.d/celeryops-rabbitmq.pref" not in {entry["path"] for entry in result["stale_files"]}
    assert planned()["packages"] == ["rabbitmq-server"]
    assert planned(version="4.0.*")["packages"] == ["rabbitmq-server=4.0.*"]


@pytest.mark.parametrize(("key", "least", "most"), [("port", 1, 65535), ("open_files", 1024, 2**20)])
def test_a_number_may_be_as_small_and_as_large_as_is_said(key: str, least: int, most: int) -> None:
    for value in (least, most):
        planned(**{key: value})
    for value in (least - 1, most + 1):
        assert told(**{key: value})[0].startswith(f"{key}: {value} is ")
        assert len(told(**{key: value})) == 1


@pytest.mark.parametrize(("watermark", "fits"), [(0.1, True), (0.8, True), ("10%", True), ("9%", False), (0.81, False)])
def test_a_share_of_the_memory_has_bounds(watermark: Any, fits: bool) -> None:
    assert bool(told(memory_high_watermark=watermark)) is not fits


@pytest.mark.parametrize(
    ("watermark", "fits"),
    [("128M", True), (128 * 1024**2 - 1, False), (8 * GIB, True), (8 * GIB + 1, False)],
)
def test_a_size_of_memory_has_bounds_where_the_memory_is_known(watermark: Any, fits: bool) -> None:
    # 8G is four fifths of it.
    facts = {**FACTS, "memtotal_mb": 10240}
    assert bool(plan(variables(memory_high_watermark=watermark), facts)[1]) is not fits
    if watermark != 128 * 1024**2 - 1:
        assert plan(variables(memory_high_watermark=watermark), {})[1] == []


def test_the_free_space_where_little_is_known() -> None:
    assert lines({})["disk_free_limit.relative"] == "0.4"
    unread = lines({}, memory_high_watermark="much")
    assert (unread["vm_memory_high_watermark.absolute"], unread["disk_free_limit.relative"]) == ("0", "1.0")
    assert lines({"memtotal_mb": 8192})["disk_free_limit.absolute"] == str(3276 * 1024**2)
    assert lines({}, memory_high_watermark="3G")["disk_free_limit.absolute"] == str(3 * GIB)


def test_the_free_space_that_is_given() -> None:
    assert settings(disk_free_limit="5G")["disk_free_limit.absolute"] == str(5 * GIB)
    assert told(disk_free_limit=0) == [
        (
            "disk_free_limit: 0 would let the disk fill up; write auto, or a size such as 512M or 2G, or a whole "
            "number of bytes"
        )
    ]


def test_durations_are_read_or_told() -> None:
    result, problems = plan(variables(stop_timeout="soon"), FACTS)
    assert result["stop_timeout"] == 0
    assert [problem.reason for problem in problems] == ["is not a duration"]
    assert [problem.reason for problem in plan(variables(stop_timeout=0), FACTS)[1]] == ["must be longer than 0s"]


@pytest.mark.parametrize(("listen", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.5", "10.0.0.5")])
def test_the_api_is_asked_where_it_listens(listen: str, host: str) -> None:
    given = {"management_listen_address": listen, "admin_password": "long-and-random-enough"}
    assert planned(**given)["api"] == {"host": host, "port": 15672}


def test_an_address_that_is_none_is_told_once() -> None:
    assert told(management_listen_address="here") == [
        (
            "management_listen_address: 'here' is not an IP address; write an address such as 127.0.0.1, 10.0.0.5 or "
            "0.0.0.0"
        )
    ]


@pytest.mark.parametrize("value", [["a"], {"a": 1}, None])
def test_a_line_has_one_value(value: Any) -> None:
    (problem,) = plan(variables(config={"heartbeat": value}), FACTS)[1]
    assert problem.reason == "is not a single value"


def test_what_is_wrong_with_names_is_said() -> None:
    assert told(nodes=["rabbit@a", "rabbit@b"])[0].endswith(
        "names several nodes, and clusters are not supported yet; write one node, or leave it out"
    )
    assert told(nodes=["rabbit@a"])[0].endswith(
        "does not name this node, rabbit@mq1; write [rabbit@mq1], or leave it out"
    )
    planned(nodes=["rabbit@mq1"])
    assert told(plugins=["rabbitmq_management", "Bad"]) == [
        "plugins: 'Bad' is not the name of a plugin; write a name such as rabbitmq_prometheus"
    ]
    assert told(prune=["queue"]) == ["prune: 'queue' is not a kind of object; write queues (did you mean that?)"]
    planned(prune=["queues"])


@pytest.mark.parametrize("release", ["12", "13", "testing"])
def test_the_systems_that_are_supported(release: str) -> None:
    assert plan(variables(), {**FACTS, "distribution_major_version": release})[1] == []


@pytest.mark.parametrize(("password", "fits"), [("7 chars", False), ("8 chars!", True)])
def test_a_password_on_loopback_has_eight_characters(password: str, fits: bool) -> None:
    assert told(admin_password=password) == (
        [] if fits else ["admin_password: '(not shown)' is too short; write at least 8 characters"]
    )


SHOP = {"vhosts": [{"name": "shop"}]}


def test_bindings_differ_by_their_arguments_and_others_by_their_names() -> None:
    one = {"vhost": "shop", "source": "e", "destination": "q", "routing_key": "a"}
    other = {**one, "arguments": {"x": 1}}
    result = planned(**SHOP, bindings=[one, other])["definitions"]["bindings"]
    assert [(entry["routing_key"], entry["arguments"]) for entry in result] == [("a", {}), ("a", {"x": 1})]
    (message,) = told(**SHOP, bindings=[one, one])
    assert message == "bindings: 'shop/e/q/a' is declared twice; write it once"
    queues = [{"name": "q", "vhost": "shop"}, {"name": "r", "vhost": "shop"}]
    assert len(planned(**SHOP, queues=queues)["definitions"]["queues"]) == 2
    twice = [{"name": "q", "vhost": "shop"}, {"name": "q", "vhost": "shop", "arguments": {"x": 1}}]
    assert told(**SHOP, queues=twice) == ["queues: 'shop/q' is declared twice; write it once"]


@pytest.mark.parametrize(
    ("queue", "fits"),
    [
        ({"type": "classic", "durable": False}, True),
        ({"type": "classic", "auto_delete": True}, True),
        ({"type": "quorum"}, True),
        ({"type": "quorum", "durable": False}, False),
        ({"auto_delete": True}, False),
        ({"type": "stream", "durable": False}, False),
    ],
)
def test_queues_that_keep_copies_stay(queue: dict[str, Any], fits: bool) -> None:
    found = told(**SHOP, queues=[{"name": "q", "vhost": "shop", **queue}])
    kind = queue.get("type", "quorum")
    assert found == (
        [] if fits else [f"queues.q: '{kind}' queues are durable and not deleted by themselves; write type classic"]
    )


def test_what_an_object_is_when_only_its_name_is_given() -> None:
    objects = {
        "exchanges": [
            {"name": "e", "vhost": "shop"},
            {"name": "t", "vhost": "shop", "type": "topic", "durable": False},
        ],
        "bindings": [{"vhost": "shop", "source": "e", "destination": "q"}],
    }
    result = planned(vhosts=[{"name": "shop"}, {"name": "crm", "tags": ["a"]}], **objects)["definitions"]
    assert result["vhosts"] == [{"name": "shop"}, {"name": "crm", "tags": ["a"], "metadata": {"tags": ["a"]}}]
    assert [(entry["type"], entry["durable"]) for entry in result["exchanges"]] == [("direct", True), ("topic", False)]
    assert result["bindings"][0]["routing_key"] == ""


def test_what_a_user_may_do_is_a_pattern() -> None:
    user = {"name": "a", "password": "long enough", "permissions": [{"vhost": "shop", "read": "("}]}
    (message,) = told(**SHOP, users=[user])
    assert message.startswith("users.a.permissions.read: '(' is not a regular expression (")
