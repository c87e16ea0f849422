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
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

logger = logging.getLogger("celeryops.runtime")

MARK = "__celeryops__"

_Function = TypeVar("_Function", bound=Callable[..., Any])


def around(owner: Any, name: str, mark: str = MARK) -> Callable[[_Function], _Function]:
    """Put a function around one of a library, unless that was done before: a decorator.

    It is called with the library's own function, and then with the arguments of the call.

    :param owner: the class or the module that has the library's.
    :param name: its name there.
    :param mark: the attribute that tells of it.
    :raises AttributeError: if there is no such function, as on another version.
    """
    own = getattr(owner, name)

    def put(function: _Function) -> _Function:
        if not hasattr(own, mark):

            @functools.wraps(own)
            def replacement(*arguments: Any, **options: Any) -> Any:
                return function(own, *arguments, **options)

            setattr(replacement, mark, True)
            setattr(owner, name, replacement)
        return function

    return put


def run_each(steps: Iterable[Callable[[], None]]) -> None:
    """Run all of them: what one cannot do with this version keeps no other from it, and is told.

    :param steps: functions without arguments.
    """
    for one in steps:
        try:
            one()
        except Exception:
            logger.warning("%s.%s is not possible with this version", one.__module__, one.__name__, exc_info=True)
