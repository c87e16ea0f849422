# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions behind a release: its name, what is installed, which old ones go. No I/O here.

Runs on managed hosts as well.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.masking import masked

#: What of a source decides what gets installed. Credentials and where packages come from do not: a new password for
#: the index must not build the same release again.
_IDENTITY = (
    "type", "packages", "requirements", "constraints", "require_hashes", "extras", "subdirectory", "requirements_file",
    "install_as", "build",
)  # fmt: skip
_URL_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,20}://)[^/\s@]+(?::[^\s@]*)?@", re.IGNORECASE)
_ENVIRONMENT_LINE = re.compile(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"$', re.DOTALL | re.MULTILINE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def release_id(source: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the name of the release that ``source`` makes: readable first, then a digest of everything that counts.

    Arguments:
        source: the role's ``celery_app_source``.
        facts: ``content`` (digest of a wheel or tree), ``commit`` (of a git source), ``python`` (major.minor),
            ``machine`` and ``extra_packages``.
    """
    inputs = {key: source.get(key) or None for key in _IDENTITY}
    inputs["index"] = strip_credentials(source.get("index_url") or "")
    if source.get("overrides"):
        # A release without any keeps its name.
        inputs["overrides"] = list(source["overrides"])
    digest = hashlib.sha256(json.dumps([inputs, dict(facts)], sort_keys=True).encode()).hexdigest()
    return f"{label(source, facts)}-{digest[:10]}"


def label(source: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return what a person would call the release: a version, a tag, a commit or the name of a directory."""
    kind = source["type"]
    text = kind
    if kind == "pip":
        first = next(iter(source.get("packages") or []), "") or (source.get("requirements") or "").strip()
        match = re.match(r"[^\s;#]*?===?\s*([^\s;,#\\]+)", str(first))
        text = match.group(1) if match else re.split(r"[\s\[<>=!~;@]", str(first))[0]
    elif kind == "wheel":
        parts = str(source["path"]).rpartition("/")[2].split("-")
        text = parts[1] if len(parts) > 4 else parts[0]
    elif kind == "git":
        version = str(source["version"])
        text = version[:12] if _COMMIT.fullmatch(version) else f"{version}-{str(facts.get('commit') or '')[:7]}"
    elif kind == "path":
        text = str(source["path"]).rstrip("/").rpartition("/")[2]
    text = re.sub(r"[^A-Za-z0-9.+_-]+", "-", text).strip("-.")[:40]
    return text or kind


def is_commit(version: str) -> bool:
    """Return whether ``version`` names one commit for ever."""
    return bool(_COMMIT.fullmatch(version))


def pick_commit(listing: str, version: str) -> str | None:
    """Return the commit that ``version`` names in the output of ``git ls-remote``.

    A tag wins over a branch of the same name, as in git itself; an annotated tag stands for the commit it points to.
    """
    refs = {}
    for line in listing.splitlines():
        commit, _tab, ref = line.partition("\t")
        refs[ref.strip()] = commit.strip()
    for ref in (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}", version):
        if ref in refs:
            return refs[ref]
    return None


def requirement_lines(
    source: Mapping[str, Any], extra_packages: Sequence[str], main: str | None, tree: str | None
) -> list[str]:
    """Return the lines of the requirements file of a release.

    Arguments:
        source: the role's ``celery_app_source``.
        extra_packages: what every release gets beside them (``celery[redis]``).
        main: path of the wheel or of the tree that is to be installed as a package.
        tree: path of the source tree, where its own requirements file is looked for.
    """
    lines = []
    if main and not source.get("require_hashes"):
        # Installers refuse what has no hash, and a directory cannot have one: then it is installed afterwards, alone.
        extras = ",".join(source.get("extras") or [])
        lines.append(f"{main}[{extras}]" if extras else main)
    if tree and source.get("requirements_file"):
        lines.append(f"-r {tree}/{source['requirements_file']}")
    lines += [str(package) for package in source.get("packages") or []]
    lines += (source.get("requirements") or "").splitlines()
    if not source.get("require_hashes"):
        # With hashes every package must have one, so Celery stands in the user's list; its version is checked.
        lines += [str(package) for package in extra_packages]
    return lines


#: What absent_packages() reads, as dpkg-query(1) prints it.
PACKAGE_FORMAT = "${db:Status-Status}\t${Package}\t${Architecture}\t${Version}\t${Provides}\n"


def absent_packages(wanted: Sequence[str], listing: str, at_least: Callable[[str, str], bool]) -> list[str]:
    """Return the packages that a host lacks, of those that are wanted as apt takes them.

    Arguments:
        wanted: names, perhaps of what several packages provide, with ``:amd64``, ``=15.*`` or ``>=15`` behind them
            (ansible-core 2.18 to 2.21, modules/apt.py, ``package_split``).
        listing: of all packages that dpkg knows, in ``PACKAGE_FORMAT``.
        at_least: whether the first of two versions is the second, or newer.
    """
    installed: dict[str, list[str]] = {}
    for line in listing.splitlines():
        status, name, machine, version, provided = line.split("\t")
        if status == "installed":
            virtual = [one.split()[0].partition(":")[0] for one in provided.split(",") if one.strip()]
            for found in (name, f"{name}:{machine}", f"{name}:any", *virtual):
                installed.setdefault(found, []).append(version)

    def there(package: str) -> bool:
        name, comparison, version = (re.split(r"(>?=)", package, maxsplit=1) + ["", ""])[:3]
        fits = at_least if comparison == ">=" else fnmatch.fnmatchcase
        return any(not comparison or fits(found, version) for found in installed.get(name, ()))

    return [package for package in wanted if not there(package)]


def index_environment(source: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that tell uv and pip where packages are: an address may hold a password, argv may not.

    uv takes a package from the first index that has one of its name. It asks those of ``UV_INDEX`` in their order and
    the default one last of all (docs.astral.sh/uv, "Package indexes"). ``index_url`` is the default one, in place of
    PyPI, and stands in ``UV_INDEX`` too, also alone: so it comes before an ``--extra-index-url`` of the requirements.
    pip asks all and takes the highest version, whatever their order.

    An index may have a name in front (``corp=https://...``), which pip does not know: it would take it for a part of
    the address, and find no user and password in that. uv's default one gets none either: of two of a name uv takes
    the first, and that would be the one that it asks last.
    """
    environment = {}
    further = [str(url) for url in source.get("extra_index_urls") or []]
    ordered = [str(source["index_url"]), *further] if source.get("index_url") else further
    if source.get("index_url"):
        environment["UV_DEFAULT_INDEX"] = environment["PIP_INDEX_URL"] = without_name(str(source["index_url"]))
    if ordered:
        environment["UV_INDEX"] = " ".join(ordered)
    if further:
        environment["PIP_EXTRA_INDEX_URL"] = " ".join(map(without_name, further))
    return environment


def without_name(index: str) -> str:
    """Return the address of a package index, without the name that uv takes in front of it."""
    return re.sub(r"^[\w.-]+=", "", index)


def strip_credentials(text: str) -> str:
    """Return ``text`` with user and password removed from every URL in it."""
    return _URL_CREDENTIALS.sub(r"\g<scheme>", text)


def tail(output: str, secrets: Sequence[str] = (), lines: int = 25, *, public: Sequence[str] = ()) -> str:
    """Return the end of an installer's output, fit to be shown.

    Arguments:
        output: what the program printed.
        secrets: what must not appear (``masking.secrets_of``).
        lines: how many lines to keep.
        public: words that may appear although somebody uses them as a password.
    """
    text = masked(output, secrets, public)
    return "\n".join(line.rstrip() for line in text.strip().splitlines()[-lines:])


def superfluous(releases: Mapping[str, float], current: str, in_use: Sequence[str], keep: int) -> list[str]:
    """Return the releases to delete, oldest first.

    Arguments:
        releases: name of each complete release -> when it was last switched to (or built).
        current: the release that is or becomes current; it counts among those kept.
        in_use: releases that a process still runs from; they stay and do not count.
        keep: how many stay.
    """
    others = sorted((name for name in releases if name != current), key=lambda name: (releases[name], name))
    spare = others[: max(0, len(others) - (keep - 1))]
    return [name for name in spare if name not in in_use]


def parse_environment(text: str) -> dict[str, str]:
    """Return the variables of an environment file as the role writes it: every value in double quotes."""
    return {
        match.group(1): re.sub(r"\\(.)", r"\1", match.group(2), flags=re.DOTALL)
        for match in _ENVIRONMENT_LINE.finditer(text)
    }


def running_from(
    base: str, words: Sequence[str], started: float, activations: Sequence[tuple[float, str]], releases: Sequence[str]
) -> list[str]:
    """Return the releases below ``base`` that a process runs from.

    A process that was started through the ``current`` link runs from whatever the link led to at that moment.

    Arguments:
        base: the app's directory.
        words: paths that the process has in its command line, mapped into memory, or as its directory.
        started: when it was started, in seconds since the epoch.
        activations: (time, release) of every switch of the link, oldest first.
        releases: the names that are known.
    """
    known = set(releases)
    found = set()
    for word in words:
        match = re.search(re.escape(base) + r"/releases/([^/\s:]+)", word)
        if match and match.group(1) in known:
            found.add(match.group(1))
        if re.search(re.escape(base) + r"/current(/|\s|:|$)", word):
            # Two seconds on both sides: the clock ticks of /proc are coarse.
            before = [name for when, name in activations if when <= started + 2]
            found.update(before[-1:])
            found.update(name for when, name in activations if abs(when - started) <= 2)
    return sorted(found & known)
