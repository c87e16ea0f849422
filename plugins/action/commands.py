# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passes the commands around a release to the host, with their configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.action.files import with_sources
from ansible_collections.celeryops.stack.plugins.action.release import placed
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import RenderError


class ActionModule(ActionBase):
    """See plugins/modules/commands.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render the configuration, then call the module once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        request = dict(self._task.args)
        search_path = [Path(path) for path in (task_vars or {}).get("ansible_search_path", [])]
        try:
            items = with_sources(request.pop("configuration", None) or [], self._loader, task_vars)
            request["contents"] = placed(items, search_path)
        except (RenderError, ValueError) as error:
            raise AnsibleError(str(error)) from error
        result.update(
            self._execute_module(
                module_name="celeryops.stack.commands",
                module_args=dict(request),
                task_vars=task_vars,
            )
        )
        result.pop("invocation", None)
        return result
