# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The owner of each file to be replaced: this collection, the app, or somebody else.

A copy of a foreign file is kept beside it, once. Runs on managed hosts.
"""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils import foreign, placed


class Owners:
    """What is known of files before a run, and noted of them after it.

    Arguments:
        record: path of the record of the app's own files; empty where none is kept.
        check_mode: whether nothing is to be written.
    """

    def __init__(self, record: str, *, check_mode: bool) -> None:
        self.record = record
        self.check_mode = check_mode
        self._recorded = foreign.recorded()
        #: Paths of this collection that only the record tells, and that it does not have yet.
        self._unrecorded: list[str] = []
        #: Contents of files that somebody else wrote, by path; and where their copies are, or would be.
        self._foreign: dict[str, bytes] = {}
        self.kept: list[str] = []
        #: What is noted of the app's own files; their contents, by path; those that somebody else has put there, as
        #: they are to be.
        self._noted = placed.read(record) if record else {}
        self._own: dict[str, bytes] = {}
        self._found: set[str] = set()

    def look(self, entry: dict[str, Any], current: bytes | None, led_to: bytes | None, wanted: bytes | None) -> None:
        """Note whether a file that is to be replaced is somebody else's, and what will have to be told as our own.

        Arguments:
            entry: the file.
            current: its content; None where there is none.
            led_to: the same, or the content that a link in its place leads to, which is not used any more.
            wanted: the content that it gets; None where it stays.
        """
        path = entry["path"]
        if entry.get("own"):
            known = self._noted.get(path)
            if wanted is not None:
                self._own[path] = wanted
            if current == wanted and (known or {"found": True}).get("found"):
                self._found.add(path)
            # Of the app's own files it is known what was placed: anything else is somebody's, by whatever name.
            placed_so = known and not known.get("found") and placed.digest(led_to or b"") == known.get("sha256")
            if wanted is not None and led_to and led_to != wanted and not placed_so:
                self._note_foreign(path, led_to)
            return
        if wanted is None:
            return
        pristine = entry["pristine"] or ""
        if led_to not in (None, wanted) and foreign.is_foreign(path, led_to or b"", self._recorded, pristine):
            self._note_foreign(path, led_to or b"")
        if foreign.needs_record(path, wanted) and path not in self._recorded:
            self._unrecorded.append(path)

    def _note_foreign(self, path: str, content: bytes) -> None:
        self._foreign[path] = content
        if self.check_mode and not os.path.lexists(path + foreign.SUFFIX):
            self.kept.append(path + foreign.SUFFIX)

    def keep(self, path: str, mode: int) -> None:
        """Keep a copy of a file that is about to be replaced, if it is somebody else's; ``mode`` is the new one's."""
        if path in self._foreign:
            kept = foreign.keep(path, self._foreign[path], mode)
            if kept:
                self.kept.append(kept)

    def save(self) -> None:
        """Record what is ours from now on."""
        if not self.check_mode:
            foreign.record(self._unrecorded)

    def note_own(self) -> list[str]:
        """Write the record of the app's own files, and return those that have left it."""
        after, gone = placed.updated(self._noted, self._own, self._found)
        if after != self._noted and not self.check_mode:
            placed.write(self.record, after)
        return [name for name in gone if os.path.lexists(name)]
