# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of a worker class: how each is parsed, its default and its limits.

The names of classes are the user's, so Ansible's argument specs cannot look inside of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import MOST_PREFETCHED
from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.units import LOG_LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

POOLS = ("prefork", "threads", "gevent", "solo")
_PREFORK = ("prefork",)

#: Workers of one class on one host: each is a process with the whole app in it, and more than that is a mistake.
MOST_WORKERS = 99


@dataclass(frozen=True)
class Key:
    """What may be written for one key of a class.

    Arguments:
        kind: how the value is read (the method of that name of ``worker_classes._Reader``).
        default: the value when nobody writes one; None leaves the matter to the app's settings or to systemd.
        minimum: smallest number, duration in seconds or size in bytes.
        maximum: largest number, duration or size.
        choices: the allowed words.
        pools: pools in which the key has an effect.
    """

    kind: str
    default: Any = None
    minimum: int = 0
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    pools: tuple[str, ...] = POOLS


KEYS: Mapping[str, Key] = {
    "state": Key("choice", "present", choices=("present", "absent")),
    "queues": Key("queues"),
    "workers": Key("number", 1, minimum=1, maximum=MOST_WORKERS),
    "command_prefix": Key("command"),
    "pool": Key("choice", "prefork", choices=POOLS),
    "concurrency": Key("concurrency", minimum=1, maximum=100_000),
    "prefetch_multiplier": Key("number", minimum=1, maximum=MOST_PREFETCHED),
    "time_limit": Key("duration", minimum=1, pools=("prefork", "gevent")),
    "soft_time_limit": Key("duration", minimum=1, pools=_PREFORK),
    "max_tasks_per_child": Key("number", minimum=1, maximum=2**31 - 1, pools=_PREFORK),
    "max_memory_per_child": Key("size", minimum=8 * 1024**2, pools=_PREFORK),
    "acknowledgement": Key("choice", choices=("late", "early")),
    "log": Key("choice", "journal", choices=("journal", "file")),
    "log_level": Key("choice", "INFO", choices=LOG_LEVELS),
    "log_received": Key("truth", default=False),
    "environment": Key("mapping"),
    "nice": Key("number", minimum=-20, maximum=19),
    "cpu_weight": Key("number", minimum=1, maximum=10_000),
    "io_weight": Key("number", minimum=1, maximum=10_000),
    "memory_high": Key("size", minimum=32 * 1024**2),
    "memory_max": Key("size", minimum=32 * 1024**2),
    "tasks_max": Key("number", minimum=4, maximum=4_194_304),
    "start_timeout": Key("duration", 120, minimum=5),
    "stop_timeout": Key("duration", 300, minimum=1),
    "watchdog": Key("duration", 60),
    "writable_paths": Key("texts"),
    "extra_arguments": Key("texts"),
    "hardening": Key("mapping"),
}
