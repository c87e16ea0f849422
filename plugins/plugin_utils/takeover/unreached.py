# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a run whose facts could not be gathered: without which of them the run must not go on. Pure functions.

Ansible itself leaves such a host out from then on. That is right for one of many workers, and wrong for a host on which
the others depend, or which may hold what this run takes away elsewhere. Whether a scheduler may still run there is
judged with the other schedulers (``leaving.beats``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import ROTATE
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Found
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import SERVER_GROUPS

#: What playbooks/site.yml registers when it gathers the facts of a host.
GATHERED = "celeryops_gathered"
_LATER = "run this when it can be reached, or take it out of the inventory if it is gone for good"


def why_lost(variables: Mapping[str, Any]) -> str:
    """Return why the facts of a host could not be gathered, in one line; empty when they were, or nobody has tried.

    Arguments:
        variables: of the host.
    """
    result = variables.get(GATHERED)
    if not isinstance(result, Mapping) or not (result.get("unreachable") or result.get("failed")):
        return ""
    return " ".join(str(result.get("msg") or "").split()) or "Ansible does not say why"


def unreached(
    lost: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
    *,
    rotated: bool,
    whole: Collection[str],
    spared: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Iterator[Found]:
    """Yield why the run cannot go on without a host.

    Arguments:
        lost: host of the run -> why its facts could not be gathered (``why_lost``).
        groups: the inventory's groups and their hosts.
        rotated: whether this run replaces passwords.
        whole: the apps that leave the inventory, whose accounts the servers remove.
        spared: group -> hosts without whose server the others go on (``rabbitmq_cluster``, ``redis_replication``).
    """
    servers = [
        (group, host)
        for group in SERVER_GROUPS
        for host in groups.get(group, ())
        if host in lost and host not in spared.get(group, ())
    ]
    for group, host in servers:
        reason = f"the facts could not be gathered ({lost[host]}), and the other hosts depend on it"
        yield Found("server-not-reached", group, host, reason, "run this when it can be reached")
    others = [host for host in lost if host not in {server for _group, server in servers}]
    if others and rotated:
        reason = f"the facts could not be gathered, so it would keep passwords that this run replaces ({_each(others)})"
        yield Found("host-keeps-passwords", ROTATE, others[0], reason, _LATER)
    if others and whole:
        apps = ", ".join(sorted(whole))
        reason = (
            f"the facts could not be gathered, so it may still work for {apps}, whose accounts this run removes "
            f"({_each(others)})"
        )
        yield Found("host-may-work-on", "celery_app_name", others[0], reason, _LATER)


def _each(hosts: Sequence[str]) -> str:
    """Return the names, of many only some."""
    return f"not reached: {some_of(hosts, 4)}"
