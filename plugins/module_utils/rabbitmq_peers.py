# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the other nodes of a RabbitMQ cluster are reached from this host. Runs on managed hosts; changes nothing.

A node asks the port mapper of the other's host (epmd) for the port of its distribution, then connects there. What epmd
answers to NAMES_REQ is in the Erlang documentation, "Distribution Protocol": its own port in four bytes, then a line
``name rabbit at port 25672`` for each node that is registered.
"""

from __future__ import annotations

import ipaddress
import re
import socket

EPMD_PORT = 4369
#: Seconds for a connection, and for an answer.
_PATIENCE = 3
_NAMES_REQUEST = b"\x00\x01n"


def distribution_port(answer: bytes, node: str) -> int:
    """Return the port of a node's distribution; 0 when it is not registered, as before its first start.

    Arguments:
        answer: what epmd says to NAMES_REQ.
        node: the whole name of the node.
    """
    name = re.escape(node.partition("@")[0])
    found = re.search(rf"^name {name} at port (\d+)$", answer[4:].decode("utf-8", errors="replace"), re.MULTILINE)
    return int(found[1]) if found else 0


def why_not_reached(node: str, address: str) -> str:
    """Return why a node would not be reached, in words; nothing when it would, as far as that shows before it runs.

    Arguments:
        node: its whole name.
        address: of its host, as rabbitmq_node_addresses has it; empty where the name of the host says it.
    """
    host = node.partition("@")[2]
    try:
        place = address or socket.gethostbyname(host)
    except OSError as error:
        return f"{host} has no address here: {error}"
    if ipaddress.ip_address(place).is_loopback:
        return f"{host} is {place} here, which is this host"
    port = EPMD_PORT
    try:
        with socket.create_connection((place, port), timeout=_PATIENCE) as connection:
            connection.sendall(_NAMES_REQUEST)
            answer = b""
            while part := connection.recv(4096):
                answer += part
        port = distribution_port(answer, node)
        if port:
            socket.create_connection((place, port), timeout=_PATIENCE).close()
    except OSError as error:
        return f"port {port} of {host} ({place}): {error}"
    return ""
