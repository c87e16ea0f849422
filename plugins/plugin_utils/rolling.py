# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order the workers of many hosts are replaced so that every queue always has somebody who consumes it.

Within a host one class is replaced after the other, and hosts of a batch are at work at the same time. So at any moment
at most one class is away on each host of the batch, and everything outside the batch works.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.quantities import DURATION_HELP, parse_duration
from ansible_collections.celeryops.stack.plugins.plugin_utils.spec import names_in

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.deployment import RunningClass

MODES = ("wait", "drain")


@dataclass(frozen=True)
class Place:
    """A worker on a host, as far as it matters here.

    Arguments:
        app: its app; queues of the same name of two apps are two.
        host: its host.
        name: the worker: its class's name, and a number where the class has several.
        queues: what it consumes.
        worker_class: its class; that of its name when it is not given.
    """

    app: str
    host: str
    name: str
    queues: tuple[str, ...]
    worker_class: str = ""

    def one_of(self, names: Container[str]) -> bool:
        """Whether it, or its class, is among ``names``."""
        return self.name in names or self.worker_class in names


@dataclass(frozen=True)
class Batch:
    """Hosts whose workers are replaced at the same time.

    Arguments:
        hosts: their names.
        stand_ins: host -> the classes that need somebody in their place, because nobody else consumes one of their
            queues.
    """

    hosts: tuple[str, ...]
    stand_ins: Mapping[str, tuple[str, ...]]


def places(classes: Iterable[RunningClass]) -> list[dict[str, Any]]:
    """Return the workers of a deployment as plain data, which travels as a fact."""
    return [
        {"app": worker.app, "host": worker.host, "name": name, "queues": list(worker.queues), "class": worker.name}
        for worker in classes
        for name in worker.names
    ]


def number_at_once(said: object, hosts: int) -> int:
    """Return how many hosts are taken at the same time: a number, or a share such as ``25%``; at least one.

    Raises:
        ValueError: when ``said`` is neither.
    """
    match = re.fullmatch(r"([0-9]{1,6})(%?)", str(said).strip())
    number = int(match[1]) if match and not isinstance(said, bool) else 0
    if not number or (match and match[2] and number > 100):
        raise UnreadableError("is neither a number of hosts nor a share of them", "one such as 2 or 25%")
    return max(1, hosts * number // 100 if match and match[2] else number)


def batches(
    every: Iterable[Place], hosts: Sequence[str], names: Iterable[str] = (), at_once: object = "25%"
) -> list[Batch]:
    """Return the batches, in order.

    A host does not join a batch that would then hold all consumers of a queue; so batches may be smaller than asked
    for. A queue that only one class on one host consumes cannot be helped by order: there a stand-in is needed.

    Arguments:
        every: all classes on all hosts, also those that are not to be replaced: they go on working.
        hosts: whose workers are replaced, in the order in which they are taken.
        names: only these classes, or workers of them, are replaced; all when empty.
        at_once: hosts in a batch, as for ``number_at_once``.
    """
    wanted, known = set(names), list(every)
    replaced = [place for place in known if place.host in hosts and (not wanted or place.one_of(wanted))]
    left = [host for host in hosts if any(place.host == host for place in replaced)]
    size = number_at_once(at_once, len(left))
    consumers: dict[tuple[str, str], list[Place]] = {}
    for place in known:
        for queue in place.queues:
            consumers.setdefault((place.app, queue), []).append(place)
    touched = {(place.host, place.name) for place in replaced}
    result: list[Batch] = []
    while left:
        batch: list[str] = []
        for host in left:
            if len(batch) < size and (not batch or not _starves(consumers.values(), touched, {*batch, host})):
                batch.append(host)
        left = [host for host in left if host not in batch]
        result.append(Batch(tuple(batch), _stand_ins(replaced, consumers, touched, batch)))
    return result


def _starves(consumers: Iterable[Sequence[Place]], touched: set[tuple[str, str]], batch: set[str]) -> bool:
    """Whether a queue that several hosts consume could lose all of its consumers at the same time."""
    return any(
        len({place.host for place in them}) > 1
        and all(place.host in batch and (place.host, place.name) in touched for place in them)
        # Where two classes of a host consume it, one of them always works.
        and all(sum(other.host == place.host for other in them) == 1 for place in them)
        for them in consumers
    )


def _stand_ins(
    replaced: Iterable[Place],
    consumers: Mapping[tuple[str, str], Sequence[Place]],
    touched: set[tuple[str, str]],
    batch: Sequence[str],
) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for place in replaced:
        alone = any(
            all(other == place for other in consumers[place.app, queue]) and (place.host, place.name) in touched
            for queue in place.queues
        )
        if place.host in batch and alone:
            found.setdefault(place.host, []).append(place.name)
    return {host: tuple(names) for host, names in found.items()}


def read(
    prefix: str, values: Mapping[str, Any], every: Sequence[Place], hosts: Sequence[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return what a rolling playbook needs to know, and every mistake in its variables.

    Arguments:
        prefix: how the names of the variables begin, such as ``celeryops_restart``.
        values: ``classes``, ``mode``, ``at_once`` and ``drain_timeout``, as far as they are given.
        every: all classes on all hosts.
        hosts: the hosts of the play.
    """
    problems: list[Problem] = []
    names = values.get("classes", [])
    own = [place for place in every if place.host in hosts]
    there = sorted({name for place in own for name in (place.worker_class, place.name) if name})
    names = names_in(names) if isinstance(names, str) else names
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        problems.append(Problem(f"{prefix}_classes", names, "is not a list of classes", "a list such as [high, bulk]"))
        names = []
    for name in names:
        if name not in there:
            reason = "is no worker class of these hosts"
            problems.append(Problem(f"{prefix}_classes", name, reason, f"one of {', '.join(there) or 'none'}"))
    mode = values.get("mode", "wait")
    if mode not in MODES:
        problems.append(Problem(f"{prefix}_mode", mode, "is no way to end a worker", " or ".join(MODES)))
    seconds = 0
    try:
        seconds = parse_duration(values.get("drain_timeout", "24h"))
    except UnreadableError as error:
        problems.append(error.of(f"{prefix}_drain_timeout", values.get("drain_timeout")))
    else:
        if seconds < 1:
            reason = "leaves the tasks no time"
            problems.append(Problem(f"{prefix}_drain_timeout", values.get("drain_timeout"), reason, DURATION_HELP))
    order: list[Batch] = []
    try:
        order = batches(every, hosts, names, values.get("at_once", "25%"))
    except UnreadableError as error:
        problems.append(error.of(f"{prefix}_at_once", values.get("at_once")))
    return {
        "batches": [
            {"hosts": list(batch.hosts), "stand_ins": {host: list(them) for host, them in batch.stand_ins.items()}}
            for batch in order
        ],
        "workers": sorted({place.name for place in own if not names or place.one_of(names)}),
        "mode": mode,
        "drain_seconds": seconds,
    }, problems
