# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inspects the virtual environment of a release: which packages it has, who may write to it."""

from __future__ import annotations

import glob
import os
import stat

from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import canonical


def versions(path: str) -> dict[str, str | None]:
    """Return the installed versions of Celery and kombu, read from the names of their metadata."""
    found: dict[str, str | None] = {}
    for name in ("celery", "kombu"):
        folders = glob.glob(f"{path}/lib/python3*/site-packages/{name}-*.dist-info")
        found[name] = os.path.basename(folders[0])[len(name) + 1 : -len(".dist-info")] if folders else None
    return found


def installed(path: str) -> dict[str, str]:
    """Return package -> version of what is installed from an index, read from the names of the metadata."""
    found = {}
    for folder in glob.glob(f"{path}/lib/python3*/site-packages/*.dist-info"):
        name, _dash, version = os.path.basename(folder)[: -len(".dist-info")].rpartition("-")
        # What came from a path or an address is no version of an index.
        if name and not os.path.exists(f"{folder}/direct_url.json"):
            found[canonical(name)] = version
    return found


def has_python(path: str) -> bool:
    """Whether there is a virtual environment."""
    return os.path.exists(f"{path}/bin/python")


def close(path: str) -> None:
    """Take away every right to write but root's own: installers leave world-writable lock files, packages odd modes."""
    for folder, _folders, names in os.walk(path):
        for entry in [folder, *(os.path.join(folder, name) for name in names)]:
            status = os.lstat(entry)
            if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022:
                os.chmod(entry, stat.S_IMODE(status.st_mode) & ~0o022)
