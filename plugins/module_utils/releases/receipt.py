# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module release looks at on a host when it finds nothing to do (``receipts``)."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import receipts
from ansible_collections.celeryops.stack.plugins.module_utils.debian_packages import STATUS
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths, folders_of
from ansible_collections.celeryops.stack.plugins.module_utils.releases.identity import is_commit
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request

#: The host's own accounts and groups.
_ACCOUNTS = ("/etc/passwd", "/etc/group")


def may_be_left(request: Request, result: Mapping[str, Any]) -> bool:
    """Tell whether the same call can be answered without being made.

    A branch may lead elsewhere, somebody else looks after a virtual environment of the host, and a release that is only
    kept while a process runs from it goes with the process. A call that selects, prepares or takes a release is always
    made.

    Arguments:
        request: of the module.
        result: what it found.
    """
    source = request["source"]
    fixed = source["type"] in ("path", "wheel", "pip") or (
        source["type"] == "git" and is_commit(str(source.get("version")))
    )
    none_spare = len(Store(request["name"]).complete()) <= request["keep"]
    plain = request["switch"] and not (request["take"] or request["select"])
    done = "release" in result and not (result["changed"] or result.get("held") or result.get("due"))
    return bool(
        request["receipt"] and fixed and plain and none_spare and done and result["previous"] == result["release"]
    )


def look_of(request: Request) -> dict[str, Any]:
    """Return how everything looks on the host that decides what is to be done.

    Arguments:
        request: of the module.
    """
    own = AppPaths(request["name"])
    python = request["python"]
    candidates = [python] if "/" in python else [f"{folder}/{python}" for folder in os.get_exec_path()]
    environment = os.path.realpath(own.current)
    above = {
        part
        for entry in request["configuration"]
        if entry.get("own")
        for part in (entry["path"], *folders_of(entry["path"]))
        for part in (part, os.path.realpath(part))
    }
    group = (request["account"] or {}).get("group")
    return receipts.seen(
        [
            *(own.base, own.releases, own.current, own.history, STATUS, *_ACCOUNTS),
            *(path for candidate in [*candidates, f"{environment}/bin/python"] for path in receipts.links(candidate)),
            f"{environment}/pyvenv.cfg",
            *sorted(glob.glob(f"{glob.escape(own.releases)}/*/release.json")),
            *sorted(above),
        ],
        users=[request["user"]],
        groups=[group] if group else [],
        folders=[own.releases, *sorted(glob.glob(f"{glob.escape(environment)}/lib/python3*/site-packages"))],
    )
