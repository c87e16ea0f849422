# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text files and directories of a host, as far as they can be read."""

from __future__ import annotations

import os


def text_of(path: str) -> str:
    """Return what is in a file, with a sign in the place of what is no UTF-8; nothing where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def entries_of(folder: str) -> list[str]:
    """Return the names in a directory, sorted; nothing where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
