# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The canonical server of a URL, without credentials: equal for two URLs of one server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import Cluster, Endpoint, each_address
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def places(url: object, machine: Callable[[str], str] = str) -> tuple[str, ...]:
    """Return ``host:port/path`` of each address in ``url``; what cannot be read, its role tells.

    Arguments:
        url: addresses, separated by semicolons.
        machine: returns one name for all names of a machine.
    """
    # A name such as django-db; or what cannot be read, of which nothing is to be seen.
    names = {
        address if _NAME.fullmatch(address) else NOT_SHOWN for address in each_address(url) if "://" not in address
    }
    return tuple(sorted(names | {place(node, machine) for node in Cluster.read(url).nodes}))


def place(endpoint: Endpoint, machine: Callable[[str], str] = str) -> str:
    """Return ``host:port/path`` of a server.

    The path is RabbitMQ's virtual host or Redis's database; of other stores, whose names stand before it, it is
    whatever they call it.

    Arguments:
        endpoint: the server.
        machine: returns one name for all names of a machine.
    """
    # A Unix socket is of the host itself.
    host = "localhost" if endpoint.scheme.endswith("+socket") else endpoint.host
    found = f"{machine(host.rstrip('.'))}:{endpoint.real_port or ''}/{endpoint.space}"
    return found if endpoint.server else f"{endpoint.scheme}://{found}"
