#!/usr/bin/env python
"""What was seen of which tree: what passed is not repeated, and each row of the support table says of which it is.

The tree is the collection: what its installation puts on a control node, and what reaches a host from there. A mended
test, a page of the docs or a faster lab leave it what it is, so that `make test-all` may take several days.

    scripts/suites_record.py        prints the identity of this checkout's tree
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).resolve().parent.parent
#: What makes the collection, without what people read.
TREE = ("meta", "playbooks", "plugins", "roles")
PROSE = ".md"

_writing = threading.Lock()


def identity(root: Path) -> str:
    """Return what the files of a checkout's collection come to; "" outside of git.

    What is not committed counts as it is, so a change that was tested and then committed keeps its rows.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *TREE],
        check=False,
        cwd=root,
        capture_output=True,
    )
    if listed.returncode:
        return ""
    digest = hashlib.sha256()
    for name in sorted({*listed.stdout.decode().split("\0")} - {""}):
        path = root / name
        if name.endswith(PROSE):
            continue
        if path.is_symlink():
            content = b"-> " + str(path.readlink()).encode()
        elif path.is_file():
            content = path.read_bytes()
        else:
            continue  # deleted, and not committed yet
        mode = "x" if not path.is_symlink() and os.access(path, os.X_OK) else "-"
        digest.update(f"{name}\0{mode}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:8]


def read(path: Path) -> dict[str, Any]:
    """Return the rows of a file, by the name of the run; none where there is no file."""
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return rows


def keep(path: Path, name: str, row: Mapping[str, Any]) -> None:
    """Write one row at once, so that an interruption takes only what was running.

    A failure takes the place of what had passed on an earlier tree: its row says no more that all is well.
    """
    with _writing:
        rows = {**read(path), name: {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), **row}}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(dict(sorted(rows.items())), indent=2) + "\n")
        fresh.replace(path)


def passed(row: Mapping[str, Any] | None, tree: str) -> bool:
    """Tell whether a run has passed on this very tree.

    Args:
        row: what is kept of the run, if anything is.
        tree: the identity of the checkout now; "" is never the same.
    """
    return row is not None and bool(tree) and row.get("tree") == tree and row["passed"] > 0 and row["failed"] == 0


def missing(rows: Mapping[str, Any], wanted: Iterable[str], tree: str) -> list[str]:
    """Return the runs of those wanted that have not passed on this tree."""
    return [name for name in wanted if not passed(rows.get(name), tree)]


if __name__ == "__main__":
    sys.stdout.write(f"{identity(ROOT)}\n")
