#!/usr/bin/python
# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_definitions
short_description: Reconcile the objects of a RabbitMQ server with a definitions document
version_added: 0.1.0
description:
  - Compares a definitions document with what the server has, in one HTTP request, and imports only what differs.
  - Removes what an earlier run declared and this one does not. The server itself records what was declared,
    in a global parameter, so the record survives a reinstallation of the control machine and exists on every node.
  - Enables the stable feature flags that are disabled, as they are after an upgrade. All nodes of a cluster have to
    know them.
  - Passwords are checked against the salted hash that the server stores. They appear in no output, no diff and no
    command line.
  - If the server refuses the login (the user was deleted, or its password changed by hand), that user is repaired
    with C(rabbitmqctl), which reads it from a file that only the server's user can read.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.rabbitmq_api]
options:
  definitions:
    description:
      - The document, in the format of RabbitMQ's own definitions, with the kinds C(vhosts), C(users), C(permissions),
        C(topic_permissions), C(parameters), C(global_parameters), C(policies), C(exchanges), C(queues), C(bindings).
      - Users have neither a password nor a hash here.
    type: dict
    required: true
  passwords:
    description: The password of every user, by name.
    type: dict
    default: {}
  password_hashes:
    description: The password hash of every user that has none in O(passwords), by name.
    type: dict
    default: {}
  owner:
    description: Owner of these objects; those of other owners on the same server are not changed.
    type: str
    default: celeryops
  prune:
    description:
      - Kinds of objects of which all undeclared ones are removed, whoever made them.
      - Queues, exchanges and bindings are removed from declared virtual hosts only. A queue must prove that
        it has neither messages nor consumers; a virtual host must have none in its queues, and no connected
        client. Otherwise it stays, with a warning. The module asks the queues, since the server's statistics are late,
        and empty after a start; a queue that does not answer stays.
    type: list
    elements: str
    choices: [vhosts, users, permissions, topic_permissions, parameters, policies, exchanges, queues, bindings]
    default: []
  found:
    description:
      - Contents of the server before the first run, as M(celeryops.stack.files) returns them. The server stores them in
        the first record of O(owner). Virtual hosts and queues among them are never removed unless their kind is in
        O(prune), even after they were declared and then left the document.
    type: dict
    default: {}
  open_files:
    description:
      - How many files the server must be able to open. If a node says that it may open fewer, the module warns. Systemd
        limits a unit silently to the hard limit of its own process, which is lower in many containers.
      - With V(0), it does not look.
    type: int
    default: 0
  state_dir:
    description: The server's directory, for the temporary file of such a repair.
    type: path
    default: /var/lib/rabbitmq
  timeout:
    description: How many seconds to wait for a server that does not answer yet.
    type: int
    default: 60
attributes:
  check_mode: {details: A server that does not exist yet counts as empty.}
  diff_mode: {details: "Shows the objects that differ, without passwords."}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Declare a virtual host with its user
  celeryops.stack.rabbitmq_definitions:
    login_user: admin
    login_password: "{{ rabbitmq_admin_password }}"
    definitions:
      vhosts: [{name: shop}]
      users: [{name: shop, tags: []}]
      permissions: [{vhost: shop, user: shop, configure: ".*", write: ".*", read: ".*"}]
    passwords:
      shop: "{{ shop_password }}"
"""

RETURN = r"""
changes:
  description: What was done, or would be in check mode, as text.
  type: list
  elements: str
  returned: success
  sample: ["create user shop", "update policy shop/limits", "remove queue shop/old"]
topology:
  description: >-
    A digest of the durable queues, exchanges and bindings of each virtual host, also of those that an app has declared;
    empty if this call changed something.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_api import OPTIONS
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_differences import KEYS
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_reconciler import Reconciler


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "definitions": {"type": "dict", "required": True},
            "passwords": {"type": "dict", "default": {}, "no_log": True},
            "password_hashes": {"type": "dict", "default": {}, "no_log": True},
            "owner": {"type": "str", "default": "celeryops"},
            "prune": {"type": "list", "elements": "str", "default": [], "choices": list(KEYS)},
            "found": {"type": "dict", "default": {}},
            "open_files": {"type": "int", "default": 0},
            **OPTIONS,
            "state_dir": {"type": "path", "default": "/var/lib/rabbitmq"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    Reconciler(module).run()


if __name__ == "__main__":
    main()
