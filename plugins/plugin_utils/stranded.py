# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Queues that lose their consumers: whom to ask what waits in them, and what to say of the answers. Pure functions.

A class, a route or a queue may leave the inventory while tasks wait, and so may a producer that still sends to it.
The queues that a host knew before this run, and those that left earlier, are compared with what the classes of the
inventory consume; mostly they are the same and nobody is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.ours import RETIRED
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Found

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.deployment import App

LEAVE = "celeryops_leave_messages"
DRAIN = "celeryops_drain"
_PUT_RIGHT = "put it right, or see that no task waits in a queue without a class and remove"


def questions(
    apps: Mapping[str, App],
    seen: Mapping[str, Mapping[str, Any]],
    playing: Collection[str],
    gone: Collection[str],
) -> list[dict[str, Any]]:
    """Return what has to be asked, and on which host.

    Arguments:
        apps: those of the inventory.
        seen: host -> the fact ``celeryops_machine``, of the hosts that this run has looked at.
        playing: the hosts of this run.
        gone: the apps that leave the inventory whole.

    Returns:
        dicts with ``app``, ``host``, ``queues`` and ``leaving``: those of the queues that lose their consumers in this
        run. The others lost them earlier.
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
            for key, file in (("queues", "celery.json"), ("retired", RETIRED)):
                if own.get(key, ()) is None:
                    path = f"/etc/celeryops/{name}/{file}"
                    reason = (
                        f"which queues {name} had is not known: {path} cannot be read as what this collection writes"
                    )
                    yield Found("celery_worker_classes", host, reason, f"{_PUT_RIGHT} {path}")


def _consumed(app: App) -> set[str]:
    """Return the queues that somebody consumes, or is said to, and the one in which messages are kept."""
    dead = str(app.variables.get("celery_app_dead_letter_queue") or "dead-letters")
    consumed = {queue for worker in app.classes for queue in worker.queues}
    return {dead, *consumed, *app.declared}


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
        if isinstance(waiting, str):
            remembered[app] = sorted(question["queues"])
            if leaving:
                reason = f"whether tasks of {app} wait in {', '.join(leaving)} is not known ({waiting})"
                refused.append(Found("celery_worker_classes", host, reason, _way_out(leaving)))
            continue
        remembered[app] = sorted(name for name in question["queues"] if waiting.get(name) is not None)
        full = {name: number for name, number in waiting.items() if number}
        for name in sorted(full):
            if name in leaving:
                reason = f"{_tasks(full[name])} in the queue {name} of {app}, which no class would consume any more"
                refused.append(Found("celery_worker_classes", host, reason, _way_out([name])))
            else:
                told.append(
                    f"{_tasks(full[name])} in the queue {name} of {app}, which no class consumes; write a class with "
                    f"queues: [{name}], or purge it. When it fills again, a producer has old routes: look for it"
                )
    return refused, told, remembered


def accepted_queues(said: object) -> list[str]:
    """Return the names in a list, or in a text with commas, as ``-e celeryops_leave_messages=a,b`` gives one."""
    names = said.split(",") if isinstance(said, str) else said if isinstance(said, (list, tuple, set)) else []
    return [name for one in names if (name := str(one).strip())]


def _tasks(number: int) -> str:
    return "1 task waits" if number == 1 else f"{number} tasks wait"


def _way_out(queues: list[str]) -> str:
    return (
        "keep a class for it without its routes until it is empty, or let this run wait for that "
        f"({DRAIN}: 30m), or write {LEAVE}: [{', '.join(queues)}] to leave them there"
    )
