# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_replication import first_primary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

DOCUMENTATION = r"""
name: redis_primary
short_description: From which server a new one of several Redis servers gets its data
version_added: 0.1.0
description:
  - The primary that runs, otherwise the server with data, otherwise the first. It decides nothing for servers that are
    already set up, which Sentinel does.
positional: _input, nodes, own
options:
  _input:
    description: The C(replication) of each host, as M(celeryops.stack.redis_info) returns it.
    type: list
    elements: dict
    required: true
  nodes:
    description: All servers, each with C(host) and C(port).
    type: list
    elements: dict
    required: true
  own:
    description: The new server.
    type: dict
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show where a new server would get its data
  ansible.builtin.debug:
    msg: "{{ [__redis_host.replication] | celeryops.stack.redis_primary(redis_nodes, own) }}"
  vars:
    own: {host: 10.0.0.2, port: 6379}
"""

RETURN = r"""
_value:
  description: The C(host) and C(port) of the server; empty if it is the new one itself.
  type: dict
"""


def _redis_primary(
    found: Iterable[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]], own: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        primary = first_primary(list(found), nodes)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return {} if (primary["host"], str(primary["port"])) == (own["host"], str(own["port"])) else primary


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"redis_primary": _redis_primary}
