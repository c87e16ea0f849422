# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be shown of the secret files that an app reads. Runs on managed hosts."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import masking, placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: A text that no program would have by accident.
_MIXED = re.compile(r"(?=.*\d)(?=.*\D)[^/\s]\S{7,}")
#: A line of code, which is looked at for what it assigns. A secret may end in "=", or have one in it.
_ASSIGNED = re.compile(r"\w+ += +\S")


def secrets_in(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what must not be shown of secret files.

    An error shows the line that it comes from, so that is hidden as a whole; elsewhere what is named like a secret is.

    Arguments:
        files: as :func:`trial.staged` takes them; only those that are ``secret`` are looked at.
    """
    found: dict[str, None] = {}
    for content in (str(entry["content"]) for entry in files if entry.get("secret")):
        if len(content.strip().splitlines()) == 1 and not _ASSIGNED.match(content):
            # Nothing but the secret, be it a sentence or a short word.
            found.update(dict.fromkeys(masking.secrets_of({"SECRET": content.strip()})))
        for line in (line.strip() for line in content.splitlines()):
            # "import os" and a bracket are no secrets, whatever stands around them.
            if re.search(r"[=:]|^\S{8,}$", line):
                found[line] = None
            name, value = (part.strip(" \"',") for part in (*re.split("[=:]", line, maxsplit=1), "")[:2])
            found.update(dict.fromkeys(masking.secrets_of({name: value})))
            # Whatever it is called: a name or the path of a module has no digits, and a file's path is no secret.
            texts = [value, *re.findall(r"[\"']([^\"']+)[\"']", line)]
            found.update(dict.fromkeys(text for text in texts if _MIXED.fullmatch(text)))
    return list(found)


def secrets_placed(record: str) -> list[str]:
    """Return what must not be shown of the secret files of an app's own that are on the host, changed by now or not.

    Arguments:
        record: path of the record of them (``placed``). What everybody may read is no secret: none may be so open.
    """
    files = []
    for path in placed.read(record):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
            if not os.fstat(stream.fileno()).st_mode & 0o004:
                files.append({"content": stream.read(), "secret": True})
    return secrets_in(files)
