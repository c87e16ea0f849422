# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a release is tried with: whether they are on the host, and whether the app's own can be placed."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import trial
from ansible_collections.celeryops.stack.plugins.module_utils.access import writable_by
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths, folders_of
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request


def differing(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the paths of the files that do not have the SHA-256 that they are to have."""
    return [entry["path"] for entry in files if digest_of(entry["path"]) != entry["sha256"]]


def lacks_files(files: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some file is not on the host as it is to be, in its content or for who may read it."""
    return bool(differing(files)) or not all(trial.has_access(entry) for entry in files)


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file; empty when there is none."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return ""


def may_write(request: Request, path: str) -> bool:
    """Whether the app's account could write to a path."""
    return writable_by(path, request["user"], _group(request))


def must_have_places(request: Request, *, to_come: bool, check_mode: bool) -> list[str]:
    """Refuse files of the app's own that cannot be put where they are to be, or that it could replace there.

    Arguments:
        request: of the module.
        to_come: whether directories and accounts may still come, with a package or, in a dry run, at all.
        check_mode: whether this is a dry run.

    Returns:
        what should be told of directories that are not there yet.

    Raises:
        ReleaseError: there is such a file; the text is for the user.
    """
    told = []
    owned = AppPaths(request["name"])
    for entry in request["configuration"]:
        path, folder = entry["path"], os.path.dirname(entry["path"])
        if not entry.get("own"):
            continue
        instead = f"make it before, or write a path below {owned.files}/"
        lacks = not path.startswith(f"{owned.config}/") and not os.path.isdir(folder)
        loose = next((part for part in folders_of(path) if may_write(request, part)), "")
        what = ""
        if os.path.islink(path):
            what = f"{path} is a link on this host; remove it, or write another path"
        elif os.path.lexists(path) and not os.path.isfile(path):
            what = f"{path} is no file on this host; remove it, or write another path"
        # A package or a play before this one may be what makes a directory, and a dry run makes none.
        elif lacks and not (to_come and _may_be_made(folder)):
            what = f"{folder} is not a directory on this host; {instead}"
        elif loose:
            what = f"{loose} can be written by {request['user']}, so the app could replace {path} in it; "
            what += f"write a path below {owned.files}/"
        elif unknown := "" if to_come else _unknown_accounts(request, entry):
            what = f"there is no {unknown} on this host, for {path}; make it before, or write another one"
        if what:
            raise ReleaseError(f"celery_app_files: {what}")
        if lacks and check_mode:
            text = f"{folder} is not on this host yet, for {path}; unless the run itself makes it, {instead}"
            told.append(f"celery_app_files: {text}")
    return told


def _may_be_made(folder: str) -> bool:
    """Whether nothing is there that is in the way of a directory."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder)


def _group(request: Request) -> str:
    return str((request["account"] or {}).get("group") or "")


def _unknown_accounts(request: Request, entry: Mapping[str, Any]) -> str:
    """Return who is to have a file of the app's own and is not there; the app's account may still be to come."""
    ours = {request["user"], _group(request)}
    owner, group = str(entry.get("owner") or "root"), str(entry.get("group") or "root")
    try:
        if owner not in ours:
            pwd.getpwnam(owner)
    except KeyError:
        return f"account {owner}"
    try:
        if group not in ours:
            grp.getgrnam(group)
    except KeyError:
        return f"group {group}"
    return ""
