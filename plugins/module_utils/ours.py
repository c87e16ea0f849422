# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What earlier runs of this collection left on a host: units, and files with passwords. Read-only."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import Cluster
from ansible_collections.celeryops.stack.plugins.module_utils.paths import CONFIG, UNITS
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import entries_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The queues of an app that left the inventory and are on the broker still, beside its configuration.
RETIRED = "retired.json"
#: How the first line of every file of ours begins, with the role that wrote it.
MARK = re.compile(r"# Managed by celeryops\.stack \(roles? ([a-z_]+)")
#: No app has a dash in its name, so this can be read in one way only. The unit that stands in for another during its
#: restart has an underscore in its own (module_utils/handover.py).
_UNIT = re.compile(r"celery-([a-z][a-z0-9_]*)-[a-z0-9_-]+\.service")
#: Schedulers of which several may run: one holds a lock, the others wait (celery-redbeat 2.3).
SEVERAL_MAY_RUN = ("redbeat.", "redbeat:")
#: What the command line of a scheduler says that it is.
_SCHEDULER = re.compile(r"^ExecStart=.* --scheduler[= ](\S+)", re.MULTILINE)


def look(units: str = UNITS, config: str = CONFIG, rabbitmq: str = "/etc/rabbitmq") -> dict[str, Any]:
    """Return what is there.

    Returns:
        ``apps``: name -> ``units`` (name of the unit -> role), ``brokers`` (what its processes connect to, as
        ``addresses`` does), ``queues``, ``retired`` (queues that left earlier; both are None where their file cannot
        be read), ``redbeat`` (whether its scheduler here is one of several) and ``secrets``; ``secrets``: the kinds of
        passwords of the servers that are in use; ``accounts``: server -> the accounts that the last run gave it.
        No password is in it.
    """
    apps: dict[str, dict[str, Any]] = {}
    for name in entries_of(units):
        match = _UNIT.fullmatch(name)
        role = role_of(f"{units}/{name}") if match else ""
        if match and role:
            apps.setdefault(match[1], _app())["units"][name] = role
            if role == "celery_beat":
                apps[match[1]]["redbeat"] = is_redbeat(text_of(f"{units}/{name}"), f"{config}/{match[1]}/celery.json")
    for name in entries_of(config):
        settings = _environment(f"{config}/{name}/celery.env")
        if settings is not None:
            app = apps.setdefault(name, _app())
            app["brokers"] = list(addresses(settings.get("CELERY_BROKER_URL", "")))
            stores = [*app["brokers"], *addresses(settings.get("CELERY_RESULT_BACKEND", ""))]
            app["queues"] = _queues(f"{config}/{name}")
            app["retired"] = _names(f"{config}/{name}/{RETIRED}")
            app["secrets"] = sorted({one["kind"] for one in stores} - {""})
        if os.path.exists(f"{config}/{name}/flower.env"):
            apps.setdefault(name, _app())["secrets"] += ["flower", "flower_cookie", "flower_rabbitmq"]
    secrets = []
    if role_of(f"{rabbitmq}/rabbitmq.conf"):
        secrets.append("rabbitmq")
    if os.path.exists(f"{config}/redis/users.acl") or os.path.exists(f"{config}/valkey/users.acl"):
        secrets.append("redis")
    if os.path.exists(f"{config}/redis/replication.conf") or os.path.exists(f"{config}/valkey/replication.conf"):
        secrets.append("replication")
    if os.path.exists(f"{config}/sentinel/users.acl"):
        secrets.append("sentinel")
    accounts = {"rabbitmq": _users(f"{rabbitmq}/definitions.json") if "rabbitmq" in secrets else [], "redis": []}
    for engine in ("redis", "valkey"):
        accounts["redis"] += _acl(f"{config}/{engine}/users.acl")
    return {"apps": apps, "secrets": secrets, "accounts": accounts}


def is_redbeat(unit: str, settings: str) -> bool:
    """Return whether a scheduler of ours is one of which several may run.

    Arguments:
        unit: the text of its unit, whose command line wins over the settings (celery/bin/beat.py).
        settings: the file of the shared configuration.
    """
    said = _SCHEDULER.search(unit)
    if said:
        return said[1].startswith(SEVERAL_MAY_RUN)
    document = _json(settings)
    common = document.get("settings") if isinstance(document, dict) else None
    return isinstance(common, dict) and str(common.get("beat_scheduler") or "").startswith(SEVERAL_MAY_RUN)


def addresses(url: str) -> Iterator[dict[str, Any]]:
    """Yield ``scheme``, ``kind``, ``user``, ``host``, ``port`` and ``path`` of each address of a URL; no password.

    The kind is ``rabbitmq`` or ``redis``, or empty for another store.
    """
    for node in Cluster.read(url).nodes:
        if node.host:
            place = {"host": node.host, "port": node.real_port, "path": node.path}
            yield {"scheme": node.scheme, "kind": node.server, "user": node.user, **place}


def _app() -> dict[str, Any]:
    return {"units": {}, "brokers": [], "secrets": [], "queues": [], "retired": [], "redbeat": False}


def _json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def _users(path: str) -> list[str]:
    """Return the names of the users in a document of RabbitMQ's definitions."""
    document = _json(path)
    entries = document.get("users") if isinstance(document, dict) else None
    return sorted(str(entry["name"]) for entry in entries or () if isinstance(entry, dict) and "name" in entry)


def _acl(path: str) -> list[str]:
    """Return the names of the users in an ACL file of Redis: lines that begin with "user" (redis.io, ACL)."""
    lines = [line.split() for line in text_of(path).splitlines()]
    return sorted(words[1] for words in lines if len(words) > 1 and words[0] == "user")


def _queues(folder: str) -> list[str] | None:
    """Return the queues of a shared configuration (celeryops_runtime.config); None when they cannot be read.

    Where they have no file of their own, as on a host that was set up earlier, they are in that of the settings. No
    file at all says that there are none: the first run ended before them.
    """
    path = f"{folder}/queues.json"
    path = path if os.path.lexists(path) else f"{folder}/celery.json"
    if not os.path.lexists(path):
        return []
    document = _json(path)
    entries = document.get("queues", []) if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
        return None
    return [str(entry["name"]) for entry in entries]


def _names(path: str) -> list[str] | None:
    """Return the names in a list; None when it cannot be read, and none where there is no such file."""
    if not os.path.lexists(path):
        return []
    names = _json(path)
    return [str(name) for name in names] if isinstance(names, list) else None


def app_of_unit(name: str) -> str:
    """Return the app of a unit that is named as this collection names them; empty for another one."""
    match = _UNIT.fullmatch(name)
    return match[1] if match else ""


def role_of(path: str) -> str:
    """Return which role wrote a file; empty for one that is not ours."""
    match = MARK.match(text_of(path))
    return match[1] if match else ""


def _environment(path: str) -> dict[str, str] | None:
    """Return the variables of a file of the role's own, whose values stand in double quotes or are plain words."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return None
    found = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] = value.strip().strip("\"'")
    return found
