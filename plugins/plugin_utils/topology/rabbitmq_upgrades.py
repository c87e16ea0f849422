# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which series of RabbitMQ can be upgraded in place to which."""

from __future__ import annotations

import re

#: Each series upgrades in place to the next one only. Sources: RabbitMQ's documentation, "Release Series
#: Upgradeability", up to 4.0; release notes of 4.3.0 ("only 4.2.x clusters can upgrade").
_SERIES = ("3.10", "3.11", "3.12", "3.13", "4.0", "4.1", "4.2", "4.3")


def series(version: str) -> str | None:
    """Return the series of a version of RabbitMQ or of its Debian package, or None where it has none.

    Arguments:
        version: for example `4.0.5`, or `1:3.10.8-1+deb12u1` with an epoch.
    """
    found = re.match(r"(?:\d+:)?(\d+\.\d+)(?!\d)", version)
    return found[1] if found else None


def path(store: str, package: str) -> tuple[str, ...] | None:
    """Return the series from that of a store to that of a package, both included.

    None where one of them is not in the table, or where the package is older than the store: no in-place way is known.

    Arguments:
        store: the series that wrote the store.
        package: the series that would run on it.
    """
    if store not in _SERIES or package not in _SERIES:
        return None
    first, last = _SERIES.index(store), _SERIES.index(package)
    return _SERIES[first : last + 1] if first <= last else None
