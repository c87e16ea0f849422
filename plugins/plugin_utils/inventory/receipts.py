# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has a receipt for, so that a call that would find nothing to do is not made (module_utils/receipts.py).

Only playbooks of this collection look at receipts (``celeryops_receipts`` in playbooks/vars/stack.yml): between the
facts and the call nobody else changes the host there. What the run itself has changed is known by the results that its
tasks register.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.celeryops.stack.plugins.module_utils.receipts import proof
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import seen_now
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How the names of all results begin that tasks of this collection register (tests/unit/test_repository.py).
REGISTERED = ("__", "celeryops_")


def _code() -> str:
    """Return a digest of what runs on hosts: other code may find something to do."""
    digest = hashlib.sha256()
    plugins = Path(__file__).parents[2]
    for path in sorted([*plugins.glob("module_utils/**/*.py"), *plugins.glob("modules/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


#: Made once a run, in the process that all tasks are forked from: it imports each action plugin before it does so.
KEY = secrets.token_hex(32)
CODE = _code()


def are_wanted(variables: Mapping[str, Any]) -> bool:
    """Tell whether receipts count in the play of a task.

    Arguments:
        variables: of the task.
    """
    return bool(boolean(variables.get("celeryops_receipts", False), strict=False))


def asked(arguments: Mapping[str, Any]) -> str:
    """Return the digest of what a call is asked for.

    Arguments:
        arguments: of the module; plain data.
    """
    text = json.dumps([CODE, _ordered(arguments)], default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _ordered(value: Any) -> Any:
    """Return data with its keys in one order; YAML has keys that are no text, too."""
    if isinstance(value, Mapping):
        return sorted(([str(key), _ordered(entry)] for key, entry in value.items()), key=lambda pair: pair[0])
    return [_ordered(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def found_by(arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the host has of a call that would find nothing to do; None when it has to be made.

    Arguments:
        arguments: of the module.
        variables: of the task.

    Returns:
        ``settled``, whether the call's units need nothing, ``restarts``, which of them would be restarted, and
        ``result``, what it returned, where that is kept.
    """
    facts = variables.get("ansible_facts") or {}
    held = seen_now(facts).get("receipts") or {} if are_wanted(variables) else {}
    found: dict[str, Any] | None = held.get(proof(KEY, asked(arguments)))
    names = facts.get("celeryops_same_machine")
    if found is None or names is None or any(map(has_changed, _concerned(variables, names))):
        return None
    return found


def _concerned(variables: Mapping[str, Any], names: Mapping[str, Iterable[str]]) -> Iterable[Mapping[str, Any]]:
    """Yield the variables of the host, of the other names of its machine, and of the servers.

    The restart of a server may take down what runs on the host.
    """
    yield variables
    own, groups = str(variables.get("inventory_hostname")), variables.get("groups") or {}
    servers = [host for group in SERVERS for host in groups.get(group, ())]
    yield from (
        variables["hostvars"].raw_get(host) for host in dict.fromkeys([*names.get(own, ()), *servers]) if host != own
    )


def has_changed(variables: Mapping[str, Any]) -> bool:
    """Tell whether a task of this run has changed a host, or may have before it failed."""
    return any(
        any(value.get(outcome) for outcome in ("changed", "failed", "unreachable"))
        for name, value in variables.items()
        if name.startswith(REGISTERED) and isinstance(value, Mapping)
    )
