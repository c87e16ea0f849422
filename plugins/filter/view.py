# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import view

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: view
short_description: The servers and the app of one host of an inventory
version_added: 0.1.0
description: Returns which servers exist, how the host reaches them, and its app. Contains no secret.
positional: _input, host
options:
  _input:
    description: The result of the check, the fact C(celeryops_survey).
    type: dict
    required: true
  host:
    description: The host.
    type: str
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show how this host reaches the broker
  ansible.builtin.debug:
    msg: "{{ (ansible_facts['celeryops_survey'] | celeryops.stack.view(inventory_hostname)).rabbitmq }}"
"""

RETURN = r"""
_value:
  description: C(app), C(broker), C(queues), C(rabbitmq), C(redis) and C(results) (nodes with C(host), C(address), C(port)).
  type: dict
"""


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"view": view}
