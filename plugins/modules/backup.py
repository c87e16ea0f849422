# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Make a backup of a server now
version_added: 0.1.0
description:
  - Starts the unit that the timer of O(kind)'s role starts, and waits for its end. If it fails, the message has
    the last lines of its journal.
extends_documentation_fragment: [celeryops.stack.attributes]
options:
  kind:
    description: What to back up.
    type: str
    choices: [rabbitmq, redis, valkey]
    required: true
  service:
    description: The unit.
    type: str
    required: true
  directory:
    description: Where it writes its backups.
    type: path
    required: true
attributes:
  check_mode: {details: Starts nothing.}
  diff_mode: {support: none}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Make a backup now
  celeryops.stack.backup:
    kind: redis
    service: celeryops-backup-redis.service
    directory: /var/backups/celeryops-redis
"""

RETURN = r"""
path:
  description: The new backup.
  type: str
  returned: when not in check mode
size:
  description: Its size in bytes.
  type: int
  returned: when not in check mode
seconds:
  description: How long it took, with the user's command.
  type: float
  returned: when not in check mode
"""

import os
import socket
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.backup_program import KINDS, ours
from ansible_collections.celeryops.stack.plugins.module_utils.journal import last_lines
from ansible_collections.celeryops.stack.plugins.module_utils.paths import UNITS


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "kind": {"type": "str", "choices": list(KINDS), "required": True},
            "service": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    service, directory = module.params["service"], module.params["directory"]
    if not os.path.exists(f"{UNITS}/{service}"):
        module.fail_json(msg=f"{service} is not on this host yet: run celeryops.stack.site first")
    if module.check_mode:
        module.exit_json(changed=True)
    started = time.monotonic()
    # One that has just failed is started all the same.
    module.run_command(["systemctl", "reset-failed", "--", service])
    code, _output, _errors = module.run_command(["systemctl", "start", "--", service])
    if code != 0:
        module.fail_json(msg=f"{service} failed:\n{last_lines(module.run_command, service)}")
    newest = ours(os.listdir(directory), module.params["kind"], socket.gethostname())[-1]
    path = os.path.join(directory, newest)
    took = round(time.monotonic() - started, 1)
    module.exit_json(changed=True, path=path, size=os.path.getsize(path), seconds=took)


if __name__ == "__main__":
    main()
