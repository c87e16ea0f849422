"""What was seen of which tree: a run that passed is not repeated, and the support table has rows of one tree only."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: What recording itself writes; the tree is the same with it and without.
WRITTEN = ("tests/support.json", "tests/durations.json")
TABLE = re.compile(rb"(?s)<!-- BEGIN_SUPPORT -->.*?<!-- END_SUPPORT -->")

_writing = threading.Lock()


def identity(root: Path) -> str:
    """Return what the files of a checkout come to, without what recording writes; "" outside of git.

    What is not committed counts as it is, so a change that was tested and then committed keeps its rows.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=False,
        cwd=root,
        capture_output=True,
    )
    if listed.returncode:
        return ""
    digest = hashlib.sha256()
    for name in sorted({*listed.stdout.decode().split("\0")} - {"", *WRITTEN}):
        path = root / name
        if path.is_symlink():
            content = b"-> " + str(path.readlink()).encode()
        elif path.is_file():
            content = path.read_bytes()
        else:
            continue  # deleted, and not committed yet
        if name == "README.md":
            content = TABLE.sub(b"", content)
        mode = "x" if not path.is_symlink() and os.access(path, os.X_OK) else "-"
        digest.update(f"{name}\0{mode}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    """Return the rows of a file, by the name of the run; none where there is no file."""
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return rows


def keep(path: Path, name: str, row: Mapping[str, Any]) -> None:
    """Write one row at once, so that an interruption takes only what was running."""
    with _writing:
        rows = {**read(path), name: {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), **row}}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(dict(sorted(rows.items())), indent=2) + "\n")
        fresh.replace(path)


def passed(row: Mapping[str, Any] | None, tree: str, *, thorough: bool) -> bool:
    """Tell whether a run has passed on this very tree, with no fewer tests than are wanted now.

    Args:
        row: what is kept of the run, if anything is.
        tree: the identity of the checkout now; "" is never the same.
        thorough: whether every long test is wanted.
    """
    return (
        row is not None
        and bool(tree)
        and row.get("tree") == tree
        and bool(row.get("thorough")) >= thorough
        and row["passed"] > 0
        and row["failed"] == 0
    )


def publish(rows: Mapping[str, Any], wanted: Iterable[str], tree: str, path: Path) -> list[str]:
    """Write the file of the support table, if all of it was seen on this very tree.

    Args:
        rows: what is kept, by the name of the run.
        wanted: the runs that the table speaks for.
        tree: the identity of the checkout.
        path: the file.

    Returns:
        The runs that have not passed on this tree; the file is as it was when there are any.
    """
    names = list(wanted)
    missing = [name for name in names if not passed(rows.get(name), tree, thorough=True)]
    if not missing:
        kept = {name: {key: value for key, value in rows[name].items() if key != "thorough"} for name in names}
        path.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n")
    return missing
