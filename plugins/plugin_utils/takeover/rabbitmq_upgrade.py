# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version of RabbitMQ on data of another. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_series import series_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_upgrades import upgrade_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VERSION = "rabbitmq_version"
_BESIDE = "new hosts for it beside these, and move the application to them when the queues here are empty"


def unsupported_upgrades(
    plans: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """Yield that a server would run on data that it cannot, or should not, take over.

    RabbitMQ 4.0 does not start on data of 3.10. RabbitMQ 4.3 starts on data of 4.0 although its makers do not support
    that.

    Arguments:
        plans: host -> the plan of the role rabbitmq for it; ``series`` is that of the version that it is to have.
        found: host -> what it holds (``rabbitmq_found.found``).
    """
    for host, plan in plans.items():
        held = found.get(host) or {}
        name = plan["node"]["name"]
        installed, wanted = series_of(str(held.get("version") or "")), str(plan.get("series") or "")
        data = str((held.get("written") or {}).get(name) or "") or installed
        if name not in (held.get("nodes") or ()) or data == wanted:
            continue
        if not wanted:
            reason = (
                f"does not say which version {host} is to get, which has data of RabbitMQ {data or 'unknown version'}"
            )
            yield Problem("version-not-known", _VERSION, "", reason, 'a version or a pattern such as "4.2.*"')
            continue
        way = upgrade_path(data, wanted)
        # Of a newer version than those of the table nothing is known: one that is there stays.
        if len(way) != 2 and (way or installed != wanted):
            yield _refusal(host, data, installed, wanted, way)


def _refusal(host: str, data: str, installed: str, wanted: str, way: tuple[str, ...]) -> Problem:
    if not way:
        reason = f"is not known to run on the data of RabbitMQ {data or '(unknown version)'} on {host}"
        return Problem(
            "unsupported-upgrade", _VERSION, wanted, reason, f"{data or 'the version that wrote them'}; or {_BESIDE}"
        )
    if installed == wanted:
        reason = f"is installed on {host}, whose data are of RabbitMQ {data}: RabbitMQ does not support that"
        instead = (
            f"{_BESIDE}. If it runs and all that you need is there, say so on {host}: "
            "rabbitmqctl enable_feature_flag all"
        )
    elif installed == way[-2]:
        reason = f"needs all feature flags of RabbitMQ {installed}, and {host} has those of {data}"
        instead = f"{installed} once more, with which this run enables them; then {wanted}"
    else:
        reason = f"cannot run on the data of RabbitMQ {data} on {host} at once"
        instead = f"{', '.join(way[1:-1])} and then {wanted}, one run for each; or {_BESIDE}"
    return Problem("unsupported-upgrade", _VERSION, wanted, reason, instead)
