# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of generated files on the control machine: passwords, the drawn plan.

An inventory that is a directory is read whole: whatever lies in it, however deep, is taken for a list of hosts, so a
file with a password would make a host of that name. Only names that begin with a dot are left alone whatever the
settings are (``IGNORED_ALWAYS`` in ``ansible/inventory/manager.py``, ansible-core 2.18 to 2.21).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.parsing.splitter import parse_kv

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import FilePath, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = ".celeryops"


def inventory_folders(sources: Iterable[str]) -> list[Path]:
    """Return the directory of each inventory source that is on disk, or that source when it is one."""
    return [(one if one.is_dir() else one.parent).absolute() for one in map(Path, sources) if one.exists()]


def local_source(path: str, sources: Iterable[str], playbook: str) -> Path:
    """Return where on the control machine a wheel, a tree or a file is that an inventory names.

    A path that is not absolute begins at the inventory, beside which it was written. Which of several sources that was
    cannot be known, so the first beside which it is counts; what is beside none is looked for beside the playbook,
    where Ansible's own tasks look.

    Arguments:
        path: as the user wrote it.
        sources: the inventory's sources, as Ansible's ``ansible_inventory_sources`` lists them.
        playbook: the playbook's directory.
    """
    beside = [base / Path(path).expanduser() for base in (*inventory_folders(sources), Path(playbook))]
    return next((candidate for candidate in beside if candidate.exists()), beside[0])


def beside_inventory(sources: Iterable[str], name: str, given: str = "") -> str:
    """Return the path of ``name`` in the folder of the first inventory source that is on disk, unless one is given.

    One folder for the whole run: hosts may come from several sources, and they share their passwords.

    Arguments:
        sources: the inventory's sources, as Ansible's ``ansible_inventory_sources`` lists them.
        name: the file or directory asked for.
        given: what the user set instead, an absolute path.

    Raises:
        ValueError: no source is a file or a directory, so there is no place that a second run would find again; or what
            is given begins nowhere: Ansible would look beside the playbook, which may be inside the collection.
    """
    if given:
        problem = begins_nowhere(f"celeryops_{name}_dir", given)
        if problem:
            raise ValueError(str(problem))
        return str(Path(given).expanduser())
    folders = inventory_folders(sources)
    if not folders:
        raise ValueError(
            "the inventory is no file, so generated passwords have no place to stay; "
            "set celeryops_secrets_dir and celeryops_plan_dir"
        )
    return str(folders[0] / FOLDER / name)


def begins_nowhere(variable: str, given: str) -> Problem | None:
    """Return what is wrong with a path that is not absolute."""
    if Path(given).expanduser().is_absolute():
        return None
    instead = f'one, such as "{{{{ inventory_dir }}}}/../{Path(given).name}"'
    return Problem("not-an-absolute-path", variable, given, "is not an absolute path", instead)


def unreadable(secrets: str) -> Problem | None:
    """Return what is wrong with a directory that Ansible's password lookup reads as another one.

    In its argument, options may stand behind the path, so behind a blank it takes words apart (ansible-core 2.18 to
    2.21, plugins/lookup/password.py); this asks its own parser.

    Arguments:
        secrets: the directory.
    """
    _head, blank, rest = f"{secrets}/password".partition(" ")
    if not blank:
        return None
    with contextlib.suppress(Exception):
        if parse_kv(rest) == {"_raw_params": rest} and "\n" not in secrets:
            return None
    reason = "has blanks or signs behind a blank from which Ansible's password lookup does not tell options"
    instead = "the absolute path of another directory, or move the inventory"
    return Problem("path-with-blanks", "celeryops_secrets_dir", FilePath(secrets), reason, instead)


def keep_out_of_repositories(sources: Iterable[str]) -> None:
    """Have git ignore the folder, where there is one and nobody has decided otherwise.

    Raises:
        OSError: the folder cannot be written to.
    """
    try:
        mark = Path(beside_inventory(sources, ".gitignore"))
    except ValueError:
        return
    if mark.parent.is_dir() and not mark.exists():
        mark.write_text("*\n")
