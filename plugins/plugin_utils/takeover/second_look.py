# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second check, with the facts of the hosts: compares their services with the inventory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.ours import SEVERAL_MAY_RUN
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import forget, question
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover import leaving as gone
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover import (
    rabbitmq_cluster,
    rabbitmq_upgrade,
    redis_replication,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.stranded import (
    DRAIN,
    moves,
    not_readable,
    questions,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.unreached import unreached
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import ROLES_OF_GROUP
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_duration

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.check import Checked
    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment


@dataclass(frozen=True)
class Look:
    """What is known behind the facts.

    Arguments:
        checked: what came of checking the inventory.
        deployment: the model of it.
        playing: the hosts of this run.
        tags: of this run.
        rotate: whether passwords may become others.
        drain: how long to wait until queues are empty that lose their consumers, as it was written.
        only: whether no host that was not looked at has a scheduler, as somebody has said.
        server: returns what a host holds of RabbitMQ (``rabbitmq_found.found``); empty where nobody has looked.
        redis: returns what a host holds of Redis and of Valkey (``redis_found.found``); empty where nobody has looked.
    """

    checked: Checked
    deployment: Deployment
    playing: Collection[str]
    tags: Collection[str]
    rotate: bool
    drain: object = ""
    only: bool = False
    server: Callable[[str], Mapping[str, Any]] = lambda _host: {}
    redis: Callable[[str], Mapping[str, Any]] = lambda _host: {}


def second_look(look: Look) -> tuple[list[Problem], dict[str, Any]]:
    """Return what is wrong, and the facts for the plays behind.

    ``celeryops_leaving`` is what has to go from which host (``leaving.leaving``), ``celeryops_backlogs`` what has to be
    asked of queues that lose their consumers (``stranded.questions``, each with ``wait`` in seconds),
    ``celeryops_same_machine`` the other names of a host's machine, and ``celeryops_spared`` the nodes of RabbitMQ that
    could not be reached and are left out.

    Passwords that were made up are noted as those of the hosts when no host has others, and stay a question when one
    may have. No file is removed: an earlier run that ended between may have placed these very passwords.
    """
    checked, deployment, seen = look.checked, look.deployment, look.checked.seen
    wanted = gone.inventory_of(checked.found, deployment.groups, checked.given, checked.planned)
    imports = {name: str(app.variables.get("celery_app_import") or "") for name, app in deployment.apps.items()}
    problems: list[Problem] = [
        *gone.beats(wanted, seen, look.playing, _several(checked), only=look.only),
        *gone.others_beats(wanted, seen, look.playing, imports, only=look.only),
        *gone.without_app(wanted, seen, look.playing, look.tags),
        *_of_rabbitmq(look),
        *_of_replicated(look),
    ]
    leaving = gone.leaving(wanted, seen)
    whole = {str(entry["app"]) for entries in leaving.values() for entry in entries if entry["early"]}
    lost = {host: why for host, why in checked.lost.items() if host in look.playing}
    rotated = look.rotate and any(checked.found.get("made_up", {}).values())
    spared = _spared(look, lost)
    problems += unreached(lost, deployment.groups, rotated=rotated, whole=whole, spared=spared)
    expected = list(dict.fromkeys(host for group in ROLES_OF_GROUP for host in wanted.groups.get(group, ())))
    for folder, names in checked.found.get("made_up", {}).items():
        doubts = [] if look.rotate else list(question(Path(folder), names, seen, expected))
        problems += doubts
        if not doubts and not problems:
            forget(Path(folder))
    problems += not_readable(deployment.apps, seen, look.playing, whole)
    wait = 0
    if look.drain:
        try:
            wait = parse_duration(look.drain)
        except UnreadableError as error:
            problems.append(error.of(DRAIN, look.drain))
    moved = moves(deployment, seen, look.playing)
    asked = [{**one, "wait": wait} for one in questions(deployment.apps, seen, look.playing, whole, moved)]
    return problems, {
        "celeryops_leaving": leaving,
        "celeryops_backlogs": asked,
        "celeryops_same_machine": same_machine(seen),
        "celeryops_spared": spared["rabbitmq"],
    }


def _of_rabbitmq(look: Look) -> Iterator[Problem]:
    """Yield what is wrong with RabbitMQ as its hosts are."""
    plans = _plans(look, "rabbitmq")
    yield from rabbitmq_cluster.different_series(plans)
    found = {host: look.server(host) for host in plans}
    yield from rabbitmq_cluster.separate_brokers(plans, found)
    yield from rabbitmq_cluster.emptied_nodes(plans, found)
    yield from rabbitmq_upgrade.unsupported_upgrades(plans, found)


def _plans(look: Look, name: str) -> dict[str, Mapping[str, Any]]:
    """Return host -> the plan of a role for it."""
    return {host: own.plan for (role, host), own in look.checked.planned.items() if role == name and own.plan}


def _of_replicated(look: Look) -> Iterator[Problem]:
    """Yield what is wrong with several servers of Redis as their hosts are."""
    plans = _plans(look, "redis")
    found = _redis_found(look, plans)
    yield from redis_replication.separate_servers(plans, found)
    yield from redis_replication.primary_not_known(plans, found, look.playing)


def _spared(look: Look, lost: Collection[str]) -> dict[str, list[str]]:
    """Return by group the lost hosts without which the run goes on."""
    redis, there = _plans(look, "redis"), [host for host in look.playing if host not in lost]
    watching = look.deployment.groups.get("sentinel", ())
    others = redis_replication.spared(redis, _redis_found(look, redis), watching, there)
    return {"rabbitmq": rabbitmq_cluster.spared(_plans(look, "rabbitmq"), look.playing, lost), **others}


def _redis_found(look: Look, plans: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {host: look.redis(host).get(str(plan["engine"])) or {} for host, plan in plans.items()}


def same_machine(seen: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the other names of each machine that has several in the inventory.

    Arguments:
        seen: host -> what was seen of its machine, ``id`` among it.
    """
    names: dict[str, list[str]] = {}
    for host, machine in seen.items():
        names.setdefault(str(machine.get("id") or ""), []).append(host)
    return {host: [one for one in hosts if one != host] for hosts in names.values() if hosts[1:] for host in hosts}


def _several(checked: Checked) -> set[str]:
    """Return the apps of which several schedulers may run."""
    found = set()
    for (role, host), plan in checked.planned.items():
        settings = checked.given(host, "celery_app_settings", None)
        common = settings.get("beat_scheduler") if isinstance(settings, Mapping) else None
        if role == "celery_beat" and str(plan.values.get("celery_beat_scheduler") or common).startswith(
            SEVERAL_MAY_RUN
        ):
            found.add(str(checked.found["app_of"].get(host)))
    return found
