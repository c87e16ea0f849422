# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Rules about routes, queues, and the classes that consume them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.inventory import misspelt_groups
from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import CLASS_LEVELS

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.deployment import App, Deployment, WorkerClass


def _unread(deployment: Deployment) -> Iterator[Finding]:
    if deployment.unusable & {*CLASS_LEVELS, "celery_worker_defaults"}:
        return
    for app in deployment.apps.values():
        read = {queue for worker in app.classes for queue in worker.queues}
        # Without workers the app is consumed elsewhere, unless its classes have no host, which is another rule's.
        if not app.classes:
            continue
        known = read | set(app.declared)
        if app.default_queue not in known:
            reason = "is the queue of every task without a route, and no worker class consumes it"
            yield _nobody(app, "celery_app_default_queue", app.default_queue, reason, read)
        for route in app.routes:
            if route.queue not in known:
                reason = f"is where {route.task} is sent, and no worker class consumes it"
                yield _nobody(app, "celery_app_routes", route.queue, reason, read)


def _nobody(app: App, variable: str, queue: str, reason: str, read: Iterable[str]) -> Finding:
    close = difflib.get_close_matches(queue, sorted(read), n=1, cutoff=0.6)
    consumed = f"{close[0]} (did you mean that?)" if close else "a queue that is consumed: " + ", ".join(sorted(read))
    instead = f"{consumed}, or add {queue} to the queues of a class"
    return Finding(Problem(variable, queue, reason, instead), queue, app.name)


def _without_host(deployment: Deployment) -> Iterator[Finding]:
    # Hosts without any duty, and those of a misspelt group, are told as such.
    if not deployment.machines or any(
        found.problem.instead == "celery_workers" for found in misspelt_groups(deployment)
    ):
        return
    for name, hosts in deployment.unplaced.items():
        reason = f"runs nowhere: {_few(hosts)} not in the group celery_workers"
        instead = "a host of the class into celery_workers, or remove the class"
        yield Finding(Problem(f"celery_worker_classes.{name}", name, reason, instead), name)


def _few(hosts: Iterable[str]) -> str:
    names = list(hosts)
    return f"{names[0]} is" if len(names) == 1 else f"{', '.join(names[:3])}{', ...' if names[3:] else ''} are"


def _shared(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        consumers: dict[str, dict[str, WorkerClass]] = {}
        for worker in app.classes:
            for queue in worker.queues:
                consumers.setdefault(queue, {}).setdefault(worker.name, worker)
        for queue, classes in consumers.items():
            first, *others = classes.values()
            for other in others:
                reason = f"is consumed by class {first.name} as well, so neither decides how its tasks are treated"
                instead = f"{queue} in one of them only"
                yield Finding(Problem(other.where("queues"), queue, reason, instead), queue, app.name)


def _same_node(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        seen: dict[str, WorkerClass] = {}
        told: set[str] = set()
        for worker in app.classes:
            machine = deployment.machines[worker.host]
            node = f"{worker.name}@{machine.hostname or machine.address}"
            other = seen.setdefault(node, worker)
            if other.host == worker.host or worker.host in told:
                continue
            told.add(worker.host)
            if machine.hostname and machine.address != deployment.machines[other.host].address:
                reason = f"calls itself {machine.hostname}, and so does {other.host}: two workers would be {node}"
                instead = "another hostname on one of the machines (hostnamectl set-hostname)"
                yield Finding(Problem("celery_workers", worker.host, reason, instead), worker.host, app.name)
            else:
                reason = f"is the machine of {other.host} by another name: two workers would be {node}"
                instead = "each machine once per app"
                yield Finding(Problem("celery_workers", worker.host, reason, instead), worker.host, app.name)


RULES = (
    Rule(
        "queue-without-class",
        _unread,
        "A queue that tasks are sent to and that no worker class consumes: they would wait there for ever.",
    ),
    Rule("class-without-host", _without_host, "A worker class that no host of celery_workers runs."),
    Rule(
        "shared-queue",
        _shared,
        "A queue that two worker classes consume: the limits and the weight of either may apply to its tasks.",
        acceptable=True,
    ),
    Rule("same-node-name", _same_node, "Two workers of one app with one node name: they answer for each other."),
)
