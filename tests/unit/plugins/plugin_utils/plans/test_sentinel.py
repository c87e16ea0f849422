"""The plan of the role sentinel: what it watches, whom it lets in, and what its files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import sentinel_names
from ansible_collections.celeryops.stack.plugins.modules.sentinel_servers import login
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.sentinel import plan

TEMPLATES = Path(__file__).resolve().parents[5] / "roles" / "sentinel" / "templates"
FACTS = {"distribution": "Debian", "distribution_major_version": "13", "os_family": "Debian"}
NODES = [{"host": f"10.0.0.{number}", "port": 26379} for number in (1, 2, 3)]
SECRET = "a-password-of-the-right-length"


def variables(**changes: Any) -> dict[str, Any]:
    values = {
        "implementation": "redis", "bind": ["127.0.0.1", "10.0.0.1"], "port": 26379, "announce_ip": "10.0.0.1",
        "log_level": "notice", "nodes": NODES, "master_name": "celeryops", "quorum": "auto", "down_after": "3s",
        "failover_timeout": "1m", "parallel_syncs": 1, "servers": [{"host": "10.0.0.1", "port": 6379}],
        "server_user": "sentinel", "server_password": SECRET, "admin_user": "admin", "admin_password": SECRET,
        "client_user": "celeryops", "client_password": SECRET, "peer_user": "peer", "peer_password": SECRET, **changes,
    }  # fmt: skip
    return {f"sentinel_{name}": value for name, value in values.items()}


def planned(facts: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    found, problems = plan(variables(**changes), FACTS if facts is None else facts)
    assert problems == []
    return dict(found)


def refused(facts: dict[str, str] | None = None, **changes: Any) -> list[tuple[str, str]]:
    found, problems = plan(variables(**changes), FACTS if facts is None else facts)
    assert found == {}
    return told(problems)


@pytest.mark.parametrize(
    ("number", "written", "quorum"), [(3, "auto", 2), (5, "auto", 3), (0, "auto", 1), (3, 1, 1), (5, "5", 5)]
)
def test_more_than_half_have_to_agree_unless_a_number_is_written(number: int, written: Any, quorum: int) -> None:
    nodes = [{"host": f"10.0.0.{index + 1}", "port": 26379} for index in range(number)]
    assert planned(nodes=nodes, quorum=written)["quorum"] == quorum


@pytest.mark.parametrize("written", [0, 4, "most", "-1", 1.5])
def test_a_quorum_that_is_none(written: Any) -> None:
    assert refused(quorum=written) == [("not-a-quorum", "sentinel_quorum")]


def test_the_others_are_all_but_the_host_itself() -> None:
    found = planned()
    assert [node["host"] for node in found["others"]] == ["10.0.0.2", "10.0.0.3"]
    assert found["settings"] == {
        "down-after-milliseconds": 3000, "failover-timeout": 60000, "parallel-syncs": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bind", "host"),
    [(["127.0.0.1", "10.0.0.1"], "127.0.0.1"), (["-::1", "10.0.0.1"], "10.0.0.1"), (["0.0.0.0"], "127.0.0.1")],
)
def test_how_the_host_reaches_its_own(bind: list[str], host: str) -> None:
    assert planned(bind=bind)["api"] == {"host": host, "port": 26379}


def test_an_address_of_its_own_that_others_reach() -> None:
    for address in ("", "127.0.0.1", "cache1"):
        assert refused(announce_ip=address) == [("address-not-known", "sentinel_announce_ip")]
    assert refused(bind=[]) == [("listens-nowhere", "sentinel_bind")]


def test_every_account_is_one_of_its_own_with_a_password() -> None:
    assert refused(peer_user="admin") == [("name-taken", "sentinel_peer_user")]
    assert refused(client_password="") == [("empty-password", "sentinel_client_password")]
    assert refused(server_password="short") == [("guessable-password", "sentinel_server_password")]
    assert refused(admin_user="default") == [("user-default", "sentinel_admin_user")]


def test_a_client_changes_nothing() -> None:
    rules = {user["name"]: user["rules"].split() for user in planned()["users"]}
    client = rules["celeryops"]
    assert {"-@all", "+sentinel|get-master-addr-by-name", "+sentinel|sentinels"} <= set(client)
    assert not {"+sentinel", "+@all", "+sentinel|set", "+sentinel|failover", "+shutdown"} & {*client, *rules["peer"]}


def test_redis_7_0_is_not_told_of_what_it_does_not_know() -> None:
    twelve = {**FACTS, "distribution_major_version": "12"}
    assert "setinfo" not in str(planned(twelve)["users"])
    assert "+client|setinfo" in str(planned()["users"])
    assert refused(twelve, implementation="valkey") == [("only-in-backports", "sentinel_implementation")]


@pytest.mark.parametrize("engine", ["redis", "valkey"])
def test_its_own_file_is_read_first_and_the_static_ones_are_out_of_its_reach(engine: str) -> None:
    names = sentinel_names(engine)
    lines = render(TEMPLATES / "drop-in.conf.j2", {"plan": planned(implementation=engine)}).splitlines()
    start = next(line for line in lines if line.startswith("ExecStart=/"))
    assert lines[lines.index(start) - 1] == "ExecStart="
    assert start.index(names["state"]) < start.index(names["config"]) < start.index(names["peers"])
    writable = lines[lines.index("ReadWritePaths=") + 1]
    assert names["state_dir"] in writable
    assert names["config_dir"] not in writable


def test_nobody_gets_in_without_a_password_and_passwords_are_hashes() -> None:
    found = planned()
    hashes = {user["name"]: "ab" * 32 for user in found["users"]}
    text = render(TEMPLATES / "users.acl.j2", {"users": found["users"], "hashes": hashes})
    assert text.splitlines()[0].startswith("user default off ")
    assert "nopass" not in text
    assert SECRET not in str(found) + text


def test_the_first_state_says_what_is_watched_and_as_whom() -> None:
    text = render(
        TEMPLATES / "state.conf.j2",
        {"plan": planned(), "primary": {"host": "10.0.0.2", "port": 6379}, "user": "sentinel", "password": SECRET},
    )
    assert "sentinel monitor celeryops 10.0.0.2 6379 2\n" in text
    assert "sentinel down-after-milliseconds celeryops 3000\n" in text
    assert login(text, "celeryops") == {"auth-user": "sentinel", "auth-pass": SECRET}
    assert login(text, "another") == {}
    # As Sentinel itself writes it.
    assert login(f"sentinel auth-pass celeryops {SECRET}\n", "celeryops") == {"auth-pass": SECRET}
