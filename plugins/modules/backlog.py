# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: backlog
short_description: Count the messages in queues of an app, over the app's own connection
version_added: 0.1.0
description:
  - Consumes and declares nothing. Runs the installed runtime under the app's account, with its environment.
extends_documentation_fragment: [celeryops.stack.attributes.reads]
options:
  app:
    description: The app, which must be installed on the host.
    type: str
    required: true
  queues:
    description: The queues.
    type: list
    elements: str
    required: true
  taken:
    description:
      - Whether to also count messages that workers have taken but not begun, since they return them when
        they stop. It asks the workers once the queues are empty, which takes 3 seconds. A worker that does not answer,
        or has an older runtime, is not counted.
    type: bool
    default: false
  wait:
    description: Maximum number of seconds to wait until all queues are empty.
    type: int
    default: 0
attributes:
  check_mode: {details: Changes nothing and does not wait.}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Count waiting tasks
  celeryops.stack.backlog:
    app: shop
    queues: [feeds]
"""

RETURN = r"""
waiting:
  description: Queue -> messages, V(none) for a queue that does not exist; or a text with the reason why it is unknown.
  type: raw
  returned: always
"""

import os
import pwd
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.module_utils.runtime import waiting

#: Seconds between two questions, each of which starts an interpreter.
PAUSE = 5


def ask(app: str, queues: list[str], taken: bool) -> dict[str, Any] | str:
    """Return the messages in each queue, or why they are not known.

    Arguments:
        app: its name.
        queues: their names.
        taken: whether to count what workers have taken from them and not begun.
    """
    try:
        user = pwd.getpwuid(os.stat(AppPaths(app).state).st_uid).pw_name
    except (KeyError, OSError) as error:
        return str(error)
    return waiting(app, user, [word for name in queues for word in ("--queue", name)] + ["--taken"] * taken)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "queues": {"type": "list", "elements": "str", "required": True},
            "taken": {"type": "bool", "default": False},
            "wait": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    until = time.monotonic() + (0 if module.check_mode else module.params["wait"])
    while True:
        found = ask(module.params["app"], module.params["queues"], module.params["taken"])
        empty = isinstance(found, dict) and not any(found.values())
        if empty or time.monotonic() >= until:
            break
        time.sleep(PAUSE)
    module.exit_json(changed=False, waiting=found)


if __name__ == "__main__":
    main()
