# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import stack

DOCUMENTATION = r"""
name: stack
short_description: How the hosts of an inventory fit together, as one host sees it
version_added: 0.1.0
description: Works out from the groups which servers there are and how the current host reaches them. Holds no secret.
positional: _input, hostvars, host
options:
  _input:
    description: The inventory's groups, as in C(groups).
    type: dict
    required: true
  hostvars:
    description: The variables of all hosts, as in C(hostvars).
    type: dict
    required: true
  host:
    description: The host that looks.
    type: str
    required: true
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Show how this host reaches the broker
  ansible.builtin.debug:
    msg: "{{ (groups | celeryops.stack.stack(hostvars, inventory_hostname)).rabbitmq }}"
"""

RETURN = r"""
_value:
  description: C(app), C(broker), C(rabbitmq) and C(redis) (nodes with C(host), C(address), C(port)), and C(queues).
  type: dict
"""


def _stack(groups: Any, hostvars: Any, host: str) -> dict[str, Any]:
    return stack(groups, hostvars, host)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stack": _stack}
