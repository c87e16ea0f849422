# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each version of Celery can do, and which kombu and redis-py it works with: the only place that knows it.

The check uses it on the control machine, the release on the host, which has only the standard library.

Sources: ``celery.app.defaults.NAMESPACES``, the parameters of ``celery.bin.worker.worker`` and the metadata
(``Requires-Dist``, ``Requires-Python``) of Celery 5.4.0, 5.5.3, 5.6.3 and 5.7.0, compared with each other; kombu 5.3.4,
5.3.7, 5.4.2, 5.5.0, 5.5.4, 5.6.0, 5.6.2 and 5.7.0 likewise. What was measured is in docs/versions.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Abilities:
    """What one minor version of Celery brings, and what it wants.

    Arguments:
        kombu: the oldest kombu that it takes, and the first that it does not; empty where none is ruled out
            (``Requires-Dist``).
        python: the oldest and the newest Python 3 that it was seen to work on, or says to.
        native_delay: whether it delays tasks in RabbitMQ (celery/worker/consumer/delayed_delivery.py). What lacks it,
            the runtime gives it, with a kombu that can (``DELAYS_WITH_KOMBU``).
        quorum_detection: whether a worker sees quorum queues, and asks for no global prefetch
            (worker/consumer/tasks.py).
        soft_shutdown: whether a worker knows ``worker_soft_shutdown_timeout``.
        exclusive_control_queues: whether queues for remote control and events can be exclusive (kombu 5.6, pidbox.py).
        created_as_quorum: whether a queue that is made on the fly can be a quorum queue.
    """

    kombu: tuple[Numbers, Numbers]
    python: tuple[int, int]
    native_delay: bool = True
    quorum_detection: bool = True
    soft_shutdown: bool = True
    exclusive_control_queues: bool = True
    created_as_quorum: bool = True

    def has(self, name: str) -> bool:
        """Return whether it has an ability, by its name here."""
        return bool(getattr(self, name))


#: Minor version of Celery -> what it can do, the oldest first.
TABLE: dict[Numbers, Abilities] = {
    (5, 4): Abilities(
        kombu=((5, 3, 4), (6,)),
        python=(8, 13),
        native_delay=False,
        quorum_detection=False,
        soft_shutdown=False,
        exclusive_control_queues=False,
        created_as_quorum=False,
    ),
    (5, 5): Abilities(
        kombu=((5, 5, 2), (5, 6)),
        python=(8, 14),
        exclusive_control_queues=False,
        created_as_quorum=False,
    ),
    (5, 6): Abilities(kombu=((5, 6, 0), ()), python=(9, 14)),
    (5, 7): Abilities(kombu=((5, 7, 0), ()), python=(10, 14)),
}
FLOOR: Numbers = next(iter(TABLE))
NEWEST: Numbers = next(reversed(TABLE))
#: Package -> the oldest version that is supported. kombu: the oldest that the oldest Celery takes.
OLDEST: dict[str, Numbers] = {"celery": FLOOR, "kombu": TABLE[FLOOR].kombu[0]}

#: The first kombu with kombu/transport/native_delayed_delivery.py. With an older one a worker holds what is delayed.
DELAYS_WITH_KOMBU: Numbers = (5, 5)

#: With Redis as the broker: the kombu that raises ``VersionMismatch`` below a redis-py (kombu/transport/redis.py,
#: ``_get_client``), and needs ``packaging``, which only its extra ``redis`` brings.
REDIS_FOR_KOMBU: tuple[Numbers, Numbers] = ((5, 7), (6, 1))

#: Settings that are newer than the oldest supported Celery -> the first minor version that has them.
SETTINGS: dict[str, Numbers] = {
    **dict.fromkeys(
        (
            "broker_native_delayed_delivery_queue_type", "database_create_tables_at_setup", "task_default_queue_type",
            "worker_detect_quorum_queues", "worker_enable_soft_shutdown_on_idle", "worker_soft_shutdown_timeout",
        ),
        (5, 5),
    ),
    **dict.fromkeys(
        (
            "control_queue_durable", "control_queue_exclusive", "event_queue_durable", "event_queue_exclusive",
            "redis_client_name", "task_create_missing_queue_exchange_type", "task_create_missing_queue_type",
            "worker_disable_prefetch", "worker_eta_task_limit",
        ),
        (5, 6),
    ),
    **dict.fromkeys(
        (
            "beat_enable_remote_control", "beat_remote_control_max_tick_age", "broker_pool_acquire_timeout",
            "database_engine_callback", "result_chord_expires", "result_failure_expires", "task_acks_on_failure",
            "task_acks_on_timeout", "task_repr_maxlevels", "task_retry_on_worker_lost", "worker_log_datefmt",
            "worker_pool_start_method", "worker_task_log_datefmt",
        ),
        (5, 7),
    ),
}  # fmt: skip
#: The same for options of ``celery worker``: a worker that does not know one does not start.
WORKER_OPTIONS: dict[str, Numbers] = {"--disable-prefetch": (5, 6), "--pool-start-method": (5, 7)}

#: What somebody notices when an ability comes or goes with a release.
MEANING = {
    "native_delay": "delayed tasks wait in RabbitMQ by Celery's own means",
    "quorum_detection": "workers recognise quorum queues",
    "soft_shutdown": "a worker has a soft shutdown",
    "exclusive_control_queues": "queues for remote control and events are exclusive",
    "created_as_quorum": "a queue that is made on the fly is a quorum queue",
}


def numbers(version: str) -> Numbers:
    """Return the numbers of a version, three at least (``5.7`` is 5.7.0, and so is ``5.7.0rc1``); empty without any."""
    match = re.match(r"\s*v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    found = tuple(map(int, match[1].split("."))) if match else ()
    return found + (0,) * (3 - len(found)) if found else ()


def text(version: Numbers) -> str:
    """Return a version as a person writes it."""
    return ".".join(map(str, version))


def supported() -> str:
    """Return the supported versions of Celery in words."""
    return f"{text(FLOOR)} to {text(NEWEST)}"


def abilities(version: str) -> Abilities | None:
    """Return what a version of Celery can do: newer ones at least what the newest known can; None for older ones."""
    known = [minor for minor in TABLE if minor <= numbers(version)]
    return TABLE[known[-1]] if known else None


def too_old(versions: Mapping[str, str | None]) -> list[str]:
    """Return what is missing or too old among the installed packages, one text each."""
    complaints = []
    for name, oldest in OLDEST.items():
        version = versions.get(name)
        if not version:
            complaints.append(f"{name} is not installed (at least {text(oldest)} is needed)")
        elif numbers(version) < oldest:
            complaints.append(f"{name} {version} is too old (at least {text(oldest)} is needed)")
    return complaints


def kombu_range(version: str) -> str:
    """Return the kombu that a version of Celery takes, as a requirement; empty where that is not known."""
    found = abilities(version)
    if found is None:
        return ""
    least, below = found.kombu
    return f"kombu>={text(least)}" + (f",<{text(below)}" if below else "")


def misfits(versions: Mapping[str, str | None], broker: str) -> Iterator[tuple[str, str]]:
    """Yield (what does not work together, the requirement that does) among versions that are known.

    Arguments:
        versions: ``celery``, ``kombu`` and ``redis`` (redis-py), as far as they are known; None or absent: not known.
        broker: ``rabbitmq`` or ``redis``.
    """
    celery, kombu, redis = (versions.get(name) or "" for name in ("celery", "kombu", "redis"))
    found = abilities(celery) if celery else None
    if found and kombu:
        least, below = found.kombu
        if numbers(kombu) < least or (below and numbers(kombu) >= below):
            yield f"celery {celery} does not work with kombu {kombu}", kombu_range(celery)
            return
    newer, needed = REDIS_FOR_KOMBU
    if broker != "redis" or not kombu or numbers(kombu) < newer:
        return
    if redis and numbers(redis) < needed:
        with_celery = f"celery {celery} with " if celery else ""
        what = f"{with_celery}kombu {kombu} and redis {redis} start no worker with Redis as the broker: kombu"
        what += f" {text(newer)} needs redis {text(needed)} or newer there"
        yield what, f"kombu<{text(newer)}, or redis>={text(needed)}"
    elif not redis and found and found is TABLE[FLOOR]:
        # celery[redis] of that version says redis<6.
        what = f"celery {celery} and kombu {kombu} start no worker with Redis as the broker: kombu {text(newer)}"
        what += f" needs redis {text(needed)} or newer there, and celery[redis] {celery} takes an older one"
        yield what, f"kombu<{text(newer)}"


def changes(before: str, after: str) -> list[str]:
    """Return what a release with another version of Celery changes for the app: what is gone, and what is new."""
    old, new = abilities(before), abilities(after)
    if old is None or new is None or old is new:
        return []
    lost = [meaning for name, meaning in MEANING.items() if old.has(name) and not new.has(name)]
    won = [meaning for name, meaning in MEANING.items() if new.has(name) and not old.has(name)]
    return [f"{head}: {', '.join(part)}" for head, part in (("no longer", lost), ("from now on", won)) if part]


def unmet(needs: Iterable[Mapping[str, str]], versions: Mapping[str, str | None]) -> list[str]:
    """Return what the configuration counts on and the installed versions do not have, one text each.

    Arguments:
        needs: each with ``package``, ``since`` (a version), ``says`` (what is needed, and why) and ``instead``.
        versions: of the installed packages.
    """
    return [
        f"{need['says']}, and this release has {need['package']} {version}; write {need['instead']}"
        for need in needs
        if (version := versions.get(need["package"])) and numbers(version) < numbers(need["since"])
    ]
