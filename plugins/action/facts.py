# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers the facts of a host, and records in which run."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.receipts import KEY, are_wanted
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import this_run


class ActionModule(ActionBase):
    """See plugins/modules/facts.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the module once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        # A host that is only asked about, outside of the run, needs none.
        wanted = are_wanted(task_vars or {}) and not self._task.delegate_to
        receipts = {"receipts": KEY} if wanted else {}
        result.update(self._execute_module(module_args={**self._task.args, **receipts}, task_vars=task_vars))
        machine = (result.get("ansible_facts") or {}).get("celeryops_machine")
        if machine is not None:
            machine["run"] = this_run()
        return result
