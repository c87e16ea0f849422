"""The duty of a primary is handed over without losing a write; the servers are stood in for."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import ServerError
from ansible_collections.celeryops.stack.plugins.modules import redis_replication
from ansible_collections.celeryops.stack.plugins.modules.redis_replication import Replicated

PLACE = {"host": "10.0.0.1", "port": 6379}
PRIMARY = "role:master\r\nconnected_slaves:1\r\nmaster_repl_offset:70\r\nslave0:ip=10.0.0.2,state=online,offset={}\r\n"
ALONE = "role:master\r\nconnected_slaves:0\r\nmaster_repl_offset:70\r\n"
REPLICA = "role:slave\r\nmaster_host:10.0.0.2\r\nmaster_port:6379\r\nmaster_link_status:up\r\n"


class EndedError(Exception):
    """The module has ended."""


class FakeModule:
    def __init__(self, *, check_mode: bool = False, **changes: Any) -> None:
        self.params: dict[str, Any] = {
            "engine": "redis", "username": "admin", "password": "secret", "place": PLACE, "timeout": 1,
            "sentinels": [{"host": "10.0.0.1", "port": 26379}, {"host": "10.0.0.2", "port": 26379}],
            "master_name": "celeryops", "sentinel_username": "admin", "sentinel_password": "other", **changes,
        }  # fmt: skip
        self.check_mode = check_mode
        self.warned: list[str] = []
        self.result: dict[str, Any] = {}

    def exit_json(self, **result: Any) -> None:
        self.result = result
        raise EndedError

    def fail_json(self, **result: Any) -> None:
        self.result = {"failed": True, **result}
        raise EndedError

    def warn(self, text: str) -> None:
        self.warned.append(text)


class World:
    """A primary, its replica and two Sentinels, of which the first does not answer."""

    def __init__(self, *, lag: int = 0, replicas: int = 1, obeys: bool = True, sentinel: bool = True) -> None:
        self.calls: list[str] = []
        self.lag, self.replicas, self.obeys, self.sentinel = lag, replicas, obeys, sentinel
        self.promoted = self.follows = False

    def client(self, address: Any, **_options: float) -> Client:
        if isinstance(address, tuple) and (address[0] == "10.0.0.1" or not self.sentinel):
            raise OSError("refused")
        return Client(self, "sentinel" if isinstance(address, tuple) else "server")

    def server(self, words: tuple[str, ...]) -> Any:
        if words[0] == "INFO":
            if self.follows:
                return REPLICA
            return PRIMARY.format(70 - self.lag) if self.replicas else ALONE
        self.calls.append(" ".join(words[:2]) if words[0] == "CLIENT" else words[0])
        if words[0] == "REPLICAOF":
            assert words[1:] == ("10.0.0.2", "6379")
            self.follows = True
        return "OK"

    def of_sentinel(self, words: tuple[str, ...]) -> Any:
        if words[1] == "REPLICAS":
            return [
                ["flags", "slave", "master-link-status", "ok"],
                ["flags", "slave,s_down", "master-link-status", "err"],
            ]
        if words[1] == "FAILOVER":
            self.calls.append("FAILOVER")
            self.promoted = self.obeys
            return "OK"
        return ["10.0.0.2", "6379"] if self.promoted else ["10.0.0.1", "6379"]


class Client:
    def __init__(self, world: World, kind: str) -> None:
        self.world, self.kind = world, kind

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        """Stay as it is."""

    def call(self, *words: str) -> Any:
        if words[0] == "AUTH":
            if words[2] != ("other" if self.kind == "sentinel" else "secret"):
                raise ServerError("WRONGPASS")
            return "OK"
        return self.world.of_sentinel(words) if self.kind == "sentinel" else self.world.server(words)


def run(world: World, state: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> FakeModule:
    monkeypatch.setattr(redis_replication, "Client", world.client)
    monkeypatch.setattr(redis_replication, "PAUSE", 0.01)
    monkeypatch.setattr(redis_replication, "PATIENCE", 0.1)
    module = FakeModule(**options)
    with pytest.raises(EndedError):
        getattr(Replicated(module), state)()
    return module


def test_writes_wait_from_before_the_handover_until_the_old_primary_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to it in between would be lost."""
    world = World()
    module = run(world, "handed_over", monkeypatch)
    assert world.calls == [
        "CLIENT PAUSE", "FAILOVER", "REPLICAOF", "CONFIG", "CLIENT KILL", "CLIENT UNPAUSE",
    ]  # fmt: skip
    assert module.result["changed"]
    assert (module.result["role"], module.result["primary"]) == ("replica", {"host": "10.0.0.2", "port": 6379})


def test_a_replica_that_is_behind_does_not_become_the_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(lag=1)
    module = run(world, "handed_over", monkeypatch)
    assert "behind" in module.result["msg"]
    assert world.calls == ["CLIENT PAUSE", "CLIENT UNPAUSE"]


def test_a_primary_that_nobody_replaces_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(obeys=False)
    module = run(world, "handed_over", monkeypatch)
    assert "was not restarted" in module.result["msg"]
    assert world.calls == ["CLIENT PAUSE", "FAILOVER", "CLIENT UNPAUSE"]


def test_without_anybody_to_hand_over_to_it_is_just_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    for world in (World(replicas=0), World(sentinel=False)):
        module = run(world, "handed_over", monkeypatch)
        assert not module.result["changed"]
        assert world.calls == []
        assert bool(module.warned) == bool(world.replicas)


def test_check_mode_says_that_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    assert run(world, "handed_over", monkeypatch, check_mode=True).result["changed"]
    assert world.calls == []


def test_a_server_is_up_when_it_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(World(), "up", monkeypatch).result["role"] == "primary"
    following = World()
    following.follows = True
    assert run(following, "up", monkeypatch).result["primary"] == {"host": "10.0.0.2", "port": 6379}
    alone = run(World(replicas=0), "up", monkeypatch, timeout=0)
    assert "a primary without a replica" in alone.result["msg"]
    assert run(World(replicas=0), "up", monkeypatch, check_mode=True).result["role"] == "primary"
