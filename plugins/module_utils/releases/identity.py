# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of a release: a readable part, then a digest of everything that determines its content. No I/O here."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What of a source decides what gets installed. Credentials and where packages come from do not: a new password for
#: the index must not build the same release again.
_IDENTITY = (
    "type", "packages", "requirements", "constraints", "require_hashes", "extras", "subdirectory", "requirements_file",
    "install_as", "build",
)  # fmt: skip
_URL_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,20}://)[^/\s@]+(?::[^\s@]*)?@", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def release_id(source: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the name of the release that ``source`` makes: readable first, then a digest of everything that counts.

    Arguments:
        source: the role's ``celery_app_source``.
        facts: ``content`` (digest of a wheel or tree), ``commit`` (of a git source), ``python`` (major.minor),
            ``machine`` and ``extra_packages``.
    """
    inputs = {key: source.get(key) or None for key in _IDENTITY}
    inputs["index"] = strip_credentials(source.get("index_url") or "")
    if source.get("overrides"):
        # A release without any keeps its name.
        inputs["overrides"] = list(source["overrides"])
    digest = hashlib.sha256(json.dumps([inputs, dict(facts)], sort_keys=True).encode()).hexdigest()
    return f"{label(source, facts)}-{digest[:10]}"


def label(source: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return what a person would call the release: a version, a tag, a commit or the name of a directory."""
    kind = source["type"]
    text = kind
    if kind == "pip":
        first = next(iter(source.get("packages") or []), "") or (source.get("requirements") or "").strip()
        match = re.match(r"[^\s;#]*?===?\s*([^\s;,#\\]+)", str(first))
        text = match.group(1) if match else re.split(r"[\s\[<>=!~;@]", str(first))[0]
    elif kind == "wheel":
        parts = str(source["path"]).rpartition("/")[2].split("-")
        text = parts[1] if len(parts) > 4 else parts[0]
    elif kind == "git":
        version = str(source["version"])
        text = version[:12] if _COMMIT.fullmatch(version) else f"{version}-{str(facts.get('commit') or '')[:7]}"
    elif kind == "path":
        text = str(source["path"]).rstrip("/").rpartition("/")[2]
    text = re.sub(r"[^A-Za-z0-9.+_-]+", "-", text).strip("-.")[:40]
    return text or kind


def is_commit(version: str) -> bool:
    """Return whether ``version`` names one commit for ever."""
    return bool(_COMMIT.fullmatch(version))


def strip_credentials(text: str) -> str:
    """Return ``text`` with user and password removed from every URL in it."""
    return _URL_CREDENTIALS.sub(r"\g<scheme>", text)
