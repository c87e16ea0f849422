# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.server_objects import rabbitmq_objects

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: rabbitmq_objects
short_description: The RabbitMQ objects for the apps that use it
version_added: 0.1.0
description:
  - Returns a virtual host, the accounts of the app and of its Flower, and a policy for each app, in the form of
    C(rabbitmq_extra_definitions).
positional: _input, passwords, flower_passwords
options:
  _input:
    description: The apps, each with C(name), C(broker), C(dead_letter_queue) and C(queue_type).
    type: list
    elements: dict
    required: true
  passwords:
    description: The password of each app's account.
    type: dict
    required: true
  flower_passwords:
    description: The password of the account of each app's Flower.
    type: dict
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show the objects of the server
  ansible.builtin.debug:
    msg: "{{ apps | celeryops.stack.rabbitmq_objects({'shop': 'secret'}, {'shop': 'other'}) }}"
  vars:
    apps: [{name: shop, broker: rabbitmq, dead_letter_queue: dead-letters, queue_type: quorum}]
"""

RETURN = r"""
_value:
  description: C(vhosts), C(users) and C(policies).
  type: dict
"""


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rabbitmq_objects": rabbitmq_objects}
