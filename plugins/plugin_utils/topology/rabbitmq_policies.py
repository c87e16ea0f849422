# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RabbitMQ's policies in the inventory, and which of them apply to a queue."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONSUMER_TIMEOUT = "consumer-timeout"
#: What a policy is applied to -> the types of an app's queues among it; both where nothing is said.
_TYPES: Mapping[str, tuple[str, ...]] = {
    "exchanges": (),
    "streams": (),
    "classic_queues": ("classic",),
    "quorum_queues": ("quorum",),
}


@dataclass(frozen=True)
class Policy:
    """A policy of the inventory.

    Arguments:
        variable: where it is written, by its name.
        pattern: of the names of queues.
        types: of the queues that it is for.
        priority: of several that fit only one of the highest acts.
        definition: what it says.
    """

    variable: str
    pattern: re.Pattern[str]
    types: tuple[str, ...]
    priority: int
    definition: Mapping[str, Any]

    def fits(self, queue: str, kind: str) -> bool:
        """Whether it is for a queue of a type."""
        return kind in self.types and bool(self.pattern.search(queue))

    @property
    def consumer_timeout_ms(self) -> int:
        """The milliseconds that RabbitMQ waits for an acknowledgement; 0 where nothing is said, or no such time."""
        value = self.definition.get(CONSUMER_TIMEOUT)
        return max(value, 0) if isinstance(value, int) else 0


def policies(variables: Mapping[str, Any], kind: str, vhost: str) -> list[Policy]:
    """Return the policies of a virtual host.

    Arguments:
        variables: those of the role rabbitmq.
        kind: ``policies`` or ``operator_policies``.
        vhost: name of the virtual host.
    """
    found = []
    for entry in variables.get(f"rabbitmq_{kind}") or ():
        # What is no expression, the role tells.
        with contextlib.suppress(re.error):
            pattern = re.compile(str(entry["pattern"]))
            types = _TYPES.get(str(entry.get("apply_to")), ("classic", "quorum"))
            priority = int(entry.get("priority") or 0)
            if entry["vhost"] == vhost:
                found.append(Policy(f"rabbitmq_{kind}.{entry['name']}", pattern, types, priority, entry["definition"]))
    return found


def acting(declared: Iterable[Policy], queue: str, kind: str) -> list[Policy]:
    """Return the policies of which one acts on a queue: of several that fit, those of the highest priority."""
    fitting = [policy for policy in declared if policy.fits(queue, kind)]
    priorities = {policy.priority for policy in fitting}
    return [policy for policy in fitting if policy.priority == max(priorities)]
