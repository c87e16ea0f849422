# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of roles: what each role is, which hosts get it, and what it listens on.

Groups, checks and tests take it from here. A new role is one entry here, a folder in ``roles/``, a module in ``plans/``
and a play in ``playbooks/site.yml``; tests/unit/test_registry.py compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["server", "app", "process"]


@dataclass(frozen=True)
class Listens:
    """A port that a role's service listens on.

    Arguments:
        port: the variable with its number.
        address: the variable with the address, or with a list of them.
    """

    port: str
    address: str


@dataclass(frozen=True)
class Role:
    """One role of the collection.

    Arguments:
        name: of its folder; its variables begin with it and ``_``.
        title: of what it installs, for people.
        kind: ``server`` is there once per host, for all apps; ``app`` is an app's code and configuration on a host;
            ``process`` is what runs from them, under systemd.
        groups: the groups of the inventory whose hosts get it.
        listens: its ports; of a server the first is the one that clients connect to.
        unit: its systemd unit, with ``{app}`` in the place of the app's name; empty where the role has none, or one
            for each worker (``layout.worker_unit``).
    """

    name: str
    title: str
    kind: Kind
    groups: tuple[str, ...]
    listens: tuple[Listens, ...] = ()
    unit: str = ""

    @property
    def prefix(self) -> str:
        """How its variables begin."""
        return f"{self.name}_"

    @property
    def app_variable(self) -> str:
        """The variable with the name of the app that it is for; empty for a server."""
        return {"server": "", "app": f"{self.name}_name", "process": f"{self.name}_app"}[self.kind]


#: In the order in which the plays of site.yml run them.
ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role(
            "rabbitmq",
            "RabbitMQ",
            "server",
            groups=("rabbitmq",),
            listens=(
                Listens("rabbitmq_port", "rabbitmq_listen_addresses"),
                Listens("rabbitmq_management_port", "rabbitmq_management_listen_address"),
            ),
        ),
        # In two groups a server has another purpose (STORES).
        Role(
            "redis",
            "Redis",
            "server",
            groups=("redis", "redis_results"),
            listens=(Listens("redis_port", "redis_bind"),),
        ),
        Role(
            "sentinel", "Sentinel", "server", groups=("sentinel",), listens=(Listens("sentinel_port", "sentinel_bind"),)
        ),
        Role(
            "celery_app",
            "the app",
            "app",
            groups=("celery_workers", "celery_producers", "celery_beat", "flower"),
        ),
        Role("celery_worker", "workers", "process", groups=("celery_workers",)),
        Role("celery_beat", "beat", "process", groups=("celery_beat",), unit="celery-{app}-beat.service"),
        Role(
            "flower",
            "Flower",
            "process",
            groups=("flower",),
            listens=(Listens("flower_port", "flower_address"),),
            unit="celery-{app}-flower.service",
        ),
    )
}
#: Every group that means something to the collection -> the roles that its hosts get.
ROLES_OF_GROUP: dict[str, tuple[str, ...]] = {
    group: tuple(role.name for role in ROLES.values() if group in role.groups)
    for group in dict.fromkeys(group for role in ROLES.values() for group in role.groups)
}
#: The groups whose hosts carry an app.
APP_GROUPS = ROLES["celery_app"].groups
#: The servers.
SERVERS: dict[str, Role] = {name: role for name, role in ROLES.items() if role.kind == "server"}
#: The groups of their hosts -> which servers they are.
SERVER_GROUPS: dict[str, Role] = {group: role for role in SERVERS.values() for group in role.groups}
#: The groups of Redis, each of which is one server, or a primary with its replicas. Queues are in the first one, where
#: Redis is a broker; results are in the last one that has a host.
STORES = SERVERS["redis"].groups
QUEUES, RESULTS = STORES
#: The group of the hosts with a Sentinel, which watch over the servers of a Redis.
SENTINELS = "sentinel"
#: What runs from an app's code, under systemd.
PROCESSES: dict[str, Role] = {name: role for name, role in ROLES.items() if role.kind == "process"}
#: The variables with the name of an app; passwords have files that are named after it.
APP_VARIABLES = tuple(role.app_variable for role in ROLES.values() if role.app_variable)
#: How the variables of the collection begin. ``celery_`` alone stands for all of its roles: a slip in the next word is
#: one in a variable of ours.
OURS = ("celeryops_", *dict.fromkeys(f"{name.partition('_')[0]}_" for name in ROLES))


def store_of_results(groups: Mapping[str, Sequence[object]]) -> str:
    """Return the group of Redis that keeps the results.

    Arguments:
        groups: group -> its hosts, or its servers.
    """
    return RESULTS if groups.get(RESULTS) else QUEUES
