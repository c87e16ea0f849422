# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Keys that stand twice in one mapping of a YAML file. Ansible takes the last one, and only warns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Place, Problem

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What the variables of the roles begin with.
_OURS = ("celery_", "celeryops_", "rabbitmq_", "redis_", "flower_")


def repeated_keys(name: str, text: str, *, all_keys: bool) -> list[Problem]:
    """Return a problem for every key that a mapping has twice with different values, none of which is shown.

    Arguments:
        name: the file, as it is named in the message.
        text: its content; what is no YAML is Ansible's to refuse.
        all_keys: whether it is an inventory, in which any key matters, or a file of variables, in which others than
            the roles' may be somebody else's.
    """
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError):
        return []
    problems = []
    for path, lines in _repeated(root, ()):
        if all_keys or path[0].startswith(_OURS):
            reason = f"has it in lines {' and '.join(map(str, lines))}, with different values: only the last counts"
            problems.append(Problem(".".join(path), Place(name), reason, "it once"))
    return problems


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
        if isinstance(key, yaml.ScalarNode) and name != "<<":
            seen.setdefault(name, []).append((key.start_mark.line + 1, value))
    for name, found in seen.items():
        if len(found) > 1 and len({_content(value) for _line, value in found}) > 1:
            yield (*path, name), [line for line, _value in found]


def _content(node: Any) -> object:
    """Return what a node says, whatever its layout."""
    if isinstance(node, yaml.MappingNode):
        return frozenset((_content(key), _content(value)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode):
        return tuple(_content(entry) for entry in node.value)
    return node.tag, node.value
