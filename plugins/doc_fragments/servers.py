# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module is told of the servers among its units (``module_utils/server_contents.py``, ``OPTION``)."""

from __future__ import annotations


class ModuleDocFragment:
    """See ``extends_documentation_fragment`` of the modules; what O(servers) does there, each says itself."""

    DOCUMENTATION = r"""
options:
  servers:
    description: The servers among the units.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: The server's unit.
        type: str
        required: true
      kind:
        description: Kind of server.
        type: str
        required: true
        choices: [rabbitmq, redis, valkey]
      username:
        description: A user that may run C(INFO), of Redis and Valkey.
        type: str
        default: ""
      password:
        description: Its password.
        type: str
        default: ""
      before:
        description:
          - Its contents before, C(held) of M(celeryops.stack.files). By default the module asks the server.
        type: dict
"""
