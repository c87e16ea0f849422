# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that YAML reads differently than they look, and entries that Ansible silently drops.

Of a key that stands twice in one mapping it takes the last one, and only warns; what is in no place that it knows, it
leaves out without a word (ansible-core 2.18 to 2.21, plugins/inventory/yaml.py). ``12:30`` is the number 750 to YAML
1.1, which counts to base 60 where it sees a colon between digits.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import FilePath, Problem, may_be_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import OURS, ROLES_OF_GROUP
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import clock_meaning
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.yaml_altered_text import (
    is_secret,
    number_slips,
    scalars,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What the variables of the roles begin with.
#: All that Ansible looks at in a group.
_GROUP_KEYS = ("children", "hosts", "vars")
#: How YAML merges one mapping into another.
_MERGE = "<<"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def yaml_slips(name: str, text: str, *, all_keys: bool, texts: Container[str] = ()) -> list[Problem]:
    """Return a problem for each key that a mapping has twice with different values, and each number that was a text.

    Arguments:
        name: the file, as it is named in the message.
        text: its content; what is no YAML is Ansible's to refuse.
        all_keys: whether it is an inventory, in which any key matters, or a file of variables, in which others than
            the roles' may be somebody else's.
        texts: the variables, with the keys behind dots, that are texts.
    """
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError):
        return []
    problems = []
    for path, lines in _repeated(root, ()):
        if all_keys or path[0].startswith(OURS):
            # None of the values is shown.
            reason = f"has it in lines {' and '.join(map(str, lines))}, with different values: only the last counts"
            problems.append(Problem("key-written-twice", ".".join(path), FilePath(name), reason, "it once"))
    for path, node in _to_base_60(root, ()):
        within = _below_groups(path) if all_keys else path
        if within and within[0].startswith(OURS):
            problems.append(_clock(within, node, name))

    def ours(path: tuple[str, ...]) -> tuple[str, ...]:
        within = _below_groups(path) if all_keys else path
        return within if within and within[0].startswith(OURS) else ()

    if all_keys and isinstance(root, yaml.MappingNode) and "plugin" not in _keys(root):
        for group, content in _keys(root).items():
            problems += _lost(group, content, name)
    return [*problems, *number_slips(name, root, ours, texts)]


def slips_beside(sources: Iterable[str], playbook: str, texts: Container[str] = ()) -> Iterator[Problem]:
    """Yield the same of each file of an inventory, and of the variables beside it and beside a playbook.

    Arguments:
        sources: the inventory's sources, as Ansible's ``ansible_inventory_sources`` lists them.
        playbook: the playbook's directory.
        texts: the variables, with the keys behind dots, that are texts.
    """
    inventories = [Path(source) for source in sources]
    folders = [source if source.is_dir() else source.parent for source in inventories if source.exists()]
    folders.append(Path(playbook))
    own = [path for source in inventories for path in ([source] if source.is_file() else [*source.glob("*")])]
    variables = [
        path
        for folder in dict.fromkeys(folders)
        for kind in ("group_vars", "host_vars")
        for path in sorted((folder / kind).rglob("*"))
    ]
    for path in dict.fromkeys([*own, *variables]):
        if path.suffix not in ("", ".yml", ".yaml", ".json") or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            # Ansible could not read it either.
            continue
        if text.startswith(("$ANSIBLE_VAULT", "#!")):
            continue
        name = next((str(path.relative_to(folder)) for folder in folders if path.is_relative_to(folder)), path.name)
        yield from yaml_slips(name, text, all_keys=path in own, texts=texts)


def _below_groups(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the variable, and the path inside of it, of a path in an inventory; nothing where there is none."""
    for position, key in enumerate(path):
        if key in ("hosts", "vars"):
            return path[position + (2 if key == "hosts" else 1) :]
    return ()


def _keys(node: Any) -> dict[str, Any]:
    """Return what a mapping has below each key."""
    return {str(key.value): value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _lost(group: str, node: Any, name: str) -> Iterator[Problem]:
    """Yield what a group and its hosts have in places at which Ansible does not look."""
    for node_of_key, _value in node.value if isinstance(node, yaml.MappingNode) else ():
        key, place = str(node_of_key.value), ""
        if key in ROLES_OF_GROUP:
            place = "children"
        elif key.startswith(OURS):
            place = "vars"
        elif group in ROLES_OF_GROUP and key not in (*_GROUP_KEYS, _MERGE):
            place = "hosts"
        if place:
            reason = f"in line {node_of_key.start_mark.line + 1} of {name} is in no place where Ansible looks"
            instead = f"it below {place}: {group}: {{{place}: {{{key}: ...}}}}"
            yield Problem("written-where-ansible-does-not-look", f"{group}.{key}", "(a key)", reason, instead)
    for host, variables in _keys(_keys(node).get("hosts")).items():
        for key in _GROUP_KEYS:
            inner = _keys(_keys(variables).get(key))
            if any(variable.startswith(OURS) for variable in inner):
                reason = f"of {name} is a variable of that name to Ansible, which looks at nothing in it"
                instead = "the variables below the host itself"
                yield Problem("variables-below-a-key", f"{group}.hosts.{host}.{key}", "(a key)", reason, instead)
    for child, content in _keys(_keys(node).get("children")).items():
        yield from _lost(child, content, name)


def _clock(path: tuple[str, ...], node: Any, name: str) -> Problem:
    """Return that what looks like a time is another number, without either where it may be a secret."""
    variable, written = ".".join(path), str(node.value)
    secret = is_secret(path) or may_be_secret(variable, written)
    meant = "" if secret else clock_meaning(written)
    number = f"the number {yaml.safe_load(written)}" if meant else "another number"
    reason = f"in line {node.start_mark.line + 1} of {name} is {number} to YAML, which counts to base 60 there"
    instead = f"{meant}, or it in quotes where it is no duration" if meant else "it in quotes"
    return Problem("yaml-number", variable, NOT_SHOWN if secret else written, reason, instead)


def _to_base_60(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    return ((place, one) for place, one in scalars(node, path) if one.tag in _NUMBERS and ":" in one.value)


def _repeated(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _repeated(entry, path)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, list[tuple[int, Any]]] = {}
    for key, value in node.value:
        name = str(key.value)
        yield from _repeated(value, (*path, name))
        # Several merges into one mapping are allowed.
        if isinstance(key, yaml.ScalarNode) and name != _MERGE:
            seen.setdefault(name, []).append((key.start_mark.line + 1, value))
    for name, found in seen.items():
        if len({_content(value) for _line, value in found}) > 1:
            yield (*path, name), [line for line, _value in found]


def _content(node: Any) -> object:
    """Return what a node says, whatever its layout."""
    if isinstance(node, yaml.MappingNode):
        return frozenset((_content(key), _content(value)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode):
        return tuple(_content(entry) for entry in node.value)
    return node.tag, node.value
