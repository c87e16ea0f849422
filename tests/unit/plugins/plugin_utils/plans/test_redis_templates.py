"""What the role redis puts on a host, rendered from a plan; the script before the start is run for real."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import acl_users, engine_names
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render

TEMPLATES = Path(__file__).resolve().parents[5] / "roles" / "redis" / "templates"


def rendered(template: str, **variables: Any) -> str:
    """Return a template of the role rendered with ``variables``."""
    return render(TEMPLATES / template, variables)


@pytest.mark.parametrize("engine", ["redis", "valkey"])
def test_the_static_file_is_read_last_and_is_out_of_the_servers_reach(engine: str) -> None:
    names = engine_names(engine)
    text = rendered("drop-in.conf.j2", plan={**names, "limit_nofile": 65535, "includes": [names["config"], "/x"]})
    lines = text.splitlines()
    start = next(line for line in lines if line.startswith("ExecStart=/"))
    assert f" {names['state']} --include {names['config']} --include /x --supervised" in start
    assert lines[lines.index(start) - 1] == "ExecStart="
    writable = lines[lines.index("ReadWritePaths=") + 1]
    assert names["config_dir"] not in writable
    assert names["data_dir"] in writable


def test_the_configuration_has_the_plans_lines_in_order() -> None:
    sections = [{"title": "One", "lines": [{"name": "save", "value": '""'}, {"name": "save", "value": "1 1"}]}]
    text = rendered("celeryops.conf.j2", plan={**engine_names("redis"), "sections": sections})
    assert [line for line in text.splitlines() if line and line[0] != "#"] == ['save ""', "save 1 1"]


def test_the_user_default_is_off_and_passwords_are_hashes() -> None:
    text = rendered("celeryops.acl.j2", users=[{"name": "shop", "rules": "~shop:* +get"}], hashes={"shop": "ab" * 32})
    users = acl_users(text.encode())
    # A server that reads its file of changes back does so as this user: what it may not do is lost (redis issue 14541).
    assert users["default"] == "off sanitize-payload resetpass ~* &* +@all"
    assert "nopass" not in text
    assert users["shop"] == f"on sanitize-payload #{'ab' * 32} ~shop:* +get"
    # An ACL file has no comments: a server does not start with one.
    assert all(line.startswith("user ") for line in text.splitlines())


class TestDataScript:
    def run(self, folder: Path, persistence: str, *, leave: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the script that comes before each start on the data directory ``folder``."""
        own = {"data_dir": str(folder), "persistence": persistence, "leave_data": leave}
        plan = {**engine_names("redis"), **own}
        script = rendered("celeryops-data.sh.j2", plan=plan)
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)

    def before(self, folder: Path, persistence: str, *, leave: bool) -> set[str]:
        """Run it as the first start of the role's server; return the names that are there then."""
        state = folder / "state"
        line = (TEMPLATES / "state.conf.j2").read_text().partition("# celeryops: ")[2].splitlines()[0]
        state.write_text(f"# celeryops: {line}\n")
        plan = {**engine_names("redis"), "data_dir": str(folder), "persistence": persistence, "leave_data": leave}
        script = rendered("celeryops-data.sh.j2", plan={**plan, "state": str(state)})
        subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        return {path.name for path in folder.iterdir()} - {"state", ".celeryops-begun"}

    @pytest.mark.parametrize("leave", [True, False])
    def test_the_log_of_another_hand_is_never_deleted(self, tmp_path: Path, leave: bool) -> None:
        self.log(tmp_path, age=60)
        (tmp_path / "appendonlydir.old").mkdir()
        kept = {"appendonlydir.before-celeryops", "appendonlydir.old.before-celeryops"}
        assert self.before(tmp_path, "rdb", leave=leave) >= {*kept, "dump.rdb"}
        # To the log, and back: what this server wrote may go, nothing else.
        for persistence in ("aof", "rdb", "aof", "rdb"):
            # A clean stop writes the snapshot last.
            (tmp_path / "dump.rdb").touch()
            assert self.before(tmp_path, persistence, leave=leave) >= kept
        assert (tmp_path / "appendonlydir.before-celeryops/appendonly.aof.1.incr.aof").read_text() == "x"

    @pytest.mark.parametrize("age", [60, -60])
    def test_of_an_old_log_and_a_snapshot_the_newer_is_loaded_and_both_are_kept(self, tmp_path: Path, age: int) -> None:
        self.log(tmp_path, age=age)
        names = self.before(tmp_path, "aof", leave=True)
        assert ("appendonlydir.before-celeryops" in names) == (age > 0)
        base = tmp_path / "appendonlydir/appendonly.aof.1.base.rdb"
        assert base.exists() == (age > 0)
        # As a save point does it.
        (tmp_path / "temp.rdb").write_text("REDIS0012 later")
        (tmp_path / "temp.rdb").rename(tmp_path / "dump.rdb")
        assert (tmp_path / "dump.rdb.before-celeryops").read_text() == "REDIS0012 new"
        # Later starts find their own.
        assert self.before(tmp_path, "aof", leave=True) == names | {"dump.rdb"}

    def log(self, folder: Path, age: int) -> None:
        """Make a log of writes that is ``age`` seconds older than the snapshot, with a newer table of contents."""
        directory = folder / "appendonlydir"
        directory.mkdir()
        (folder / "dump.rdb").write_text("REDIS0012 new")
        now = (folder / "dump.rdb").stat().st_mtime
        for name, time in (("appendonly.aof.1.incr.aof", now - age), ("appendonly.aof.manifest", now + 5)):
            (directory / name).write_text("x")
            os.utime(directory / name, (time, time))

    @pytest.mark.parametrize("persistence", ["aof", "rdb", "none"])
    def test_a_new_server_starts_as_it_is(self, tmp_path: Path, persistence: str) -> None:
        assert self.run(tmp_path, persistence).returncode == 0
        assert list(tmp_path.iterdir()) == []

    def test_a_snapshot_becomes_the_beginning_of_the_log(self, tmp_path: Path) -> None:
        (tmp_path / "dump.rdb").write_text("REDIS0012 data")
        for _each in range(2):
            assert self.run(tmp_path, "aof").returncode == 0
        log = tmp_path / "appendonlydir"
        assert (log / "appendonly.aof.1.base.rdb").read_text() == "REDIS0012 data"
        assert (log / "appendonly.aof.manifest").read_text() == "file appendonly.aof.1.base.rdb seq 1 type b\n"

    @pytest.mark.parametrize("name", [None, "own.aof.manifest", "appendonly.aof.1.incr.aof"])
    def test_a_directory_without_a_table_of_contents_does_not_hide_the_snapshot(
        self, tmp_path: Path, name: str | None
    ) -> None:
        log = tmp_path / "appendonlydir"
        log.mkdir()
        if name:
            (log / name).write_text("x")
        (tmp_path / "dump.rdb").write_text("REDIS0012 data")
        for _each in range(2):
            assert self.run(tmp_path, "aof").returncode == 0
        assert (log / "appendonly.aof.1.base.rdb").read_text() == "REDIS0012 data"
        kept = tmp_path / "appendonlydir.before-celeryops"
        assert [path.name for path in kept.iterdir()] == ([name] if name else [])

    def test_a_log_stays_as_it_is(self, tmp_path: Path) -> None:
        self.log(tmp_path, age=60)
        assert self.run(tmp_path, "aof").returncode == 0
        assert not (tmp_path / "appendonlydir" / "appendonly.aof.1.base.rdb").exists()

    @pytest.mark.parametrize("persistence", ["rdb", "none"])
    def test_a_log_that_is_not_wanted_any_more_is_put_aside(self, tmp_path: Path, persistence: str) -> None:
        self.log(tmp_path, age=60)
        assert self.run(tmp_path, persistence).returncode == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["appendonlydir.old", "dump.rdb"]

    def test_a_log_with_newer_data_is_not_given_up(self, tmp_path: Path) -> None:
        self.log(tmp_path, age=-60)
        result = self.run(tmp_path, "rdb")
        assert result.returncode == 1
        assert "redis_persistence: aof" in result.stderr
        assert (tmp_path / "appendonlydir").is_dir()

    @pytest.mark.parametrize("persistence", ["rdb", "none"])
    @pytest.mark.parametrize("name", ["appendonlydir/appendonly.aof.1.base.rdb", "appendonly.aof"])
    def test_a_log_without_a_snapshot_is_not_given_up(self, tmp_path: Path, persistence: str, name: str) -> None:
        log = tmp_path / name
        log.parent.mkdir(exist_ok=True)
        log.write_text("REDIS0012 data")
        result = self.run(tmp_path, persistence)
        assert (result.returncode, log.read_text()) == (1, "REDIS0012 data")
        assert "redis_persistence: aof" in result.stderr
        # It may be left behind on purpose, and is put aside then.
        assert self.run(tmp_path, persistence, leave=True).returncode == 0
        assert [path.name for path in tmp_path.iterdir()] == [f"{name.split('/')[0]}.old"]

    def test_a_log_without_data_is_nobodys_loss(self, tmp_path: Path) -> None:
        (tmp_path / "appendonlydir").mkdir()
        (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("file")
        (tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof").touch()
        assert self.run(tmp_path, "rdb").returncode == 0

    def test_a_log_of_an_old_server_is_not_replaced_by_its_snapshot(self, tmp_path: Path) -> None:
        (tmp_path / "appendonly.aof").write_text("*2 newer")
        (tmp_path / "dump.rdb").write_text("REDIS0009 older")
        assert self.run(tmp_path, "aof").returncode == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["appendonly.aof", "dump.rdb"]
