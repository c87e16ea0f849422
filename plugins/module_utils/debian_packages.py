# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the wanted Debian packages, named as for apt, a host lacks."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What dpkg knows of all packages (dpkg(1)); another file after each change.
STATUS = "/var/lib/dpkg/status"
#: What absent_packages() reads, as dpkg-query(1) prints it.
PACKAGE_FORMAT = "${db:Status-Status}\t${Package}\t${Architecture}\t${Version}\t${Provides}\n"


def missing_packages(wanted: Sequence[str]) -> list[str]:
    """Return the packages that this host lacks."""
    if not wanted:
        return []
    command = ["dpkg-query", "--show", f"--showformat={PACKAGE_FORMAT}"]
    # pylint: disable-next=ansible-bad-function
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return absent_packages(wanted, listing, _at_least)


def absent_packages(wanted: Sequence[str], listing: str, at_least: Callable[[str, str], bool]) -> list[str]:
    """Return the packages that a host lacks, of those that are wanted as apt takes them.

    Arguments:
        wanted: names, perhaps of what several packages provide, with ``:amd64``, ``=15.*`` or ``>=15`` behind them
            (ansible-core 2.18 to 2.21, modules/apt.py, ``package_split``).
        listing: of all packages that dpkg knows, in ``PACKAGE_FORMAT``.
        at_least: whether the first of two versions is the second, or newer.
    """
    installed: dict[str, list[str]] = {}
    for line in listing.splitlines():
        status, name, machine, version, provided = line.split("\t")
        if status == "installed":
            virtual = [one.split()[0].partition(":")[0] for one in provided.split(",") if one.strip()]
            for found in (name, f"{name}:{machine}", f"{name}:any", *virtual):
                installed.setdefault(found, []).append(version)

    def there(package: str) -> bool:
        name, comparison, version = (re.split(r"(>?=)", package, maxsplit=1) + ["", ""])[:3]
        fits = at_least if comparison == ">=" else fnmatch.fnmatchcase
        return any(not comparison or fits(found, version) for found in installed.get(name, ()))

    return [package for package in wanted if not there(package)]


def _at_least(version: str, least: str) -> bool:
    """Return whether a version of Debian's is another one, or newer."""
    # pylint: disable-next=ansible-bad-function
    return subprocess.run(["dpkg", "--compare-versions", version, "ge", least], check=False).returncode == 0
