"""What is faulted: releases of Debian with their brokers, and versions of Celery."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """What is faulted.

    Arguments:
        suite: of Debian.
        broker: ``rabbitmq`` or ``redis``.
        title: how the report calls it.
        constraints: what holds the app's packages to older versions; empty for the newest.
        cluster: whether RabbitMQ and Redis are three nodes on hosts of their own.
    """

    suite: str
    broker: str
    title: str
    constraints: tuple[str, ...] = ()
    cluster: bool = False


#: Name of a run -> its stack, on the newest Celery.
NEWEST = {
    "bookworm": Stack("bookworm", "rabbitmq", "RabbitMQ 3.10"),
    "trixie": Stack("trixie", "rabbitmq", "RabbitMQ 4.0"),
    "forky": Stack("forky", "rabbitmq", "RabbitMQ 4.3"),
    "redis": Stack("trixie", "redis", "Redis 8.0"),
}
#: With Celery 5.4 on Redis, kombu 5.7 starts no worker (docs/versions.md).
OLDER: dict[str, dict[str, tuple[str, ...]]] = {
    "5.4": {"rabbitmq": (), "redis": ("kombu<5.7",)},
    "5.6": {"rabbitmq": (), "redis": ()},
}
#: What ``--cluster`` faults: each generation of RabbitMQ.
CLUSTERS = {
    f"{name}-cluster": dataclasses.replace(NEWEST[name], title=f"{NEWEST[name].title}, three nodes", cluster=True)
    for name in ("bookworm", "trixie", "forky")
}
STACKS = (
    NEWEST
    | CLUSTERS
    | {
        f"{name}-celery{version}": dataclasses.replace(
            NEWEST[name],
            title=f"{NEWEST[name].title}, Celery {version}",
            constraints=(f"celery=={version}.*", *more[NEWEST[name].broker]),
        )
        for version, more in OLDER.items()
        for name in ("trixie", "redis")
    }
)
