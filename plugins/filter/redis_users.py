# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.server_objects import redis_users

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: redis_users
short_description: The Redis accounts of the apps
version_added: 0.1.0
description: Returns an account for each app, in the form of C(redis_extra_users).
positional: _input, passwords, purpose
options:
  _input:
    description: The apps, each with C(name), C(broker) and C(key_prefix).
    type: list
    elements: dict
    required: true
  passwords:
    description: The password of each app's account.
    type: dict
    required: true
  purpose:
    description:
      - What the servers keep - V(both) the results of all apps, and the queues of apps whose broker is Redis; otherwise
        V(broker) or V(results).
    type: str
    choices: [both, broker, results]
    default: both
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show the accounts
  ansible.builtin.debug:
    msg: "{{ apps | celeryops.stack.redis_users({'shop': 'secret'}) }}"
  vars:
    apps: [{name: shop, broker: redis, key_prefix: "shop:"}]
"""

RETURN = r"""
_value:
  description: C(name), C(password), C(purpose) and C(key_prefix) of each account.
  type: list
"""


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"redis_users": redis_users}
