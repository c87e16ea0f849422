# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would do to several Redis or Valkey servers that are to have the same data. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.redis_found import has_data
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    Plans = Mapping[str, Mapping[str, Any]]
    Held = Mapping[str, Mapping[str, Any]]


def separate_servers(plans: Plans, found: Held) -> Iterator[Problem]:
    """Yield that two of the servers have data of their own: those of one would be replaced by those of the other.

    Those that a run has made replicas of one another stay so whoever of them is the primary now. So only the others are
    looked at: at most one of them may have data, and none where there are such servers already.

    Arguments:
        plans: host -> the plan of the role redis for it.
        found: host -> what it holds of the engine (``redis_found.found``); empty where nobody has looked.
    """
    with_data = [host for host, plan in plans.items() if plan.get("replicated") and _has_data(found.get(host) or {})]
    apart = [host for host in with_data if not found[host].get("replicated")]
    if apart and len(with_data) > 1:
        names = plans[apart[-1]]
        reason = f"has data on {' and '.join(with_data)}, and {apart[-1]} is no replica of another"
        instead = (
            f"{apart[-1]} in an inventory of its own; or, if nothing is needed, stop {names['unit']} there "
            f"and empty {names['data_dir']}"
        )
        yield Problem("separate-servers", "redis", with_data, reason, instead)


def primary_not_known(plans: Plans, found: Held, playing: Collection[str]) -> Iterator[Problem]:
    """Yield that this run would set up a server without knowing which of the others has the data.

    Arguments:
        plans: host -> the plan of the role redis for it.
        found: host -> what it holds of the engine; empty where nobody has looked.
        playing: the hosts of this run, which ``--limit`` may narrow.
    """
    several = [host for host, plan in plans.items() if plan.get("replicated")]
    here = [host for host in several if host in playing]
    new = [host for host in here if not (found.get(host) or {}).get("established")]
    if new == here and new and len(here) < len(several):
        others = ", ".join(host for host in several if host not in playing)
        reason = f"is new, and whether {others} has data is not known"
        yield Problem(
            "primary-not-known", "redis", new, reason, "nothing, and run this for all hosts of the group redis"
        )


def spared(plans: Plans, found: Held, watching: Collection[str], there: Collection[str]) -> dict[str, list[str]]:
    """Return by group the hosts without whose server, or Sentinel, the others and a run go on: most of them are there.

    None where a server that is there is new: it would be given the data of nobody knows whom.

    Arguments:
        plans: host -> the plan of the role redis for it.
        found: host -> what it holds of the engine; empty where nobody has looked.
        watching: the hosts of the Sentinels.
        there: the hosts of this run that can be reached.
    """
    servers = [host for host, plan in plans.items() if plan.get("replicated")]
    new = any(not (found.get(host) or {}).get("established") for host in servers if host in there)
    if new or not all(_most(hosts, there) for hosts in (servers, watching)):
        return {}
    groups = {"redis": servers, "sentinel": watching}
    return {group: [host for host in hosts if host not in there] for group, hosts in groups.items()}


def _most(hosts: Collection[str], there: Collection[str]) -> bool:
    """Whether more than half of the hosts are there."""
    return 2 * len([host for host in hosts if host in there]) > len(hosts)


def _has_data(held: Mapping[str, Any]) -> bool:
    """Whether a host has data of an engine, or a server of the role's, which may have them in its memory."""
    return bool(held.get("established")) or has_data(held, held.get("server") or {})
