# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers derived from an app's variables: each is one function, and nowhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils.celery_versions import DELAYS_WITH_KOMBU
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_layers import DEFAULTS, LEVELS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.members import Members, seconds
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import prefetch_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import in_force, lines_of, rules_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import Given
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.worker_classes import WorkerClass

#: A class without a limit has tasks of unknown length; half an hour is RabbitMQ's own guess of what is too long
#: (consumer_timeout, RabbitMQ 4.3).
UNKNOWN_TASK = 1800
#: Messages per process that a worker of RabbitMQ may take in advance: enough for its processes never to wait for the
#: broker (`make bench`: 8 does nearly twice as many tasks as 1, 16 no more). The runtime takes one unless tasks are
#: short (celeryops_runtime.prefetch).
PREFETCH = 8
#: The consumer timeout of a RabbitMQ that no app of the inventory needs longer, in seconds.
SHORTEST_CONSUMER_TIMEOUT = 7200
#: Connections of a worker beside those of its processes: to RabbitMQ (Celery 5.7.0 without gossip, measured), to Redis
#: as a broker (redis-py 8, measured), and to Redis for results alone (its main process and the once-rules: a guess).
WORKER_CONNECTIONS, WORKER_CLIENTS, RESULT_CLIENTS = 3, 10, 2
#: Connections with which one process publishes that runs several tasks at a time (Celery's broker_pool_limit).
POOL = 10
#: What is assumed of a host whose processors are not known, where they decide how many processes a worker has.
PROCESSORS = 16
#: Connections of the other hosts: a producer is an application of which nothing is known, so this is a guess; beat has
#: one, and Flower 11 (2.2.0, measured).
PRODUCER, BEAT, FLOWER = 64, 1, 11
#: What a server has where the inventory needs no more.
OPEN_FILES, MAX_CLIENTS = 65536, 10000
#: The highest limit of open files that the role takes, the usual fs.nr_open of Linux.
MOST_FILES = 2**20


def _of_classes(key: str) -> tuple[str, ...]:
    """Return where a key of any class may be written."""
    return (*(f"{level}.*.{key}" for level in LEVELS), f"{DEFAULTS}.{key}")


def queues(app: Members) -> list[str]:
    """Return every queue that a worker class of an app names, sorted.

    They end in the shared configuration, which restarts all classes when it changes: the order of the classes must not.
    """
    return sorted({queue for one in app.all_classes for queue in one.queues})


def longest_task(app: Members) -> int:
    """Return how long the longest task may take in seconds, from every variable that says so; at least half an hour."""
    limits = [one.time_limit or 0 for one in app.all_classes]
    # Set by hand only: its default is what is worked out here.
    return max([UNKNOWN_TASK, *limits, *(seconds(settings.get("task_time_limit")) for settings in app.settings)])


def class_times(app: Members) -> set[tuple[int, int]]:
    """Return (seconds that a task may take, messages in advance) of each class, and of one that sets neither.

    The latter is always there, so that a class with nothing of its own, or with shorter tasks, changes no timeout.
    """
    usual = max([UNKNOWN_TASK, *map(seconds, _said_of_all(app))])
    derived = prefetch_multiplier(app)
    written = [
        settings.get("worker_prefetch_multiplier", own)
        for settings, own in zip(app.settings, app.said("celery_app_prefetch_multiplier"), strict=True)
    ]
    prefetch = max([1, *(_count(number, derived) for number in written)])
    said = any(number is not None for number in written)
    times = {(usual, prefetch)}
    for one in app.all_classes:
        own = one.prefetch_multiplier or (None if said else prefetch_of(one.time_limit))
        times.add((one.time_limit or usual, own or prefetch))
    return times


def _said_of_all(app: Members) -> Iterator[object]:
    """Yield how long a task may take by what the inventory says of the app, not of one of its classes."""
    yield from app.said("celery_app_longest_task")
    yield from (settings.get("task_time_limit") for settings in app.settings)


def _count(value: object, otherwise: int) -> int:
    """Return a whole number; another one for what is none, which its role tells."""
    return int(str(value)) if re.fullmatch(r"[0-9]{1,9}", str(value)) else otherwise


def consumer_timeout(app: Members) -> int:
    """Return how long RabbitMQ has to wait for an acknowledgement of a task of an app, in seconds.

    A message waits behind as many others as a process prefetches, then runs itself; delayed tasks wait in the broker
    (Celery 5.7 and RabbitMQ 3.10, measured: a message that is held longer closes the channel, and its task runs again).
    Rounded up to 2, 4, 8, ... hours, so that few changes of a class change it.
    """
    held = 0
    for host, eta in zip(app.hosts, app.durations("celery_app_longest_eta"), strict=True):
        if app.given(host, "celery_app_queue_type", None) == "classic" or _kombu_cannot_delay(app.given, host):
            # Nothing delays messages in the broker then, so a worker holds them.
            held = max(held, eta)
    needed = max(held_for(longest, prefetch, held) for longest, prefetch in class_times(app))
    return 3600 << ((needed - 1) // 3600).bit_length()


def _kombu_cannot_delay(given: Given, host: str) -> bool:
    """Whether the requirements of the app of ``host`` keep its kombu below what delays messages in RabbitMQ."""
    extra = given(host, "celery_app_extra_packages", None)
    lines = lines_of(given(host, "celery_app_source", None), extra if isinstance(extra, (list, tuple)) else ())
    return any(rules_out(line, "kombu", DELAYS_WITH_KOMBU) for _variable, line in in_force(lines))


def prefetch_multiplier(app: Members) -> int:
    """Return how many messages a process of this app's workers may take in advance, where nothing else is said.

    How many hosts and classes there are has no part in it: what changed when one joins would restart all others. On
    Redis a message that a killed worker had taken waits for the visibility timeout, so as few as possible are at stake;
    and of a RabbitMQ elsewhere the consumer timeout is not known.
    """
    long = any(prefetch_of(seconds(time)) for time in _said_of_all(app))
    return PREFETCH if _on_rabbitmq(app) and not long else 1


def _on_rabbitmq(app: Members) -> bool:
    """Whether the broker of an app is RabbitMQ, and a server of this inventory."""
    return app.broker == "rabbitmq" and not any(app.said("celery_app_broker_url"))


def visibility_timeout(app: Members) -> int | str:
    """Return how long Redis has to wait for an acknowledgement of a task of an app, in seconds.

    Nothing (an empty text) with RabbitMQ, and where a process takes one message in advance, which is what the role
    celery_app itself reckons with.
    """
    times = class_times(app)
    if _on_rabbitmq(app) or all(prefetch == 1 for _longest, prefetch in times):
        return ""
    eta = max(app.durations("celery_app_longest_eta"))
    return max(held_for(longest, prefetch, eta) for longest, prefetch in times)


def held_for(longest: int, prefetch: int, eta: int) -> int:
    """Return for how many seconds a message may stay unacknowledged, with ten minutes to spare.

    kombu looks for such messages every 100 s (5.3 to 5.7, transport/redis.py).

    Arguments:
        longest: seconds that a task may take.
        prefetch: messages that a process takes in advance.
        eta: seconds that a worker holds a delayed task; 0 where the broker does.
    """
    return (prefetch + 1) * longest + eta + 600


def rabbitmq_connections(app: Members) -> int:
    """Return how many connections the processes of an app may have to a RabbitMQ of this inventory at a time.

    A worker has its own and one for each process that has published (retries, chains, subtasks).
    """
    if not _on_rabbitmq(app):
        return 0
    return _in_all(app, lambda one: WORKER_CONNECTIONS + (_processes(one) if one.pool == "prefork" else POOL))


def redis_connections(app: Members) -> int:
    """Return how many connections the processes of an app may have to Redis at a time, for results or as a broker."""
    own = WORKER_CLIENTS if app.broker == "redis" else RESULT_CLIENTS
    return _in_all(app, lambda one: own + _processes(one))


def result_connections(app: Members) -> int:
    """Return how many connections the processes of an app may have at a time to a Redis that has its results alone."""
    return _in_all(app, lambda one: RESULT_CLIENTS + _processes(one))


def _in_all(app: Members, of_worker: Callable[[WorkerClass], int]) -> int:
    """Return the connections of all hosts of an app."""
    own = set(app.hosts)
    # Hosts that are alike share what was read.
    counted = {
        id(read): sum(one.workers * of_worker(one) for one in read[0].values() if one.present)
        for read in app.classes.values()
    }
    others = {"celery_producers": PRODUCER, "celery_beat": BEAT, "flower": FLOWER}
    return sum(counted[id(read)] for read in app.classes.values()) + sum(
        number * len(own & set(app.groups.get(group, ()))) for group, number in others.items()
    )


def _processes(one: WorkerClass) -> int:
    """Return how many tasks a worker runs at a time, each with a connection."""
    return one.concurrency if isinstance(one.concurrency, int) else PROCESSORS


def needed_files(connections: int) -> int:
    """Return how many files RabbitMQ has to be allowed to open for its connections: half as many again.

    Queues have files too, and a client that was cut off is back before the server has noticed. A choice.
    """
    return connections + connections // 2


def enough_files(connections: int) -> int:
    """Return a limit of open files: 65536, doubled until it is enough, so that a host that joins seldom changes it."""
    return _doubled(OPEN_FILES, needed_files(connections), MOST_FILES)


def enough_clients(connections: int) -> int:
    """Return how many clients Redis has to serve: 10000, doubled until it is enough."""
    return _doubled(MAX_CLIENTS, connections, MOST_FILES)


def _doubled(number: int, enough: int, most: int) -> int:
    while number < min(enough, most):
        number *= 2
    return min(number, most)


_LIMITS = (*_of_classes("time_limit"), "celery_app_settings.task_time_limit")
_HELD = (
    *_LIMITS, *_of_classes("prefetch_multiplier"), "celery_app_settings.worker_prefetch_multiplier",
    "celery_app_prefetch_multiplier", "celery_app_longest_task", "celery_app_longest_eta", "celery_app_queue_type",
)  # fmt: skip
_CONNECTIONS = (*_of_classes("workers"), *_of_classes("pool"), *_of_classes("concurrency"))
#: Function of this module -> the variables, down to the key, that its number follows from (``*`` is the name of any
#: class): what is wrong there, it carries on.
SOURCES: dict[str, tuple[str, ...]] = {
    queues.__name__: _of_classes("queues"),
    longest_task.__name__: _LIMITS,
    consumer_timeout.__name__: _HELD,
    prefetch_multiplier.__name__: (),
    visibility_timeout.__name__: _HELD,
    rabbitmq_connections.__name__: _CONNECTIONS,
    redis_connections.__name__: _CONNECTIONS,
    result_connections.__name__: _CONNECTIONS,
}
