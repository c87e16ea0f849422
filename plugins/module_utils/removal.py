# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to remove of an app, and of the servers, from a host. Changes nothing."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import paths, placed
from ansible_collections.celeryops.stack.plugins.module_utils.ours import role_of
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_found import PLACES
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Directories with one for each app: what goes, and what is kept unless it is asked for.
PROGRAMS = (paths.PROGRAMS, paths.CONFIG, paths.RUN)
DATA = (paths.STATE, paths.LOG)
#: How useradd was called for an account of ours (module_utils/account.py).
COMMENT = "Celery app "
_PLACE = re.compile(rf'^(?:{"|".join(PLACES.values())})="(.+)"$', re.MULTILINE)
#: Under the same names for both engines.
_REDIS_BACKUP = (
    f"{paths.UNITS}/celeryops-backup-redis.timer",
    f"{paths.UNITS}/celeryops-backup-redis.service",
    f"{paths.CONFIG}/redis-backup.py",
    f"{paths.CONFIG}/redis-backup.env",
)
#: Server -> its units, the files of ours, its packages, its data, and the file that says where further data are.
SERVERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "rabbitmq": {
        "units": ("rabbitmq-server.service", "epmd.socket", "epmd.service", "celeryops-backup-rabbitmq.timer"),
        "mark": ("/etc/rabbitmq/rabbitmq.conf",),
        "files": (
            f"{paths.UNITS}/rabbitmq-server.service.d/celeryops.conf",
            f"{paths.UNITS}/epmd.socket.d/celeryops.conf",
            "/etc/rabbitmq/rabbitmq.conf",
            "/etc/rabbitmq/rabbitmq-env.conf",
            "/etc/rabbitmq/erl_inetrc",
            "/etc/rabbitmq/enabled_plugins",
            "/etc/rabbitmq/definitions.json",
            f"{paths.UNITS}/celeryops-backup-rabbitmq.timer",
            f"{paths.UNITS}/celeryops-backup-rabbitmq.service",
            "/etc/rabbitmq/celeryops-backup.py",
            "/etc/rabbitmq/celeryops-disk.erl",
            "/etc/rabbitmq/celeryops-disk.sh",
            "/etc/rabbitmq/celeryops-partition.erl",
            "/etc/rabbitmq/conf.d/40-celeryops.conf",
            "/etc/rabbitmq/conf.d/50-celeryops.conf",
            "/etc/apt/sources.list.d/celeryops-rabbitmq.sources",
            "/etc/apt/preferences.d/celeryops-rabbitmq.pref",
        ),
        "packages": ("rabbitmq-server",),
        "places": ("/etc/rabbitmq/rabbitmq-env.conf",),
        "data": ("/var/lib/rabbitmq", "/var/log/rabbitmq"),
    },
    # Before the servers: with them gone, it would look for another primary.
    "sentinel": {
        "units": ("redis-sentinel.service", "valkey-sentinel.service"),
        "mark": (f"{paths.CONFIG}/sentinel/sentinel.conf",),
        "files": (
            f"{paths.UNITS}/redis-sentinel.service.d/celeryops.conf",
            f"{paths.UNITS}/valkey-sentinel.service.d/celeryops.conf",
            f"{paths.CONFIG}/sentinel",
            "/var/lib/redis/celeryops-sentinel",
            "/var/lib/valkey/celeryops-sentinel",
        ),
        "packages": ("redis-sentinel", "valkey-sentinel"),
        "data": (),
    },
    "redis": {
        "units": ("redis-server.service", "celeryops-backup-redis.timer"),
        "mark": (f"{paths.CONFIG}/redis/redis.conf",),
        "files": (
            f"{paths.UNITS}/redis-server.service.d/celeryops.conf",
            f"{paths.CONFIG}/redis",
            *_REDIS_BACKUP,
            "/etc/sysctl.d/30-celeryops-redis.conf",
            "/etc/apt/sources.list.d/celeryops-redis-backports.sources",
        ),
        "packages": ("redis-server",),
        "data": ("/var/lib/redis", "/var/log/redis"),
    },
    "valkey": {
        "units": ("valkey-server.service", "celeryops-backup-redis.timer"),
        "mark": (f"{paths.CONFIG}/valkey/valkey.conf",),
        "files": (
            f"{paths.UNITS}/valkey-server.service.d/celeryops.conf",
            f"{paths.CONFIG}/valkey",
            *_REDIS_BACKUP,
            "/etc/sysctl.d/30-celeryops-redis.conf",
            "/etc/apt/sources.list.d/celeryops-redis-backports.sources",
        ),
        "packages": ("valkey-server",),
        "data": ("/var/lib/valkey", "/var/log/valkey"),
    },
}


@dataclass
class Removal:
    """What goes.

    Arguments:
        units: names of unit files, the scheduler first: it would send tasks that nobody runs any more.
        paths: files and directories.
        accounts: that were made for it.
        packages: of servers.
        kept: directories with data, which stay.
        changed: files of the app's own that stay as they are: somebody has changed them since they were placed, had
            put the same there before, or has them for another app.
    """

    units: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def any(self) -> bool:
        """Whether there is anything to remove."""
        return bool(self.units or self.paths or self.accounts or self.packages)


def _placed_for_others(app: str) -> set[str]:
    """Return the files that were placed for other apps of the host: two of them may share a certificate."""
    records = glob.glob(f"{glob.escape(paths.CONFIG)}/*/{paths.FILES_RECORD}")
    return {path for name in records if name != AppPaths(app).files_record for path in placed.read(name)}


def of_app(app: str, marked: Iterable[str], users: Mapping[str, str], passwd: str, *, data: bool) -> Removal:
    """Return what goes of an app.

    Arguments:
        app: its name.
        marked: names of the unit files of ours on the host, of all apps.
        users: unit file -> the account that it runs as.
        passwd: the text of /etc/passwd.
        data: whether its data go as well.
    """
    its = AppPaths(app)
    own = [name for name in marked if re.fullmatch(rf"celery-{re.escape(app)}(-[a-z0-9-]+\.service|\.target)", name)]
    found = Removal(units=sorted(own, key=lambda name: (not name.endswith("-beat.service"), name)))
    found.paths = [f"{paths.UNITS}/{name}" for name in found.units]
    places = [f"{folder}/{app}" for folder in PROGRAMS]
    places += [its.flower_base, f"/etc/logrotate.d/celery-{app}-workers"]
    kept = [f"{folder}/{app}" for folder in DATA] + [f"{DATA[0]}/{app}-flower", f"{paths.DYNAMIC_STATE}/{app}-flower"]
    found.paths += [path for path in (*places, *(kept if data else ())) if os.path.lexists(path)]
    found.kept = [] if data else [path for path in kept if os.path.lexists(path)]
    # What celery_app_files has placed elsewhere; the app's own directory goes as a whole.
    of_others = _placed_for_others(app)
    for path, entry in sorted(placed.read(its.files_record).items()):
        if not path.startswith(f"{its.config}/") and os.path.lexists(path):
            mine_alone = path not in of_others and placed.is_ours(path, entry)
            (found.paths if mine_alone else found.changed).append(path)
    others = {user for unit, user in users.items() if unit not in own}
    mine = {users[unit] for unit in own if unit in users} | {app}
    made = {line.split(":")[0] for line in passwd.splitlines() if line.count(":") > 4 and _is_ours(line)}
    found.accounts = sorted((mine & made) - others)
    return found


def of_server(kind: str, *, data: bool) -> Removal:
    """Return what goes of a server, if it is one that a role of ours set up."""
    server = SERVERS[kind]
    # Debian's packages and their users have files of these names as well; the first line says whose one is.
    if not all(role_of(path) for path in server["mark"]):
        return Removal()
    found = Removal(units=list(server["units"]), packages=_present(server["packages"]))
    found.paths = [path for path in server["files"] if os.path.lexists(path)]
    stores = [path for path in server["data"] if os.path.lexists(path)]
    if data:
        found.paths += stores
    else:
        found.kept = stores
    # Where data are that were elsewhere before the role came, one file alone says: without it nobody finds them again.
    says = server.get("places", ("",))[0]
    elsewhere = [place for place in _PLACE.findall(text_of(says)) if os.path.lexists(place)]
    found.kept += elsewhere
    if elsewhere and not data:
        found.paths.remove(says)
        found.kept.append(says)
    return found


def _present(packages: tuple[str, ...]) -> list[str]:
    """Return the packages to remove: of two that do the same, Debian 12 does not know the second."""
    known = [name for name in packages if os.path.exists(f"/var/lib/dpkg/info/{name}.list")]
    return known or list(packages[:1])


def _is_ours(line: str) -> bool:
    name, _password, _uid, _gid, comment = line.split(":")[:5]
    return comment == f"{COMMENT}{name}"


def refusal(waiting: Mapping[str, Any], *, messages: bool) -> str:
    """Return why nothing may be removed: tasks wait in queues, or whether any do is not known; empty when it may.

    Arguments:
        waiting: app -> number of messages in each of its queues, or a text that says why that is not known.
        messages: whether whoever removes it has said that they may be left behind.
    """
    if messages:
        return ""
    reasons = []
    for app, queues in waiting.items():
        if isinstance(queues, str):
            reasons.append(f"whether tasks of {app} wait is not known ({queues})")
            continue
        full = {name: number for name, number in queues.items() if number}
        if full:
            shown = ", ".join(f"{number} in {name}" for name, number in sorted(full.items()))
            reasons.append(f"tasks of {app} wait: {shown}")
    if not reasons:
        return ""
    return (
        f"{'; '.join(reasons)}. Nothing was removed. Let its workers finish them, or write "
        "celeryops_remove_messages: true to leave them to nobody"
    )
