# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import app_layout

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: app_layout
short_description: The paths and names of an app
version_added: 0.1.0
description: Returns the paths of an app on a host. This is the only place that knows these paths.
positional: _input
options:
  _input:
    description: The app's short name.
    type: str
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show where the shop's shared configuration is
  ansible.builtin.debug:
    msg: "{{ ('shop' | celeryops.stack.app_layout).settings }}"
"""

RETURN = r"""
_value:
  description: Paths and names, such as C(base), C(current), C(settings), C(environment), C(state), C(log), C(target).
  type: dict
"""


def _app_layout(app: Any) -> dict[str, Any]:
    try:
        return app_layout(app)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"app_layout": _app_layout}
