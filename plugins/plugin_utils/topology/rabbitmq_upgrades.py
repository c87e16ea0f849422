# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which series of RabbitMQ can be upgraded in place to which."""

from __future__ import annotations

#: Series -> those to which its data can be upgraded in place, the last one first. RabbitMQ's documentation, "RabbitMQ
#: Version Upgradability" up to 4.0; release notes of 4.1.0, 4.2.0, and 4.3.0 ("only 4.2.x clusters can upgrade").
_NEXT = {
    "3.8": ("3.9",),
    "3.9": ("3.10",),
    "3.10": ("3.11",),
    "3.11": ("3.12",),
    "3.12": ("3.13",),
    "3.13": ("4.2", "4.1", "4.0"),
    "4.0": ("4.2", "4.1"),
    "4.1": ("4.2",),
    "4.2": ("4.3",),
    "4.3": (),
}


def upgrade_path(data: str, package: str) -> tuple[str, ...]:
    """Return the series on the shortest way from that of the data to that of a package, both included.

    Nothing where no way is known: one of them is not in the table, or the package is older than the data.

    Arguments:
        data: the series that wrote them.
        package: the series that would run on them.
    """
    if data not in _NEXT or package not in _NEXT:
        return ()
    ways: list[tuple[str, ...]] = [(data,)]
    for way in ways:
        if way[-1] == package:
            return way
        ways += [(*way, following) for following in _NEXT[way[-1]]]
    return ()
