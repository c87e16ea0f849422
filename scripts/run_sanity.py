#!/usr/bin/env python
"""Run `ansible-test sanity` on all files of the repository, with the ansible-core of this Python. No test is left out.

    scripts/run_sanity.py                      all tests
    scripts/run_sanity.py --test pylint        some; all words are ansible-test's

A warning fails it too. ansible-test wants a collection below ansible_collections/, which no git repository surrounds,
so it gets a copy. What its tests need it installs by itself, once, into environments below the home that it is given,
build/cache/sanity. Standard library only: run_control_nodes.py runs it on control nodes with other versions.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "cache" / "sanity"
COLLECTION = Path("ansible_collections", "celeryops", "stack")
#: ansible-test would fetch pip's own bootstrap script (ansible_test/_util/target/setup/requirements.py). This one does
#: the same with what Python has, and from the package index that pip is set up for.
BOOTSTRAP = """\
import subprocess, sys
words = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
# In a process of its own, since it sets variables that turn pip's configuration off.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *words]).returncode)
"""
#: What ansible-test says, and repeats at its end, where a machine's language is not American English.
LOCALE = re.compile(r'WARNING: (Using locale "[\w.-]+" instead of|Reviewing previous \d+ warning)')


def copy(root: Path, folder: Path) -> Path:
    """Copy the files that are in the repository, or about to be, and return where ansible-test finds them.

    Args:
        root: the checkout.
        folder: an empty one.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    tree = folder / COLLECTION
    for name in filter(None, listed.split("\0")):
        # One that was deleted is listed until that is committed.
        if os.path.lexists(root / name):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name, follow_symlinks=False)
    return tree


def pip_configuration(environment: Mapping[str, str], own: str) -> configparser.RawConfigParser:
    """Return pip's configuration as a file says it: ansible-test hands no variables on, and has another home.

    Args:
        environment: variables, of which those of pip count.
        own: the text of the user's file; empty for none.
    """
    found = configparser.RawConfigParser()
    found.read_string(own)
    if not found.has_section("global"):
        found.add_section("global")
    # It tells of its findings only by errors: what it installs goes with what the tests say.
    found.set("global", "quiet", "2")
    for name, value in environment.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE":
            found.set("global", name[4:].lower().replace("_", "-"), value)
    return found


def prepare(home: Path, versions: str, environment: Mapping[str, str]) -> None:
    """Let ansible-test install what its tests need.

    Args:
        home: the home directory that it is given.
        versions: the text of ansible_test/_internal/python_requirements.py, which names its version of pip.
        environment: the variables of this process.

    Raises:
        ValueError: the text names no version of pip.
    """
    version = re.search(r"\bpip='([\d.]+)'", versions)
    if not version:
        raise ValueError("this ansible-test does not say which pip it wants")
    bootstrap = home / ".ansible" / "test" / "cache" / f"get_pip_{version[1].replace('.', '_')}.py"
    configuration = home / ".config" / "pip" / "pip.conf"
    own = Path(environment.get("PIP_CONFIG_FILE") or Path(environment["HOME"], ".config", "pip", "pip.conf"))
    text = own.read_text() if own.is_file() else ""
    for path in (bootstrap, configuration):
        path.parent.mkdir(parents=True, exist_ok=True)
    bootstrap.write_text(BOOTSTRAP)
    with configuration.open("w") as stream:
        pip_configuration(environment, text).write(stream)


def faults(output: str) -> list[str]:
    """Return the lines of ansible-test's output that somebody has to do something about."""
    lines = [line for line in output.splitlines() if line.startswith(("ERROR", "WARNING", "FATAL", "[WARNING]"))]
    return [line for line in lines if not LOCALE.match(line)]


def run(tree: Path, home: Path, words: Sequence[str]) -> int:
    """Run the tests, say what they found, and return the exit status.

    Args:
        tree: the collection, below ansible_collections/.
        home: keeps the environments of the tests.
        words: further ones for ansible-test.
    """
    package = importlib.util.find_spec("ansible_test")
    if not package or not package.origin:
        raise ModuleNotFoundError(f"{sys.executable} has no ansible-test")
    versions = Path(package.origin).parent / "_internal" / "python_requirements.py"
    prepare(home, versions.read_text(), os.environ)
    programs = Path(sys.executable).parent
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    finished = subprocess.run(
        [sys.executable, str(programs / "ansible-test"), "sanity", "--color=no", f"--python={python}", *words],
        cwd=tree, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={
            "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(home / ".ansible"), "PYTHONDONTWRITEBYTECODE": "1",
        },
    )  # fmt: skip
    found = faults(finished.stdout)
    tests = len(re.findall(r"^Running sanity test ", finished.stdout, re.MULTILINE))
    if finished.returncode or found or not tests:
        sys.stdout.write(finished.stdout)
        sys.stdout.write("\n".join(["", f"{len(found)} lines to look at:", *found, ""]))
        return finished.returncode or 1
    sys.stdout.write(f"{tests} tests\n")
    return 0


def main(words: Sequence[str]) -> int:
    """Run the tests on a copy of the checkout, or with ``--tree TREE HOME`` on one that is laid already."""
    if words[:1] == ["--tree"]:
        return run(Path(words[1]), Path(words[2]), words[3:])
    with tempfile.TemporaryDirectory(prefix="celeryops-sanity-") as folder:
        return run(copy(ROOT, Path(folder)), HOME, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
