# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of an app on a host: in use, earlier, removable. The only owner of the link ``current``.

A release is identified by its name, or by the path of a virtual environment that the user manages. Whoever changes
something here has the app's lock (``releases.lock``).
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.module_utils.releases.processes import in_use
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import runs_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: In a release: what it was built from, and that it is complete.
MANIFEST = "release.json"
#: So many switches are remembered.
REMEMBERED = 100


class Store:
    """The releases of one app.

    Arguments:
        app: its short name.
        check_mode: whether nothing is to be changed.
    """

    def __init__(self, app: str, *, check_mode: bool = False) -> None:
        self.app = app
        self.paths = AppPaths(app)
        self.base = self.paths.base
        self.check_mode = check_mode
        self._noted = False

    # What is there

    @property
    def current(self) -> str:
        """The release in use; empty when none is."""
        try:
            return release_of(os.readlink(self.paths.current))
        except OSError:
            return ""

    def path(self, release: str) -> str:
        """Return the directory of a release, there or not."""
        return os.path.join(self.base, target_of(release))

    def is_complete(self, release: str) -> bool:
        """Whether a release was built to its end; one of somebody else's has no manifest of ours."""
        return os.path.isfile(f"{self.path(release)}/{MANIFEST}")

    def complete(self) -> list[str]:
        """Return the names of the releases that were built to their end."""
        found = glob.glob(f"{glob.escape(self.paths.releases)}/*/{MANIFEST}")
        return sorted(os.path.basename(os.path.dirname(path)) for path in found)

    def kept(self, current: str) -> list[str]:
        """Return the releases that one can go back to from ``current``, the one that was in use last first."""
        return kept(self.complete(), self.history["activations"], current)

    # The history

    @cached_property
    def history(self) -> dict[str, Any]:
        """The note: ``activations``, (time, release) of each switch, oldest first; ``verified``, path -> how it was
        imported; ``after``, the target after whose switch something is left to be done."""
        try:
            with open(self.paths.history, encoding="utf-8") as stream:
                history: dict[str, Any] = json.load(stream)
        except (OSError, ValueError):
            return {"activations": [], "verified": {}}
        verified = history.get("verified") or {}
        if isinstance(verified.get("path"), str):
            # As version 0.1.0 wrote it: the last one only.
            history["verified"] = {verified["path"]: {key: verified.get(key) for key in ("import", "user")}}
        return history

    def verified(self, release: str) -> dict[str, Any]:
        """Return how a release was verified last; empty when it never was."""
        return self.history["verified"].get(self.path(release)) or {}

    def note_verified(self, release: str, how: Mapping[str, Any]) -> None:
        """Note how a release was verified; :meth:`save` writes it."""
        self.history["verified"][self.path(release)] = dict(how)
        self._noted = True

    def was_used(self, release: str) -> bool:
        """Whether a release was in use once: one that was only built has nothing of what is done for it then."""
        return release in {str(name) for _when, name in self.history["activations"]}

    def is_due(self, release: str) -> bool:
        """Whether a release is in use, and what was to be done after the switch to it is not done yet."""
        return self.current == release and self.history.get("after") == target_of(release)

    def done_after(self) -> None:
        """Note that what was to be done after the switch is done."""
        if self.history.get("after"):
            self.history["after"] = ""
            self._noted = True
            self.save()

    def save(self) -> None:
        """Write what was noted; what was verified and is gone is forgotten."""
        if not self._noted or self.check_mode:
            return
        history = self.history
        history["activations"] = history["activations"][-REMEMBERED:]
        history["verified"] = {path: how for path, how in history["verified"].items() if os.path.exists(path)}
        os.makedirs(self.base, exist_ok=True)
        # A digest of the environment is in it, by which somebody could try what a short password is.
        write_json(self.paths.history, history, 0o600)
        self._noted = False

    # Changes

    def switch(self, release: str, *, after: bool) -> None:
        """Let the link lead to a release in one step, and write the note.

        Arguments:
            release: the one to be in use.
            after: whether something is left to be done after the switch. Who ends before that was done leaves the note,
                and the next run does it.
        """
        if self.current != release and not self.check_mode:
            os.makedirs(self.base, exist_ok=True)
            temporary = f"{self.base}/.current-{os.getpid()}"
            os.symlink(target_of(release), temporary)
            os.replace(temporary, self.paths.current)
            self.history["activations"].append([time.time(), release])
            self.history["after"] = target_of(release) if after else ""
            self._noted = True
        self.save()

    def superfluous(self, current: str, keep: int) -> tuple[list[str], list[str]]:
        """Return the incomplete releases, and the oldest ones that are not kept.

        Arguments:
            current: the release that is or becomes current; it counts among those kept.
            keep: how many stay. Those that a process still runs from do as well, and do not count.
        """
        try:
            names = sorted(os.listdir(self.paths.releases))
        except FileNotFoundError:
            return [], []
        complete = [name for name in names if self.is_complete(name)]
        leftovers = [name for name in names if name not in complete and name != current]
        if len(complete) <= keep:
            return leftovers, []
        history = [(float(when), str(name)) for when, name in self.history["activations"]]
        times = {name: os.path.getmtime(f"{self.path(name)}/{MANIFEST}") for name in complete}
        times.update({name: when for when, name in history if name in times})
        return leftovers, superfluous(times, current, in_use(self.base, history, complete), keep)

    def remove(self, release: str) -> None:
        """Remove a release of our own."""
        if not self.check_mode:
            delete(self.path(release))

    def may_discard(self, release: str) -> bool:
        """Whether a release of our own is there, is not in use, and no process runs from it."""
        folder = self.path(release)
        if release.startswith("/") or not os.path.isdir(folder) or os.path.realpath(self.paths.current) == folder:
            return False
        return not any(runs_in(int(os.path.basename(process))) == folder for process in glob.glob("/proc/[0-9]*"))


def target_of(release: str) -> str:
    """Return what the link holds for a release: relative to the app's directory, or an absolute path."""
    return release if release.startswith("/") else f"releases/{release}"


def release_of(target: str) -> str:
    """Return the release that a link leads to, as it is called everywhere else; empty without a link."""
    return target.removeprefix("releases/")


def kept(releases: Iterable[str], history: Sequence[Sequence[Any]], current: str) -> list[str]:
    """Return the releases of a host that one can go back to, the one that was in use last first.

    Arguments:
        releases: the complete ones.
        history: (time, release) of every switch, oldest first.
        current: the one in use, which is left out.
    """
    last = {str(name): float(when) for when, name in history}
    return sorted((name for name in releases if name != current), key=lambda name: (-last.get(name, 0.0), name))


def superfluous(releases: Mapping[str, float], current: str, in_use: Sequence[str], keep: int) -> list[str]:
    """Return the releases to delete, oldest first.

    Arguments:
        releases: name of each complete release -> when it was last switched to (or built).
        current: the release that is or becomes current; it counts among those kept.
        in_use: releases that a process still runs from; they stay and do not count.
        keep: how many stay.
    """
    others = sorted((name for name in releases if name != current), key=lambda name: (releases[name], name))
    spare = others[: max(0, len(others) - (keep - 1))]
    return [name for name in spare if name not in in_use]


def write_json(path: str, content: object, mode: int = 0o644) -> None:
    """Replace the file ``path`` whole."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as stream:
        os.chmod(temporary, mode)
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.write("\n")
    os.replace(temporary, path)


def delete(path: str) -> None:
    """Remove a file, a link or a whole directory, where there is one."""
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)
