# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The levels of a worker class, merged key by key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.class_keys import KEYS
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import CLASS_NAME, RESERVED_CLASS_NAMES

#: What is laid over each other makes a class; weakest first.
LEVELS = ("celery_worker_classes", "celery_worker_group_classes", "celery_worker_host_classes")
#: What every class has unless a level says otherwise.
DEFAULTS = "celery_worker_defaults"


@dataclass
class Layer:
    """One dictionary of classes: the variable that it is in, and class name -> keys."""

    variable: str
    classes: Mapping[Any, Any]


@dataclass
class WrittenClass:
    """A class after merging, as it is written: key -> value, and where each value stands."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    #: whether something was written for its queues that could not be read
    unread_queues: bool = False
    #: keys that were meant by names that are none
    meant: set[str] = field(default_factory=set)
    #: keys that came from the defaults for all classes, not from the class itself
    inherited: set[str] = field(default_factory=set)

    def where(self, key: str) -> str:
        """Return the variable, with its path, that ``key`` was written in."""
        return self.origins.get(key, f"{LEVELS[0]}.{self.name}.{key}")


def merge(defaults: Mapping[str, Any], layers: Sequence[Layer]) -> tuple[dict[str, WrittenClass], list[Problem]]:
    """Merge the layers, later ones over earlier ones, key by key.

    ``environment`` and ``hardening`` merge entry by entry; every other value, lists included, is replaced. A null takes
    back what an earlier layer said.

    Arguments:
        defaults: celery_worker_defaults, below every class.
        layers: celery_worker_classes and what is laid over it, weakest first.
    """
    problems: list[Problem] = []
    classes: dict[str, WrittenClass] = {}
    for layer in layers:
        for name, keys in layer.classes.items():
            where = f"{layer.variable}.{name}"
            reason, instead = _name_problem(name)
            if reason:
                # What stands in the class can be read all the same.
                problems.append(Problem("not-a-class-name", where, name, reason, instead, readable=True))
            if str(name) not in classes:
                classes[str(name)] = WrittenClass(str(name))
                _lay(classes[str(name)], defaults, DEFAULTS, problems)
                classes[str(name)].inherited = set(classes[str(name)].values)
            if keys is None or isinstance(keys, Mapping):
                _lay(classes[str(name)], keys or {}, where, problems)
            else:
                instead = "keys such as {queues: [feeds]}, or {}"
                problems.append(Problem("not-a-dictionary", where, keys, "is not a dictionary", instead))
                classes[str(name)].unread_queues = True
    problems += _absent_without_a_class(classes, layers)
    return classes, problems


def _absent_without_a_class(classes: Mapping[str, WrittenClass], layers: Sequence[Layer]) -> Iterator[Problem]:
    """Yield the classes that a nearer layer takes away and that no layer has."""
    for layer in layers[1:]:
        for name, keys in layer.classes.items():
            alone = sum(name in one.classes for one in layers) == 1
            if isinstance(keys, Mapping) and keys.get("state") == "absent" and alone and name in classes:
                instead = did_you_mean(str(name), [other for other in classes if other != name])
                reason = "removes a class that does not exist"
                yield Problem("absent-class-unknown", f"{layer.variable}.{name}.state", "absent", reason, instead)


def _name_problem(name: Any) -> tuple[str, str]:
    if isinstance(name, str) and name in RESERVED_CLASS_NAMES:
        return f"is the name of the role {RESERVED_CLASS_NAMES[name]}'s unit", "another name"
    if not isinstance(name, str):
        # To YAML, yes, on and 1 are no text.
        return "is not text, so it cannot be the name of a class", "a name that begins with a letter, in quotes"
    if not CLASS_NAME.fullmatch(name) or name.endswith("-"):
        return "cannot be the name of a class", "a lower-case letter, then at most 30 of a-z, 0-9 and -"
    return "", ""


#: What Celery calls it, too far from the key's name to look like a slip.
_OTHER_NAMES = {
    "acks_late": "acknowledgement: late or early",
    "autoscale": "concurrency, which is one number",
    "prefetch": "prefetch_multiplier",
}


def _lay(target: WrittenClass, keys: Mapping[Any, Any], where: str, problems: list[Problem]) -> None:
    """Lay ``keys``, written in ``where``, over ``target``."""
    earlier: Any
    known = [key for key in KEYS if key != "state" or where != DEFAULTS]
    for key, value in keys.items():
        if key not in known:
            instead = _OTHER_NAMES.get(str(key)) or did_you_mean(str(key), known)
            problems.append(
                Problem("unknown-key-of-class", f"{where}.{key}", value, "is not a key of a worker class", instead)
            )
            # What a class consumes whose queues stand under another name is not known.
            target.unread_queues = target.unread_queues or instead.startswith("queues ")
            target.meant.add(re.split(r"[ ,:]", instead)[0])
            continue
        name = str(key)
        target.inherited.discard(name)
        if value is None:
            target.values.pop(name, None)
            target.origins.pop(name, None)
            continue
        earlier = target.values.get(name)
        merges = KEYS[name].kind == "mapping" and isinstance(value, Mapping) and isinstance(earlier, Mapping)
        target.values[name] = {**earlier, **value} if merges else value
        target.origins[name] = f"{where}.{name}"
