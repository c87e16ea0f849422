# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: redis_acl
short_description: Load the users of the ACL file into a running Redis or Valkey
version_added: 0.1.0
description:
  - Changes the users that differ, without a restart and without closing the connections of other users, and records
    the result, so that M(celeryops.stack.redis_info) can tell whether it must run again.
  - If others changed the users on the server, it loads the whole file (C(ACL LOAD)), all users at once or none.
  - Call it only if M(celeryops.stack.redis_info) or a changed file requires it.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.redis_engine]
attributes:
  check_mode: {details: Reports that it would load the users.}
  diff_mode: {support: none}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Load the users
  celeryops.stack.redis_acl:
    engine: redis
    username: admin
    password: "{{ redis_admin_password }}"
"""

RETURN = r"""
users:
  description: The names of the users that the server now has.
  type: list
  elements: str
  returned: when not in check mode
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    OPTIONS,
    Client,
    Engine,
    ServerError,
    acl_changes,
    acl_stamp,
    engine_names,
)
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of


def call(module: AnsibleModule, names: Engine, command: list[str]) -> Any:
    """Return the answer to one command, on a connection of its own: Redis 7.0 closes the one that loaded the users."""
    with Client(names["socket"]) as client:
        client.call("AUTH", module.params["username"], module.params["password"])
        return client.call(*command)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    names = engine_names(module.params["engine"])
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        with open(names["acl"], "rb") as stream:
            content = stream.read()
        listed = call(module, names, ["ACL", "LIST"])
        commands = acl_changes(text_of(names["acl_stamp"]), content, listed)
        for command in [["ACL", "LOAD"]] if commands is None else commands:
            call(module, names, command)
        listed = call(module, names, ["ACL", "LIST"])
    except ServerError as error:
        module.fail_json(msg=f"{names['title']} keeps its users as they were: {error}")
    except OSError as error:
        module.fail_json(msg=f"{names['unit']} cannot be reached at {names['socket']}: {error}")
    # Root's alone: it tells whether a file with password hashes changed.
    handle = os.open(names["acl_stamp"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stamp:
        stamp.write(acl_stamp(content, listed))
    # A line reads "user NAME RULES...".
    module.exit_json(changed=True, users=[line.split()[1] for line in listed])


if __name__ == "__main__":
    main()
