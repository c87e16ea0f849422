# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of RabbitMQ and Redis for the apps, in the form of the roles' variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The policy that keeps what was delivered too often, in the virtual host of each app.
DEAD_LETTERS = "celeryops-dead-letters"
#: Flower listens to events and asks workers; it cannot publish a task or an event, read a task, or delete an exchange
#: of the workers'. It binds queues of its own to these exchanges; flowerconfig.py has it declare none.
_FLOWER_CONFIGURE = r"^(celeryev\..+|.+\.reply\.celery\.pidbox)$"
_FLOWER_WRITE = r"^(celeryev\..+|.+\.reply\.celery\.pidbox|celery\.pidbox)$"
_FLOWER_READ = r"^(celeryev(\..+)?|(.+\.)?reply\.celery\.pidbox)$"


def rabbitmq_objects(
    apps: Iterable[Mapping[str, Any]], passwords: Mapping[str, str], flower_passwords: Mapping[str, str]
) -> dict[str, Any]:
    """Return what RabbitMQ has to hold for the apps that use it, in the words of the role rabbitmq's variables.

    Arguments:
        apps: ``name``, ``broker``, ``dead_letter_queue`` and ``queue_type`` of each app. A client that does not read
            the shared configuration names no type, and RabbitMQ refuses it where it takes another one for meant.
        passwords: app -> password of its account.
        flower_passwords: app -> password of the account of its Flower.
    """
    served = [app for app in apps if app["broker"] == "rabbitmq"]
    names = [str(app["name"]) for app in served]
    users: list[dict[str, Any]] = []
    for name in names:
        own = {"vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
        users.append({"name": name, "password": passwords[name], "permissions": [own]})
        watching = {"vhost": name, "configure": _FLOWER_CONFIGURE, "write": _FLOWER_WRITE, "read": _FLOWER_READ}
        flower = {"name": f"{name}-flower", "password": flower_passwords[name], "tags": ["management"]}
        users.append({**flower, "permissions": [watching]})
    return {
        "vhosts": [
            {"name": str(app["name"]), "default_queue_type": str(app.get("queue_type") or "quorum")} for app in served
        ],
        "users": users,
        "policies": [_dead_letters(str(app["name"]), str(app["dead_letter_queue"])) for app in served],
    }


def _dead_letters(vhost: str, queue: str) -> dict[str, Any]:
    """Return the policy by which a message that cannot be processed is kept in a queue of its own, never dropped.

    The queues in which delayed tasks wait have dead-letter settings of their own, and the dead letters need none.
    """
    escaped = queue.replace(".", r"\.")
    return {
        "vhost": vhost,
        "name": DEAD_LETTERS,
        "pattern": rf"^(?!celery_delayed_|celeryev|{escaped}$|.*pidbox$).*",
        "apply_to": "queues",
        "priority": 0,
        "definition": {"delivery-limit": 20, "dead-letter-exchange": "", "dead-letter-routing-key": queue},
    }


def redis_users(
    apps: Iterable[Mapping[str, Any]], passwords: Mapping[str, str], purpose: str = "both"
) -> list[dict[str, Any]]:
    """Return the accounts that Redis has to hold for the apps, in the words of the role redis's variables.

    Arguments:
        apps: ``name``, ``broker`` and ``key_prefix`` of each app.
        passwords: app -> password of its account.
        purpose: of the servers: ``both`` where they keep the results of all apps, and the queues of those whose broker
            is Redis; ``broker`` and ``results`` where they do one of the two.
    """
    return [
        {
            "name": str(app["name"]),
            "password": passwords[str(app["name"])],
            "purpose": own if purpose == "both" else purpose,
            "key_prefix": str(app["key_prefix"]),
        }
        for app in apps
        if (own := "both" if app["broker"] == "redis" else "results") == "both" or purpose != "broker"
    ]
