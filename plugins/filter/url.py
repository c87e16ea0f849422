# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import Cluster, Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DOCUMENTATION = r"""
name: url
short_description: The URL of one or several servers for a client
version_added: 0.1.0
description:
  - Percent-encodes user, password and path, writes an IPv6 address in brackets, and joins several servers as kombu's
    failover and Celery's result backend for Redis Sentinel expect them.
positional: _input, scheme, user, password, path
options:
  _input:
    description: The servers, each with C(address), or C(host) in its place, and C(port).
    type: list
    elements: dict
    required: true
  scheme:
    description: C(amqp), C(redis), C(sentinel), C(http) or the like; C(amqps), C(rediss) or C(https) with TLS.
    type: str
    required: true
  user:
    description: The account.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  path:
    description: RabbitMQ's virtual host, Redis's database number, or the path of a page.
    type: str
    required: true
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Reach a broker of two nodes
  ansible.builtin.set_fact:
    shop_url: "{{ shop_nodes | celeryops.stack.url('amqp', 'shop', shop_password, 'shop') }}"
  vars:
    shop_nodes: [{address: mq1, port: 5672}, {address: mq2, port: 5672}]
"""

RETURN = r"""
_value:
  description: The URL, or several separated by semicolons; empty for an empty list.
  type: str
"""


def _url(servers: Iterable[Mapping[str, Any]], scheme: str, user: str, password: str, path: Any) -> str:
    # Whether a port is a number is told when the server is planned.
    nodes = (
        Endpoint(scheme, str(one.get("address") or one["host"]), one["port"], user, password, str(path))
        for one in servers
    )
    return Cluster(tuple(nodes)).url()


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"url": _url}
