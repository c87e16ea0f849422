# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What prevents the removal of an app or a server: processes that use it, messages in a server. Read-only."""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_contents
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: In the rules of whoever has its broker in Redis: the channel of Celery's remote control (plans/redis.py).
_BROKER = "celery.pidbox"


def users_of(app: str, accounts: Iterable[str], units: Collection[str], proc: str = "/proc") -> list[str]:
    """Return the processes that run from an app's release or as its account, beside its own units; in words.

    Arguments:
        app: its name.
        accounts: those that go with it.
        units: its units, which are stopped anyway.
        proc: where processes are.
    """
    paths = AppPaths(app)
    places = (f"{paths.base}/", f"{paths.flower_base}/")
    numbers = set()
    for account in accounts:
        with contextlib.suppress(KeyError):
            numbers.add(pwd.getpwnam(account).pw_uid)
    found = []
    for entry in sorted((name for name in os.listdir(proc) if name.isdigit()), key=int):
        folder = f"{proc}/{entry}"
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            uid = os.stat(folder).st_uid
            words = text_of(f"{folder}/cmdline").split("\0")
            # A process of the kernel, or one that has ended, has no words.
            if not words[0]:
                continue
            program = [words[0]]
            with contextlib.suppress(OSError):
                program.append(os.readlink(f"{folder}/exe"))
            own = uid in numbers or any(path.startswith(places) for path in program)
            if not own and not any(place in text_of(f"{folder}/maps") for place in places):
                continue
            group = text_of(f"{folder}/cgroup")
            if not any(part in units for part in group.replace("\n", "/").split("/")):
                found.append(f"{os.path.basename(words[0])} (pid {entry})")
    return found


def in_rabbitmq(text: str) -> Any:
    """Return queue -> messages of a whole RabbitMQ (``server_contents``), or a text that says why that is not known."""
    if not text:
        return "RabbitMQ does not say what its queues hold"
    queues = rabbitmq_contents.parse(text).queues
    lasting = {f"{vhost}/{name}": queue.messages for (vhost, name), queue in queues.items() if queue.kind != "fleeting"}
    silent = sorted(name for name, messages in lasting.items() if messages is None)
    return f"the queue {silent[0]} does not say what it holds" if silent else lasting


def brokers_of(acl: str) -> list[str]:
    """Return the accounts of a Redis server that have their broker in it, from the text of its ACL file."""
    lines = [line.split() for line in acl.splitlines()]
    return sorted(
        words[1] for words in lines if len(words) > 2 and words[0] == "user" and any(_BROKER in word for word in words)
    )
