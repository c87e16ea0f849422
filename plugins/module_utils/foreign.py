# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign files: before one is replaced for the first time, a copy is kept beside it.

A file of this collection is recognised by its first lines (``MARKER``), its name, or without comments (JSON, a list of
plugins) by a record of placed paths. A file of comments only counts as nobody's.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import paths

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKER = b"Managed by celeryops.stack"
#: Behind the name of the copy stands what logrotate, apt, systemd and RabbitMQ's conf.d leave out: no ending that they
#: read, and the sign of a backup.
SUFFIX = ".before-celeryops~"
RECORD = paths.PLACED
#: How far the marker is looked for.
_HEAD = 1024
#: What can hold no mark, and the file beside it that has been written with it since the first version.
_WITNESSES = dict.fromkeys(
    ("/etc/rabbitmq/definitions.json", "/etc/rabbitmq/enabled_plugins", "/var/lib/rabbitmq/.erlang.cookie"),
    "/etc/rabbitmq/rabbitmq.conf",
)
_COMMENT = (b"#", b"%", b";", b"//")


def is_foreign(path: str, content: bytes, recorded: Iterable[str], pristine: str = "") -> bool:
    """Return whether a file is one that somebody else wrote, and that says anything.

    Arguments:
        path: where it is.
        content: what is in it.
        recorded: the paths that this collection placed.
        pristine: a regular expression for contents that a package makes by itself.
    """
    if "celeryops" in path or path in recorded or MARKER in content[:_HEAD] or _beside_our_own(path):
        return False
    lines = [line.strip() for line in content.splitlines()]
    if all(not line or line.startswith(_COMMENT) for line in lines):
        return False
    return not (pristine and re.fullmatch(pristine, content.decode("utf-8", errors="replace").strip()))


def _beside_our_own(path: str) -> bool:
    """Return whether what can hold no mark is of a server that this collection set up before it kept records."""
    witness = _WITNESSES.get(path)
    try:
        with open(witness or "", "rb") as stream:
            return MARKER in stream.read(_HEAD)
    except OSError:
        return False


def needs_record(path: str, content: bytes) -> bool:
    """Return whether a file of this collection can be told as such by a record only."""
    return "celeryops" not in path and MARKER not in content[:_HEAD]


def keep(path: str, content: bytes, mode: int) -> str:
    """Copy a file beside itself, once, and return where; an empty text when a copy is there already.

    Arguments:
        path: the file.
        content: what is in it.
        mode: that of the file which replaces it: the copy is for nobody for whom one of the two is not.
    """
    target = path + SUFFIX
    status = os.stat(path)
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return ""
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        os.fchown(handle, status.st_uid, status.st_gid)
        os.fchmod(handle, stat.S_IMODE(status.st_mode) & (mode | stat.S_IRUSR | stat.S_IWUSR))
    return target


def recorded(path: str = RECORD) -> set[str]:
    """Return the paths that this collection placed and that nothing else tells."""
    try:
        with open(path, encoding="utf-8") as stream:
            return set(stream.read().splitlines())
    except FileNotFoundError:
        return set()


def record(paths: Iterable[str], path: str = RECORD) -> None:
    """Add paths to the record; several processes may do so at a time."""
    text = "".join(f"{entry}\n" for entry in paths)
    if text:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text)
