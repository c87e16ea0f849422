# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases of an app processes run from."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def in_use(
    base: str, activations: Sequence[tuple[float, str]], releases: Sequence[str], proc: str = "/proc"
) -> list[str]:
    """Return the releases below ``base`` that some process of this host runs from.

    Arguments:
        base: the app's directory.
        activations: (time, release) of every switch of the link, oldest first.
        releases: the names that are known.
        proc: where processes are.
    """
    found = set()
    boot = _boot_time(proc)
    for process in glob.glob(f"{proc}/[0-9]*"):
        words = list(_paths_of(process, base))
        if words:
            found.update(running_from(base, words, boot + _start_ticks(process), activations, releases))
    return sorted(found)


def running_from(
    base: str, words: Sequence[str], started: float, activations: Sequence[tuple[float, str]], releases: Sequence[str]
) -> list[str]:
    """Return the releases below ``base`` that a process runs from.

    A process that was started through the ``current`` link runs from whatever the link led to at that moment.

    Arguments:
        base: the app's directory.
        words: paths that the process has in its command line, mapped into memory, or as its directory.
        started: when it was started, in seconds since the epoch.
        activations: (time, release) of every switch of the link, oldest first.
        releases: the names that are known.
    """
    known = set(releases)
    found = set()
    for word in words:
        match = re.search(re.escape(base) + r"/releases/([^/\s:]+)", word)
        if match and match.group(1) in known:
            found.add(match.group(1))
        if re.search(re.escape(base) + r"/current(/|\s|:|$)", word):
            # Two seconds on both sides: the clock ticks of /proc are coarse.
            before = [name for when, name in activations if when <= started + 2]
            found.update(before[-1:])
            found.update(name for when, name in activations if abs(when - started) <= 2)
    return sorted(found & known)


def _boot_time(proc: str) -> float:
    with open(f"{proc}/stat", encoding="ascii") as stream:
        return next(float(line.split()[1]) for line in stream if line.startswith("btime "))


def _start_ticks(process: str) -> float:
    """Return how long after the boot a process was started, in seconds."""
    try:
        return float(text_of(f"{process}/stat").rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    except IndexError:
        return 0.0


def _paths_of(process: str, base: str) -> Iterator[str]:
    """Yield where a process names the app's directory: command line, directory, mapped files."""
    with contextlib.suppress(OSError):
        with open(f"{process}/cmdline", encoding="utf-8", errors="replace") as stream:
            yield from (word for word in stream.read().split("\0") if base in word)
        with open(f"{process}/maps", encoding="utf-8", errors="replace") as stream:
            yield from {line.split(None, 5)[-1].strip() for line in stream if base in line}
        directory = os.readlink(f"{process}/cwd")
        if base in directory:
            yield directory
