# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requirements and package indexes for the installer of a release. No I/O here.

Used on managed hosts and on the control machine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


def canonical(name: str) -> str:
    """Return the name of a package as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
