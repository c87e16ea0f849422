# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of placed files: their paths, and a diff without secrets.

For a tree, which is code, the diff has the names of files with their versions.
Runs on managed hosts.
"""

from __future__ import annotations

import hashlib
import os
import re

_VERSION = re.compile(rb"^__version__ = [\"']([\w.+-]+)[\"']", re.MULTILINE)
_HIDDEN = "(secret content, not shown)\n"


class Changes:
    """The changes of one run."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.diff: list[dict[str, str]] = []
        #: tree -> its entry in the diff
        self._trees: dict[str, dict[str, str]] = {}

    def note(self, path: str, before: str, after: str, *, secret: bool = False) -> None:
        """Note a change, with what is shown of it."""
        self.paths.append(path)
        if secret:
            before, after = f"old {_HIDDEN}", f"new {_HIDDEN}"
        self.diff.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def note_content(self, path: str, before: bytes | None, after: bytes, *, tree: str = "", secret: bool) -> None:
        """Note another content of a file; ``tree`` is the one that it is part of."""
        if tree:
            self.note_part(tree, path, before, after)
        else:
            self.note(path, _text(before), _text(after), secret=secret)

    def note_part(self, tree: str, path: str, before: bytes | None, after: bytes | None) -> None:
        """Note a file of a tree by its name; None is for one that is not there."""
        self.paths.append(path)
        if tree not in self._trees:
            self._trees[tree] = {"before_header": tree, "after_header": tree, "before": "", "after": ""}
            self.diff.append(self._trees[tree])
        for side, content in (("before", before), ("after", after)):
            if content is not None:
                self._trees[tree][side] += f"{os.path.relpath(path, tree)} {_summary(content)}\n"


def _text(content: bytes | None) -> str:
    return "" if content is None else content.decode("utf-8", errors="replace")


def _summary(content: bytes) -> str:
    """Return what tells one content of a file from another: its version, where it names one, and a digest."""
    version = _VERSION.search(content)
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"(version {version[1].decode()}, {digest})" if version else f"({digest})"
