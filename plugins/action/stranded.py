# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports tasks in queues that no class consumes, and refuses a run that would leave tasks behind."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import names_in
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import message
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.stranded import judge


class ActionModule(ActionBase):
    """See plugins/modules/stranded.py for what users read."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"answers", "accepted"})
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge the answers."""
        super().run(tmp, task_vars)
        asked = [
            {**result["item"], "waiting": result.get("waiting", str(result.get("msg")))}
            for answers in self._task.args.get("answers") or []
            for result in answers.get("results") or []
        ]
        accepted = names_in(self._task.args.get("accepted"))
        refused, told, remembered = judge(asked, accepted)
        if refused:
            return {"failed": True, "changed": False, "msg": message(refused), "warnings": told}
        return {
            "changed": False,
            "ansible_facts": {"celeryops_retired": remembered},
            **({"warnings": told} if told else {}),
        }
