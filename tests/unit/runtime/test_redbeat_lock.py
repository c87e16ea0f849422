"""RedBeat has its lock again after a crash, and nobody else does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from redis.lock import Lock

from celeryops_runtime import redbeat_lock

KEY = "shop:redbeat::lock"


class Redis:
    """As much of a server as a lock needs."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self.held.get(name)

    def set(self, name: str, token: bytes, **_options: Any) -> bool:
        return self.held.setdefault(name, token) is token

    def get_encoder(self) -> Any:
        return self

    def encode(self, text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode()

    def register_script(self, _text: str) -> Any:
        # A function would become a method of the class.
        return functools.partial(_holds)


def _holds(keys: list[str], args: list[Any], client: Redis) -> int:
    return int(client.held.get(keys[0]) == args[0])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Redis:
    """A server, and a class of locks that is put back as it was."""
    for script in ("lua_release", "lua_extend", "lua_reacquire"):
        monkeypatch.setattr(Lock, script, None)
    monkeypatch.setattr(Lock, "acquire", Lock.acquire)
    return Redis()


def lock(server: Redis, name: str = KEY) -> Any:
    return Lock(server, name, timeout=25)  # type: ignore[arg-type]


def test_the_next_process_of_the_unit_has_the_lock_at_once(server: Redis, tmp_path: Path) -> None:
    environ = {"RUNTIME_DIRECTORY": f"{tmp_path}:{tmp_path}/more"}
    for _process in range(2):
        redbeat_lock.mend("shop:redbeat:", environ)
        mine = lock(server)
        # Another one waits for 25 seconds here.
        assert mine.acquire(blocking=False)
        assert mine.owned()
    assert server.held == {KEY: (tmp_path / "redbeat-token").read_bytes()}


def test_another_host_waits(server: Redis, tmp_path: Path) -> None:
    server.held[KEY] = b"of another host"
    redbeat_lock.mend("shop:redbeat:", {"RUNTIME_DIRECTORY": str(tmp_path)})
    assert not lock(server).acquire(blocking=False)
    del server.held[KEY]
    assert lock(server).acquire(blocking=False)


def test_a_lock_that_expires_meanwhile_is_taken_as_any_other(
    server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redbeat_lock.mend("shop:redbeat:", {"RUNTIME_DIRECTORY": str(tmp_path)})
    token = redbeat_lock.token_in(tmp_path).encode()
    monkeypatch.setattr(server, "get", lambda _name: token)
    mine = lock(server)
    assert mine.acquire(blocking=False)
    assert server.held == {KEY: token}


def test_other_locks_are_left_alone(server: Redis, tmp_path: Path) -> None:
    redbeat_lock.mend("shop:redbeat:", {"RUNTIME_DIRECTORY": str(tmp_path)})
    assert lock(server, "app:lock").acquire(blocking=False)
    assert not lock(server, "app:lock").acquire(blocking=False)


@pytest.mark.usefixtures("server")
def test_without_a_directory_of_the_unit_nothing_is_changed() -> None:
    before = Lock.acquire
    redbeat_lock.mend("shop:redbeat:", {})
    assert Lock.acquire is before


def test_a_directory_that_cannot_be_written_keeps_beat_from_nothing(
    server: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redbeat_lock.mend("shop:redbeat:", {"RUNTIME_DIRECTORY": str(tmp_path / "missing")})
    assert lock(server).acquire(blocking=False)
    assert "redbeat-token is of no use" in caplog.text


@pytest.mark.usefixtures("server")
def test_a_scheduler_without_a_lock_writes_no_token(tmp_path: Path) -> None:
    redbeat_lock.mend("shop:redbeat:", {"RUNTIME_DIRECTORY": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
