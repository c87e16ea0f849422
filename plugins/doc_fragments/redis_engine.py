# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module reaches Redis or Valkey on its host (``module_utils/redis_engine.py``, ``OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    """See ``extends_documentation_fragment`` of the modules."""

    DOCUMENTATION = r"""
options:
  engine:
    description: The engine.
    type: str
    choices: [redis, valkey]
    required: true
  username:
    description: A user with all rights.
    type: str
    required: true
  password:
    description: The user's password.
    type: str
    required: true
"""
