# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the routes with the tasks that the workers of all hosts have registered, on the control machine."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.rollout.route_check import unregistered


class ActionModule(ActionBase):
    """See plugins/modules/unregistered.py for what users read."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"answers", "hosts", "limited"})
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the warnings."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        found = unregistered(
            list(arguments["answers"]),
            int(arguments["hosts"]),
            bool(arguments.get("limited", False)),
        )
        return {"changed": False, "routes": found, **({"warnings": found} if found else {})}
