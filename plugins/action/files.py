# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders all of a role's files on the control machine, so that one remote call places them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.control_paths import local_source
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.receipts import asked, found_by
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import RenderError, render

#: What the module is given beside the content.
_PASSED_ON = ("state", "owner", "group", "mode", "target", "validate", "create_only", "backup", "pristine", "own")
_SOURCES = ("template", "content", "tree")


class ActionModule(ActionBase):
    """See plugins/modules/files.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Expand ``each``, ``template`` and ``tree``, then call the module once, if the host has no receipt for it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        search_path = [Path(path) for path in (task_vars or {}).get("ansible_search_path", [])]
        try:
            items = with_sources(self._task.args.get("files", []), self._loader, task_vars)
            files = [entry for item in items for entry in expand(item, search_path)]
        except (RenderError, ValueError) as error:
            raise AnsibleError(str(error)) from error
        arguments = {**self._task.args, "files": files}
        found = found_by(arguments, task_vars or {})
        if found is not None:
            return {**result, **unchanged(arguments, found)}
        result.update(
            self._execute_module(
                module_name="celeryops.stack.files",
                module_args={**arguments, "receipt": asked(arguments)},
                task_vars=task_vars,
            )
        )
        # The module's arguments are the contents of the files.
        result.pop("invocation", None)
        return result


def unchanged(arguments: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the module returns when it finds nothing to do.

    Arguments:
        arguments: of the module.
        found: what the host has of its receipt.
    """
    result: dict[str, Any] = {"changed": False, "changed_paths": [], "kept": [], "held": {}, "diff": []}
    result |= {"receipt": True}
    if arguments.get("record"):
        result["left"] = []
    if arguments.get("units") is not None:
        result |= {"settled": found["settled"], "restarts": found["restarts"]}
    return result


def with_sources(
    items: Iterable[Mapping[str, Any]], loader: Any, task_vars: Mapping[str, Any] | None
) -> list[Mapping[str, Any]]:
    """Return a task's entries with the contents of the files on the control machine that ``src`` names.

    Arguments:
        items: entries of the task's ``files``.
        loader: Ansible's, which reads what a vault has encrypted.
        task_vars: says where the inventory is, from which such a path begins.

    Raises:
        ValueError: when there is no such file, or it holds no text.
    """
    found: list[Mapping[str, Any]] = []
    sources = (task_vars or {}).get("ansible_inventory_sources") or ()
    for item in items:
        if item.get("src") is None:
            found.append(item)
            continue
        local = local_source(str(item["src"]), sources, loader.get_basedir())
        if not local.is_file():
            raise ValueError(f"celery_app_files: there is no file {local} on the control machine, for {item['path']}")
        try:
            # As it is: read as text, the ends of its lines would become others.
            text = Path(loader.get_real_file(str(local))).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"celery_app_files: {local} is no text (UTF-8)") from error
        found.append({**{key: value for key, value in item.items() if key != "src"}, "content": text})
    return found


def expand(item: Mapping[str, Any], search_path: list[Path]) -> list[dict[str, Any]]:
    """Return the module's entries for one entry of the task.

    Arguments:
        item: an entry of the task's ``files``.
        search_path: directories below which ``templates/`` and ``files/`` are looked for, nearest first.

    Raises:
        ValueError: when the entry contradicts itself or its source is not found.
        RenderError: when its template cannot be rendered.
    """
    sources = [source for source in _SOURCES if source in item]
    if len(sources) > 1:
        raise ValueError(f"{item.get('path')}: {' and '.join(sources)} exclude each other")
    if "tree" in item:
        return _tree(item, _find(search_path, "files", str(item["tree"])))
    template = _find(search_path, "templates", str(item["template"])) if "template" in item else None
    entries = []
    for element in item.get("each", [{}]):
        variables = {**item.get("vars", {}), **element}
        entry = {key: item[key] for key in _PASSED_ON if key in item}
        if element.get("validate"):
            entry["validate"] = element["validate"]
            if element.get("environment_file"):
                entry["environment_file"] = element["environment_file"]
        entry["path"] = Template(str(item["path"])).substitute(element) if "each" in item else str(item["path"])
        content = render(template, variables) if template else item.get("content")
        if content is not None:
            if isinstance(content, (Mapping, list, tuple)):
                # ansible-core 2.18 makes data of a template's text that looks like data; what it said is gone then.
                reason = "content is not text: end its template with `| string`"
                raise ValueError(f"{entry['path']}: {reason}")
            entry["secret_content" if item.get("secret", False) else "content"] = str(content)
        entries.append(entry)
    return entries


def _tree(item: Mapping[str, Any], source: Path) -> list[dict[str, Any]]:
    """Return entries for a directory and all files below it, and one that removes what does not belong there."""
    target = Path(str(item["path"])) / source.name
    owner = {key: item[key] for key in ("owner", "group") if key in item}
    names = sorted(
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    folders = sorted({parent.as_posix() for name in names for parent in Path(name).parents} - {"."})
    entries: list[dict[str, Any]] = [
        {"path": str(folder), "state": "directory", "mode": "0755", **owner}
        for folder in [Path(str(item["path"])), target, *(target / folder for folder in folders)]
    ]
    entries += [
        {
            "path": str(target / name),
            "content": (source / name).read_text(encoding="utf-8"),
            "mode": item.get("mode", "0644"),
            "part_of": str(target),
            **owner,
        }
        for name in names
    ]
    return [*entries, {"path": str(target), "state": "only", "keep": names}]


def _find(search_path: list[Path], kind: str, name: str) -> Path:
    """Return the first ``<search path>/<kind>/<name>`` that exists."""
    for base in search_path:
        candidate = base / kind / name
        if candidate.exists():
            return candidate
    raise ValueError(
        f"{name} is in no {kind}/ directory of {', '.join(map(str, search_path)) or 'an empty search path'}"
    )
