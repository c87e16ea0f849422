# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import seen_now

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: seen_now
short_description: Whether this run of Ansible has looked at a host
version_added: 0.2.0
description:
  - Tells facts that M(celeryops.stack.facts) set in this run from those that a cache kept from an earlier one, which
    may not be true any more.
positional: _input
options:
  _input:
    description: The host's C(ansible_facts).
    type: dict
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Look at the host unless the play has
  celeryops.stack.facts:
  when: not ansible_facts | celeryops.stack.seen_now
"""

RETURN = r"""
_value:
  description: Whether it has.
  type: bool
"""


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"seen_now": lambda facts: bool(seen_now(facts))}
