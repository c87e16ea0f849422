# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of which series RabbitMQ on a host is, and of which its data are. Pure functions; runs on managed hosts."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FOLDER = re.compile(r"rabbitmq_server-(\d+(?:\.\d+)+)")
_ATOM = re.compile(r"[a-z][a-z0-9_.]*")
#: Feature flag -> the series that came with it, the newest first. A node notes all that are enabled, and its data can
#: be read by a server of that series (rabbit_core_ff.erl, 3.8 to 4.3; the files of Debian 12, 13 and 14).
_CAME_WITH = {
    "rabbitmq_4.3.0": "4.3",
    "rabbitmq_4.2.0": "4.2",
    "rabbitmq_4.1.0": "4.1",
    "rabbitmq_4.0.0": "4.0",
    "message_containers": "3.13",
    "restart_streams": "3.12",
    "stream_single_active_consumer": "3.11",
    "classic_mirrored_queue_version": "3.10",
    "stream_queue": "3.9",
    "quorum_queue": "3.8",
}


def series_of(version: str) -> str:
    """Return the series of a version of RabbitMQ or of its Debian package; "" where it has none.

    Arguments:
        version: for example ``4.0.5``, ``4.0.*``, or ``1:3.10.8-1+deb12u1`` with an epoch.
    """
    found = re.match(r"(?:\d+:)?(\d+\.\d+)(?![\d])", version)
    return found[1] if found else ""


def installed_version(names: Iterable[str]) -> str:
    """Return the version that is installed; "" where none is.

    Arguments:
        names: what is in ``/usr/lib/rabbitmq/lib``.
    """
    versions = [match[1] for name in names if (match := _FOLDER.fullmatch(name))]
    return max(versions, key=lambda version: [int(part) for part in version.split(".")], default="")


def written_by(flags: str) -> str:
    """Return the series whose feature flags a node has; "" where they do not tell.

    A node of a newer version keeps the old flags until somebody enables the new ones.

    Arguments:
        flags: the text of the node's file of feature flags, an Erlang list of atoms.
    """
    enabled = set(_ATOM.findall(flags))
    return next((series for flag, series in _CAME_WITH.items() if flag in enabled), "")
