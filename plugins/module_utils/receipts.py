# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receipts: what a call was asked for, and how the host looked when it was done.

A call that finds nothing to do costs as much as any other. So a module leaves a receipt on the host, and the facts of
the next run say which receipts still hold: the same call need not be made again. A receipt holds as long as nothing
that the call looked at has changed, by what the kernel keeps of each file (stat(2)): nobody can set the time of its
last change (``st_ctime``). It is for root alone, and gone after a reboot (``/run``). Runs on managed hosts.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import hmac
import json
import os
import pwd
import stat
import tempfile
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.paths import RECEIPTS
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import entries_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


#: More are an error (path_resolution(7)).
LINKS = 40


def proof(key: str, asked: str) -> str:
    """Return by what both sides know a receipt, without a digest of secrets in the facts.

    Arguments:
        key: made by the run, and known to it alone.
        asked: digest of what a call is asked for.
    """
    return hmac.new(key.encode(), asked.encode(), hashlib.sha256).hexdigest()


def identity(path: str) -> list[Any] | None:
    """Return what becomes another when a file or link does, or when its owner or mode do; None where there is none.

    Of a directory only the owner and the mode count: what is in it is looked at by itself.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return [error.errno or 0]
    who = [status.st_mode, status.st_uid, status.st_gid]
    if stat.S_ISDIR(status.st_mode):
        return [*who, _access_list(path)]
    return [*who, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _access_list(path: str) -> str:
    """Return who else has rights to a directory (acl(5)), as the kernel keeps it; empty without."""
    try:
        return os.getxattr(path, "system.posix_acl_access", follow_symlinks=False).hex()
    except OSError:
        return ""


def links(path: str) -> list[str]:
    """Return a path and what it leads to, each link of the way."""
    found = [path]
    while os.path.islink(found[-1]) and len(found) < LINKS:
        found.append(os.path.join(os.path.dirname(found[-1]), os.readlink(found[-1])))
    return found


def tree(top: str) -> list[list[Any]]:
    """Return the path and identity of each file below a directory; compiled Python belongs to whoever runs it."""
    found: list[list[Any]] = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        found += [[path, identity(path)] for path in (os.path.join(folder, name) for name in sorted(names))]
    return found


def seen(
    paths: Iterable[str],
    *,
    trees: Iterable[str] = (),
    folders: Iterable[str] = (),
    users: Iterable[str] = (),
    groups: Iterable[str] = (),
    lines: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, Any]:
    """Return how the host looks.

    Arguments:
        paths: files, links, directories, there or not.
        trees: directories of which each file counts.
        folders: directories of which the names of the entries count.
        users: accounts, there or not.
        groups: likewise.
        lines: file -> of which lines it counts whether it has them.
    """
    return {
        "paths": {path: identity(path) for path in paths},
        "trees": {top: tree(top) for top in trees},
        "folders": {folder: entries_of(folder) for folder in folders},
        "users": {name: _user(name) for name in users},
        "groups": {name: _group(name) for name in groups},
        "lines": {path: _has(text_of(path), wanted) for path, wanted in (lines or {}).items()},
    }


def _user(name: str) -> list[Any] | None:
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return None
    return [account.pw_uid, account.pw_gid, account.pw_shell, sorted(os.getgrouplist(name, account.pw_gid))]


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _has(text: str, wanted: Iterable[str]) -> dict[str, bool]:
    present = set(text.splitlines())
    return {line: line in present for line in wanted}


def write(asked: str, state: Mapping[str, Any], more: Mapping[str, Any], folder: str = RECEIPTS) -> None:
    """Leave a receipt in the place of the last one of this call. Without one the next run only takes longer.

    Arguments:
        asked: digest of what the call was asked for.
        state: how the host looked when it was done (:func:`seen`).
        more: ``units`` and ``prune``, which the facts look at beside it, and ``result``, what the call returned.
        folder: where receipts are.
    """
    name = hashlib.sha256("\0".join(sorted(state["paths"])).encode()).hexdigest()[:16]
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        # Readable by its owner alone. Several names of a machine may be at work.
        handle, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"asked": asked, "state": state, **more}, stream)
        os.replace(temporary, f"{folder}/{name}.json")


def valid(folder: str = RECEIPTS, *, tidy: bool = True) -> list[dict[str, Any]]:
    """Return the receipts that hold.

    Arguments:
        folder: where receipts are.
        tidy: whether to remove the others, for which no call will ask.
    """
    found = []
    for path in (f"{folder}/{name}" for name in entries_of(folder)):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            with open(path, encoding="utf-8") as stream:
                receipt: dict[str, Any] = json.load(stream)
            if _holds(receipt["state"]):
                found.append(receipt)
                continue
        if tidy:
            with contextlib.suppress(OSError):
                os.unlink(path)
    return found


def _holds(state: Mapping[str, Any]) -> bool:
    more = {name: known for name, known in state.items() if name != "paths"}
    return bool(state == seen(state["paths"], **more))
