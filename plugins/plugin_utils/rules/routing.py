# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about routes, queues, and the classes that consume them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.beat_schedule import sent_to
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, closest
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.inventory import misspelt_groups
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import LEVELS
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.queue_names import is_queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import App, Deployment, RunningClass


def _unread(deployment: Deployment) -> Iterator[Finding]:
    if deployment.unusable & {*LEVELS, "celery_worker_defaults"}:
        return
    for app in deployment.apps.values():
        read = {queue for worker in app.classes for queue in worker.queues}
        # Without workers the app is consumed elsewhere, unless its classes have no host, which is another rule's.
        if not app.classes or not all(worker.queues_known for worker in app.classes):
            continue
        known = read | set(app.declared)
        # What cannot be a queue of the app is told by its role.
        dead = app.variables.get("celery_app_dead_letter_queue") if app.broker == "rabbitmq" else None
        if app.default_queue not in known and app.default_queue != dead and is_queue(app.default_queue):
            reason = "is the queue of every task without a route, and no worker class consumes it"
            yield _nobody(app, "celery_app_default_queue", app.default_queue, reason, read)
        for route in app.routes:
            if route.queue not in known and route.queue != dead and is_queue(route.queue):
                reason = f"is where {route.task} is sent, and no worker class consumes it"
                yield _nobody(app, "celery_app_routes", route.queue, reason, read)
        for entry, queue in sent_to(app.own_settings.get("beat_schedule")):
            if queue not in known:
                reason = f"is where beat sends {entry}, and no worker class consumes it"
                variable = f"celery_app_settings.beat_schedule.{entry}.options.queue"
                yield _nobody(app, variable, queue, reason, read)


def _nobody(app: App, variable: str, queue: str, reason: str, read: Iterable[str]) -> Finding:
    close = closest(queue, read, 0.6)
    consumed = f"{close} (did you mean that?)" if close else "a queue that is consumed: " + ", ".join(sorted(read))
    instead = f"{consumed}, or add {queue} to the queues of a class"
    return Finding(Problem("queue-without-consumer", variable, queue, reason, instead), queue, app.name)


def _no_class(deployment: Deployment) -> Iterator[Finding]:
    if deployment.unusable & {*LEVELS, "celery_worker_defaults"}:
        return
    workers = set(deployment.groups.get("celery_workers") or ())
    for app in deployment.apps.values():
        hosts = [host for host in app.hosts if host in workers]
        if hosts and not app.classes:
            reason = f"runs no worker class of {app.name}, and so nothing consumes its tasks"
            instead = "a class in celery_worker_classes, such as {default: {}}, or take the host out of the group"
            yield Finding(Problem("runs-no-worker-class", "celery_workers", hosts, reason, instead), app.name, app.name)


def _without_host(deployment: Deployment) -> Iterator[Finding]:
    # Hosts without any duty, and those of a misspelt group, are told as such.
    if not deployment.machines or any(
        found.problem.instead == "celery_workers" for found in misspelt_groups(deployment)
    ):
        return
    for name, hosts in deployment.unplaced.items():
        reason = f"runs nowhere: {_few(hosts)} not in the group celery_workers"
        instead = "a host of the class into celery_workers, or remove the class"
        if name in deployment.replaced:
            reason += ", and the celery_worker_classes of the workers, which replace this one, leave it out"
            instead = "celery_worker_group_classes for what differs in a group of workers, or remove the class"
        yield Finding(Problem("class-runs-nowhere", f"celery_worker_classes.{name}", name, reason, instead), name)


def _few(hosts: Iterable[str]) -> str:
    names = list(hosts)
    return f"{names[0]} is" if len(names) == 1 else f"{', '.join(names[:3])}{', ...' if names[3:] else ''} are"


def _shared(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        consumers: dict[str, dict[str, RunningClass]] = {}
        for worker in app.classes:
            for queue in worker.queues if worker.queues_known else ():
                consumers.setdefault(queue, {}).setdefault(worker.name, worker)
        for queue, classes in consumers.items():
            first, *others = classes.values()
            for other in others:
                if "queues" not in other.origins:
                    names = {worker.name for worker in app.classes if worker.name != other.name}
                    close = closest(other.name, names, 0.6)
                    reason = f"names no queues, so that it consumes {queue}, which class {first.name} does as well"
                    instead = f"{close} (did you mean that?), or queues of its own" if close else "queues of its own"
                    yield Finding(
                        Problem("class-without-queues", other.place, other.name, reason, instead), queue, app.name
                    )
                    continue
                reason = f"is consumed by class {first.name} as well, so neither decides how its tasks are treated"
                instead = f"{queue} in one of them only"
                yield Finding(
                    Problem("queue-of-several-classes", other.where("queues"), queue, reason, instead), queue, app.name
                )


def _same_node(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        seen: dict[str, RunningClass] = {}
        told: set[str] = set()
        for worker in app.classes:
            machine = deployment.machines[worker.host]
            others = {node: seen.setdefault(node, worker) for node in _nodes(deployment, worker)}
            node, other = next(
                ((node, other) for node, other in others.items() if other.host != worker.host), ("", worker)
            )
            if other.host == worker.host or worker.host in told:
                continue
            told.add(worker.host)
            if machine.hostname and machine.identity != deployment.machines[other.host].identity:
                reason = f"calls itself {machine.hostname}, and so does {other.host}: two workers would be {node}"
                instead = "another hostname on one of the machines (hostnamectl set-hostname)"
                yield Finding(
                    Problem("same-hostname", "celery_workers", worker.host, reason, instead), worker.host, app.name
                )
            else:
                reason = f"is the machine of {other.host} by another name: two workers would be {node}"
                instead = "each machine once per app"
                problem = Problem("one-machine-two-names", "celery_workers", worker.host, reason, instead)
                yield Finding(problem, worker.host, app.name)


def _node_of_two_apps(deployment: Deployment) -> Iterator[Finding]:
    for one, other in deployment.pairs:
        nodes = {node for worker in one.classes for node in _nodes(deployment, worker)}
        taken = {worker.name: node for worker in other.classes for node in _nodes(deployment, worker) if node in nodes}
        for name, node in taken.items():
            reason = f"is a class of {one.name} as well, on the same machine and broker: two workers would be {node}"
            # RabbitMQ: 405 RESOURCE_LOCKED for the second one's reply queue, which is exclusive.
            instead = f"another name, or a virtual host or key prefix of its own for {other.name}"
            problem = Problem("class-of-another-app", f"celery_worker_classes.{name}", name, reason, instead)
            yield Finding(problem, name, other.name)


def _nodes(deployment: Deployment, worker: RunningClass) -> list[str]:
    machine = deployment.machines[worker.host]
    return [f"{name}@{machine.hostname or machine.identity}" for name in worker.names]


def _queue_of_two_apps(deployment: Deployment) -> Iterator[Finding]:
    for one, other in deployment.pairs:
        theirs = {queue for worker in one.classes if worker.queues_known for queue in worker.queues}
        ours = {queue: worker for worker in reversed(other.classes) if worker.queues_known for queue in worker.queues}
        for queue, worker in sorted(ours.items()):
            if queue in theirs:
                reason = f"is consumed by workers of {one.name} on the same broker, which do not know its tasks"
                instead = f"another queue, or a virtual host or key prefix of its own for {other.name}"
                yield Finding(
                    Problem("queue-of-another-app", worker.where("queues"), queue, reason, instead), queue, other.name
                )


def _suffix_of_another_app(deployment: Deployment) -> Iterator[Finding]:
    for pair in deployment.pairs:
        for app, stranger in (pair, pair[::-1]):
            for longer in app.queues if app.broker == "rabbitmq" else ():
                for shorter in stranger.queues:
                    # Both may be the queues of each: that is the role's own check.
                    if longer.endswith(f".{shorter}") and shorter not in app.queues:
                        reason = f"ends in the name of the queue {shorter} of {stranger.name} in the same virtual host"
                        reason += ", which would get a copy of every delayed task sent to it"
                        instead = f"{longer.replace('.', '-')} or another name without that ending"
                        yield Finding(
                            Problem("ends-in-the-name", _place(app, longer), longer, reason, instead), longer, app.name
                        )


def _place(app: App, queue: str) -> str:
    """Return the variable that names a queue of an app, with its path where it is a class."""
    if queue == app.default_queue:
        return "celery_app_default_queue"
    if queue == app.variables.get("celery_app_dead_letter_queue"):
        return "celery_app_dead_letter_queue"
    places = [worker.where("queues") for worker in app.classes if queue in worker.queues]
    if queue not in app.declared and places:
        return places[0]
    sent = [f"celery_app_routes ({route.task})" for route in app.routes if route.queue == queue]
    return sent[0] if sent and queue not in app.declared else "celery_app_queues"


RULES = (
    Rule(
        "queue-without-class",
        _unread,
        "A queue that tasks are sent to and that no worker class consumes: they would wait there for ever.",
    ),
    Rule(
        "no-worker-class",
        _no_class,
        "Hosts of celery_workers without any worker class: nothing would consume the app's tasks.",
        acceptable=True,
    ),
    Rule("class-without-host", _without_host, "A worker class that no host of celery_workers runs."),
    Rule(
        "shared-queue",
        _shared,
        "A queue that two worker classes consume: the limits and the weight of either may apply to its tasks.",
        acceptable=True,
    ),
    Rule("same-node-name", _same_node, "Two workers of one app with the same node name: they answer for each other."),
    Rule(
        "node-of-two-apps",
        _node_of_two_apps,
        "Classes of one name in two apps on one machine that share a virtual host or key prefix: one cannot start.",
    ),
    Rule(
        "queue-of-two-apps",
        _queue_of_two_apps,
        "A queue that workers of two apps consume: either gets tasks that only the other knows.",
        acceptable=True,
    ),
    Rule(
        "suffix-of-another-app",
        _suffix_of_another_app,
        "A queue that ends in the name of another app's queue in the same virtual host: that one gets copies.",
    ),
)
