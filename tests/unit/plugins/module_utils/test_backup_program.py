"""The program that makes backups on a host: what it deletes, what it takes for a backup, and what fails it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import backup_program
from ansible_collections.celeryops.stack.plugins.module_utils.backup_program import (
    BackupError,
    backup,
    dump_command,
    flaw_of_definitions,
    main,
    name_of,
    ours,
    surplus,
    unfinished,
    upload_command,
)

NOON = 1_764_676_800.0
DEFINITIONS = json.dumps({"users": [{"name": "a"}], "vhosts": [{"name": "v"}], "permissions": [{"user": "a"}]})


def test_a_later_backup_has_a_greater_name() -> None:
    assert name_of("rabbitmq", "mq1", NOON) == "rabbitmq-mq1-20251202T120000Z.json"
    assert name_of("redis", "mq1", NOON) == "redis-mq1-20251202T120000Z.rdb"
    names = [name_of("redis", "mq1", NOON + step) for step in (0, 1, 61, 86_400, 400 * 86_400)]
    assert sorted(names) == names


def test_only_what_it_has_written_itself_counts() -> None:
    mine = "redis-mq1-20251202T120000Z.rdb"
    others = [
        "redis-mq2-20251202T120000Z.rdb", "redis-mq1-old-20251202T120000Z.rdb", "rabbitmq-mq1-20251202T120000Z.json",
        "redis-mq1-20251202T120000Z.rdb.gz", "redis-mq1-latest.rdb", "dump.rdb", f".{mine}.part",
        "redis-mq1-20251202.rdb", "redis-mq1-20251202T120000Zxrdb",
    ]  # fmt: skip
    assert ours([*others, mine], "redis", "mq1") == [mine]
    assert ours(["redis-m.1-20251202T120000Z.rdb", mine], "redis", "m.1") == ["redis-m.1-20251202T120000Z.rdb"]
    assert unfinished([*others, mine], "redis", "mq1") == [f".{mine}.part"]
    assert unfinished([f"x{mine}.part", f".{mine}.tmpx"], "redis", "mq1") == []


def test_the_oldest_go_and_the_newest_never() -> None:
    names = [name_of("redis", "mq1", NOON + day * 86_400) for day in range(4)]
    assert surplus(names, 3) == names[:1]
    assert surplus(names, 4) == []
    assert surplus(names, 9) == []
    assert surplus(names, 1) == names[:3]
    assert surplus(names, 0) == names[:3]


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (DEFINITIONS, ""),
        ("", "is not JSON"),
        ("[]", "has no users and no vhosts and no permissions"),
        ('{"users": [], "vhosts": [{}], "permissions": [{}]}', "has no users"),
        ('{"users": [{}], "vhosts": [{}]}', "has no permissions"),
    ],
)
def test_what_is_no_document_of_definitions_is_told(text: str, flaw: str) -> None:
    assert flaw_of_definitions(text).startswith(flaw)
    assert bool(flaw_of_definitions(text)) == bool(flaw)


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["/bin/put"], ["/bin/put", "/b/x.rdb"]),
        (["/bin/put", "-v"], ["/bin/put", "-v", "/b/x.rdb"]),
        (["/bin/put", "{file}", "s3://b/{name}"], ["/bin/put", "/b/x.rdb", "s3://b/x.rdb"]),
        (["/bin/put", "--as={name}"], ["/bin/put", "--as=x.rdb", "/b/x.rdb"]),
        (["/bin/put", "--from={file}"], ["/bin/put", "--from=/b/x.rdb"]),
    ],
)
def test_a_command_gets_the_file(words: list[str], called: list[str]) -> None:
    assert upload_command(words, "/b/x.rdb") == called


def test_the_server_s_own_tool_writes_the_file() -> None:
    assert dump_command("rabbitmq", "/b/x", "", "") == [
        "/usr/sbin/rabbitmqctl", "--quiet", "export_definitions", "/b/x", "--format", "json",
    ]  # fmt: skip
    assert dump_command("valkey", "/b/x", "admin", "/run/v") == [
        "/usr/bin/valkey-cli", "-s", "/run/v", "--user", "admin", "--rdb", "/b/x",
    ]  # fmt: skip


class Host:
    """Stands in for the programs of a host, and notes what was called."""

    def __init__(self) -> None:
        self.down = False
        #: Word of a command -> the code that it ends with
        self.codes: dict[str, int] = {}
        self.content = DEFINITIONS
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []

    def run(self, words: Sequence[str], **options: Any) -> SimpleNamespace:
        self.calls.append(list(words))
        self.environments.append(dict(options.get("env") or {}))
        if words[0] == "/bin/missing":
            raise FileNotFoundError(2, "No such file or directory")
        if words[0].endswith("systemctl"):
            return SimpleNamespace(returncode=3 if self.down else 0)
        if "export_definitions" in words:
            Path(words[3]).write_text(self.content)
        if "--rdb" in words:
            Path(words[-1]).write_bytes(b"REDIS0012")
        return SimpleNamespace(returncode=self.codes.get(Path(words[0]).name, 0), stdout=b"bad checksum")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(subprocess, "run", host.run)
    monkeypatch.setattr(backup_program.socket, "gethostname", lambda: "mq1")
    return host


def options(kind: str, folder: Path, **changes: Any) -> argparse.Namespace:
    values = {"kind": kind, "directory": str(folder), "keep": 2, "user": "admin", "socket": "/run/s", "command": []}
    return argparse.Namespace(**{**values, **changes})


def test_a_backup_is_whole_and_its_owner_s_alone(host: Host, tmp_path: Path) -> None:
    (tmp_path / ".rabbitmq-mq1-20251101T120000Z.json.part").write_text("half")
    path = Path(backup(options("rabbitmq", tmp_path), "mq1", NOON))
    assert path == tmp_path / "rabbitmq-mq1-20251202T120000Z.json"
    assert path.read_text() == DEFINITIONS
    assert path.stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == [path.name]
    assert host.calls[0][-1] == "rabbitmq-server.service"


@pytest.mark.parametrize(
    ("kind", "broken", "reason"),
    [
        ("rabbitmq", {"down": True}, "rabbitmq-server.service does not run"),
        ("rabbitmq", {"codes": {"rabbitmqctl": 69}}, "rabbitmqctl failed with 69"),
        ("rabbitmq", {"content": "{}"}, "what RabbitMQ exported has no users"),
        ("valkey", {"down": True}, "valkey-server.service does not run"),
        ("redis", {"codes": {"redis-cli": 1}}, "redis-cli failed with 1"),
        ("redis", {"codes": {"redis-check-rdb": 1}}, "redis-check-rdb refuses what the server sent: bad checksum"),
    ],
)
def test_what_is_no_backup_gets_no_name(
    host: Host, tmp_path: Path, kind: str, broken: dict[str, Any], reason: str
) -> None:
    for name, value in broken.items():
        setattr(host, name, value)
    with pytest.raises(BackupError, match=reason):
        backup(options(kind, tmp_path), "mq1", NOON)
    assert files(tmp_path) == []


def run(folder: Path, *words: str, keep: int = 2) -> int:
    return main(["--kind", "redis", "--directory", str(folder), "--keep", str(keep), "--", *words])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def old(folder: Path, count: int) -> list[str]:
    names = [name_of("redis", "mq1", NOON + day * 86_400) for day in range(count)]
    for name in names:
        (folder / name).write_text("")
    return names


@pytest.mark.usefixtures("host")
def test_the_old_go_after_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = old(tmp_path, 3)
    (tmp_path / "dump.rdb").write_text("")
    assert run(tmp_path) == 0
    left = files(tmp_path)
    assert left[0] == "dump.rdb"
    assert left[1] == names[-1]
    assert len(left) == 3
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"wrote {tmp_path / left[2]}, 9 bytes"
    assert [line.split(",")[0] for line in told[1:]] == [f"deleted {name}" for name in names[:2]]


def test_nothing_goes_without_a_new_one(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = old(tmp_path, 3)
    host.codes["redis-check-rdb"] = 1
    assert run(tmp_path) == 1
    assert files(tmp_path) == names
    assert capsys.readouterr().err.startswith("backup failed: redis-check-rdb refuses")


@pytest.mark.parametrize(
    ("command", "reason"), [("/bin/put", "put failed with 7"), ("/bin/missing", "/bin/missing: No such")]
)
def test_a_command_that_fails_fails_the_backup_and_fills_no_disk(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, reason: str
) -> None:
    old(tmp_path, 3)
    host.codes["put"] = 7
    assert run(tmp_path, command) == 1
    assert len(files(tmp_path)) == 2
    assert reason in capsys.readouterr().err


def test_a_command_gets_the_new_file_and_not_the_password(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISCLI_AUTH", "hush")
    assert run(tmp_path, "/bin/put", "--quiet") == 0
    [name] = files(tmp_path)
    assert host.calls[-1] == ["/bin/put", "--quiet", str(tmp_path / name)]
    by_program = dict(zip([call[0] for call in host.calls], host.environments, strict=True))
    assert by_program["/usr/bin/redis-cli"]["REDISCLI_AUTH"] == "hush"
    assert "REDISCLI_AUTH" not in by_program["/bin/put"]
    assert by_program["/bin/put"]["PATH"] == os.environ["PATH"]


def test_a_directory_that_is_gone_fails_the_backup(host: Host, tmp_path: Path) -> None:
    assert run(tmp_path / "gone") == 1
    assert time.time() > NOON
    assert host.calls
