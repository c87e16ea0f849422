# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.control_paths import beside_inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DOCUMENTATION = r"""
name: beside_inventory
short_description: Path of the files that are generated for an inventory on the control machine
version_added: 0.1.0
description:
  - Returns a path in the directory C(.celeryops) beside the first inventory source on disk, or inside it if
    it is a directory.
positional: _input, name, given
options:
  _input:
    description: The inventory's sources.
    type: list
    elements: str
    required: true
  name:
    description: The requested file or directory.
    type: str
    required: true
  given:
    description: A path that the user set instead, returned unchanged.
    type: str
    default: ""
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show where generated passwords are
  ansible.builtin.debug:
    msg: "{{ ansible_inventory_sources | celeryops.stack.beside_inventory('secrets') }}"
"""

RETURN = r"""
_value:
  description: The absolute path.
  type: str
"""


def _beside_inventory(sources: Iterable[str], name: str, given: str = "") -> str:
    try:
        return beside_inventory(sources, name, given)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"beside_inventory": _beside_inventory}
