# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings to the host what a release needs from the control machine, and only when it is needed."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.action.files import expand, with_sources
from ansible_collections.celeryops.stack.plugins.plugin_utils.beside_inventory import local_source
from ansible_collections.celeryops.stack.plugins.plugin_utils.render import RenderError
from ansible_collections.celeryops.stack.plugins.plugin_utils.replaced import told
from ansible_collections.celeryops.stack.plugins.plugin_utils.spec import names_in

#: Never part of a release: version control, environments, caches and what a build leaves behind.
EXCLUDED = (
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", "*.pyo", "*.egg-info", ".tox",
    ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".cache", ".coverage", ".DS_Store", ".env", "*.swp", "*~",
)  # fmt: skip
#: Products of a build when they stand at the top.
EXCLUDED_AT_TOP = ("build", "dist", "secrets")
#: What apt says of a package that is in none of its lists (ansible-core 2.18 to 2.21, modules/apt.py).
_NO_PACKAGE = "No package matching"
_DEFAULTS: dict[str, Any] = {
    "account": None,
    "directories": [],
    "extra_packages": [],
    "broker": "rabbitmq",
    "needs": [],
    "role": "celery_app",
    "system_packages": [],
    "python": "python3",
    "installer": "uv",
    "uv_package": "uv",
    "install_environment": {},
    "environment": {},
    "verify": True,
    "keep": 3,
    "switch": True,
    "hold": False,
    "take": "",
    "after": False,
    "select": "",
    "expected": [],
    "configuration": [],
    "running": [],
    "consumed": [],
    "decided": [],
    "accept_missing_tasks": [],
}


class ActionModule(ActionBase):
    """See plugins/modules/release.py for what users read."""

    # A directory on the host is made when there is something to bring over (_upload), which is seldom.
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the module; again with packages or content when it asks for them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        request = completed(self._task.args)
        search_path = [Path(path) for path in (task_vars or {}).get("ansible_search_path", [])]
        try:
            for name in ("expected", "configuration"):
                request[name] = with_sources(request[name], self._loader, task_vars)
            request["expected"] = digests(request["expected"], search_path)
            contents = placed(request["configuration"], search_path)
            request["configuration"] = digests(request["configuration"], search_path)
        except (RenderError, ValueError) as error:
            raise AnsibleError(str(error)) from error
        source, kind = request["source"], request["source"]["type"]
        sources = (task_vars or {}).get("ansible_inventory_sources") or ()
        beside = self._loader.get_basedir()
        local = local_source(str(source["path"]), sources, beside) if kind in ("wheel", "path") else None
        if request["select"] or request["take"]:
            local = None
        if local is not None:
            request["content"] = content_digest(local, kind, source.get("exclude") or [])
        try:
            answer = self._ask(request, task_vars)
            if answer.get("missing_packages"):
                installed = self._install_packages(answer["missing_packages"], task_vars)
                if installed.get("failed"):
                    return {**result, **installed}
                # What apt says it has installed is there, under whatever name: asked for again, nothing would be built.
                request["system_packages"] = []
                answer = self._ask(request, task_vars)
            if answer.get("needs_content") and local is not None:
                request["archive"] = self._upload(local, kind, source.get("exclude") or [])
            if answer.get("needs_files"):
                request["contents"] = contents
            if answer.get("needs_content") or answer.get("needs_files"):
                answer = self._ask(request, task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        answer.pop("invocation", None)
        warning = told(request["import"], answer.get("replaced") or [], request["decided"])
        if warning:
            answer["warnings"] = [*answer.get("warnings", []), warning]
        return {**result, **answer}

    def _ask(self, request: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="celeryops.stack.release",
            module_args={"request": json.dumps(request, sort_keys=True, default=str)},
            task_vars=task_vars,
        )
        return answer

    def _install_packages(self, names: list[str], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer = self._apt(names, 3600, task_vars)
        if answer.get("failed") and _NO_PACKAGE in str(answer.get("msg")):
            # The lists look new from the moment that somebody begins to fetch them: another name of this machine, for
            # its own app. Who fetches them waits for who does already (update_cache_retries), and has all of them.
            answer = self._apt(names, 0, task_vars)
        return answer

    def _apt(self, names: list[str], valid: int, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Return what apt answers.

        Arguments:
            names: the packages.
            valid: how old its lists may be, in seconds.
            task_vars: the variables of the host.
        """
        answer: dict[str, Any] = self._execute_module(
            module_name="ansible.builtin.apt",
            module_args={
                "name": names,
                "state": "present",
                "install_recommends": False,
                "update_cache": True,
                "cache_valid_time": valid,
            },
            task_vars=task_vars,
        )
        return answer

    def _upload(self, local: Path, kind: str, exclude: list[str]) -> str:
        """Return the path on the host of the wheel, or of an archive of the tree."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        remote: str = self._connection._shell.join_path(self._connection._shell.tmpdir, "content")
        if kind == "wheel":
            self._transfer_file(str(local), remote)
            return remote
        handle, archive = tempfile.mkstemp(prefix="celeryops-", suffix=".tar")
        try:
            with os.fdopen(handle, "wb") as stream:
                write_archive(local, exclude, stream)
            self._transfer_file(archive, remote)
        finally:
            Path(archive).unlink()
        return remote


def completed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's arguments with defaults, and with the types that they have in YAML.

    ansible-core 2.18 hands the result of a template over as text, and "False" is true.
    """
    request = {**_DEFAULTS, **arguments}
    request["keep"], request["verify"] = int(request["keep"]), boolean(request["verify"])
    for name in ("switch", "hold", "after"):
        request[name] = boolean(request[name])
    # Letter by letter, "shop.old.*" on the command line would accept every task: one of them is a "*".
    request["accept_missing_tasks"] = names_in(request["accept_missing_tasks"])
    if request["account"]:
        request["account"] = {**request["account"], "manage": boolean(request["account"]["manage"])}
    request["source"] = {key: value for key, value in request["source"].items() if value is not None}
    return request


def digests(files: Sequence[Mapping[str, Any]], search_path: list[Path]) -> list[dict[str, Any]]:
    """Return the path of each file and the SHA-256 of what it has to hold; what says nothing of content is left out."""
    found = []
    for entry in (entry for item in files for entry in expand(item, search_path)):
        content = entry.get("secret_content", entry.get("content"))
        if content is not None:
            digest = hashlib.sha256(str(content).encode()).hexdigest()
            found.append({"path": entry["path"], "sha256": digest, **_own(entry)})
    return found


def _own(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a file of the app's own beside its content."""
    return {key: entry[key] for key in ("own", "owner", "group", "mode")} if entry.get("own") else {}


def placed(files: Sequence[Mapping[str, Any]], search_path: list[Path]) -> list[dict[str, Any]]:
    """Return path and content of each file that is tried before it is placed.

    The environment file is none of them: the app gets what it says, and the file itself is for systemd alone.
    """
    found = []
    for entry in (entry for item in files for entry in expand(item, search_path)):
        content = entry.get("content", entry.get("secret_content") if entry.get("own") else None)
        if content is not None:
            secret = {"secret": True} if "secret_content" in entry else {}
            found.append({"path": str(entry["path"]), "content": str(content), **secret, **_own(entry)})
    return found


def content_digest(local: Path, kind: str, exclude: list[str]) -> str:
    """Return a digest of the content of a wheel or of a tree.

    Raises:
        AnsibleError: when there is no such file or directory on the control machine.
    """
    digest = hashlib.sha256()
    if kind == "wheel":
        if not local.is_file():
            raise AnsibleError(f"celery_app_source.path: there is no wheel {local} on the control machine")
        digest.update(local.read_bytes())
        return digest.hexdigest()
    if not local.is_dir():
        raise AnsibleError(f"celery_app_source.path: there is no directory {local} on the control machine")
    for name, path in members(local, exclude):
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        executable = not path.is_symlink() and bool(path.stat().st_mode & 0o100)
        head = f"{name}\0{path.is_symlink():d}{executable:d}\0{len(content)}\0"
        digest.update(head.encode())
        digest.update(content)
    return digest.hexdigest()


def members(root: Path, exclude: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield relative name and path of everything in a tree that belongs into a release, in a fixed order.

    Raises:
        AnsibleError: when a link leads out of the tree.
    """
    patterns = (*EXCLUDED, *exclude)
    resolved = root.resolve()
    for folder, folders, names in os.walk(root):
        at_top = Path(folder) == root
        kept = [
            name
            for name in sorted(folders)
            if not _matches(name, patterns) and not (at_top and name in EXCLUDED_AT_TOP)
        ]
        links = [name for name in kept if (Path(folder) / name).is_symlink()]
        folders[:] = [name for name in kept if name not in links]
        for name in sorted([*names, *links]):
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            if (
                _matches(name, patterns)
                or _matches(relative, exclude)
                or (not path.is_symlink() and not path.is_file())
            ):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(resolved):
                raise AnsibleError(f"celery_app_source.path: {path} is a link out of the tree; replace or exclude it")
            yield relative, path


def _matches(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def write_archive(root: Path, exclude: list[str], stream: io.BufferedIOBase | Any) -> None:
    """Write the tree as an archive in which everything belongs to root."""
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for relative, path in members(root, exclude):
            entry = archive.gettarinfo(str(path), relative)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
