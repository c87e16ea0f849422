# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout: several hosts of one duty are changed in an order that keeps their service available.

- Its order is a list of batches. The hosts of a batch are changed at the same time, the members of a host one after the
  other, so that at most one member is away on each host of the batch and everything outside of it works. No batch
  leaves too few of those that serve together: of the consumers of a queue one has to stay, of the nodes of a cluster
  the majority.
- Its gate is passed before and after each member: whatever changes one waits until the others serve, and until this one
  does again (workers: ``modules/roll.py``, a stand-in where nobody else consumes a queue).
- It ends at the first member that does not come back: no further batch is begun.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import names_in
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import DURATION_HELP, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import RunningClass

MODES = ("wait", "drain")


@dataclass(frozen=True)
class Member:
    """One of several that serve together: a worker, or the node of a cluster.

    Arguments:
        group: those that belong together: the app of a worker (queues of the same name of two apps are two), or the
            group of a server.
        host: its host.
        name: its own; of a worker its class's, and a number where the class has several.
        serves: the queues that a worker consumes; of a node, what the cluster is there for.
        worker_class: of a worker; that of its name when it is not given.
    """

    group: str
    host: str
    name: str
    serves: tuple[str, ...]
    worker_class: str = ""

    def one_of(self, names: Container[str]) -> bool:
        """Whether it, or its class, is among ``names``."""
        return self.name in names or self.worker_class in names


@dataclass(frozen=True)
class Batch:
    """Hosts that are changed at the same time.

    Arguments:
        hosts: their names.
        stand_ins: host -> its members that need a stand-in, because no other member serves what they do.
    """

    hosts: tuple[str, ...]
    stand_ins: Mapping[str, tuple[str, ...]]


def one(_members: int) -> int:
    """Return how many consumers of a queue have to stay."""
    return 1


def majority(members: int) -> int:
    """Return how many nodes of a cluster have to stay, for a quorum (Raft, of RabbitMQ's queues and metadata)."""
    return members // 2 + 1


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
        raise UnreadableError(
            "not-a-number-of-hosts", "is neither a number of hosts nor a share of them", "one such as 2 or 25%"
        )
    return max(1, hosts * number // 100 if match and match[2] else number)


def batches(
    every: Iterable[Member],
    hosts: Sequence[str],
    names: Iterable[str] = (),
    at_once: object = "25%",
    keeps: Callable[[int], int] = one,
) -> list[Batch]:
    """Return the batches, in order.

    A host does not join a batch that would leave too few members of what it serves; so batches may be smaller than
    asked for. What only one member on one host serves cannot be helped by order: there a stand-in is needed.

    Arguments:
        every: all members on all hosts, also those that are not to be changed: they go on serving.
        hosts: whose members are changed, in the order in which they are taken.
        names: only these members, or those of these worker classes, are changed; all when empty.
        at_once: hosts in a batch, as for ``number_at_once``.
        keeps: returns how many of so many hosts that serve one thing have to stay.
    """
    wanted, known = set(names), list(every)
    replaced = [member for member in known if member.host in hosts and (not wanted or member.one_of(wanted))]
    left = [host for host in hosts if any(member.host == host for member in replaced)]
    size = number_at_once(at_once, len(left))
    serving: dict[tuple[str, str], list[Member]] = {}
    for member in known:
        for thing in member.serves:
            serving.setdefault((member.group, thing), []).append(member)
    touched = {(member.host, member.name) for member in replaced}
    result: list[Batch] = []
    while left:
        batch: list[str] = []
        for host in left:
            if len(batch) < size and (not batch or not _starves(serving.values(), touched, {*batch, host}, keeps)):
                batch.append(host)
        left = [host for host in left if host not in batch]
        result.append(Batch(tuple(batch), _stand_ins(replaced, serving, touched, batch)))
    return result


def _starves(
    serving: Iterable[Sequence[Member]], touched: set[tuple[str, str]], batch: set[str], keeps: Callable[[int], int]
) -> bool:
    """Whether too few would stay of those that serve one thing on several hosts."""
    for them in serving:
        hosts = Counter(member.host for member in them)
        # Where two members of a host serve it, one of them always works.
        away = [
            member for member in them
            if member.host in batch and (member.host, member.name) in touched and hosts[member.host] == 1
        ]  # fmt: skip
        if len(hosts) > 1 and away and len(hosts) - len(away) < keeps(len(hosts)):
            return True
    return False


def _stand_ins(
    replaced: Iterable[Member],
    serving: Mapping[tuple[str, str], Sequence[Member]],
    touched: set[tuple[str, str]],
    batch: Sequence[str],
) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for member in replaced:
        alone = any(
            all(other == member for other in serving[member.group, thing]) and (member.host, member.name) in touched
            for thing in member.serves
        )
        if member.host in batch and alone:
            found.setdefault(member.host, []).append(member.name)
    return {host: tuple(names) for host, names in found.items()}


def read(
    prefix: str, values: Mapping[str, Any], every: Sequence[Member], hosts: Sequence[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return what a rolling playbook needs to know, and every mistake in its variables.

    Arguments:
        prefix: how the names of the variables begin, such as ``celeryops_restart``.
        values: ``classes``, ``mode``, ``at_once`` and ``drain_timeout``, as far as they are given.
        every: all workers on all hosts.
        hosts: the hosts of the play.
    """
    problems: list[Problem] = []
    names = values.get("classes", [])
    own = [member for member in every if member.host in hosts]
    there = sorted({name for member in own for name in (member.worker_class, member.name) if name})
    names = names_in(names) if isinstance(names, str) else names
    if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
        reason = "is not a list of classes"
        instead = "a list such as [high, bulk]"
        problems.append(Problem("not-a-list-of-classes", f"{prefix}_classes", names, reason, instead))
        names = []
    for name in names:
        if name not in there:
            reason = "is not a worker class of these hosts"
            instead = f"one of {', '.join(there) or 'none'}"
            problems.append(Problem("unknown-worker-class", f"{prefix}_classes", name, reason, instead))
    mode = values.get("mode", "wait")
    if mode not in MODES:
        problems.append(Problem("not-a-mode", f"{prefix}_mode", mode, "is not a valid mode", " or ".join(MODES)))
    seconds = 0
    try:
        seconds = parse_duration(values.get("drain_timeout", "24h"))
    except UnreadableError as error:
        problems.append(error.of(f"{prefix}_drain_timeout", values.get("drain_timeout")))
    else:
        if seconds < 1:
            reason = "leaves the tasks no time"
            problems.append(
                Problem("zero-duration", f"{prefix}_drain_timeout", values.get("drain_timeout"), reason, DURATION_HELP)
            )
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
        "workers": sorted({member.name for member in own if not names or member.one_of(names)}),
        "mode": mode,
        "drain_seconds": seconds,
    }, problems
