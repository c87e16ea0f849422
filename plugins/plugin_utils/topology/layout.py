# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names and paths of an app on a host, derived from its own name (``module_utils.paths``)."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import ROLES

#: No dash: "celery-<app>-<class>" must be readable in one way only. 25 characters leave room in a unit's name
#: and in a Linux account name (at most 32).
APP_NAME = re.compile(r"[a-z][a-z0-9_]{0,24}")
CLASS_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
#: Name of a unit behind that of its app -> the role whose unit it is; no class can have it.
RESERVED_CLASS_NAMES = {
    role.unit.removeprefix("celery-{app}-").removesuffix(".service"): role.name for role in ROLES.values() if role.unit
}


#: The installer's own directory beside the apps, those of the servers' configuration, and accounts that they have.
RESERVED_APP_NAMES = frozenset({"uv", "redis", "valkey", "sentinel", "rabbitmq", "guest", "admin", "default"})


def is_app_name(name: object) -> bool:
    """Whether ``name`` can be the short name of an app."""
    return isinstance(name, str) and bool(APP_NAME.fullmatch(name)) and name not in RESERVED_APP_NAMES


def app_layout(app: str) -> dict[str, Any]:
    """Return the paths and names of an app.

    Arguments:
        app: the app's short name (see ``APP_NAME``).

    Raises:
        ValueError: when the name cannot be used in paths, units and account names.
    """
    if not is_app_name(app):
        if app in RESERVED_APP_NAMES:
            raise UnreadableError(
                "reserved-app-name", "is a name that the servers or their accounts have", "another one"
            )
        raise UnreadableError(
            "not-an-app-name", "is not an app name", "a lower-case letter, then at most 24 of a-z, 0-9 and _"
        )
    app = str(app)
    paths = AppPaths(app)
    return {
        "app": app,
        "base": paths.base,
        "releases": paths.releases,
        "current": paths.current,
        "runtime": paths.runtime,
        "config_dir": paths.config,
        "settings": paths.settings,
        "queues": paths.queues,
        "environment": paths.environment,
        "files": paths.files,
        "state": paths.state,
        "log": paths.log,
        "run": paths.run,
        "user": app,
        "group": app,
        "vhost": app,
        "target": f"celery-{app}.target",
        "beat_unit": ROLES["celery_beat"].unit.format(app=app),
        "flower_unit": ROLES["flower"].unit.format(app=app),
        "flower_base": paths.flower_base,
        "flower_environment": paths.flower_environment,
    }


def worker_names(worker_class: str, number: int) -> list[str]:
    """Return the names of the workers of a class on one host: ``repeat``, ``repeat-2``, ``repeat-3``.

    The first has the class's own name, so that a class that grows or shrinks changes no worker that stays.

    Arguments:
        worker_class: name of the class.
        number: how many workers it has.
    """
    return [worker_class, *(f"{worker_class}-{position}" for position in range(2, number + 1))]


def worker_unit(app: str, worker: str) -> str:
    """Return the name of the systemd unit of a worker (``worker_names``)."""
    return f"celery-{app}-{worker}.service"
