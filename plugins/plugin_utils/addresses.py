# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a URL leads to, in one spelling and without any credentials: two URLs of one server are one text."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from ansible_collections.celeryops.stack.plugins.module_utils.ours import SCHEMES
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.urls import each_address, parts_of

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def places(url: object, machine: Callable[[str], str] = str) -> tuple[str, ...]:
    """Return ``host:port/path`` of each address in ``url``; what cannot be read, its role tells.

    A path is RabbitMQ's virtual host or Redis's database; of other stores, whose names stand before it, it is whatever
    they call it.

    Arguments:
        url: addresses, separated by semicolons.
        machine: returns one name for all names of a machine.
    """
    found = []
    for address in each_address(url):
        parts = parts_of(address)
        if parts is None:
            # A name such as django-db; or what cannot be read, of which nothing is to be seen.
            if "://" not in address:
                found.append(address if _NAME.fullmatch(address) else NOT_SHOWN)
            continue
        host, port, scheme = parts.hostname or "", parts.port, parts.scheme.lower()
        path = unquote(parts.path.removeprefix("/"))
        if scheme.endswith("+socket"):
            # A Unix socket is of the host itself.
            host = "localhost"
        kind, usual = SCHEMES.get(scheme, ("", 0))
        if kind == "rabbitmq":
            # kombu 5.7, utils/url.py and connection.py: an empty path is RabbitMQ's own virtual host "/".
            path = path or "/"
        elif kind:
            path = path.strip("/") or "0"
        place = f"{machine(host.rstrip('.'))}:{port or usual or ''}/{path}"
        found.append(place if kind else f"{scheme}://{place}")
    return tuple(sorted(set(found)))
