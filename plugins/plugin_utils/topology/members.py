# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apps of an inventory: their hosts with their variables and strictly parsed worker classes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import (
    converted,
    default_of,
    misshapen,
    role_options,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import DEFAULTS, LEVELS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import is_app_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import APP_GROUPS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import (
    Classes,
    WorkerClass,
    read_classes,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import parse_duration

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import Given, Groups


def app_hosts(groups: Groups) -> list[str]:
    """Return the hosts that carry an app, each once, in the order of the inventory."""
    return list(dict.fromkeys(host for group in APP_GROUPS for host in groups.get(group, [])))


@dataclass(frozen=True)
class Members:
    """The hosts of one app, and what they say of it.

    Arguments:
        name: of the app; empty where it cannot be one, which the role celery_app tells.
        hosts: in the order of the inventory.
        classes: host -> its worker classes, of those among them that are workers.
        given: returns a variable of a host.
        groups: the inventory's groups and their hosts.
    """

    name: str
    hosts: Sequence[str]
    classes: Mapping[str, Classes]
    given: Given
    groups: Groups

    @property
    def all_classes(self) -> Iterator[WorkerClass]:
        """Every class of every host; of hosts that are alike once."""
        for classes, _problems in {id(read): read for read in self.classes.values()}.values():
            yield from (one for one in classes.values() if one.present)

    def said(self, name: str) -> list[Any]:
        """Return what each host says of a variable; None where it says nothing."""
        return [self.given(host, name, None) for host in self.hosts]

    def durations(self, name: str) -> list[int]:
        """Return a duration as each host says it, or by its default, in seconds; 0 where it cannot be read."""
        return [seconds(self.given(host, name, default_of(name))) for host in self.hosts]

    def first(self, name: str) -> str:
        """Return a variable as the first host says it, or its default."""
        return str(self.given(self.hosts[0], name, None) or default_of(name))

    @property
    def settings(self) -> list[Mapping[str, Any]]:
        """The Celery settings that the inventory gives on each host."""
        return [value if isinstance(value, Mapping) else {} for value in self.said("celery_app_settings")]

    @property
    def broker(self) -> str:
        """``rabbitmq`` or ``redis``."""
        return broker(self.groups, self.said("celery_app_broker"))


def members(groups: Groups, given: Given) -> dict[str, Members]:
    """Return the apps of the inventory by their names, in the order in which their hosts name them."""
    hosts: dict[str, list[str]] = {}
    for host in app_hosts(groups):
        name = given(host, "celery_app_name", None)
        # A name that is none must not end in the path of a password; the role celery_app tells of it.
        hosts.setdefault(str(name) if is_app_name(name) else "", []).append(host)
    workers = set(groups.get("celery_workers", []))
    read: dict[tuple[int, ...], Classes] = {}
    return {
        name: Members(name, own, {host: _classes(given, host, read) for host in own if host in workers}, given, groups)
        for name, own in hosts.items()
    }


def _classes(given: Given, host: str, read: dict[tuple[int, ...], Classes]) -> Classes:
    """Return the classes of a worker.

    Arguments:
        given: returns a variable of a host.
        host: the worker.
        read: what came of it on others; hosts that are alike share their values.
    """
    said = {name: given(host, name, None) for name in (DEFAULTS, *LEVELS)}
    key = tuple(map(id, said.values()))
    if key not in read:
        options = role_options("celery_worker")
        read[key] = read_classes({name: _readable(name, options[name], value) for name, value in said.items()})
    return read[key]


def _readable(name: str, option: Mapping[str, Any], value: object) -> Any:
    """Return a dictionary of classes, or of their defaults, as the role gets it; what is wrong with it, that tells."""
    if not isinstance(value, Mapping):
        return option["default"]
    return value if misshapen({name: option}, {name: value}) else converted(option, value)


def broker(groups: Groups, said: Iterable[object]) -> str:
    """Return an app's broker: what its hosts say (``celery_app_broker``), else what the groups suggest."""
    chosen = next((str(value) for value in said if value in ("rabbitmq", "redis")), "")
    return chosen or ("rabbitmq" if groups.get("rabbitmq") else "redis")


def queue_places(app: Members) -> dict[str, str]:
    """Return queue -> the variable, with its path, in which a worker class of an app names it first."""
    places: dict[str, str] = {}
    for one in app.all_classes:
        for queue in one.queues:
            places.setdefault(queue, one.where("queues"))
    return places


def seconds(value: object) -> int:
    """Return a duration in seconds; 0 for one that is not given, or that cannot be read, which its role tells."""
    with contextlib.suppress(ValueError):
        return parse_duration(value)
    return 0
