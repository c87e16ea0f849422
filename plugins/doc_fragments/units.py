# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module is told about units (``module_utils/unit_state.py``, ``OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    """See ``extends_documentation_fragment`` of the modules; what the options do there, each says itself."""

    DOCUMENTATION = r"""
options:
  units:
    description: The units.
    type: list
    elements: dict
    suboptions:
      name:
        description: The unit's full name, such as C(redis-server.service).
        type: str
        required: true
      state:
        description: Whether it must run.
        type: str
        choices: [started, stopped]
      enabled:
        description: Whether it starts at boot.
        type: bool
      masked:
        description: Whether nothing may start it.
        type: bool
      restart_on:
        description: Files, links or directories that the unit reads at its start; a newer one restarts it.
        type: list
        elements: path
        default: []
      runs_from:
        description: >-
          A link to the directory with the program. The unit restarts if its main process runs from another one than
          the link points to now, whenever it was switched.
        type: path
      reload_on:
        description: Files that the unit rereads on reload; one newer than its last change of state reloads it.
        type: list
        elements: path
        default: []
  prune:
    description: Unit files in C(/etc/systemd/system) that should not exist, unless they are in O(units).
    type: dict
    suboptions:
      glob:
        description: Pattern of the file names.
        type: str
        required: true
      markers:
        description: Texts of which the first line of the file must contain one, so that no foreign unit is touched.
        type: list
        elements: str
        required: true
"""
