# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queues that lose their consumers: which host counts their tasks, and what to report. Pure functions.

A class, a route or a queue may leave the inventory while tasks wait, and so may a producer that still sends to it.
The queues that a host knew before this run, and those that left earlier, are compared with what the classes of the
inventory consume; mostly they are the same and nobody is asked. When an app gets another broker, all of its queues lose
their consumers on the one that it has.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import Endpoint
from ansible_collections.celeryops.stack.plugins.module_utils.ours import RETIRED
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Found
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.addresses import place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment

LEAVE = "celeryops_leave_messages"
DRAIN = "celeryops_drain"
#: Where tasks with an ETA wait in RabbitMQ (kombu 5.5 to 5.7, transport/native_delayed_delivery.py).
_DELAYS = tuple(f"celery_delayed_{number}" for number in range(28))
_PUT_RIGHT = "put it right, or see that no task waits in a queue without a class and remove"


def moves(
    deployment: Deployment, seen: Mapping[str, Mapping[str, Any]], playing: Collection[str]
) -> dict[str, dict[str, str]]:
    """Return app -> ``host``, which uses another broker than it will after this run, ``kind``, ``before``, ``after``.

    A RabbitMQ is known by its machine and its virtual host, whatever its port; so is a Redis of this inventory. Of
    another one the port counts, as there may be several.

    Arguments:
        deployment: the inventory.
        seen: host -> the fact ``celeryops_machine``, of the hosts that this run has looked at.
        playing: the hosts of this run.
    """
    managed = {deployment.machines[server.host].identity for server in deployment.of_kind("redis")}

    def known_by(kind: str, place: str) -> tuple[str, str, str]:
        server, _slash, path = place.partition("/")
        machine, _colon, _port = server.rpartition(":")
        return kind, machine if kind == "rabbitmq" or machine in managed else server, path

    found: dict[str, dict[str, str]] = {}
    for host, machine in seen.items():
        for name, own in machine.get("ours", {}).get("apps", {}).items():
            app = deployment.apps.get(name)
            if app is None or host not in playing or host not in app.hosts or not own["brokers"] or name in found:
                continue
            kind = str(own["brokers"][0]["kind"])
            nodes = [Endpoint(one["scheme"], one["host"], one["port"], path=one["path"]) for one in own["brokers"]]
            before = sorted({place(node, functools.partial(deployment.machine_of, host)) for node in nodes})
            had = {known_by(kind, place) for place in before}
            if app.broker_addresses and not had & {known_by(app.broker, place) for place in app.broker_addresses}:
                after = ", ".join(app.broker_addresses)
                found[name] = {"host": host, "kind": kind, "before": ", ".join(before), "after": after}
    return found


def questions(
    apps: Mapping[str, App],
    seen: Mapping[str, Mapping[str, Any]],
    playing: Collection[str],
    gone: Collection[str],
    moved: Mapping[str, Mapping[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Return what has to be asked, and on which host.

    Arguments:
        apps: those of the inventory.
        seen: host -> the fact ``celeryops_machine``, of the hosts that this run has looked at.
        playing: the hosts of this run.
        gone: the apps that leave the inventory whole.
        moved: what ``moves`` returned.

    Returns:
        dicts with ``app``, ``host``, ``queues`` and ``leaving``: those of the queues that lose their consumers in this
        run. The others lost them earlier. Of an app that gets another broker also ``before`` and ``after``.
    """
    known: dict[str, tuple[list[str], set[str], set[str], bool]] = {}
    for host, machine in seen.items():
        for name, own in machine.get("ours", {}).get("apps", {}).items():
            hosts, queues, retired, works = known.get(name, ([], set(), set(), False))
            works = works or "celery_worker" in own["units"].values()
            hosts = [*hosts, host] if own["brokers"] and host in playing else hosts
            known[name] = (hosts, queues | set(own["queues"] or ()), retired | set(own["retired"] or ()), works)
    found = []
    for name, (hosts, queues, retired, works) in known.items():
        app = apps.get(name)
        if not hosts or (app is None and name not in gone):
            continue
        # Where nobody works and nobody did, the workers are in another inventory.
        if app is not None and not app.classes and not works:
            continue
        move = (moved or {}).get(name)
        if app is not None and move:
            names = sorted((queues | retired) - {_dead_letters(app)})
            names += _DELAYS if move["kind"] == "rabbitmq" else ()
            found.append({"app": name, "queues": names, "leaving": names, **move})
            continue
        kept = _consumed(app) if app else {"dead-letters"}
        leaving, left = sorted(queues - kept), sorted(retired - queues - kept)
        if leaving or left:
            found.append({"app": name, "host": hosts[0], "queues": [*leaving, *left], "leaving": leaving})
    return found


def not_readable(
    apps: Collection[str], seen: Mapping[str, Mapping[str, Any]], playing: Collection[str], gone: Collection[str]
) -> Iterator[Found]:
    """Yield that the queues which an app had are not known, so that nobody could ask what waits in them.

    Arguments:
        apps: those of the inventory.
        seen: host -> the fact ``celeryops_machine``, of the hosts that this run has looked at.
        playing: the hosts of this run.
        gone: the apps that leave the inventory whole.
    """
    for host, machine in seen.items():
        for name, own in machine.get("ours", {}).get("apps", {}).items():
            if host not in playing or (name not in apps and name not in gone):
                continue
            for key, file in (("queues", "queues.json"), ("retired", RETIRED)):
                if own.get(key, ()) is None:
                    path = f"{AppPaths(name).config}/{file}"
                    reason = (
                        f"which queues {name} had is not known: {path} cannot be read as what this collection writes"
                    )
                    yield Found("retired-queues-unknown", "celery_worker_classes", host, reason, f"{_PUT_RIGHT} {path}")


def _consumed(app: App) -> set[str]:
    """Return the queues that somebody consumes, or is said to, and the one in which messages are kept."""
    consumed = {queue for worker in app.classes for queue in worker.queues}
    return {_dead_letters(app), *consumed, *app.declared}


def _dead_letters(app: App) -> str:
    return str(app.variables.get("celery_app_dead_letter_queue") or "dead-letters")


def judge(
    asked: Iterable[Mapping[str, Any]], accepted: Collection[str]
) -> tuple[list[Found], list[str], dict[str, list[str]]]:
    """Return what is refused, what is told, and app -> the queues to remember, as somebody may send to them still.

    Arguments:
        asked: what ``questions`` returned, with ``waiting``: queue -> messages, None where there is no such queue; or
            a text that says why that is not known.
        accepted: queues that may keep their messages without a consumer.
    """
    refused: list[Found] = []
    told: list[str] = []
    remembered: dict[str, list[str]] = {}
    for question in asked:
        app, host, waiting = str(question["app"]), str(question["host"]), question["waiting"]
        leaving = [name for name in question["leaving"] if name not in accepted]
        if "before" in question:
            refused += _left_on_a_broker(question, leaving)
            continue
        if isinstance(waiting, str):
            remembered[app] = sorted(question["queues"])
            if leaving:
                reason = f"whether tasks of {app} wait in {', '.join(leaving)} is not known ({waiting})"
                refused.append(Found("queues-not-asked", "celery_worker_classes", host, reason, _way_out(leaving)))
            continue
        remembered[app] = sorted(name for name in question["queues"] if waiting.get(name) is not None)
        full = {name: number for name, number in waiting.items() if number}
        for name in sorted(full):
            if name in leaving:
                reason = f"{_tasks(full[name])} in the queue {name} of {app}, which no class would consume any more"
                refused.append(Found("tasks-would-wait", "celery_worker_classes", host, reason, _way_out([name])))
            else:
                told.append(
                    f"{_tasks(full[name])} in the queue {name} of {app}, which no class consumes; write a class with "
                    f"queues: [{name}], or purge it. When it fills again, a producer has old routes: look for it"
                )
    return refused, told, remembered


def _left_on_a_broker(question: Mapping[str, Any], leaving: list[str]) -> Iterator[Found]:
    """Yield that tasks wait on the broker that an app has, or may wait there, while it is to get another one."""
    app, host, waiting = str(question["app"]), str(question["host"]), question["waiting"]
    if isinstance(waiting, str):
        names = [name for name in leaving if name not in _DELAYS]
        told = f"whether tasks of {app} wait in {', '.join(names)} is not known ({waiting})" if names else ""
    else:
        names = [name for name in leaving if waiting.get(name)]
        told = f"{_tasks(sum(waiting[name] for name in names))} in {', '.join(names)} of {app}" if names else ""
    if told:
        reason = f"{told}, on the broker at {question['before']}, and this run would have it use {question['after']}"
        yield Found(
            "waits-on-the-broker",
            "celery_app_broker",
            host,
            reason,
            f"let this run wait until nothing does ({DRAIN}: 30m), while nobody "
            f"sends, or write {LEAVE}: [{', '.join(names)}] if it is the same one, or to leave them there",
        )


def _tasks(number: int) -> str:
    return "1 task waits" if number == 1 else f"{number} tasks wait"


def _way_out(queues: list[str]) -> str:
    return (
        "keep a class for it without its routes until it is empty, or let this run wait for that "
        f"({DRAIN}: 30m), or write {LEAVE}: [{', '.join(queues)}] to leave them there"
    )
