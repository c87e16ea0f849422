# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Celery requirements in an app's source on the control machine: a directory or a wheel."""

from __future__ import annotations

import contextlib
import re
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from typing import TYPE_CHECKING, Any

# ansible-core brings it; `ansible-test sanity --test import` runs without.
with contextlib.suppress(ImportError):
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import Line

#: The packages whose versions matter to the collection.
PACKAGES = frozenset({"celery", "kombu", "redis"})
#: Where their lines are said to stand.
VARIABLE = "celery_app_source.path"
_SOURCE = "celery_app_source"
#: Lock files that no installation of a release reads: they say what the app's own developers run it with.
_LOCKS = ("uv.lock", "pylock.toml", "poetry.lock", "pdm.lock")
#: What makes an entry of Poetry's table one for some hosts only, or for who asks for it.
_POETRY_CONDITIONS = frozenset({"markers", "optional", "platform", "python"})
_INCLUDED = re.compile(r"\s*(?:-r|--requirement|-c|--constraint)[\s=]+(\S+)")


@dataclass(frozen=True)
class SourceLines:
    """Lines about Celery, kombu and redis-py; each ends in a comment with the name of its file.

    Arguments:
        lines: that the installation of the release follows.
        locked: that it does not read.
    """

    lines: tuple[Line, ...] = ()
    locked: tuple[Line, ...] = ()


def read_source(source: Mapping[str, Any], local: Path) -> SourceLines:
    """Return what a wheel or a directory says; nothing of a file that cannot be read, which the installer will tell.

    Arguments:
        source: ``celery_app_source``, of the type ``wheel`` or ``path``.
        local: where that is on this machine.
    """
    extras = {str(extra) for extra in source.get("extras") or ()}
    if source.get("type") == "wheel":
        return SourceLines(tuple(_lines(_of_wheel(local, extras), local.name)))
    root = local / str(source.get("subdirectory") or "")
    project = _toml(root / "pyproject.toml")
    lines: list[Line] = []
    if source.get("install_as") != "tree":
        lines += _lines(of_project(project, extras), "pyproject.toml")
    named = str(source.get("requirements_file") or "")
    if named:
        lines += of_requirements(root, named)
    locked = [line for name in _LOCKS for line in _lines(of_lock(_toml(root / name)), name)]
    if named != "requirements.txt":
        locked += of_requirements(root, "requirements.txt")
    return SourceLines(tuple(lines), tuple(locked))


def missing_parts(source: Mapping[str, Any], local: Path) -> Iterator[Problem]:
    """Yield what the variables name and a wheel or a directory on this machine does not have.

    Arguments:
        source: ``celery_app_source``, of the type ``wheel`` or ``path``.
        local: where that is on this machine.
    """
    name, file = str(source.get("subdirectory") or ""), str(source.get("requirements_file") or "")
    root = local / name
    if source.get("type") == "path" and not root.is_dir():
        reason = f"is not a directory of the source ({root})"
        yield Problem("no-directory-of-the-source", f"{_SOURCE}.subdirectory", name, reason, "the path of one that is")
        return
    if source.get("type") == "path" and file and not (root / file).is_file():
        reason = f"is not a file of the source ({root / file})"
        yield Problem("no-file-of-the-source", f"{_SOURCE}.requirements_file", file, reason, "the path of one that is")
    if source.get("install_as") == "tree":
        return
    known = _extras_of_wheel(local) if source.get("type") == "wheel" else _extras_of(_toml(root / "pyproject.toml"))
    for extra in map(str, source.get("extras") or ()) if known is not None else ():
        if canonicalize_name(extra) not in map(canonicalize_name, known or ()):
            # Installers go on without it, and uv says so nowhere when it is quiet.
            instead = did_you_mean(extra, known or ()) if known else "leave it out: there is none"
            reason = "is not an extra of the app, and would install nothing"
            yield Problem("no-extra-of-the-app", f"{_SOURCE}.extras", extra, reason, instead)


def _extras_of(project: Mapping[str, Any]) -> list[str] | None:
    """Return the extras of a ``pyproject.toml``; None where something else says them."""
    table, tool = project.get("project"), project.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, Mapping) else None
    if isinstance(poetry, Mapping):
        table = {"optional-dependencies": poetry.get("extras"), **(table if isinstance(table, Mapping) else {})}
    if not isinstance(table, Mapping) or "optional-dependencies" in (table.get("dynamic") or ()):
        return None
    return [str(extra) for extra in table.get("optional-dependencies") or ()]


def of_project(project: Mapping[str, Any], extras: set[str]) -> Iterator[str]:
    """Yield the requirements of a ``pyproject.toml``, of Poetry's table those that are one version or a range."""
    table = project.get("project")
    table = table if isinstance(table, Mapping) else {}
    optional = table.get("optional-dependencies")
    wanted_extras = set(map(canonicalize_name, extras))
    yield from (str(line) for line in table.get("dependencies") or ())
    for extra, lines in optional.items() if isinstance(optional, Mapping) else ():
        if canonicalize_name(str(extra)) in wanted_extras:
            yield from (str(line) for line in lines or ())
    tool = project.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, Mapping) else None
    wanted = poetry.get("dependencies") if isinstance(poetry, Mapping) else None
    for name, entry in wanted.items() if isinstance(wanted, Mapping) else ():
        if isinstance(entry, Mapping) and entry.keys() & _POETRY_CONDITIONS:
            continue
        version = str(entry.get("version") or "") if isinstance(entry, Mapping) else str(entry)
        ranges = [_of_poetry(part.strip()) for part in version.split(",")]
        if all(ranges):
            yield f"{name}{','.join(ranges)}"


def _of_poetry(version: str) -> str:
    """Return a part of a version in Poetry's words as a requirement has it; empty where that is not one range.

    python-poetry.org, "Dependency specification": a bare version is that version, ``^`` lets all behind the first part
    that is not 0 grow, ``~`` all behind the second.
    """
    if re.match(r"\d", version):
        return f"=={version}"
    if re.match(r"[<>=!]|~=", version):
        return "" if "|" in version else version
    match = re.fullmatch(r"([~^])\s*(\d+(?:\.\d+)*)", version)
    if match is None:
        return ""
    parts = [int(part) for part in match[2].split(".")]
    least = next((place for place, part in enumerate(parts) if part), len(parts) - 1)
    last = least if match[1] == "^" else min(1, len(parts) - 1)
    return f">={match[2]},<{'.'.join(map(str, [*parts[:last], parts[last] + 1]))}"


def of_lock(lock: Mapping[str, Any]) -> Iterator[str]:
    """Yield the packages of a lock file of uv, Poetry, PDM or the standard; not those that it has several of."""
    entries = [entry for key in ("package", "packages") for entry in lock.get(key) or () if isinstance(entry, Mapping)]
    versions: dict[str, set[str]] = {}
    for entry in entries:
        versions.setdefault(str(entry.get("name") or ""), set()).add(str(entry.get("version") or ""))
    for name, found in versions.items():
        if len(found) == 1 and "" not in found:
            yield f"{name}=={found.pop()}"


def of_requirements(root: Path, name: str, seen: frozenset[Path] = frozenset()) -> Iterator[Line]:
    """Yield the lines of a requirements file and of those that it includes, as far as they are inside of the source."""
    path = (root / name).resolve()
    if path in seen or not path.is_relative_to(root.resolve()):
        return
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    shown = path.relative_to(root.resolve()).as_posix()
    for line in text.splitlines():
        included = _INCLUDED.match(line)
        if included:
            # Relative to the file that names it.
            inner = (path.parent / included[1]).resolve()
            if inner.is_relative_to(root.resolve()):
                yield from of_requirements(root, inner.relative_to(root.resolve()).as_posix(), seen | {path})
        else:
            yield from _lines([line], shown)


def _lines(requirements: Iterable[str], file: str) -> Iterator[Line]:
    for text in requirements:
        line = text.partition("#")[0].partition(" --")[0].rstrip("\\ ").strip()
        try:
            name = canonicalize_name(Requirement(line).name)
        except InvalidRequirement:
            continue
        if name in PACKAGES:
            yield VARIABLE, f"{line} # {file}"


def _of_wheel(path: Path, extras: set[str]) -> Iterator[str]:
    """Yield what a wheel asks for (``Requires-Dist``), of extras only what belongs to those that are wanted."""
    for text in _metadata(path).get_all("Requires-Dist") or ():
        marker = str(text).partition(";")[2]
        wanted = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", marker)
        if wanted is None or canonicalize_name(wanted[1]) in {canonicalize_name(extra) for extra in extras}:
            yield str(text)


def _extras_of_wheel(path: Path) -> list[str] | None:
    """Return the extras of a wheel; None where it cannot be read."""
    metadata = _metadata(path)
    return [*map(str, metadata.get_all("Provides-Extra") or ())] if "Name" in metadata else None


def _metadata(path: Path) -> Message:
    """Return the metadata of a wheel; nothing of one that cannot be read."""
    try:
        with zipfile.ZipFile(path) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            return message_from_string(wheel.read(name).decode("utf-8", errors="replace"))
    except (OSError, StopIteration, zipfile.BadZipFile):
        return Message()


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, tomllib.TOMLDecodeError):
        return {}
