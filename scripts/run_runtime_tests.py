#!/usr/bin/env python
"""Run the runtime's unit tests with other versions of Celery, kombu and redis-py: those of tests/runtime_versions.txt.

    scripts/run_runtime_tests.py               one set of each Celery, with CELERYOPS_THOROUGH all of them
    scripts/run_runtime_tests.py 5.4           the sets whose names begin so
    scripts/run_runtime_tests.py 5.4 -- -x     with further words for pytest

Each set has an environment of its own in build/cache/runtime, which uv makes once. A test that was skipped counts as
one that failed: what a version cannot do is a test of what happens instead.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.suites.run import thorough

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ROOT / "tests" / "runtime_versions.txt"
TESTS = "tests/unit/runtime"
CACHE = ROOT / "build" / "cache" / "runtime"
TOOLS = ("pytest", "pytest-xdist", "hypothesis")
"""What the tests need beside Celery, in the versions of requirements-dev.txt."""


@dataclass(frozen=True)
class Versions:
    """One set.

    :param name: as in the file.
    :param packages: exact requirements.
    :param always: whether `make test` runs it.
    """

    name: str
    packages: tuple[str, ...]
    always: bool


def read(text: str) -> list[Versions]:
    """Read the sets.

    :param text: of the file.
    :returns: in its order.
    :raises ValueError: for a line that is no set, or a package without its exact version.
    """
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, *packages = line.lstrip("* ").split()
        if not packages or any("==" not in package for package in packages):
            raise ValueError(f"{line!r}: a name and exact versions are wanted")
        found.append(Versions(name, tuple(packages), line.startswith("*")))
    return found


def tools(text: str) -> list[str]:
    """Find the tests' tools among the requirements of the development.

    :param text: of requirements-dev.txt.
    :returns: their lines.
    """
    return [line for line in text.splitlines() if line.partition("==")[0] in TOOLS]


def environment(versions: Versions) -> Path:
    """Have the environment of a set.

    :param versions: the set.
    :returns: its interpreter.
    :raises subprocess.CalledProcessError: if uv cannot make it.
    """
    wanted = [*versions.packages, *tools((ROOT / "requirements-dev.txt").read_text(encoding="utf-8")), "packaging"]
    stamp = hashlib.sha256("\n".join([sys.version, sys.base_prefix, *wanted]).encode()).hexdigest()[:12]
    place = CACHE / f"{versions.name}-{stamp}"
    python, done = place / "bin" / "python", place / "installed"
    if not done.exists():
        uv = [str(ROOT / ".venv" / "bin" / "uv"), "--quiet"]
        more = {"UV_SYSTEM_CERTS": "1", "VIRTUAL_ENV": str(place)}
        if index := os.environ.get("PIP_INDEX_URL"):
            more["UV_DEFAULT_INDEX"] = os.environ.get("UV_DEFAULT_INDEX", index)
        base = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
        subprocess.run([*uv, "venv", "--clear", "--python", str(base), str(place)], check=True)
        subprocess.run([*uv, "pip", "install", *wanted], check=True, env={**os.environ, **more})
        done.touch()
    return python


def passed(output: str) -> str:
    """Read pytest's last line.

    :param output: of a run that ended well.
    :returns: how many tests passed; empty if some were not run.
    """
    last = output.strip().rpartition("\n")[2]
    found = re.search(r"(\d+) passed", last)
    return found[1] if found and not re.search(r"skipped|xfailed|xpassed", last) else ""


def main(words: Sequence[str]) -> int:
    """Run them, one set after the other.

    :param words: beginnings of names, then after ``--`` words for pytest.
    :returns: the exit status.
    """
    split = words.index("--") if "--" in words else len(words)
    names, more = words[:split], list(words[split + 1 :])
    chosen = [
        versions
        for versions in read(VERSIONS.read_text(encoding="utf-8"))
        if (any(map(versions.name.startswith, names)) if names else versions.always or thorough())
    ]
    counts = []
    for versions in chosen:
        command = [str(environment(versions)), "-m", "pytest", "-q", "--numprocesses=auto", f"--confcutdir={TESTS}"]
        run = subprocess.run([*command, *more, TESTS], cwd=ROOT, capture_output=True, text=True, check=False)
        number = passed(run.stdout) if run.returncode == 0 else ""
        if not number:
            print(f"{versions.name} ({' '.join(versions.packages)}):\n{run.stdout}{run.stderr}")
            return 1
        counts.append(f"{versions.name}: {number}")
    print(", ".join(counts))
    return 0 if counts else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
