# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import broker_url

DOCUMENTATION = r"""
name: broker_url
short_description: The URL under which Celery reaches a list of servers
version_added: 0.1.0
description: Percent-encodes user, password and path, and joins several nodes the way kombu's failover expects.
positional: _input, scheme, user, password, path
options:
  _input:
    description: The nodes, each with C(address) and C(port).
    type: list
    elements: dict
    required: true
  scheme:
    description: C(amqp) or C(redis).
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
    description: RabbitMQ's virtual host or Redis's database number.
    type: str
    required: true
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Reach a broker
  ansible.builtin.set_fact:
    shop_url: "{{ shop_nodes | celeryops.stack.broker_url('amqp', 'shop', shop_password, 'shop') }}"
  vars:
    shop_nodes: [{address: mq1, port: 5672}]
"""

RETURN = r"""
_value:
  description: The URL; empty for an empty list.
  type: str
"""


def _broker_url(nodes: Any, scheme: str, user: str, password: str, path: Any) -> str:
    return broker_url(scheme, nodes, user, password, path)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"broker_url": _broker_url}
