# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of an app's files that were placed on a host, to distinguish them from the user's.

One file for each app, in its configuration directory: path -> ``sha256`` of what was placed, ``left`` where it is in
the inventory no more, and ``found`` where somebody had put the very same there before, whose file it stays. Runs on
managed hosts.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.paths import FILES_RECORD

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: In the configuration directory of an app.
NAME = FILES_RECORD

Record = dict[str, dict[str, Any]]


def read(path: str) -> Record:
    """Return the record; nothing when there is none, or when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {
        str(name): entry for name, entry in entries if isinstance(entry, dict) and isinstance(entry.get("sha256"), str)
    }


def write(path: str, record: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the record, for root alone."""
    temporary = f"{path}.new"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(record, stream, indent=1, sort_keys=True)
    os.replace(temporary, path)


def updated(
    before: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, bytes], found: Collection[str] = ()
) -> tuple[Record, list[str]]:
    """Return the record after a run, and the files that have left the inventory with it.

    Arguments:
        before: the record so far.
        wanted: path -> content of every file that the inventory has.
        found: those of them that nobody had to place.
    """
    after: Record = {
        path: {"sha256": digest(content), **({"found": True} if path in found else {})}
        for path, content in wanted.items()
    }
    gone = []
    for path, entry in before.items():
        if path not in after:
            after[path] = {**entry, "left": True}
            if not entry.get("left"):
                gone.append(path)
    return after, sorted(gone)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()


def is_ours(path: str, entry: Mapping[str, Any]) -> bool:
    """Whether a file is there and holds what was placed, and what was placed is nobody else's."""
    if entry.get("found"):
        return False
    try:
        with open(path, "rb") as stream:
            return not os.path.islink(path) and digest(stream.read()) == entry["sha256"]
    except OSError:
        return False
