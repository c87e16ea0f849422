# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the workers of a host, unless the facts of this run have their answers."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.receipts import asked, found_by


class ActionModule(ActionBase):
    """See plugins/modules/workers.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the module once, if the host has no receipt for it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        # What this run has changed ends a receipt anyway, and the host does not need what runs elsewhere.
        question = {name: value for name, value in arguments.items() if name not in ("pending", "elsewhere")}
        # What `unregistered` has to know of an answer, whoever gave it.
        result |= {"app": arguments["app"], "elsewhere": arguments.get("elsewhere") or []}
        found = found_by(question, task_vars or {})
        if found is not None:
            return {**result, "changed": False, "complete": True, "receipt": True, **found["result"]}
        arguments["receipt"] = asked(question)
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        return result
