# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of machines, and the addresses by which servers are reached."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_LOOPBACK = re.compile(r"127\.|::1$|localhost\.?$|localhost\.localdomain", re.IGNORECASE)
ANY = ("0.0.0.0", "::", "*")  # noqa: S104 - addresses that are looked for, not bound
Groups = Mapping[str, Sequence[str]]
#: (host, variable, default) -> what the variable means on that host
Given = Callable[[str, str, Any], Any]


def machine(host: str, given: Given) -> str:
    """Return one name for a machine of the inventory, which may stand in it under several."""
    return machine_at(str(given(host, "ansible_host", None) or host), given(host, "ansible_port", None))


def machine_at(address: str, port: object = None) -> str:
    """Return one name for the machine that Ansible connects to.

    Behind one address there may be several, each with a port of its own (Vagrant, tunnels): they are written as
    known_hosts does.

    Arguments:
        address: of whatever spelling: names know no capitals, and a dot at their end changes nothing.
        port: of SSH; 22 where it is not given.
    """
    name = address.lower().rstrip(".")
    return name if str(port or 22) == "22" else f"[{name}]:{port}"


def listen_addresses(listen: object) -> list[str]:
    """Return the addresses that a server listens on; Redis lets one begin with "-": no error when it is missing."""
    given = listen if isinstance(listen, (list, tuple)) and listen else ["127.0.0.1"]
    return [str(address).lstrip("-") for address in given]


def loopback(address: object) -> bool:
    """Whether only the host itself can reach ``address``."""
    return _LOOPBACK.match(str(address)) is not None
