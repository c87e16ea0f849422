# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits the additional packages of a release to the app's requirements. No I/O here.

The app's requirements are installed first, alone, as their authors mean them. What was got then is held while the
others are added: an installer that resolves everything together would rather take an app of years ago, which asks for
nothing, than a Celery that fits the app of today (``uv pip compile`` of ``apache-superset`` beside
``celery[redis]>=5.7`` took 2.1.3 in place of 6.1.0). Only Celery and what belongs to it may move, and only where
nothing else helps.

Runs on managed hosts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils.celery_versions import FLOOR, numbers, text
from ansible_collections.celeryops.stack.plugins.module_utils.releases.build_hints import build_hint
from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: What Celery brings and asks for itself (``Requires-Dist`` of Celery 5.4 to 5.7 and kombu 5.3 to 5.7, with ``redis``).
_STACK = frozenset({
    "amqp", "async-timeout", "billiard", "celery", "click", "click-didyoumean", "click-plugins", "click-repl",
    "exceptiongroup", "kombu", "packaging", "prompt-toolkit", "pyjwt", "python-dateutil", "redis", "six", "tzdata",
    "tzlocal", "vine", "wcwidth",
})  # fmt: skip
#: Those that the runtime and the URLs ask for: in the versions that the app has, whatever the list says.
_BENDS = frozenset({"celery", "kombu", "redis"})
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?(?P<rest>.*)", re.DOTALL)
#: How uv 0.8 and pip 22 to 26 say that requirements contradict each other.
_CONTRADICTION = re.compile(
    r"No solution found when resolving|ResolutionImpossible|requirements are unsatisfiable|Cannot install .* because"
    r"|No matching distribution found|Could not find a version that satisfies"
)
#: What a build says when it lacks a compiler, a program or a header.
_NO_COMPILER = re.compile(
    r"fatal error: \S+\.h(pp)?: "
    r"|\b(gcc|g\+\+|cc|c\+\+|cargo|rustc|cmake|make|ninja|pkg-config|pg_config|mysql_config)\b"
    r"[^\n]*(not found|No such file|failed|is required|could not be found)|[Ll]ibrary \S+ not found|cannot find -l"
    r"|Can not find valid pkg-config name|Rust toolchain|Python\.h|Cannot find (a )?(compiler|.*headers)"
    r"|(Unknown|No C) compiler|compiler .*cannot (create|be found)|unable to execute"
)

#: What setuptools and Poetry say of a project that is a program to run, not a package to install.
_NO_PACKAGE = re.compile(
    r"Multiple top-level (packages|modules) discovered in a flat-layout|not possible in non-package mode"
)
#: What uv and pip say of a directory without a project: the one in which they run, which a line ``-e .`` names, or one
#: of the source.
_NO_PROJECT = re.compile(r"(?P<place>\S+) does not appear to be a Python project")


@dataclass(frozen=True)
class Attempt:
    """One way to add packages.

    Arguments:
        lines: the requirements to add.
        constraints: what must stay as it is.
        bent: whether the lines are others than somebody wrote.
        moved: whether Celery, kombu and redis-py may become others than the app alone got.
    """

    lines: tuple[str, ...]
    constraints: tuple[str, ...]
    bent: bool = False
    moved: bool = False


def attempts(extra: Sequence[str], installed: Mapping[str, str], broker: str) -> Iterator[Attempt]:
    """Yield the ways to add packages to what the app alone got, the best first.

    Arguments:
        extra: the requirements to add, as they were written.
        installed: package -> version of what the app alone got, without what came from a path or an address.
        broker: ``redis`` where workers speak to Redis: then kombu and redis-py have to fit, as only kombu's extra says.
    """
    # What the app pins below that is told when all is installed.
    pinned_below = "celery" in installed and numbers(installed["celery"]) < FLOOR
    floor = () if pinned_below else (f"celery>={text(FLOOR)}",)
    exact = tuple(f"{name}=={version}" for name, version in sorted(installed.items()))
    others = {name: version for name, version in installed.items() if name not in _STACK}
    free = tuple(f"{name}>={version.partition('+')[0]}" for name, version in sorted(others.items()))
    written = tuple(extra)
    any_version = tuple(_without_version(line) for line in written)
    bare = tuple(name for line in any_version for name in _without_extras(line))
    transport = broker == "redis"
    seen = set()
    for lines, held, moved in (
        (written, exact, False),
        (any_version, exact, False),
        (bare, exact, False),
        (written, free, True),
        (any_version, free, True),
        (bare, free, True),
    ):
        if lines is bare and transport and not moved:
            continue
        # kombu's extra is the one place that says which redis-py its transport works with.
        asked = (*lines, "kombu[redis]") if transport and lines is not bare else lines
        attempt = Attempt(tuple(dict.fromkeys(asked)), (*held, *floor), bent=lines != written, moved=moved)
        if (attempt.lines, attempt.constraints) not in seen:
            seen.add((attempt.lines, attempt.constraints))
            yield attempt


def lacks_redis(attempt: Attempt, installed: Mapping[str, str]) -> bool:
    """Return whether redis-py was asked for and is not there: an override of ``celery`` says nothing of its extras."""
    wanted = any(_without_extras(line)[1:] for line in attempt.lines)
    return wanted and "redis" not in installed


def contradicts(output: str) -> bool:
    """Return whether an installer failed because no versions fit together."""
    return bool(_CONTRADICTION.search(" ".join(output.split())))


def way_out(output: str, role: str, installer: str, *, added: bool = False) -> str:
    """Return which variable helps when packages could not be installed; empty where nothing is known.

    Arguments:
        output: what the installer said.
        role: ``celery_app`` or ``flower``.
        installer: ``uv`` or ``pip``.
        added: whether the app's own packages are in already, and others were to be added.
    """
    if (_NO_COMPILER.search(output) or build_hint(output)) and not contradicts(output):
        if role == "flower":
            return "a package of flower_packages is built from source: write a version of it that has a wheel"
        return build_hint(output) or (
            "a package is built from source and lacks a compiler, a program or a header: write the Debian packages "
            "that it needs into celery_app_system_packages, for example [build-essential, python3-dev]"
        )
    if role != "flower" and _NO_PACKAGE.search(output):
        return (
            "the source is no package that could be installed: write install_as: tree into celery_app_source, and a "
            "requirements_file, such as the one that uv export or poetry export writes"
        )
    named = _NO_PROJECT.search(output)
    if role != "flower" and named and "/source" not in named["place"]:
        return (
            "a line such as -e . in the requirements_file names the app itself, which the release has anyway: take the "
            "line out, or write the file by uv export --no-emit-project"
        )
    if not contradicts(output):
        return ""
    if role == "flower":
        return "write into flower_packages what fits together, such as a Celery that the pinned Flower takes"
    if added:
        return "write into celery_app_extra_packages what fits the app's own requirements"
    bend = (
        "celery_app_source.overrides (a line such as celery[redis]>=5.6 there wins over what any package asks for)"
        if installer == "uv"
        else "celery_app_source.overrides, which celery_app_installer: uv can follow"
    )
    return (
        "these are the app's own requirements (celery_app_source: packages, requirements, constraints and what they "
        f"ask for); write others, or what has to bend into {bend}"
    )


def told(attempt: Attempt, before: Mapping[str, str], after: Mapping[str, str], extra: Iterable[str]) -> str:
    """Return what somebody should know of the way that worked; empty when everything is as it was written."""
    moved = [
        f"{name} {after[name]} in place of {before[name]}"
        for name in sorted(_BENDS)
        if name in before and after.get(name, "") != before[name] and name in after
    ]
    if not moved and not attempt.bent:
        return ""
    got = ", ".join(f"{name} {after[name]}" for name in sorted(_BENDS) if name in after)
    asked = ", ".join(extra)
    variable = f"celery_app_extra_packages ({asked})"
    if moved:
        return (
            f"{variable} fits the app's own requirements only with {', '.join(moved)}; no other package is older than "
            "what the app alone would get"
        )
    return f"{variable} does not fit what the app itself asks for, which wins: the release has {got}"


def _without_version(line: str) -> str:
    match = _REQUIREMENT.match(line)
    if not match or canonical(match["name"]) not in _BENDS or "@" in match["rest"]:
        return line
    marker = match["rest"].partition(";")[2].strip()
    return match["name"] + (match["extras"] or "") + (f"; {marker}" if marker else "")


def _without_extras(line: str) -> list[str]:
    match = _REQUIREMENT.match(line)
    if not match or canonical(match["name"]) not in _BENDS or "@" in match["rest"]:
        return [line]
    extras = [canonical(entry.strip()) for entry in (match["extras"] or "[]")[1:-1].split(",") if entry.strip()]
    others = [entry for entry in extras if entry != "redis"]
    name = match["name"] + (f"[{','.join(others)}]" if others else "") + match["rest"].strip()
    return [name, *(["redis"] if "redis" in extras else [])]
