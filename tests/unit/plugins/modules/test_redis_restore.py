"""A server that does not take a backup has its own data again, and Sentinel watches it; servers are stood in for."""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.modules import redis_restore
from ansible_collections.celeryops.stack.plugins.modules.redis_restore import Restore

PRIMARY = "role:master\r\nconnected_slaves:{0}\r\nmaster_repl_offset:70\r\n"
FOLLOWER = "slave{0}:ip=10.0.0.2,port=6379,state=online,offset={1},lag=0\r\n"


class EndedError(Exception):
    """The module has ended."""


class Server:
    """A server that holds what is in its directory, its replicas, and the module's own world."""

    def __init__(self, folder: Path, *, replicas: int = 0, offset: int = 70) -> None:
        self.folder, self.replicas, self.offset = folder, replicas, offset
        self.params: dict[str, Any] = {
            "engine": "redis", "username": "admin", "password": "secret", "path": str(folder / "restore.rdb"),
            "over": False, "place": {"host": "10.0.0.1", "port": 6379}, "sentinels": [], "master_name": "celeryops",
            "sentinel_username": "admin", "sentinel_password": "other", "timeout": 0,
        }  # fmt: skip
        self.check_mode = False
        self.calls: list[str] = []
        self.warned: list[str] = []
        self.result: dict[str, Any] = {}
        #: Commands that fail.
        self.broken: set[str] = set()
        self.lacks = 0

    def exit_json(self, **result: Any) -> None:
        self.result = result
        raise EndedError

    def fail_json(self, **result: Any) -> None:
        self.result = {"failed": True, **result}
        raise EndedError

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def run_command(self, words: list[str], **_options: Any) -> tuple[int, str, str]:
        if words[0].endswith("check-rdb"):
            return 0, "[info] 5 keys read\n", ""
        if words[0] == "systemctl" and words[1] != "reset-failed":
            self.calls.append(words[1])
            return (1, "", "no") if words[1] in self.broken else (0, "", "")
        return 0, "", ""

    def ask(self, section: str) -> str:
        if section == "replication":
            said = PRIMARY.format(self.replicas)
            return (said + "".join(FOLLOWER.format(one, self.offset) for one in range(self.replicas))).replace("\r", "")
        if section == "keyspace":
            return "db0:keys=5,expires=0\n" if "start" in self.calls else ""
        return f"rdb_last_load_keys_loaded:{5 - self.lacks}\n"


class Sentinels:
    """Tells when they waited."""

    def __init__(self, server: Server, refusal: str = "") -> None:
        self.server, self.why = server, refusal
        self.places = [("10.0.0.1", 26379)]
        self.stuck: list[str] = []

    def refusal(self, primary: tuple[str, int]) -> str:
        assert primary == ("10.0.0.1", 6379)
        return self.why

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        self.server.calls.append("wait")
        try:
            yield
        finally:
            self.server.calls.append("watch")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    names = redis_restore.engine_names("redis")
    own = {"data_dir": str(tmp_path), "user": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}
    monkeypatch.setattr(redis_restore, "engine_names", lambda _engine: {**names, **own})
    monkeypatch.setattr(redis_restore, "PAUSE", 0.01)
    (tmp_path / "restore.rdb").write_text("backup")
    (tmp_path / "dump.rdb").write_text("own")
    (tmp_path / "appendonlydir").mkdir()
    return Server(tmp_path)


def run(server: Server, *, refusal: str | None = None) -> dict[str, Any]:
    """Run the module; with Sentinels where ``refusal`` is what they say."""
    restore = Restore(server)  # type: ignore[arg-type]
    restore._ask = server.ask  # type: ignore[method-assign]
    if refusal is not None:
        restore.sentinels = Sentinels(server, refusal)  # type: ignore[assignment]
    with pytest.raises(EndedError):
        restore.run()
    return server.result


def own(server: Server) -> bool:
    """Whether the server has its own data, and no backup lies about."""
    assert not (server.folder / "restore.rdb").exists()
    return (server.folder / "dump.rdb").read_text() == "own" and (server.folder / "appendonlydir").is_dir()


def test_a_server_gets_the_backup_and_its_own_data_are_put_aside(server: Server) -> None:
    assert run(server) == {"changed": True, "keys": 5, "aside": server.result["aside"], "replicas": 0}
    assert (server.folder / "dump.rdb").read_text() == "backup"
    assert not (server.folder / "appendonlydir").exists()
    aside = Path(server.result["aside"])
    assert (aside / "dump.rdb").read_text() == "own"
    assert aside.stat().st_mode & 0o777 == 0o700


def test_sentinels_wait_until_the_replicas_have_the_data(server: Server) -> None:
    server.replicas = 2
    assert run(server, refusal="")["replicas"] == 2
    assert server.calls == ["wait", "stop", "start", "watch"]


def test_replicas_that_do_not_follow_are_told_of(server: Server) -> None:
    server.replicas, server.offset = 2, 0
    assert "has the backup, but 0 of 2 replicas" in run(server, refusal="")["msg"]
    assert server.calls[-1] == "watch"
    assert (server.folder / "dump.rdb").read_text() == "backup"


@pytest.mark.parametrize("broken", ["start", "stop"])
def test_what_fails_gives_the_server_its_own_data_back(server: Server, broken: str) -> None:
    """Data that could not be put aside yet are still in their place."""
    server.broken = {broken}
    assert "did not take the backup" in run(server, refusal="")["msg"]
    assert own(server)
    assert server.calls[-2:] == ["start", "watch"]
    assert list(server.folder.glob("before-restore-*")) == []


def test_data_half_of_which_were_put_aside_are_whole_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def rename(source: str, target: str) -> None:
        if source == str(server.folder / "dump.rdb"):
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert "did not take the backup" in run(server)["msg"]
    assert own(server)


def test_a_server_that_lacks_keys_gets_its_own_data_back(server: Server) -> None:
    server.lacks = 1
    assert "it lacks 1 of 5 keys" in run(server)["msg"]
    assert own(server)


def test_nothing_happens_when_sentinels_may_replace_it(server: Server) -> None:
    server.replicas = 2
    assert "one has another primary. Nothing was changed" in run(server, refusal="one has another primary")["msg"]
    assert server.calls == []
    assert own(server)


def test_nothing_happens_without_sentinels_where_there_are_replicas(server: Server) -> None:
    server.replicas = 2
    assert "has 2 replicas" in run(server)["msg"]
    assert server.calls == []


def test_check_mode_only_looks(server: Server) -> None:
    server.check_mode = True
    assert run(server, refusal="") == {"changed": True}
    assert server.calls == []
    assert (server.folder / "dump.rdb").read_text() == "own"


def test_a_sentinel_that_still_waits_is_told_of(server: Server) -> None:
    restore = Restore(server)  # type: ignore[arg-type]
    restore._ask = server.ask  # type: ignore[method-assign]
    restore.sentinels.stuck = ["10.0.0.2:26379"]
    with pytest.raises(EndedError):
        restore.run()
    assert "10.0.0.2:26379" in server.warned[0]
