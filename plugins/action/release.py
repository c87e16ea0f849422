# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfers to the host what a release needs from the control machine, and only if it is needed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.action.files import expand, with_sources
from ansible_collections.celeryops.stack.plugins.plugin_utils.app.source_tree import content_digest, write_archive
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.overridden_settings import told
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import names_in
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.control_paths import local_source
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.receipts import asked, found_by
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import RenderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What apt says of a package that is in none of its lists (ansible-core 2.18 to 2.21, modules/apt.py).
_NO_PACKAGE = "No package matching"


class ActionModule(ActionBase):
    """See plugins/modules/release.py for what users read."""

    # A directory on the host is made when there is something to bring over (_upload), which is seldom.
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the module; again with packages or content when it asks for them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        request = dict(self._task.args)
        if "accept_missing_tasks" in request:
            # Letter by letter, "shop.old.*" on the command line would accept every task: one of them is a "*".
            request["accept_missing_tasks"] = names_in(request["accept_missing_tasks"])
        # The plan of the workers says more of them.
        request["running"] = [
            {key: entry[key] for key in ("unit", "report") if key in entry} for entry in request.get("running") or []
        ]
        search_path = [Path(path) for path in (task_vars or {}).get("ansible_search_path", [])]
        try:
            for name in ("expected", "configuration"):
                request[name] = with_sources(request.get(name) or [], self._loader, task_vars)
            request["expected"] = digests(request["expected"], search_path)
            contents = placed(request["configuration"], search_path)
            request["configuration"] = digests(request["configuration"], search_path)
        except (RenderError, ValueError) as error:
            raise AnsibleError(str(error)) from error
        source, kind = request["source"], request["source"]["type"]
        sources = (task_vars or {}).get("ansible_inventory_sources") or ()
        beside = self._loader.get_basedir()
        local = local_source(str(source["path"]), sources, beside) if kind in ("wheel", "path") else None
        if request.get("select") or request.get("take"):
            local = None
        if local is not None:
            request["content"] = content_digest(local, kind, source.get("exclude") or [])
        found = found_by(request, task_vars or {})
        request["receipt"] = asked(request)
        try:
            answer = {**found["result"], "receipt": True} if found else self._ask(request, task_vars)
            if answer.get("missing_packages"):
                installed = self._install_packages(answer["missing_packages"], task_vars)
                if installed.get("failed"):
                    return {**result, **installed}
                # What apt says it has installed is there, under whatever name: asked for again, nothing would be built.
                request["system_packages"] = []
                # Where they were missing, a release is as well: it need not ask for its content.
                answer = {"needs_content": True, "needs_files": True, "installed": installed.get("changed")}
            if answer.get("needs_content") and local is not None:
                request["archive"] = self._upload(local, kind, source.get("exclude") or [])
            if answer.get("needs_files"):
                request["contents"] = contents
            if answer.get("needs_content") or answer.get("needs_files"):
                installs = bool(answer.get("installed"))
                answer = self._ask(request, task_vars)
                # What was built the module says apart: only that may be discarded.
                answer["changed"] = installs or bool(answer.get("changed"))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        answer.pop("invocation", None)
        warning = told(request["import"], answer.get("replaced") or [], request.get("decided") or [])
        if warning:
            answer["warnings"] = [*answer.get("warnings", []), warning]
        return {**result, **answer}

    def _ask(self, request: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="celeryops.stack.release",
            module_args=dict(request),
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
