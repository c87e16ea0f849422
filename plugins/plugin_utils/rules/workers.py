# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the memory, processes and times of the worker classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.worker_arguments import newer_options, strangers
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import show_duration, show_size
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import rules_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import (
        Deployment,
        Machine,
        RunningClass,
    )

#: Processes for each processor. Tasks that wait for the network justify several; beyond this they only wait for each
#: other, each with its own copy of the app in memory.
_PROCESSES_PER_CORE = 16
#: Where the processors are not known: more processes, threads or greenlets than any one unit has a use for.
_MOST = {"prefork": 256, "threads": 1000, "gevent": 10_000}
#: So many of the hosts that are alike are named.
_NAMED = 3


def _stop_timeout(deployment: Deployment) -> Iterator[Finding]:
    short = [
        worker
        for worker in _one_of_each(deployment)
        if worker.time_limit is not None and worker.stop_timeout < worker.time_limit
    ]
    for worker, subject in _together(deployment, "stop-timeout", "stop_timeout", short):
        limit = show_duration(worker.time_limit or 0)
        fate = "run again from its start" if worker.late else "lost"
        reason = f"is under the time limit of {limit}: a task that a stop cuts off is {fate}"
        instead = f"at least {limit}"
        value = worker.written.get("stop_timeout", show_duration(worker.stop_timeout))
        yield Finding(
            Problem("under-the-time-limit", worker.where("stop_timeout"), value, reason, instead), subject, worker.app
        )


def _soft_limit(deployment: Deployment) -> Iterator[Finding]:
    for worker in _one_of_each(deployment):
        soft, hard = worker.soft_time_limit, worker.time_limit
        # Both in one class is the role's own check.
        if soft is None or hard is None or soft < hard or {"soft_time_limit", "time_limit"} <= set(worker.written):
            continue
        if "soft_time_limit" in worker.written:
            variable, shown = worker.where("soft_time_limit"), worker.written["soft_time_limit"]
        else:
            variable, shown = "celery_app_settings.task_soft_time_limit", soft
        if "time_limit" in worker.written:
            instead = f"less than {show_duration(hard)}, the time limit of class {worker.name}"
        else:
            instead = f"less than task_time_limit, which is {hard}s"
        reason = "never acts: the task is killed before"
        yield Finding(Problem("limit-never-acts", variable, shown, reason, instead), worker.name, worker.app)


def _one_task_per_child(deployment: Deployment) -> Iterator[Finding]:
    single = [worker for worker in _one_of_each(deployment) if worker.max_tasks_per_child == 1]
    for worker, subject in _together(deployment, "one-task-per-child", "max_tasks_per_child", single):
        reason = "starts a process for every single task, which costs more than most tasks do"
        instead = "a number such as 100, or max_memory_per_child against a leak"
        problem = Problem("process-for-every-task", worker.where("max_tasks_per_child"), 1, reason, instead)
        yield Finding(problem, subject, worker.app)


def _memory(deployment: Deployment) -> Iterator[Finding]:
    alike: dict[tuple[str, str, object, str, str, str], list[str]] = {}
    for machine, workers in _machines(deployment):
        if machine.memory is None:
            continue
        sizes = [(size, worker) for worker in workers if (size := _most_memory(worker, machine))]
        total = sum(size for size, _worker in sizes)
        if total <= machine.memory:
            continue
        parts = " + ".join(f"{worker.name} {show_size(size)}" for size, worker in sizes)
        size, worst = max(sizes, key=lambda pair: pair[0])
        if deployment.accepts("memory", machine.name, worst.app):
            continue
        key = "memory_max" if worst.memory_max else "max_memory_per_child"
        value = worst.written.get(key, show_size(size))
        told = (worst.app, worst.where(key), value, show_size(total), parts, show_size(machine.memory))
        alike.setdefault(told, []).append(machine.name)
    for (app, variable, value, total_shown, parts, memory), hosts in alike.items():
        has = "it has" if len(hosts) == 1 else "each has"
        reason = f"lets the classes of {_hosts(hosts)} take {total_shown} of memory ({parts}), and {has} {memory}"
        problem = Problem("too-much-memory", variable, value, reason, f"limits that fit into {memory}")
        yield Finding(problem, hosts[0] if len(hosts) == 1 else "", app)


def _most_memory(worker: RunningClass, machine: Machine) -> int:
    """Return what a class may take at most; ``auto`` is a process for each processor, where these are known."""
    if worker.concurrency == "auto" and machine.cores and not worker.memory_max:
        return worker.workers * machine.cores * (worker.max_memory_per_child or 0)
    return worker.memory


def _concurrency(deployment: Deployment) -> Iterator[Finding]:
    alike: dict[tuple[str, str, str, int, int, int], list[str]] = {}
    for machine, workers in _machines(deployment):
        processes = [worker for worker in workers if worker.pool == "prefork" and isinstance(worker.concurrency, int)]
        total = sum(worker.workers * int(worker.concurrency) for worker in processes)
        if machine.cores is not None and total > _PROCESSES_PER_CORE * machine.cores:
            worst = max(processes, key=lambda worker: worker.workers * int(worker.concurrency))
            told = (worst.app, worst.name, worst.where("concurrency"), int(worst.concurrency), machine.cores, total)
            alike.setdefault(told, []).append(machine.name)
    for (app, name, variable, concurrency, cores, total), hosts in alike.items():
        has = "which has" if len(hosts) == 1 else "each of which has"
        processors = "1 processor" if cores == 1 else f"{cores} processors"
        reason = f"makes {total} processes in all on {_hosts(hosts)}, {has} {processors}"
        instead = f"at most {_PROCESSES_PER_CORE * cores} for all classes of the host, or pool: threads or gevent"
        yield Finding(Problem("too-many-processes", variable, concurrency, reason, instead), name, app)
    for worker in _one_of_each(deployment):
        most = _MOST.get(worker.pool)
        if most and isinstance(worker.concurrency, int) and worker.concurrency > most:
            reason = f"is too high for pool {worker.pool}"
            instead = f"at most {most}, or auto" if worker.pool == "prefork" else f"at most {most}"
            problem = Problem(
                "more-than-any-host-has", worker.where("concurrency"), worker.concurrency, reason, instead
            )
            yield Finding(problem, worker.name, worker.app)


def _unknown_arguments(deployment: Deployment) -> Iterator[Finding]:
    for worker in _one_of_each(deployment):
        for found in strangers(worker.extra_arguments):
            newest = celery_versions.text(celery_versions.NEWEST)
            reason = (
                f"is not an option of a worker of Celery {newest}: it would not start, unless the app adds the option"
            )
            problem = Problem(
                "no-option-of-a-worker", worker.where("extra_arguments"), found.word, reason, found.instead
            )
            yield Finding(problem, worker.name, worker.app)


def _newer_arguments(deployment: Deployment) -> Iterator[Finding]:
    for worker in _one_of_each(deployment):
        for word, since in newer_options(worker.extra_arguments):
            lines = deployment.apps[worker.app].requirements
            older = next((line for line in lines if rules_out(line[1], "celery", since)), None)
            if older:
                version = celery_versions.text(since)
                reason = f"is an option from Celery {version} on, and {older[0]} has {older[1].strip()}"
                reason += ": no worker would start"
                instead = f"nothing there, or requirements that allow celery>={version}"
                problem = Problem("option-too-new", worker.where("extra_arguments"), word, reason, instead)
                yield Finding(problem, worker.name, worker.app)


def _hosts(names: list[str]) -> str:
    """Name hosts that are alike: three of them, and how many more there are."""
    if len(names) > _NAMED:
        return some_of(names, _NAMED)
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _machines(deployment: Deployment) -> Iterator[tuple[Machine, list[RunningClass]]]:
    """Yield each machine with the classes on it, those of other names and apps included."""
    found: dict[str, list[RunningClass]] = {}
    for worker in deployment.classes:
        found.setdefault(deployment.machines[worker.host].identity, []).append(worker)
    for workers in found.values():
        names = [deployment.machines[worker.host] for worker in workers]
        # What is known of the machine may be said of any of its names.
        memory = next((machine.memory for machine in names if machine.memory), None)
        cores = next((machine.cores for machine in names if machine.cores), None)
        yield replace(names[0], memory=memory, cores=cores), workers


def _together(
    deployment: Deployment, rule: str, key: str, workers: Iterable[RunningClass]
) -> Iterator[tuple[RunningClass, str]]:
    """Yield one class for each place in which ``key`` is written, and what an acceptance of the finding names.

    What stands once for all classes is one mistake: told of the class with the longest tasks, and accepted as a whole.
    """
    found: dict[tuple[str, str], list[RunningClass]] = {}
    for worker in workers:
        if not deployment.accepts(rule, worker.name, worker.app):
            found.setdefault((worker.app, worker.where(key)), []).append(worker)
    for alike in found.values():
        names = {worker.name for worker in alike}
        yield max(alike, key=lambda worker: worker.time_limit or 0), names.pop() if len(names) == 1 else ""


def _one_of_each(deployment: Deployment) -> Iterator[RunningClass]:
    """Yield each class once for all hosts on which it says the same."""
    seen: set[tuple[object, ...]] = set()
    for worker in deployment.classes:
        # Hosts that are alike share what was read.
        read = (worker.app, worker.name, id(worker.written))
        if read in seen:
            continue
        key = (worker.app, worker.name, *sorted((key, repr(value)) for key, value in worker.written.items()))
        if key not in seen:
            yield worker
        seen |= {read, key}


RULES = (
    Rule(
        "stop-timeout",
        _stop_timeout,
        "A stop timeout shorter than the class's time limit: a stop interrupts running tasks.",
        acceptable=True,
    ),
    Rule("soft-time-limit", _soft_limit, "A soft time limit that is not below the hard one: it never takes effect."),
    Rule(
        "one-task-per-child",
        _one_task_per_child,
        "A new process for every task.",
        acceptable=True,
    ),
    Rule(
        "memory",
        _memory,
        "Memory limits of all classes of a host that add up to more than it has.",
        acceptable=True,
    ),
    Rule(
        "concurrency",
        _concurrency,
        "Far more processes than processors.",
        acceptable=True,
    ),
    Rule(
        "unknown-argument",
        _unknown_arguments,
        "An argument of a class that no Celery worker has: it would not start. An app may add its own options.",
        acceptable=True,
    ),
    Rule(
        "newer-argument",
        _newer_arguments,
        "An argument of a class that the Celery of the app's requirements does not have: no worker would start.",
    ),
)
