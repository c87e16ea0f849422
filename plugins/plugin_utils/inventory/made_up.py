# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that this machine generated and that, as far as it knows, are not on any host yet.

Made up because their file was missing: on the first run, or since this is another machine than the one that has them.
Which of the two it is the hosts know. Until they were asked, a file beside the passwords names those that were made up,
with a digest, so that one which somebody replaced meanwhile is none of them any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

#: No name of an app begins so, and no lookup asks for it.
LIST = ".made_up.json"
ROTATE = "celeryops_rotate_secrets"
OF_SERVERS = {
    "rabbitmq_admin_password": "rabbitmq", "rabbitmq_erlang_cookie": "rabbitmq", "redis_admin_password": "redis",
    "redis_replication_password": "replication", "redis_sentinel_password": "replication",
    "sentinel_admin_password": "sentinel", "sentinel_client_password": "sentinel", "sentinel_peer_password": "sentinel",
}  # fmt: skip
_OF_AN_APP = {
    "_flower_rabbitmq_password": "flower_rabbitmq", "_flower_cookie_secret": "flower_cookie",
    "_flower_password": "flower", "_rabbitmq_password": "rabbitmq", "_redis_password": "redis",
}  # fmt: skip


def note(secrets: Path, names: Iterable[str]) -> None:
    """Remember that the files ``names`` in the folder ``secrets`` were made up.

    Raises:
        OSError: the folder cannot be written to.
    """
    listed = {**made_up(secrets), **{name: _digest(secrets / name) for name in names}}
    path = secrets / LIST
    path.write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    path.chmod(0o600)


def made_up(secrets: Path) -> dict[str, str]:
    """Return name -> digest of the files in ``secrets`` that were made up and are still as they were."""
    listed: Any = None
    with contextlib.suppress(OSError, ValueError):
        listed = json.loads((secrets / LIST).read_text(encoding="utf-8"))
    listed = listed if isinstance(listed, dict) else {}
    return {name: digest for name, digest in listed.items() if digest == _digest(secrets / name)}


def forget(secrets: Path) -> None:
    """Take the passwords for those of the hosts: no host has others."""
    with contextlib.suppress(OSError):
        (secrets / LIST).unlink()


def in_use(names: Iterable[str], machine: Mapping[str, Any]) -> list[str]:
    """Return which of the passwords a host has in use already, whatever they are there.

    Arguments:
        names: of files, such as ``shop_rabbitmq_password``.
        machine: the fact ``celeryops_machine``.
    """
    ours = machine.get("ours", {})
    found = []
    for name in names:
        ending = next((text for text in _OF_AN_APP if name.endswith(text)), "")
        app = ours.get("apps", {}).get(name.removesuffix(ending), {}) if ending else {}
        if OF_SERVERS.get(name) in ours.get("secrets", ()) or (ending and _OF_AN_APP[ending] in app.get("secrets", ())):
            found.append(name)
    return found


def question(
    secrets: Path, names: Iterable[str], seen: Mapping[str, Mapping[str, Any]], expected: Iterable[str]
) -> Iterator[Found]:
    """Yield that passwords of hosts would become others although nobody asked for it.

    Arguments:
        secrets: the folder.
        names: of the files that were made up.
        seen: host -> the fact ``celeryops_machine``, of those that this run has looked at.
        expected: the hosts with a duty.
    """
    names = sorted(names)
    instead = (
        "set celeryops_secrets_dir to the folder that has them (.celeryops/secrets of the machine that ran this "
        f"before), or {ROTATE}: true to replace them on all hosts"
    )
    for host, machine in seen.items():
        used = in_use(names, machine)
        if used:
            reason = f"passwords are in use that are missing in {secrets}: {some_of(used, 4)}"
            yield Found("passwords-made-up", "celeryops_secrets_dir", host, reason, instead)
            return
    unknown = [host for host in expected if host not in seen]
    if names and unknown:
        reason = f"this run did not reach it, so it may use passwords that are missing in {secrets}"
        yield Found("host-not-looked-at", "celeryops_secrets_dir", unknown[0], reason, instead)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
