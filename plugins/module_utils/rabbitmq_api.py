# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of RabbitMQ's management API. Runs on managed hosts."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any
from urllib.parse import quote

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import bracketed
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_differences import Key, redact

#: How a module is told where it is, and who asks (doc_fragments/rabbitmq_api.py).
OPTIONS: dict[str, dict[str, Any]] = {
    "api_host": {"type": "str", "default": "127.0.0.1"},
    "api_port": {"type": "int", "default": 15672},
    "login_user": {"type": "str", "required": True},
    "login_password": {"type": "str", "required": True, "no_log": True},
}


class RefusedError(Exception):
    """The server does not accept the login."""


class UnreachableError(Exception):
    """Nothing answers at the address."""


class Api:
    """The management API; never through a proxy.

    Each call has a connection of its own: the server ends one on which nothing came for five seconds (cowboy,
    request_timeout), and rabbitmqctl, which is asked in between, takes longer than that on a busy host.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        credentials = f"{params['login_user']}:{params['login_password']}".encode()
        self.headers = {
            "Authorization": "Basic " + base64.b64encode(credentials).decode("ascii"),
            "Content-Type": "application/json",
        }
        self.address = f"{bracketed(params['api_host'])}:{params['api_port']}"
        self.connection = http.client.HTTPConnection(params["api_host"], params["api_port"], timeout=60)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the status and the decoded answer of a request."""
        data = None if body is None else json.dumps(body).encode("utf-8")
        try:
            self.connection.request(method, "/api/" + path, body=data, headers=self.headers)
            response = self.connection.getresponse()
            text = response.read().decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.address}: {error}") from error
        finally:
            # The next request opens it anew.
            self.connection.close()
        if response.status == 401:
            raise RefusedError(text)
        try:
            return response.status, json.loads(text) if text else None
        except ValueError:
            return response.status, text


def deletions(api: Api, kind: str, key: Key, *, careful: bool) -> list[str]:
    """Return the paths to delete for an object.

    Arguments:
        api: says which bindings there are.
        kind: of the object.
        key: of the object.
        careful: whether it stays where it is in use, as far as the server can tell.
    """
    if kind == "permissions" or kind == "topic_permissions":
        return [f"{kind.replace('_', '-')}/{path_of(*key[:2])}"]
    if kind == "queues":
        # Quorum queues and streams refuse these conditions (seen on RabbitMQ 3.10.8 and 4.0.5).
        return [f"queues/{path_of(*key)}" + ("?if-empty=true&if-unused=true" if careful else "")]
    if kind == "exchanges":
        return [f"exchanges/{path_of(*key)}?if-unused=true"]
    if kind == "bindings":
        return _binding_paths(api, key)
    if kind == "parameters":
        vhost, component, name = key
        if component == "operator_policy":
            return [f"operator-policies/{path_of(vhost, name)}"]
        if component == "vhost-limits":
            return [f"vhost-limits/{path_of(vhost, limit)}" for limit in ("max-connections", "max-queues")]
        return [f"parameters/{path_of(component, vhost, name)}"]
    return [f"{kind}/{path_of(*key)}"]


def _binding_paths(api: Api, key: Key) -> list[str]:
    vhost, source, destination_type, destination, routing_key, arguments = key
    letter = "q" if destination_type == "queue" else "e"
    base = f"bindings/{path_of(vhost)}/e/{path_of(source)}/{letter}/{path_of(destination)}"
    status, bindings = api.call("GET", base)
    if status != 200:
        return []
    return [
        f"{base}/{path_of(binding['properties_key'])}"
        for binding in bindings
        if binding["routing_key"] == routing_key and binding["arguments"] == json.loads(arguments)
    ]


def path_of(*parts: str) -> str:
    """Return the path of an object in the API, from its names."""
    return "/".join(quote(part, safe="") for part in parts)


def reason_of(answer: Any) -> str:
    """Return what the server says of a request that it refuses."""
    return str(redact(answer.get("reason", answer) if isinstance(answer, dict) else answer))
