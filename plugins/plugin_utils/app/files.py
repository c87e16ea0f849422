# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration and secret files of an app (``celery_app_files``): their paths, owners and readers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

VARIABLE = "celery_app_files"
#: Stands for the scheduler among worker classes in ``restarts``.
BEAT = "beat"
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_MODE = re.compile(r"0[0-7]{3}")
#: What other parts of the collection own. Of the first, the app's own directory is left out.
_OURS = (
    paths.CONFIG, paths.PROGRAMS, paths.RUN, paths.CACHE, paths.RUN_COMMAND,
    f"{paths.UNITS}/celery-", f"{paths.TRANSIENT_UNITS}/celery-", "/etc/logrotate.d/celery-",
    "/etc/rabbitmq/", "/etc/redis/", "/etc/valkey/", "/var/lib/rabbitmq/", "/var/lib/redis/", "/var/lib/valkey/",
)  # fmt: skip
#: What the app may write to, and so could put another file in the place of.
_THE_APPS = (paths.STATE, paths.LOG)
#: What is gone after a restart of the host, or is no place for a file.
_PASSING = ("/run", "/var/run", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - these are refused
#: What the sandbox of the units hides (systemd.exec(5), ProtectHome=), and the trial, which has none, would find.
_UNSEEN = ("/home", "/root")
#: What has to be a directory, for what is below it or will be.
_DIRECTORIES = frozenset(
    str(folder) for path in (*_OURS, *_THE_APPS, *_PASSING, *_UNSEEN) for folder in PurePosixPath(path, "x").parents
)
#: Groups of hosts with such units.
_WITH_UNITS = frozenset({"all", "celery_workers", "celery_beat"})


def place(path: object, layout: Mapping[str, Any]) -> str:
    """Return where a file is on the host: one that is not absolute, in the app's own directory."""
    # Two slashes in front mean the same as one to Linux, and normpath leaves them.
    return re.sub("^/+", "/", os.path.normpath(os.path.join(layout["files"], str(path))))


def app_files(
    files: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], group: str
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return what is placed, without any content, and what is wrong with it.

    Arguments:
        files: as ``celery_app_files`` has them.
        layout: the app's paths (``layout.app_layout``).
        group: the app's own, which may read them unless another one is given.

    Returns:
        For each file its ``path``, ``owner``, ``group`` and ``mode``, whether it is ``secret``, the ``groups`` of hosts
        that get it (None for all), and its ``number`` in the variable.
    """
    found, problems = [], []
    seen: dict[str, str] = {}
    usable: dict[str, str] = {}
    for number, entry in enumerate(files):
        where = f"{VARIABLE}[{number}]"
        path = place(entry["path"], layout)
        faults = [*_path_problems(f"{where}.path", str(entry["path"]), path, layout)]
        in_units = entry.get("groups") is None or _WITH_UNITS & set(map(str, entry["groups"]))
        if in_units and path.startswith(tuple(f"{folder}/" for folder in _UNSEEN)):
            reason = "is where the sandbox of workers and scheduler lets them see nothing (ProtectHome=)"
            instead = f"a path elsewhere, such as one below {layout['files']}/"
            faults.append(Problem("hidden-by-the-sandbox", f"{where}.path", entry["path"], reason, instead))
        if path in seen:
            reason = f"is {seen[path]} as well"
            faults.append(Problem("file-listed-twice", f"{where}.path", entry["path"], reason, "each file once"))
        seen.setdefault(path, where)
        if not faults:
            usable[path] = where
        problems += [*faults, *_content_problems(where, entry), *_access_problems(where, entry)]
        found.append(
            {
                "path": path,
                "owner": str(entry.get("owner") or "root"),
                "group": str(entry.get("group") or group),
                "mode": str(entry.get("mode") or "0640"),
                "secret": entry.get("secret", True) is not False,
                "groups": None if entry.get("groups") is None else [str(name) for name in entry["groups"]],
                "number": number,
            }
        )
    for path, where in usable.items():
        outer = next((folder for folder in above(path) if folder in usable), "")
        if outer:
            reason = f"is below {usable[outer]}, which is a file ({outer})"
            instead = f"another path here, or in {usable[outer]}"
            problems.append(Problem("below-another-file", f"{where}.path", path, reason, instead))
    return found, problems


def above(path: str) -> list[str]:
    """Return the directories that a path lies in, the innermost first."""
    return [str(folder) for folder in PurePosixPath(path).parents]


def folders(files: Iterable[Mapping[str, Any]], layout: Mapping[str, Any]) -> list[str]:
    """Return the directories below the app's own that files need, the outer ones first; others have to be there."""
    own = f"{layout['files']}/"
    return sorted({folder for entry in files for folder in above(entry["path"]) if f"{folder}/".startswith(own)})


def _path_problems(variable: str, written: str, path: str, layout: Mapping[str, Any]) -> Iterator[Problem]:
    own = f"{layout['files']}/"
    instead = f"a path that is absolute, or one below {own}"
    if not written or written.endswith("/") or re.search(r"[\x00-\x1f\x7f]", written):
        yield Problem("not-a-file-path", variable, written, "is not the path of a file", instead)
    elif ".." in written.split("/"):
        yield Problem("leads-upwards", variable, written, "leads upwards", instead)
    elif not path.startswith(own) and path.startswith(_OURS):
        reason = "is a place that this collection keeps its own files in"
        yield Problem("place-of-the-collection", variable, written, reason, instead)
    elif path in _DIRECTORIES:
        reason = "is a directory"
        yield Problem("directory-not-a-file", variable, written, reason, f"the path of a file, or one below {own}")
    elif path.startswith(tuple(f"{folder}/" for folder in _THE_APPS)):
        reason = "is where the app itself may write, so that it could replace the file"
        yield Problem("writable-by-the-app", variable, written, reason, instead)
    elif path.startswith(tuple(f"{folder}/" for folder in _PASSING)):
        yield Problem("place-not-kept", variable, written, "is not kept over a restart of the host", instead)


def _content_problems(where: str, entry: Mapping[str, Any]) -> Iterator[Problem]:
    given = [key for key in ("content", "src") if entry.get(key) is not None]
    if len(given) != 1:
        reason = "has both content and src" if given else "has neither content nor src"
        instead = "one of them: the text itself, or a file on the control machine"
        yield Problem("both-content-and-src", where, entry["path"], reason, instead)
    elif given == ["content"] and not isinstance(entry["content"], str):
        reason = "is not text: YAML or Jinja has turned it into data"
        instead = "a block of text; end a template with | string"
        yield Problem("yaml-changed-the-text", f"{where}.content", NOT_SHOWN, reason, instead)


def _access_problems(where: str, entry: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("owner", "group"):
        if entry.get(key) and not _ACCOUNT.fullmatch(str(entry[key])):
            reason = "is not the name of an account"
            yield Problem("not-the-name", f"{where}.{key}", entry[key], reason, "a name such as root")
    mode = entry.get("mode")
    if mode is None:
        return
    if not isinstance(mode, str) or not _MODE.fullmatch(mode):
        octal = f"0{mode:o}" if isinstance(mode, int) and not isinstance(mode, bool) and 0 <= mode <= 0o777 else ""
        reason = f"is what YAML makes of {octal}" if octal and not isinstance(mode, str) else "is not a mode"
        instead = f'four digits in quotes, such as "{octal or "0640"}"'
        yield Problem("yaml-octal", f"{where}.mode", mode, reason, instead)
    elif int(mode, 8) & 0o022 and not (int(mode, 8) & 0o002 == 0 and str(entry.get("group")) == "root"):
        reason = "is writable by others than its owner"
        yield Problem("writable-by-others", f"{where}.mode", mode, reason, '"0640", or "0644"')
    elif int(mode, 8) & 0o004 and entry.get("secret", True) is not False:
        reason = "is readable by everyone on the host, and the file may hold secrets"
        instead = '"0640", or secret: false if it holds none'
        yield Problem("readable-by-everyone", f"{where}.mode", mode, reason, instead)


def read_by(files: Iterable[Mapping[str, Any]], layout: Mapping[str, Any], reader: str) -> list[str]:
    """Return the paths that make a process restart.

    Arguments:
        files: as ``celery_app_files`` has them; what cannot be read is told by the role celery_app.
        layout: the app's paths.
        reader: a worker class, or ``beat``.
    """
    found = []
    for entry in files:
        if isinstance(entry, Mapping) and entry.get("path"):
            named = entry.get("restarts")
            if named is None or (isinstance(named, (list, tuple)) and reader in map(str, named)):
                found.append(place(entry["path"], layout))
    return list(dict.fromkeys(found))
