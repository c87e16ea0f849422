# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second check, with the facts of the hosts: compares their services with the inventory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import forget, question
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.inventory import SEVERAL_MAY_RUN
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover import leaving as gone
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.stranded import (
    DRAIN,
    moves,
    not_readable,
    questions,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import is_app_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import machine
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import ROLES_OF_GROUP
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_duration

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.build import Planned
    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App


@dataclass(frozen=True)
class Look:
    """What is known behind the facts.

    Arguments:
        found: ``survey``, with ``made_up``: folder of passwords -> files that were made up.
        groups: the inventory's groups and their hosts.
        seen: host -> the fact ``celeryops_machine``, of the hosts that this run has looked at.
        planned: (role, host) -> what came of planning it.
        given: returns a variable of a host.
        playing: the hosts of this run.
        tags: of this run.
        rotate: whether passwords may become others.
        apps: those of the inventory.
        drain: how long to wait until queues are empty that lose their consumers, as it was written.
        place_of: returns where a broker is that a host uses (``assemble.place_of``).
        managed: the machines with a Redis of the inventory.
        only: whether no host that was not looked at has a scheduler, as somebody has said.
    """

    found: Mapping[str, Any]
    groups: Mapping[str, Sequence[str]]
    seen: Mapping[str, Mapping[str, Any]]
    planned: Mapping[tuple[str, str], Planned]
    given: Callable[[str, str, Any], Any]
    playing: Collection[str]
    tags: Collection[str]
    rotate: bool
    apps: Mapping[str, App] = field(default_factory=dict)
    drain: object = ""
    place_of: Callable[[Mapping[str, Any], str], str] = lambda broker, _host: str(broker["host"])
    managed: Collection[str] = ()
    only: bool = False


def inventory_of(
    found: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    given: Callable[[str, str, Any], Any],
    planned: Mapping[tuple[str, str], Planned] | None = None,
) -> gone.Inventory:
    """Return what the inventory wants of its hosts."""
    named = {str(name) for host in groups.get("all", ()) if is_app_name(name := given(host, "celery_app_name", None))}
    accounts: dict[str, set[str]] = {"rabbitmq": set(), "redis": set()}
    for (role, _host), plan in (planned or {}).items():
        if role in accounts:
            users = plan.plan.get("definitions", plan.plan).get("users") or ()
            accounts[role].update(str(user["name"]) for user in users)
    return gone.Inventory(
        groups=groups,
        app_of=found["app_of"],
        names=named | set(found["app_of"].values()) - {""},
        machines={host: machine(host, given) for host in groups.get("all", ())},
        servers=found["servers"],
        accounts=accounts,
    )


def second_look(look: Look) -> tuple[list[Problem], dict[str, Any]]:
    """Return what is wrong, and the facts for the plays behind.

    ``celeryops_leaving`` is what has to go from which host (``leaving.leaving``), ``celeryops_backlogs`` what has to be
    asked of queues that lose their consumers (``stranded.questions``, each with ``wait`` in seconds).

    Passwords that were made up are noted as those of the hosts when no host has others, and stay a question when one
    may have. No file is removed: an earlier run that ended between may have placed these very passwords.
    """
    wanted = inventory_of(look.found, look.groups, look.given, look.planned)
    problems: list[Problem] = [
        *gone.beats(wanted, look.seen, look.playing, _several(look), only=look.only),
        *gone.others_beats(wanted, look.seen, look.playing, _imports(look), only=look.only),
        *gone.without_app(wanted, look.seen, look.playing, look.tags),
    ]
    expected = list(dict.fromkeys(host for group in ROLES_OF_GROUP for host in look.groups.get(group, ())))
    for folder, names in look.found.get("made_up", {}).items():
        doubts = [] if look.rotate else list(question(Path(folder), names, look.seen, expected))
        problems += doubts
        if not doubts and not problems:
            forget(Path(folder))
    leaving = gone.leaving(wanted, look.seen)
    whole = {str(entry["app"]) for entries in leaving.values() for entry in entries if entry["early"]}
    problems += not_readable(look.apps, look.seen, look.playing, whole)
    wait = 0
    if look.drain:
        try:
            wait = parse_duration(look.drain)
        except UnreadableError as error:
            problems.append(error.of(DRAIN, look.drain))
    moved = moves(look.apps, look.seen, look.playing, look.place_of, look.managed)
    asked = [{**one, "wait": wait} for one in questions(look.apps, look.seen, look.playing, whole, moved)]
    return problems, {"celeryops_leaving": leaving, "celeryops_backlogs": asked}


def _imports(look: Look) -> dict[str, str]:
    """Return what each app that has a scheduler is imported from."""
    return {
        str(look.found["app_of"].get(host)): str(look.given(host, "celery_app_import", None) or "")
        for host in look.groups.get("celery_beat", ())
    }


def _several(look: Look) -> set[str]:
    """Return the apps of which several schedulers may run."""
    found = set()
    for (role, host), plan in look.planned.items():
        settings = look.given(host, "celery_app_settings", None)
        common = settings.get("beat_scheduler") if isinstance(settings, Mapping) else None
        if role == "celery_beat" and str(plan.values.get("celery_beat_scheduler") or common).startswith(
            SEVERAL_MAY_RUN
        ):
            found.add(str(look.found["app_of"].get(host)))
    return found
