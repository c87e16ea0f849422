# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses lines of requirements into packages and versions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

# ansible-core brings it; `ansible-test sanity --test import` runs without.
with contextlib.suppress(ImportError):
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions
from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import SEPARATORS, UnreadableURLError, parse
from ansible_collections.celeryops.stack.plugins.module_utils.masking import user_part
from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import without_name
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, holds_password

#: A line of requirements, and the variable (or the file) that it stands in first.
Line = tuple[str, str]

#: Names of files: those without a version are names of packages as well, which an installer looks for on an index.
_FILE = re.compile(
    r"\S*\.(txt|lock)|\S*(requirements|constraints)\S*\.in"
    r"|(\S*/)?(Pipfile|setup\.(cfg|py)|environment\.ya?ml|py(project|lock(\.\w+)?)\.toml)",
    re.IGNORECASE,
)
#: What is installed from a file or a directory.
_LOCAL = re.compile(r"\.|~|\S*\.(whl|tar\.gz|zip)(\[|$)", re.IGNORECASE)
#: Options of a requirements file that name another file, a directory or an address.
_LEADS = re.compile(
    r"(-r|--requirement|-c|--constraint|-f|--find-links|(?P<editable>-e|--editable))"
    r"(\s*=\s*|\s+|(?<=-[rcfe]))(?P<place>\S+)"
)
#: Options with an address that the pip which builds a package gets as an argument (pip/_internal/build_env.py, 23.0
#: to 25.1).
_SHOWN_BY_PIP = re.compile(r"(-i|--index-url|--extra-index-url|-f|--find-links)(\s*=\s*|\s*)(?P<place>\S+)")
#: What an installer on the host finds by itself: a path there, an address, and what it has to replace before.
_ON_THE_HOST = re.compile(r"/\S|\w[\w+.-]*://\S|\$\{\w+\}")
_COMMENT = re.compile(r"(^|\s)#.*")
#: How the names of files end that hold requirements, and what makes one of another file.
_READ = (".txt", ".in")
_EXPORTED = "what `uv export --no-emit-project` or `poetry export` makes of it"
REQUIREMENT_EXAMPLE = "a package with its versions, such as celery[redis]>=5.6"
#: Where lines stand that win over all others.
OVERRIDES = "celery_app_source.overrides"
#: The oldest that this collection supports.
OLDEST = {name: celery_versions.text(oldest) for name, oldest in celery_versions.OLDEST.items()}
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
            yield Problem("option-among-requirements", variable, package, "is an option, not a requirement", options)
        elif holds_password(package):
            yield Problem("contains-a-password", variable, package, "contains a password", f"the address as {index}")
        else:
            yield from _line_problems(variable, package, f"{REQUIREMENT_EXAMPLE}, one in each entry")


def text_problems(variable: str, text: str, installer: str) -> Iterator[Problem]:
    """Yield what cannot be in the content of a requirements or constraints file, which alone gets to the host.

    Arguments:
        variable: where the content stands.
        text: that content.
        installer: ``uv`` or ``pip``.
    """
    # Editors of Windows mark the begin of a file.
    for line in re.sub(r"\\\r?\n", " ", text.removeprefix("\ufeff")).splitlines():
        option = _COMMENT.sub("", line).strip()
        leads, told = _LEADS.match(option), _SHOWN_BY_PIP.match(option)
        if told and installer == "pip" and any(user_part(told["place"])):
            reason = "has a user or a password, which pip shows to everyone on the host while it builds a package"
            instead = "index_url or extra_index_urls, or PIP_FIND_LINKS in celery_app_install_environment"
            yield Problem("account-in-the-address", variable, f"{told[1]} (not shown)", reason, instead)
        elif not leads:
            if not line.lstrip().startswith("-"):
                yield from _line_problems(variable, line, f"{REQUIREMENT_EXAMPLE}, one in each line")
        elif not _ON_THE_HOST.match(leads["place"]):
            # `uv export` and `pip freeze` name the app itself so.
            reason = "names a file or directory that does not come to the host with this text"
            instead = "what is in that file, or leave the line out; a directory is a source of the type path"
            yield Problem("names-a-file-or-directory", variable, line.strip(), reason, instead)
        elif leads["editable"] and "://" in leads["place"] and installer == "uv":
            instead = "name @ git+https://..., or celery_app_installer: pip"
            reason = "is not a directory: uv has nothing else as editable"
            yield Problem("editable-not-a-directory", variable, line.strip(), reason, instead)


def _line_problems(variable: str, line: str, instead: str) -> Iterator[Problem]:
    """Yield why no installer could read a line without options, or would take it for another thing than was meant."""
    line = _COMMENT.sub("", line).strip()
    if not line:
        return
    if _FILE.fullmatch(line):
        reason = "is the name of a file, and an installer looks for a package of that name"
        yield Problem("name-of-a-file", variable, line, reason, _content_of(line, variable) or instead)
    elif _ON_THE_HOST.match(line) or (is_requirement(line) and "://" in line):
        return
    elif _LOCAL.match(line):
        reason = "is not a path on the host"
        instead = "an absolute one; what is on this machine is a source of the type wheel or path"
        yield Problem("no-path-on-the-host", variable, line, reason, instead)
    elif not is_requirement(line):
        yield Problem("not-a-requirement", variable, line, "is not a requirement", instead)


def file_problems(variable: str, name: str) -> Iterator[Problem]:
    """Yield that a file, which the source of an app names, is by its name none that pip and uv read as requirements."""
    if _FILE.fullmatch(name) and not name.lower().endswith(_READ):
        yield Problem("no-requirements-file", variable, name, "is not a requirements file", f"the path of {_EXPORTED}")


def _content_of(name: str, variable: str) -> str:
    """Return how the content of a file gets into a variable that takes one; else an empty text."""
    if not variable.endswith((".requirements", ".constraints")):
        return ""
    if not name.lower().endswith(_READ):
        return _EXPORTED
    path = f"'{name}'" if name.startswith("/") else f"inventory_dir ~ '/{name}'"
    return f"\"{{{{ lookup('ansible.builtin.file', {path}) }}}}\", which is what it holds"


def index_problems(variable: str, indexes: Iterable[object]) -> Iterator[Problem]:
    """Yield what is wrong with the addresses of package indexes, without showing them.

    Arguments:
        variable: where they stand.
        indexes: as they were written; empty ones are none.
    """
    for index in filter(None, map(str, indexes)):
        # uv takes a name in front, and either installer a folder.
        address = without_name(index)
        if re.search(r"\s", address) or ("://" in address and not _can_be_read(address)):
            # Several stand in one variable of the installers, with blanks between them.
            reason = f"cannot be read: blanks and characters such as {SEPARATORS} in a password must be percent-encoded"
            instead = "the password through urlencode | replace('/', '%2F')"
            yield Problem("not-percent-encoded", variable, NOT_SHOWN, reason, instead)
        elif "://" not in address and not address.startswith(("/", ".")):
            reason = "is not an address"
            yield Problem("no-address", variable, NOT_SHOWN, reason, "one such as https://packages.example.org/simple/")


def _can_be_read(address: str) -> bool:
    try:
        return bool(parse(address))
    except UnreadableURLError:
        return False


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
    first = Version(oldest)
    return requirement.name.lower() if any(_ends_before(one, first) for one in requirement.specifier) else ""


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
