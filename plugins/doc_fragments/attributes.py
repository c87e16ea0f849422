# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules of this collection support; where one differs, it says so in its own ``attributes``."""

from __future__ import annotations


class ModuleDocFragment:
    """``attributes`` for a module that changes a host; with ``.reads`` one that only reads, with ``.controller`` one
    that contacts no host, and with ``.action`` one that begins on the control machine.
    """

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what would change, without changing it.
    support: full
  diff_mode:
    description: Returns what changed, or would change in check mode, in diff mode.
    support: full
  platform:
    description: The hosts that it runs on.
    platforms: debian
    support: full
"""

    READS = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what would change, without changing it.
    support: full
    details: Changes nothing, so it runs the same.
  diff_mode:
    description: Returns what changed, or would change in check mode, in diff mode.
    support: N/A
  platform:
    description: The hosts that it runs on.
    platforms: debian
    support: full
"""

    CONTROLLER = r"""
options: {}
attributes:
  action:
    description: Has an action plugin, which runs on the control machine.
    support: full
  check_mode:
    description: Can run in check mode and return what would change, without changing it.
    support: full
    details: Changes no host, so it runs the same.
  connection:
    description: Uses the connection to the host.
    support: none
  diff_mode:
    description: Returns what changed, or would change in check mode, in diff mode.
    support: N/A
  platform:
    description: The hosts that it runs on.
    platforms: posix
    support: full
"""

    ACTION = r"""
options: {}
attributes:
  action:
    description: Has an action plugin, which runs on the control machine.
    support: partial
    details: The action plugin prepares the options; a module on the host does the work.
"""
