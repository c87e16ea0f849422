# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""What lines of requirements say about packages and their versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.module_utils.release import without_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, holds_password
from ansible_collections.celeryops.stack.plugins.plugin_utils.urls import NOT_SHOWN, SEPARATORS, parts_of

#: A line of requirements, and the variable (or the file) that it stands in first.
Line = tuple[str, str]

#: Where lines stand that win over all others.
OVERRIDES = "celery_app_source.overrides"
#: The oldest that this collection supports.
OLDEST = {name: Version(celery_versions.text(oldest)) for name, oldest in celery_versions.OLDEST.items()}
#: What Celery cannot be installed without, and nobody writes down by himself: who names them, names everything.
_FROZEN = frozenset({"billiard", "vine"})
#: What markers ask of a host (packaging.python.org, "Dependency specifiers"), where all hosts are alike.
_DEBIAN = {
    "implementation_name": "cpython", "os_name": "posix", "platform_python_implementation": "CPython",
    "platform_system": "Linux", "sys_platform": "linux",
}  # fmt: skip
#: The Pythons that the runtime works with.
_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_MACHINES = ("x86_64", "aarch64")


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


def index_problems(variable: str, indexes: Iterable[object]) -> Iterator[Problem]:
    """Yield what is wrong with the addresses of package indexes, without showing them.

    Arguments:
        variable: where they stand.
        indexes: as they were written; empty ones are none.
    """
    for index in filter(None, map(str, indexes)):
        # uv takes a name in front, and either installer a folder.
        address = without_name(index)
        if re.search(r"\s", address) or ("://" in address and parts_of(address) is None):
            # Several stand in one variable of the installers, with blanks between them.
            reason = f"cannot be read: blanks and characters such as {SEPARATORS} in a password must be percent-encoded"
            yield Problem(variable, NOT_SHOWN, reason, "the password through urlencode | replace('/', '%2F')")
        elif "://" not in address and not address.startswith(("/", ".")):
            yield Problem(variable, NOT_SHOWN, "is no address", "one such as https://packages.example.org/simple/")


def too_old(line: str) -> str:
    """Return the package whose supported versions a line rules out, ``celery`` or ``kombu``; else an empty string.

    Arguments:
        line: a line of a requirements or constraints file; comments, options and hashes may be in it.
    """
    requirement = _certain(line)
    if requirement is None:
        return ""
    oldest = OLDEST.get(requirement.name.lower())
    if oldest is None:
        return ""
    return requirement.name.lower() if any(_ends_before(one, oldest) for one in requirement.specifier) else ""


def rules_out(line: str, package: str, since: celery_versions.Numbers) -> bool:
    """Return whether a line rules out every version of a package from one on.

    Arguments:
        line: as in ``too_old``.
        package: its canonical name.
        since: the version.
    """
    requirement = _certain(line)
    if requirement is None or canonicalize_name(requirement.name) != package:
        return False
    first = Version(celery_versions.text(since))
    return any(_ends_before(one, first) for one in requirement.specifier)


def is_requirement(line: str) -> bool:
    """Return whether a line names a package, with its versions or without."""
    return bool(_name(line))


def pinned(line: str) -> tuple[str, str]:
    """Return the package and the one version of it that a line allows; empty texts when it allows several."""
    requirement = _certain(line)
    if requirement is None:
        return "", ""
    for one in requirement.specifier:
        if one.operator in ("==", "===") and not one.version.endswith(".*"):
            return canonicalize_name(requirement.name), one.version
    return "", ""


def lines_of(source: Any, extra: Iterable[object]) -> list[Line]:
    """Return every line of requirements that the variables of an app have, each with the variable.

    Arguments:
        source: ``celery_app_source``.
        extra: ``celery_app_extra_packages``.
    """
    source = source if isinstance(source, Mapping) else {}
    found = [("celery_app_source.packages", str(line)) for line in source.get("packages") or ()]
    found += [("celery_app_extra_packages", str(line)) for line in extra or ()]
    for name in ("requirements", "constraints"):
        found += [(f"celery_app_source.{name}", line) for line in str(source.get(name) or "").splitlines()]
    return found + [(OVERRIDES, str(line)) for line in source.get("overrides") or ()]


def in_force(lines: Iterable[Line]) -> list[Line]:
    """Return the lines without those that an override of the same package wins over."""
    lines = list(lines)
    bent = {_name(line) for variable, line in lines if variable == OVERRIDES} - {""}
    return [(variable, line) for variable, line in lines if variable == OVERRIDES or _name(line) not in bent]


def _name(line: str) -> str:
    requirement = _requirement(line)
    return canonicalize_name(requirement.name) if requirement else ""


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


def _certain(line: str) -> Requirement | None:
    """Return the requirement of a line that holds on every host, whatever its Python is.

    What ``uv export`` and ``pip-compile --universal`` write has a line for each Python that differs, and only the host
    knows which is its own.
    """
    requirement = _requirement(line)
    if requirement is None or requirement.marker is None:
        return requirement
    # Whoever reads lines of extras leaves out those that nobody wants.
    extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", str(requirement.marker))
    for version, machine in product(_PYTHONS, _MACHINES):
        host = {"python_version": version, "python_full_version": f"{version}.0", "platform_machine": machine}
        if not requirement.marker.evaluate({**_DEBIAN, **host, "extra": extra[1] if extra else ""}):
            return None
    return requirement


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
