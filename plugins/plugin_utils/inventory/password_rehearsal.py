# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that are generated during a check, and kept only if the inventory is valid.

Ansible's password lookup writes a generated password at once. A check that refuses an inventory must leave nothing,
so it works on a copy of the directory; new files move to the directory itself if the inventory is valid.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import LIST, note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class PasswordRehearsal:
    """Copies of the folders with passwords.

    Arguments:
        folder: an empty directory that nobody else can read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copies: dict[Path, Path] = {}

    def copy(self, secrets: Path) -> Path:
        """Return the directory to use in place of ``secrets``, with the passwords that are there already.

        Raises:
            OSError: they cannot be read.
        """
        if secrets not in self._copies:
            copy = self._folder / str(len(self._copies))
            copy.mkdir(mode=0o700)
            for path in secrets.iterdir() if secrets.is_dir() else ():
                if path.is_file() and path.name != LIST:
                    shutil.copyfile(path, copy / path.name)
            self._copies[secrets] = copy
        return self._copies[secrets]

    @property
    def folders(self) -> list[Path]:
        """The folders that were copied."""
        return list(self._copies)

    def keep(self) -> Iterator[tuple[Path, str]]:
        """Move what is new to where it belongs; yield the directories that cannot be written to, and why."""
        for secrets, copy in self._copies.items():
            try:
                made = [path.name for path in copy.iterdir() if path.is_file() and not (secrets / path.name).exists()]
                for path in sorted(copy.iterdir()):
                    if path.is_file() and not (secrets / path.name).exists():
                        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
                        _place(secrets / path.name, path.read_bytes())
                if made:
                    note(secrets, made)
            except OSError as error:
                yield secrets, str(error.strerror or error)


def _place(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, unless somebody else has written it meanwhile."""
    with contextlib.suppress(FileExistsError):
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(content)
