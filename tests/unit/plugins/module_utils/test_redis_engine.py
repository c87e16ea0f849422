"""Which engine reads whose data, what is refused, and the small client."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    Client,
    ServerError,
    acl_changes,
    acl_stamp,
    engine_names,
    kernel_pending,
    leaves_behind,
    other_engine,
    pairs,
    readable,
    refusal,
    replication,
)


def held(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what an empty host holds, with ``changes`` per engine."""
    empty = {"enabled": False, "managed": False, "established": False, "files": {}}
    return {engine: {**empty, **changes.get(engine, {})} for engine in ("redis", "valkey")}


@pytest.mark.parametrize(
    ("engine", "header", "can"),
    [
        ("valkey", "REDIS0010", True),
        ("valkey", "REDIS0011", True),
        ("valkey", "REDIS0012", False),
        ("valkey", "VALKEY080", True),
        ("redis", "REDIS0012", True),
        ("redis", "VALKEY080", False),
        ("redis", "\x00\x01", False),
    ],
)
def test_readable(engine: str, header: str, can: bool) -> None:
    assert readable(engine, header) is can


def test_an_empty_host_and_the_same_engine_are_accepted() -> None:
    own = {"enabled": True, "managed": True, "established": True, "files": {"/var/lib/redis/dump.rdb": "REDIS0012"}}
    assert refusal("redis", held(), start_empty=False) is None
    assert refusal("redis", held(redis=own), start_empty=False) is None


def test_unreadable_data_are_refused_with_the_way_out() -> None:
    old = {"enabled": True, "managed": True, "established": True, "files": {"/var/lib/redis/dump.rdb": "REDIS0012"}}
    reason, instead = refusal("valkey", held(redis=old), start_empty=False) or ("", "")
    assert "/var/lib/redis/dump.rdb" in reason
    assert instead.startswith("redis to keep everything")
    assert "cannot read" in instead
    assert refusal("valkey", held(redis=old), start_empty=True) is None


def test_readable_data_are_not_left_behind_either() -> None:
    told = refusal("valkey", held(redis={"files": {"/var/lib/redis/dump.rdb": "REDIS0010"}}), start_empty=False)
    assert told is not None
    assert "can read these files" in told[1]


def test_unreadable_data_in_the_own_directory_are_always_refused() -> None:
    wrong = {"established": True, "files": {"/var/lib/valkey/dump.rdb": "REDIS0012"}}
    for start_empty in (False, True):
        told = refusal("valkey", held(valkey=wrong), start_empty=start_empty)
        assert told is not None
        assert "/var/lib/valkey/dump.rdb" in told[0]


def test_after_the_change_the_old_files_do_not_matter() -> None:
    after = held(
        redis={"managed": True, "files": {"/var/lib/redis/dump.rdb": "REDIS0012"}}, valkey={"established": True}
    )
    assert not leaves_behind("valkey", after)
    assert refusal("valkey", after, start_empty=False) is None


def test_going_back_is_a_change_of_engine_too() -> None:
    both = held(valkey={"managed": True, "enabled": True, "established": True}, redis={"established": True})
    assert refusal("redis", both, start_empty=False) is not None


def test_names_follow_one_pattern() -> None:
    redis, valkey = engine_names("redis"), engine_names("valkey")
    assert redis.keys() == valkey.keys()
    for key in redis:
        assert str(redis[key]).lower().replace("redis", "valkey") == str(valkey[key]).lower()
    assert other_engine("redis") == "valkey"
    assert other_engine("valkey") == "redis"


def test_kernel_pending() -> None:
    wanted = [
        {"key": "vm.overcommit_memory", "value": 1, "minimum": False},
        {"key": "net.core.somaxconn", "value": 4096, "minimum": True},
    ]
    assert kernel_pending(wanted, {}) == []
    assert kernel_pending(wanted, {"vm.overcommit_memory": 1, "net.core.somaxconn": 65535}) == []
    assert kernel_pending(wanted, {"vm.overcommit_memory": 1, "net.core.somaxconn": 4096}) == []
    assert kernel_pending(wanted, {"vm.overcommit_memory": 1, "net.core.somaxconn": 4095}) == [
        "net.core.somaxconn=4096"
    ]
    assert kernel_pending(wanted, {"vm.overcommit_memory": 2, "net.core.somaxconn": 128}) == [
        "vm.overcommit_memory=1",
        "net.core.somaxconn=4096",
    ]


ACL_FILE = b"user default off -@all\nuser admin on #ab ~* &* +@all\nuser shop on #cd ~shop:* +get\n"
LISTED = ["user default off", "user admin on", "user shop on"]


class TestUsers:
    def test_the_stamp_knows_file_and_server(self) -> None:
        stamp = acl_stamp(ACL_FILE, LISTED)
        assert stamp == acl_stamp(ACL_FILE, LISTED)
        assert stamp != acl_stamp(ACL_FILE.replace(b"cd", b"ce"), LISTED)
        assert stamp != acl_stamp(ACL_FILE, LISTED[:-1])

    def test_another_order_of_commands_is_no_change(self) -> None:
        assert acl_stamp(ACL_FILE, ["user a on +get +set"]) == acl_stamp(ACL_FILE, ["user a on +set +get"])

    def test_nothing_changed(self) -> None:
        assert acl_changes(acl_stamp(ACL_FILE, LISTED), ACL_FILE, LISTED) == []

    def test_only_what_changed_is_sent(self) -> None:
        after = ACL_FILE.replace(b"+get", b"+set") + b"user blog on #ef ~blog:*\n"
        assert acl_changes(acl_stamp(ACL_FILE, LISTED), after, LISTED) == [
            ["ACL", "SETUSER", "shop", "reset", "on", "#cd", "~shop:*", "+set"],
            ["ACL", "SETUSER", "blog", "reset", "on", "#ef", "~blog:*"],
        ]

    def test_a_user_that_is_gone_is_deleted(self) -> None:
        after = ACL_FILE[: ACL_FILE.index(b"user shop")]
        assert acl_changes(acl_stamp(ACL_FILE, LISTED), after, LISTED) == [["ACL", "DELUSER", "shop"]]

    def test_a_server_that_somebody_changed_loads_everything(self) -> None:
        assert acl_changes(acl_stamp(ACL_FILE, LISTED), ACL_FILE, [*LISTED, "user eve on"]) is None
        assert acl_changes("", ACL_FILE, LISTED) is None


class TestClient:
    """Against a listener that answers with prepared bytes."""

    def talk(self, folder: Path, answer: bytes, *words: str) -> tuple[bytes, Any]:
        """Return what the server got and what the client made of ``answer``."""
        got: list[bytes] = []
        path = folder / "s"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(1)

            def serve() -> None:
                connection, _other = listener.accept()
                with connection:
                    got.append(connection.recv(4096))
                    connection.sendall(answer)

            server = threading.Thread(target=serve)
            server.start()
            try:
                with Client(str(path), timeout=5) as client:
                    result = client.call(*words)
            finally:
                server.join()
        return got[0], result

    def test_commands_and_answers(self, tmp_path: Path) -> None:
        sent, result = self.talk(tmp_path, b"*3\r\n$3\r\na b\r\n:7\r\n$-1\r\n", "ACL", "ü")
        assert sent == "*2\r\n$3\r\nACL\r\n$2\r\nü\r\n".encode()
        assert result == ["a b", 7, None]

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(ServerError, match="WRONGPASS"):
            self.talk(tmp_path, b"-WRONGPASS no\r\n", "AUTH", "a", "b")

    @pytest.mark.parametrize("answer", [b"", b"?what\r\n", b"+cut off"])
    def test_broken_answers(self, tmp_path: Path, answer: bytes) -> None:
        with pytest.raises(OSError, match=r"connection|protocol"):
            self.talk(tmp_path, answer, "PING")

    def test_nothing_listens(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            Client(str(tmp_path / "s"))
        assert caught.value.filename is None


def test_what_a_primary_says_of_itself_and_of_its_replicas() -> None:
    text = (
        "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nmaster_repl_offset:9921\r\n"
        "slave0:ip=10.0.0.2,port=6379,state=online,offset=9900,lag=1\r\n"
        "slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\n"
    )
    found = replication(text)
    assert (found["role"], found["primary"], found["followers"]) == ("primary", {}, 2)
    # One that is still getting the data has none.
    assert (found["offset"], found["offsets"]) == (9921, [9900])


@pytest.mark.parametrize(("status", "syncing", "link"), [("up", "0", True), ("down", "0", False), ("up", "1", False)])
def test_a_replica_is_connected_when_it_has_the_data(status: str, syncing: str, link: bool) -> None:
    text = (
        f"role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:{status}\r\n"
        f"master_sync_in_progress:{syncing}\r\nconnected_slaves:0\r\n"
    )
    found = replication(text)
    assert (found["role"], found["primary"]) == ("replica", {"host": "10.0.0.1", "port": 6379})
    assert found["link"] is link


def test_a_server_that_does_not_answer_is_nothing() -> None:
    assert replication("")["role"] == ""


def test_answers_of_sentinel_are_names_and_values() -> None:
    assert pairs(["ip", "10.0.0.1", "port", "6379"]) == {"ip": "10.0.0.1", "port": "6379"}
