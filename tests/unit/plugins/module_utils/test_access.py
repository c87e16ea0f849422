"""Who could write to a file or directory."""

from __future__ import annotations

import grp
import os
import pwd
import struct
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.access import writable_by


def test_all_groups_of_an_account_count_for_what_it_may_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a directory service as well, which nobody lists; and of an account that is still to come, its own."""
    writable, mine = writable_by, grp.getgrgid(tmp_path.stat().st_gid)
    folder, nobody = str(tmp_path), pwd.getpwnam("nobody").pw_gid
    tmp_path.chmod(0o775)
    assert [writable(folder, user, "") for user in ("nobody", "nobody-here")] == [False, False]
    assert [writable(folder, user, mine.gr_name) for user in ("nobody", "nobody-here")] == [True, True]
    known = {("nobody", nobody): [nobody, mine.gr_gid]}
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: known[name, gid])
    assert writable(folder, "nobody", "")
    tmp_path.chmod(0o755)
    assert not writable(folder, "nobody", mine.gr_name)
    assert not writable(f"{folder}/none", "nobody", mine.gr_name)
    # What everybody may write to, an account that is still to come may as well.
    tmp_path.chmod(0o757)
    assert writable(folder, "nobody-here", "group-here")


def test_an_access_list_counts_for_what_an_account_may_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody, group = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid
    monkeypatch.setattr(os, "getgrouplist", lambda _name, gid: [gid])

    def writable(mode: int, *entries: tuple[int, int, int]) -> bool:
        """With what `setfacl` stores: version 2, the entries, and the mask as the bits of the group."""
        value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        monkeypatch.setattr(os, "getxattr", lambda _path, _name: value)
        tmp_path.chmod(mode)
        told: bool = writable_by(str(tmp_path), "nobody", "")
        return told

    owner, group_of_it, mask = (0x01, 7, 0xFFFFFFFF), (0x04, 5, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF)
    assert writable(0o775, owner, (0x02, 7, nobody), group_of_it, mask)
    assert writable(0o775, owner, group_of_it, (0x08, 7, group), mask)
    # What the mask takes away, who may only read, and somebody else.
    assert not writable(0o755, owner, (0x02, 7, nobody), group_of_it, mask)
    assert not writable(0o775, owner, (0x02, 5, nobody), group_of_it, mask)
    assert not writable(0o775, owner, (0x02, 7, 12345), (0x08, 7, 12345), group_of_it, mask)
    # The owning group may only read, whatever the mask.
    os.chown(tmp_path, -1, group)
    assert not writable(0o775, owner, (0x02, 7, 12345), group_of_it, mask)
    assert writable(0o775, owner, (0x02, 7, 12345), (0x04, 7, 0xFFFFFFFF), mask)


def test_an_account_that_is_still_to_come_owns_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    os.chown(tmp_path, 1, -1)
    assert not writable_by(str(tmp_path), "nobody-here", "")
    assert writable_by(str(tmp_path), pwd.getpwuid(1).pw_name, "")
