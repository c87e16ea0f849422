# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Finds the rule of the shared configuration for a task name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeryops_runtime.config import OnceRule, ResultRule


def matcher(pattern: str) -> Callable[[str], object]:
    """Compile a pattern of task names.

    :param pattern: a name, in which ``*`` stands for anything, as in a route.
    :returns: a function that is true for the names that match.
    """
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL).fullmatch


_Rule = TypeVar("_Rule", "OnceRule", "ResultRule")


def matching(rules: Sequence[_Rule], name: str) -> _Rule | None:
    """Find the rule of a task.

    :param rules: in order, the first that matches decides.
    :param name: the task's name. Celery's own tasks (``celery.chord_unlock`` and the like) are only meant by a rule
        that begins with ``celery.`` itself, and this package's own likewise.
    :returns: the rule, or None.
    """
    for rule in rules:
        if any(name.startswith(own) and not rule.task.startswith(own) for own in ("celery.", "celeryops.")):
            continue
        if matcher(rule.task)(name):
            return rule
    return None
