# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queues of an app, and the routes that lead to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.queue_names import QUEUE_HELP, is_queue

#: In place of the list of routes: the app's own hold.
FROM_APP = "from-app"
#: Celery keeps queues of its own on the same virtual host.
CELERYS_QUEUES = ("amq.", "celery_delayed", "celeryev", "celery.pidbox", "reply.")
_REDIS_DEAD_LETTERS = "dead-letters"
"""The list on which the runtime keeps what no worker can take (malformed/refusal.py there); a queue is a list too."""


def listed_routes(values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the routes of the inventory; none where the app's own hold."""
    routes = values.get("routes") or ()
    return () if routes == FROM_APP else routes


def queues_of(values: Mapping[str, Any], broker: str) -> tuple[list[dict[str, str]], list[Problem]]:
    """Return every queue of the app, the default queue first, and what is wrong with them."""
    problems: list[Problem] = []
    default_type = str(values["queue_type"])
    types: dict[str, str] = {str(values["default_queue"]): default_type}
    declared: dict[str, str] = {}
    named = [("celery_app_default_queue", values["default_queue"])]
    for entry in values["queues"]:
        if isinstance(entry, Mapping):
            problems += [
                Problem(
                    "not-a-key", f"celery_app_queues.{key}", entry[key], "is not a key of a queue", "name and type only"
                )
                for key in entry
                if key not in ("name", "type")
            ]
            if "name" not in entry:
                problems.append(
                    Problem("no-name", "celery_app_queues", entry, "has no name", "{name: feeds, type: quorum}")
                )
                continue
            kind = str(entry.get("type", default_type))
            if kind not in ("quorum", "classic"):
                problems.append(
                    Problem(
                        "not-a-queue-type",
                        f"celery_app_queues.{entry['name']}.type",
                        kind,
                        "is not a queue type",
                        "quorum or classic",
                    )
                )
            name = entry["name"]
        else:
            name, kind = entry, default_type
        if declared.setdefault(str(name), kind) != kind:
            reason = f"is declared twice, as {declared[str(name)]} and as {kind}"
            problems.append(Problem("queue-declared-twice", "celery_app_queues", name, reason, "one of the two"))
        types[str(name)] = kind
        named.append(("celery_app_queues", name))
    for route in listed_routes(values):
        types.setdefault(str(route["queue"]), default_type)
        named.append((f"celery_app_routes ({route['task']})", route["queue"]))
    dead_letters = str(values["dead_letter_queue"])
    #: queue -> where it is written first
    places: dict[str, str] = {}
    for variable, name in named:
        if str(name) not in places:
            places[str(name)] = variable
            problems += _queue_name_problems(variable, name, dead_letters, broker)
    if broker == "rabbitmq":
        problems += _suffix_problems({dead_letters: "celery_app_dead_letter_queue", **places})
    if broker == "redis":
        return [{"name": name} for name in types], problems
    # Declared like the others, so that it is there before the first message is given up; no worker class consumes it.
    types.setdefault(str(values["dead_letter_queue"]), default_type)
    return [{"name": name, "type": kind} for name, kind in types.items()], problems


def _queue_name_problems(variable: str, name: Any, dead_letter_queue: str, broker: str) -> Iterable[Problem]:
    if not is_queue(name):
        yield Problem("not-a-queue-name", variable, name, "is not a queue name", QUEUE_HELP)
    elif name.startswith(CELERYS_QUEUES):
        yield Problem(
            "reserved-queue-name", variable, name, "is a name that RabbitMQ or Celery itself uses", "a name of your own"
        )
    elif broker == "redis" and name == _REDIS_DEAD_LETTERS:
        reason = "is the list of the messages that no worker can take"
        yield Problem("messages-accepted-as-list", variable, name, reason, "another name")
    elif name == dead_letter_queue:
        instead = "another name, or another celery_app_dead_letter_queue"
        yield Problem("dead-letter-queue", variable, name, "is the dead-letter queue", instead)


def _suffix_problems(places: Mapping[str, str]) -> Iterable[Problem]:
    """Delayed delivery binds a queue to ``#.<name>``, which also matches the names that end in ``.<name>``.

    Arguments:
        places: queue -> the variable that names it.
    """
    for longer, place in places.items():
        for shorter in places:
            if longer.endswith("." + shorter):
                reason = f"ends in the name of the queue {shorter}, which would get a copy of every task sent to it"
                instead = longer.replace(".", "-") + " or another name without that ending"
                yield Problem("ends-in-the-name", place, longer, reason, instead)
