# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""What lines of requirements say about packages and their versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, holds_password

#: The oldest that this collection supports: older ones hang on reconnect and break on RabbitMQ 4.3.
OLDEST = {"celery": Version("5.7"), "kombu": Version("5.7")}
#: What Celery cannot be installed without, and nobody writes down by himself: who names them, names everything.
_FROZEN = frozenset({"billiard", "vine"})


def package_problems(variable: str, packages: Iterable[object], options: str, index: str) -> Iterator[Problem]:
    """Yield what must not stand in a list of requirements, which is shown and kept with the release.

    Arguments:
        variable: where the list stands.
        packages: the requirements.
        options: where options belong.
        index: where an address with a password belongs.
    """
    for package in map(str, packages):
        if "\n" in package or package.lstrip().startswith("-"):
            yield Problem(variable, package, "is an option, not a requirement", options)
        elif holds_password(package):
            yield Problem(variable, package, "contains a password", f"the address as {index}")


def too_old(line: str) -> str:
    """Return the package whose supported versions a line rules out, ``celery`` or ``kombu``; else an empty string.

    Arguments:
        line: a line of a requirements or constraints file; comments, options and hashes may be in it.
    """
    requirement = _requirement(line)
    if requirement is None:
        return ""
    oldest = OLDEST.get(requirement.name.lower())
    if oldest is None:
        return ""
    return requirement.name.lower() if any(_ends_before(one, oldest) for one in requirement.specifier) else ""


def everything(lines: Iterable[str]) -> frozenset[str]:
    """Return the names of the packages that are installed, where the lines name every single one; else nothing.

    Arguments:
        lines: of requirements, as ``pip freeze`` or ``uv pip compile`` write them.
    """
    found = set()
    for line in lines:
        text = line.partition("#")[0].strip()
        requirement = _requirement(text)
        if requirement:
            found.add(canonicalize_name(requirement.name))
        elif text and (not text.startswith("--") or text.startswith(("--requirement", "--editable"))):
            # Another file, a directory, an address: what is in it, nobody knows here.
            return frozenset()
    return frozenset(found) if found >= _FROZEN else frozenset()


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line.partition("#")[0].partition(" --")[0].rstrip("\\ "))
    except InvalidRequirement:
        return None


def _ends_before(specifier: object, oldest: Version) -> bool:
    """Whether no version from ``oldest`` on meets a specifier (PEP 440)."""
    operator, text = str(getattr(specifier, "operator", "")), str(getattr(specifier, "version", ""))
    try:
        version = Version(text.removesuffix(".*"))
    except InvalidVersion:
        return False
    if operator in ("==", "===", "<="):
        # ==5.* allows what ==5 does not.
        wildcard = text.endswith(".*") and version.release == oldest.release[: len(version.release)]
        return version < oldest and not wildcard
    if operator == "<":
        return version <= oldest
    if operator == "~=":
        # ~=5.4.1 means 5.4.*, ~=5.4 means 5.*: the last part may grow, the others may not.
        return version.release[:-1] < oldest.release[: len(version.release) - 1]
    return False
