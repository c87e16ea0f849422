# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an app lives on a host: the one place that knows the paths and names derived from an app's name."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import UnreadableError
from ansible_collections.celeryops.stack.plugins.plugin_utils.roles import ROLES

#: No dash: "celery-<app>-<class>" must be readable in one way only. 25 characters leave room in a unit's name
#: and in a Linux account name (at most 32).
APP_NAME = re.compile(r"[a-z][a-z0-9_]{0,24}")
CLASS_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
#: Name of a unit behind that of its app -> the role whose unit it is; no class can have it.
RESERVED_CLASS_NAMES = {
    role.unit.removeprefix("celery-{app}-").removesuffix(".service"): role.name for role in ROLES.values() if role.unit
}


#: The installer's own directory in /opt/celeryops, the servers' in /etc/celeryops, and accounts that they have already.
RESERVED_APP_NAMES = frozenset({"uv", "redis", "valkey", "rabbitmq", "guest", "admin", "default"})

#: Runs a program of any app on the host as its workers run (roles/celery_app/files).
RUN_COMMAND = "/usr/local/bin/celeryops-run"


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
            raise UnreadableError("is a name that the servers or their accounts have", "another one")
        raise UnreadableError("is not an app name", "a lower-case letter, then at most 24 of a-z, 0-9 and _")
    app = str(app)
    base, config = f"/opt/celeryops/{app}", f"/etc/celeryops/{app}"
    return {
        "app": app,
        "base": base,
        "releases": f"{base}/releases",
        "current": f"{base}/current",
        "runtime": f"{base}/runtime",
        "config_dir": config,
        "settings": f"{config}/celery.json",
        "environment": f"{config}/celery.env",
        # The app's own, as celery_app_files names them.
        "files": f"{config}/files",
        "state": f"/var/lib/celeryops/{app}",
        "log": f"/var/log/celeryops/{app}",
        "run": f"/run/celeryops/{app}",
        "user": app,
        "group": app,
        "vhost": app,
        "target": f"celery-{app}.target",
        "beat_unit": ROLES["celery_beat"].unit.format(app=app),
        "flower_unit": ROLES["flower"].unit.format(app=app),
        "flower_base": f"{base}-flower",
        "flower_environment": f"{config}/flower.env",
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
