# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the hosts outside of the run that must be inspected before it changes anything."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.ansible_variables import in_play_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.host_variables import HostVariables
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import seen_now
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.leaving import further, inventory_of


class ActionModule(ActionBase):
    """See plugins/modules/further.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the hosts."""
        super().run(tmp, task_vars)
        known: dict[str, Any] = task_vars or {}
        hostvars, groups = known["hostvars"], known["groups"]
        variables = HostVariables(in_play_of(self._task, hostvars), self._template)

        def given(host: str, name: str, default: Any) -> Any:
            # What cannot be worked out the check has told.
            with contextlib.suppress(Exception):
                return variables.get(host, name, default)
            return default

        found = known["ansible_facts"]["celeryops_survey"]
        seen = {
            host: machine for host in groups["all"] if (machine := seen_now(variables.raw(host).get("ansible_facts")))
        }
        made_up = any(found.get("made_up", {}).values())
        hosts = further(
            inventory_of(found, groups, given), seen, known.get("ansible_play_hosts_all") or (), secrets=made_up
        )
        return {"changed": False, "hosts": hosts}

    def _template(self, variables: Any, value: Any) -> Any:
        return self._templar.copy_with_new_env(available_variables=variables).template(value)
