# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that YAML or a tool has changed, secrets above all.

Nobody types a trailing line break, and nobody notices a zero that YAML drops.

``echo s3cret | ansible-vault encrypt_string`` and YAML's ``|`` keep the line break at the end. Unquoted,
``1234567890.50`` is a number, ``0123`` one to base 8, and ``2026-1-5`` a date: what a host gets is another text.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

import yaml

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN, named_like_a_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_NUMBERS = {"tag:yaml.org,2002:int": "a whole number", "tag:yaml.org,2002:float": "a number with a fraction"}
_ADDRESS = re.compile(r"_(url|urls|backend|broker_api)$")
IN_QUOTES = "it in quotes"
ONE_LINE = "it on one line, behind |- in place of |, or encrypted without a line break at its end (printf, not echo)"


def altered(variable: str, value: Any, *, lines: bool = False) -> Problem | None:
    """Return why a secret cannot be what somebody meant, without showing it.

    Arguments:
        variable: the variable, with the path inside it.
        value: what Ansible hands over.
        lines: whether it may have several lines, as a key has; a single one may not end in a line break all the same.
    """
    if isinstance(value, float):
        return Problem(
            "number-with-a-fraction",
            variable,
            NOT_SHOWN,
            "is a number with a fraction to YAML, which drops zeros",
            IN_QUOTES,
        )
    if isinstance(value, (datetime.date, datetime.time)):
        return Problem("yaml-date", variable, NOT_SHOWN, "is a date to YAML, which writes it otherwise", IN_QUOTES)
    if not isinstance(value, str):
        return None
    text = str(value)
    if lines and len(text.strip("\n").split("\n")) > 1:
        return None
    if text.endswith(("\n", "\r")):
        return Problem(
            "ends-in-a-line-break", variable, NOT_SHOWN, "ends in a line break, which becomes a part of it", ONE_LINE
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        return Problem(
            "line-break", variable, NOT_SHOWN, "contains a line break or another control character", ONE_LINE
        )
    return None


def number_slips(name: str, root: Any, variable_of: Any, texts: Container[str] = ()) -> Iterator[Problem]:
    """Yield the secrets, the variables of environments and other texts that are numbers to YAML and written otherwise.

    Arguments:
        name: the file, as it is named in the message.
        root: its node.
        variable_of: returns the variable, and the path inside of it, of a path in the file; nothing otherwise.
        texts: the variables, with the keys behind dots, that are texts: ``version: 1.10`` is the version 1.1.
    """
    for path, node in scalars(root, ()):
        within = variable_of(path)
        if not within or node.tag not in _NUMBERS or node.style or ":" in node.value:
            continue
        secret, environment = is_secret(within), any(key.endswith("environment") for key in within[:-1])
        plain = not secret and not environment
        # Of a secret, a fraction is told whatever its zeros are.
        if (plain and ".".join(map(_without_place, within)) not in texts) or (secret and not node.tag.endswith(":int")):
            continue
        number = str(yaml.safe_load(node.value))
        if number == node.value:
            continue
        line = node.start_mark.line + 1
        if plain:
            reason = f"in line {line} of {name} is the number {number} to YAML"
            instead = f'it in quotes: "{node.value}"'
            yield Problem("yaml-number", ".".join(within), node.value, reason, instead)
        else:
            reason = f"in line {line} of {name} is {_NUMBERS[node.tag]} to YAML, and not written as it stands there"
            yield Problem("yaml-number", ".".join(within), NOT_SHOWN, reason, IN_QUOTES)


def is_secret(path: tuple[str, ...]) -> bool:
    """Whether secrets are kept under a path, or in the address that it leads to.

    Arguments:
        path: the variable and the keys inside it, with ``[0]`` behind the name of a list.
    """
    keys = [*map(_without_place, path)]
    return any(named_like_a_secret(key) or key.endswith("_basic_auth") for key in keys) or bool(
        _ADDRESS.search(keys[-1])
    )


def _without_place(key: str) -> str:
    return re.sub(r"\[[0-9]+\]", "", key)


def scalars(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each value in a node of YAML that holds no others, with its path.

    Arguments:
        node: the node; None for an empty document.
        path: of the node.
    """
    if isinstance(node, yaml.SequenceNode):
        for position, entry in enumerate(node.value):
            last = f"{path[-1]}[{position}]" if path else str(position)
            yield from scalars(entry, (*path[:-1], last))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from scalars(value, (*path, str(key.value)))
    elif node is not None:
        yield path, node
