# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link to the release in use, and the note of when it led where."""

from __future__ import annotations

import json
import os
import time
from typing import Any

HISTORY = "activations.json"


def leads_to(base: str) -> str:
    """Return what the link of the app below ``base`` holds; empty when there is none."""
    try:
        return os.readlink(f"{base}/current")
    except OSError:
        return ""


def read_history(base: str) -> dict[str, Any]:
    """Return the note: ``activations``, (time, release) of each switch; ``verified``, path -> how it was imported."""
    try:
        with open(f"{base}/{HISTORY}", encoding="utf-8") as stream:
            history: dict[str, Any] = json.load(stream)
    except (OSError, ValueError):
        return {"activations": [], "verified": {}}
    verified = history.get("verified") or {}
    if isinstance(verified.get("path"), str):
        # As version 0.1.0 wrote it: the last one only.
        history["verified"] = {verified["path"]: {key: verified.get(key) for key in ("import", "user")}}
    return history


def save_history(base: str, history: dict[str, Any]) -> None:
    """Replace the note; what was verified and is gone is forgotten."""
    history["activations"] = history["activations"][-100:]
    history["verified"] = {path: how for path, how in history["verified"].items() if os.path.exists(path)}
    # A digest of the environment is in it, by which somebody could try what a short password is.
    write_json(f"{base}/{HISTORY}", history, 0o600)


def switch(base: str, target: str, history: dict[str, Any]) -> None:
    """Let the link lead to ``target`` in one step, and note when; the caller saves the note."""
    temporary = f"{base}/.current-{os.getpid()}"
    os.symlink(target, temporary)
    os.replace(temporary, f"{base}/current")
    history["activations"].append([
        time.time(), os.path.basename(target) if target.startswith("releases/") else target
    ])  # fmt: skip


def write_json(path: str, content: object, mode: int = 0o644) -> None:
    """Replace the file ``path`` whole."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as stream:
        os.chmod(temporary, mode)
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.write("\n")
    os.replace(temporary, path)
