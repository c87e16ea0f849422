# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_password import (
    DEFAULT_ALGORITHM,
    hash_password,
    stable_salt,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DOCUMENTATION = r"""
name: rabbitmq_document
short_description: The definitions that RabbitMQ loads at its start, as text
version_added: 0.1.0
description:
  - Adds the password hashes to a definitions document and returns it as JSON.
  - The salt of a hash is derived from O(salt_key) and the user's name, so the text changes only if its meaning does.
positional: _input
options:
  _input:
    description: The definitions, whose users have neither a password nor a hash.
    type: dict
    required: true
  passwords:
    description: The password of every user, by name.
    type: dict
    required: true
  password_hashes:
    description: The hash of every user that has no password, by name.
    type: dict
    default: {}
  salt_key:
    description: A secret of this installation.
    type: str
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show a document
  ansible.builtin.debug:
    msg: "{{ document | celeryops.stack.rabbitmq_document(passwords={'shop': shop_password}, salt_key=cookie) }}"
  vars:
    document: {users: [{name: shop, tags: []}]}
"""

RETURN = r"""
_value:
  description: The document as JSON.
  type: str
"""


def rabbitmq_document(
    definitions: Mapping[str, Any],
    passwords: Mapping[str, str],
    salt_key: str,
    password_hashes: Mapping[str, str] | None = None,
) -> str:
    """Return the text of a definitions file with which a node starts.

    It holds no record of what is declared (see ``record_of``): every start imports the file, which would replace the
    record of an earlier run before its leftovers could be removed.
    """
    document: dict[str, Any] = {kind: list(entries) for kind, entries in definitions.items()}
    users = []
    for user in document.get("users", []):
        name = str(user["name"])
        if name in passwords:
            credentials = {
                "password_hash": hash_password(str(passwords[name]), stable_salt(str(salt_key), name)),
                "hashing_algorithm": DEFAULT_ALGORITHM,
            }
        else:
            credentials = {
                "password_hash": str((password_hashes or {})[name]),
                "hashing_algorithm": user.get("hashing_algorithm", DEFAULT_ALGORITHM),
            }
        users.append({**user, **credentials})
    document["users"] = users
    return json.dumps(document, indent=2) + "\n"


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"rabbitmq_document": rabbitmq_document}
