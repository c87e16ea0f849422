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
short_description: Whether this run of Ansible has gathered the facts of a host
version_added: 0.2.0
description:
  - Distinguishes facts that M(celeryops.stack.facts) set in this run from cached facts of an earlier run, which
    may be outdated.
positional: _input
options:
  _input:
    description: The host's C(ansible_facts).
    type: dict
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Gather facts of the host
  celeryops.stack.facts:
  when: not ansible_facts | celeryops.stack.seen_now
"""

RETURN = r"""
_value:
  description: Whether this run has.
  type: bool
"""


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"seen_now": lambda facts: bool(seen_now(facts))}
