# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes on the control machine the order in which workers are replaced (plugin_utils/rollout/order.py)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import message
from ansible_collections.celeryops.stack.plugins.plugin_utils.rollout.order import Member, read


class ActionModule(ActionBase):
    """See plugins/modules/rollout.py for what users read."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"places", "hosts", "prefix", "classes", "mode", "at_once", "drain_timeout"})
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the batches, or fail with the one message that lists all mistakes."""
        super().run(tmp, task_vars)
        arguments = self._task.args
        every = [
            Member(
                str(place["app"]),
                str(place["host"]),
                str(place["name"]),
                tuple(place["queues"]),
                str(place.get("class") or place["name"]),
            )
            for place in arguments["places"]
        ]
        keys = ("classes", "mode", "at_once", "drain_timeout")
        values = {key: arguments[key] for key in keys if key in arguments}
        found, problems = read(str(arguments["prefix"]), values, every, [str(host) for host in arguments["hosts"]])
        if problems:
            return {"failed": True, "changed": False, "msg": message(problems)}
        return {"changed": False, **found}
