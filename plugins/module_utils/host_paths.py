# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts and directories of a host that the roles use. Read-only."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.account import group_names
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What the roles write below; an app has a directory of its own in each of the first.
OF_APPS = (paths.PROGRAMS, paths.CONFIG, paths.STATE, paths.LOG)
OF_SERVERS = ("/etc/rabbitmq", "/var/lib/rabbitmq", "/var/lib/redis", "/var/lib/valkey", paths.UNITS)


def accounts(asked: Iterable[str] = (), database: str = "/etc/passwd") -> dict[str, dict[str, Any] | None]:
    """Return what is known of accounts: those of the host itself, and those ``asked`` for, wherever they are kept.

    Returns:
        name -> ``uid``, ``shell``, ``primary`` (its group) and ``groups``, all of its groups; None where there is none.
    """
    names = dict.fromkeys([*_first_fields(database), *asked])
    found: dict[str, dict[str, Any] | None] = {}
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            found[name] = None
            continue
        groups = group_names(name, entry.pw_gid)
        found[name] = {"uid": entry.pw_uid, "shell": entry.pw_shell, "primary": groups[-1], "groups": groups}
    return found


def groups(asked: Iterable[str] = (), database: str = "/etc/group") -> dict[str, bool]:
    """Return name -> whether there is such a group: those of the host itself, and those ``asked`` for."""
    found = dict.fromkeys(_first_fields(database), True)
    for name in asked:
        try:
            grp.getgrnam(name)
        except KeyError:
            found[name] = False
        else:
            found[name] = True
    return found


def _first_fields(path: str) -> list[str]:
    """Return the names in a file such as passwd(5), without the lines by which older systems include others."""
    names = [line.partition(":")[0].strip() for line in text_of(path).splitlines()]
    return [name for name in names if name and name[0] not in "+-#"]


def directory(path: str) -> dict[str, Any]:
    """Return what stands in a place of a directory, and what its file system allows.

    Returns:
        ``kind`` (``directory``, ``link`` to what is none, ``file``, ``other``, ``absent``), ``owner`` and ``uid`` of
        what is there, ``read_only`` and ``noexec`` of the file system that holds it, or would, ``free`` and ``size`` in
        bytes.
    """
    found: dict[str, Any] = {"kind": _kind(path), "owner": "", "uid": 0}
    if found["kind"] != "absent":
        found["uid"] = os.lstat(path).st_uid if found["kind"] != "directory" else os.stat(path).st_uid
        found["owner"] = _owner(found["uid"])
    while not os.path.exists(path):
        path = os.path.dirname(path)
    system = os.statvfs(path)
    return {
        **found,
        "read_only": bool(system.f_flag & os.ST_RDONLY),
        "noexec": bool(system.f_flag & os.ST_NOEXEC),
        # Root may take what is kept for it.
        "free": system.f_frsize * system.f_bfree,
        "size": system.f_frsize * system.f_blocks,
    }


def directories(parents: Iterable[str] = OF_APPS, others: Iterable[str] = OF_SERVERS) -> dict[str, dict[str, Any]]:
    """Return path -> ``directory`` of all that the roles use: ``parents``, what is in each of them, and ``others``."""
    found = {path: directory(path) for path in (*parents, *others)}
    for parent in parents:
        if found[parent]["kind"] == "directory":
            found |= {f"{parent}/{name}": directory(f"{parent}/{name}") for name in sorted(os.listdir(parent))}
    return found


def _kind(path: str) -> str:
    if os.path.isdir(path):
        return "directory"
    if not os.path.lexists(path):
        return "absent"
    mode = os.lstat(path).st_mode
    return "link" if stat.S_ISLNK(mode) else "file" if stat.S_ISREG(mode) else "other"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
