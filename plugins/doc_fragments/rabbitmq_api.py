# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module reaches RabbitMQ's management API (``module_utils/rabbitmq_api.py``, ``OPTIONS``)."""

from __future__ import annotations


class ModuleDocFragment:
    """See ``extends_documentation_fragment`` of the modules."""

    DOCUMENTATION = r"""
options:
  api_host:
    description: Address of the management API.
    type: str
    default: 127.0.0.1
  api_port:
    description: Port of the management API.
    type: int
    default: 15672
  login_user:
    description: An administrator. It is never removed.
    type: str
    required: true
  login_password:
    description: The administrator's password.
    type: str
    required: true
"""
