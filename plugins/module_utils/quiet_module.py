# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module whose arguments are never shown or logged."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule


class QuietModule(AnsibleModule):
    """An AnsibleModule that neither logs its arguments on the host nor returns them.

    ``no_log`` would do so too, and would star out each value of a dictionary wherever it occurs in the result: a
    variable that is "1" in every version and digest (``remove_values`` of ansible-core 2.18 to 2.21).
    """

    def _log_invocation(self) -> None:
        # ansible-core 2.18 to 2.21, module_utils/basic.py: called once, when the arguments are known.
        self.log(f"{self._name} was called; its arguments are not logged")

    def exit_json(self, **result: Any) -> None:
        """Return a result without the arguments."""
        super().exit_json(**{"invocation": {}, **result})

    def fail_json(self, msg: str, **result: Any) -> None:
        """Return a failure without the arguments."""
        super().fail_json(msg, **{"invocation": {}, **result})
