"""What the shop keeps on disk: plain files below one directory."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JOURNAL = "journal.jsonl"


def directory(name: str = "") -> Path:
    """Return the state directory, or one below it, made when it is missing."""
    path = Path(os.environ.get("SHOP_STATE") or "shop-state") / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def write(name: str, text: str) -> Path:
    """Write a file whole: a reader sees the old content or the new, never half of it."""
    path = directory() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-", delete=False, encoding="utf-8") as handle:
        handle.write(text)
    Path(handle.name).replace(path)
    return path


def create(name: str, text: str) -> bool:
    """Write a file unless it is there already, and say whether this call wrote it."""
    path = directory() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def note(event: str, **values: Any) -> None:
    """Append one line to the journal. One write of one short line: processes do not tear each other's lines."""
    line = json.dumps({"event": event, "time": time.time(), **values}, sort_keys=True) + "\n"
    handle = os.open(directory() / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def journal(since: float = 0.0) -> Iterator[dict[str, Any]]:
    """Yield the journal's entries that are not older than `since`."""
    path = directory() / JOURNAL
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["time"] >= since:
                yield entry


def expire(names: tuple[str, ...], older_than: float) -> int:
    """Delete the files below the named directories that were last written before `older_than`."""
    gone = 0
    for name in names:
        for path in directory(name).iterdir():
            try:
                if path.stat().st_mtime < older_than:
                    path.unlink()
                    gone += 1
            except FileNotFoundError:
                continue  # another process was quicker
    return gone
