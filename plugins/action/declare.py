# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares an app's queues, unless this run has seen that the broker has them all as it had them before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.receipts import asked, found_by

if TYPE_CHECKING:
    from collections.abc import Mapping


class ActionModule(ActionBase):
    """See plugins/modules/declare.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the module once, if the host has no receipt for it and for what the broker has."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments, known = dict(self._task.args), task_vars or {}
        seen = topology(str(arguments.get("vhost") or ""), known)
        request = {**arguments, "topology": seen}
        found = found_by(request, known) if seen else None
        if found is not None:
            return {**result, "changed": False, "receipt": True, **found["result"]}
        if seen:
            arguments["receipt"] = asked(request)
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        return result


def topology(vhost: str, variables: Mapping[str, Any]) -> str:
    """Return the digest of what a virtual host has, as the role rabbitmq has seen it in this run; empty without.

    Arguments:
        vhost: its name.
        variables: of the task.
    """
    hosts = (variables.get("groups") or {}).get("rabbitmq", ())
    seen = [variables["hostvars"].raw_get(host).get("__rabbitmq_objects") or {} for host in hosts]
    found = [str(digest) for one in seen if (digest := (one.get("topology") or {}).get(vhost))]
    # Several hosts are the nodes of one cluster, of which one was asked.
    return found[0] if len(found) == 1 else ""
