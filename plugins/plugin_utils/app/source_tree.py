# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of a release from the control machine: a wheel, or a directory without caches and secrets."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ansible.errors import AnsibleError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Never part of a release: version control, environments, caches and what a build leaves behind.
EXCLUDED = (
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", "*.pyo", "*.egg-info", ".tox",
    ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".cache", ".coverage", ".DS_Store", ".env", "*.swp", "*~",
)  # fmt: skip
#: Products of a build when they stand at the top.
EXCLUDED_AT_TOP = ("build", "dist", "secrets")


def content_digest(local: Path, kind: str, exclude: list[str]) -> str:
    """Return a digest of the content of a wheel or of a tree.

    Raises:
        AnsibleError: when there is no such file or directory on the control machine.
    """
    digest = hashlib.sha256()
    if kind == "wheel":
        if not local.is_file():
            raise AnsibleError(f"celery_app_source.path: there is no wheel {local} on the control machine")
        digest.update(local.read_bytes())
        return digest.hexdigest()
    if not local.is_dir():
        raise AnsibleError(f"celery_app_source.path: there is no directory {local} on the control machine")
    for name, path in members(local, exclude):
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        executable = not path.is_symlink() and bool(path.stat().st_mode & 0o100)
        head = f"{name}\0{path.is_symlink():d}{executable:d}\0{len(content)}\0"
        digest.update(head.encode())
        digest.update(content)
    return digest.hexdigest()


def members(root: Path, exclude: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield relative name and path of everything in a tree that belongs in a release, in a fixed order.

    Raises:
        AnsibleError: when a link leads out of the tree.
    """
    patterns = (*EXCLUDED, *exclude)
    resolved = root.resolve()
    for folder, folders, names in os.walk(root):
        at_top = Path(folder) == root
        kept = [
            name
            for name in sorted(folders)
            if not _matches(name, patterns) and not (at_top and name in EXCLUDED_AT_TOP)
        ]
        links = [name for name in kept if (Path(folder) / name).is_symlink()]
        folders[:] = [name for name in kept if name not in links]
        for name in sorted([*names, *links]):
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            if (
                _matches(name, patterns)
                or _matches(relative, exclude)
                or (not path.is_symlink() and not path.is_file())
            ):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(resolved):
                raise AnsibleError(f"celery_app_source.path: {path} is a link out of the tree; replace or exclude it")
            yield relative, path


def _matches(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def write_archive(root: Path, exclude: list[str], stream: IO[bytes]) -> None:
    """Write the tree as an archive in which everything belongs to root."""
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for relative, path in members(root, exclude):
            entry = archive.gettarinfo(str(path), relative)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
