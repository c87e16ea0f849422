# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Wraps functions of Celery, kombu and their clients with functions of this package, each once.

Their libraries have no hook where these are needed. What is replaced keeps its name and its documentation
(:func:`functools.wraps`), and bears a mark, so that whoever comes again leaves it alone. Several modules may be around
one function: each of them has a mark of its own there.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MARK", "put_around", "run_each"]

logger = logging.getLogger("celeryops.runtime")

MARK = "__celeryops__"


def put_around(owner: Any, name: str, make: Callable[[Any], Callable[..., Any]], mark: str = MARK) -> None:
    """Replace a function by one that knows it, unless that was done before.

    :param owner: the class or the module that has it.
    :param name: its name there.
    :param make: gets the function and returns what takes its place.
    :param mark: the attribute that tells of it.
    :raises AttributeError: if there is no such function, as on another version.
    """
    own = getattr(owner, name)
    if hasattr(own, mark):
        return
    replacement = functools.wraps(own)(make(own))
    setattr(replacement, mark, True)
    setattr(owner, name, replacement)


def run_each(steps: Iterable[Callable[[], None]]) -> None:
    """Run all of them: what one cannot do with this version keeps no other from it, and is told.

    :param steps: functions without arguments.
    """
    for one in steps:
        try:
            one()
        except Exception:
            logger.warning("%s.%s is not possible with this version", one.__module__, one.__name__, exc_info=True)
