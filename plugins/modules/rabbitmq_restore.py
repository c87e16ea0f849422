# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_restore
short_description: Add what RabbitMQ lacks of a backup
version_added: 0.1.0
description:
  - Imports the objects of a definitions file that the broker does not have, through the management API.
  - An object that the broker has stays as it is, and so do all messages. The account C(guest) is left out.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.rabbitmq_api]
options:
  path:
    description: The file on the host, with definitions as RabbitMQ exports them.
    type: path
    required: true
attributes:
  check_mode: {details: Reports what would be added.}
  diff_mode: {details: Shows the names of the objects.}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Restore the definitions
  celeryops.stack.rabbitmq_restore:
    path: /root/rabbitmq-mq1-20261202T031502Z.json
    login_user: admin
    login_password: "{{ rabbitmq_admin_password }}"
"""

RETURN = r"""
added:
  description: The objects that were added, or would be in check mode.
  type: list
  elements: str
  returned: success
  sample: [virtual host shop, queue shop/payments]
kept:
  description: The objects that differ from the backup, and stay as they are.
  type: list
  elements: str
  returned: success
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.backup_program import flaw_of_definitions
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_api import (
    OPTIONS,
    Api,
    RefusedError,
    UnreachableError,
    reason_of,
)
from ansible_collections.celeryops.stack.plugins.module_utils.restoring import additions
from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of


def read(module: AnsibleModule) -> dict[str, Any]:
    """Return the backup; fails when it is none."""
    path = module.params["path"]
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"{path} cannot be read: {error}")
    flaw = flaw_of_definitions(text)
    if flaw:
        module.fail_json(msg=f"the file is not a backup of RabbitMQ's definitions: it {flaw}. Nothing was changed")
    document: dict[str, Any] = json.loads(text)
    return document


def present(module: AnsibleModule, api: Api) -> dict[str, Any]:
    """Return the definitions of the broker; fails when it does not tell them."""
    status, answer = api.call("GET", "definitions")
    if status != 200:
        module.fail_json(msg=f"RabbitMQ does not tell its definitions: {reason_of(answer)}")
    document: dict[str, Any] = answer
    return document


def restore(module: AnsibleModule) -> None:
    """Compare and import; ends the module."""
    backup, api = read(module), Api(module.params)
    found = additions(backup, present(module, api))
    if found.added and not module.check_mode:
        status, answer = api.call("POST", "definitions", found.document)
        if status >= 300:
            module.fail_json(msg=f"RabbitMQ does not take the definitions: {reason_of(answer)}")
        missing = additions(backup, present(module, api)).added
        if missing:
            module.fail_json(msg=f"RabbitMQ took the definitions, and still lacks {some_of(missing, 10)}")
    module.exit_json(
        changed=bool(found.added),
        added=found.added,
        kept=found.kept,
        diff={"before": "", "after": "".join(f"{name}\n" for name in found.added)},
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        restore(module)
    except RefusedError:
        module.fail_json(msg=f"RabbitMQ refuses the login of {module.params['login_user']}; nothing was changed")
    except UnreachableError as error:
        module.fail_json(msg=f"RabbitMQ's management API does not answer ({error}): run celeryops.stack.site first")


if __name__ == "__main__":
    main()
