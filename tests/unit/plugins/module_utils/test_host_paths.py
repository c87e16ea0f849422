"""Accounts and directories as a host has them."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.celeryops.stack.plugins.module_utils.host_paths import accounts, directories, directory, groups


def test_accounts_of_the_host_and_those_asked_for(tmp_path: Path) -> None:
    database = tmp_path / "passwd"
    database.write_text("root:x:0:0::/root:/bin/sh\n+nis::::::\n\n")
    found = accounts(["nobody", "no_such_account"], str(database))
    assert list(found) == ["root", "nobody", "no_such_account"]
    assert found["no_such_account"] is None
    root = found["root"]
    assert root is not None
    assert (root["uid"], root["primary"]) == (0, "root")
    assert "root" in root["groups"]
    assert accounts([], str(tmp_path / "absent")) == {}


def test_groups_of_the_host_and_those_asked_for(tmp_path: Path) -> None:
    database = tmp_path / "group"
    database.write_text("root:x:0:\nshop:x:998:anna\n")
    assert groups(["nogroup", "no_such_group"], str(database)) == {
        "root": True, "shop": True, "nogroup": True, "no_such_group": False,
    }  # fmt: skip


def test_what_stands_in_a_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "to_directory").symlink_to(tmp_path)
    (tmp_path / "to_file").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    kinds = {path.name: directory(str(path))["kind"] for path in tmp_path.iterdir()}
    assert kinds == {
        "file": "file",
        "dangling": "link",
        "to_directory": "directory",
        "to_file": "link",
        "pipe": "other",
    }
    assert directory(str(tmp_path / "a" / "b"))["kind"] == "absent"


def test_what_its_file_system_allows(tmp_path: Path) -> None:
    found = directory(str(tmp_path / "a" / "b"))
    status = os.statvfs(tmp_path)
    assert found["size"] == status.f_frsize * status.f_blocks
    assert (found["read_only"], found["uid"]) == (bool(status.f_flag & os.ST_RDONLY), 0)
    assert directory("/proc/sys")["noexec"] == bool(os.statvfs("/proc/sys").f_flag & os.ST_NOEXEC)


def test_an_app_has_its_own_directory_in_each(tmp_path: Path) -> None:
    (tmp_path / "opt" / "shop").mkdir(parents=True)
    (tmp_path / "file").touch()
    found = directories([f"{tmp_path}/opt", f"{tmp_path}/file", f"{tmp_path}/none"], [f"{tmp_path}/other"])
    assert {Path(path).name: entry["kind"] for path, entry in found.items()} == {
        "opt": "directory", "shop": "directory", "file": "file", "none": "absent", "other": "absent",
    }  # fmt: skip
