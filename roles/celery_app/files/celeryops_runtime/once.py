# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Once per period: which calls of a task are the same one.

What a worker does with them is in :mod:`celeryops_runtime.once_guard`, what Redis has of them in
:mod:`celeryops_runtime.once_store`.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class OnceError(Exception):
    """A rule does not fit the call: the task fails with this message instead of running unguarded."""


def digest(
    run: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], parts: Sequence[str | int] | None
) -> str:
    """Name a call by its arguments. However they are passed, by position, name or default, the name is the same.

    :param run: the task's function.
    :param args: positional arguments.
    :param kwargs: keyword arguments.
    :param parts: names of arguments, or their positions from 0; None for all arguments, nothing for "every call is
        the same".
    :returns: 32 hexadecimal digits.
    :raises OnceError: if the function has no such argument, or a value cannot be written as JSON.
    """
    from kombu.utils.json import dumps

    named, positional, rest, more_names = _arguments(run, args, kwargs)
    if parts is None:
        chosen: list[Any] = [named, rest]
    else:
        chosen = []
        for part in parts:
            if isinstance(part, int):
                if part >= len(positional) and rest is None:
                    raise OnceError(f"celery_app_once: the task has no argument number {part} to tell calls apart by")
                chosen.append(positional[part] if part < len(positional) else None)
            else:
                if part not in named and not more_names:
                    raise OnceError(
                        f"celery_app_once: the task has no argument {part!r} to tell calls apart by "
                        f"(it has: {', '.join(named) or 'none'})"
                    )
                chosen.append(named.get(part))
    try:
        text = dumps(chosen, sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise OnceError(f"celery_app_once: the arguments cannot be compared, because {exc}") from exc
    return hashlib.sha256(str(text).encode()).hexdigest()[:32]


def _arguments(
    run: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any], list[Any] | None, bool]:
    """Sort a call's arguments.

    :returns: all that have a name; all that have a position, in order; those of them that have no name, None if the
        function takes none; whether it takes names that it does not list.
    """
    try:
        signature = inspect.signature(run)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        # Nothing is known of the function, or the call is wrong: then the task says so itself when it runs.
        return dict(kwargs), list(args), list(args), True
    bound.apply_defaults()
    named: dict[str, Any] = {}
    positional: list[Any] = []
    rest: list[Any] | None = None
    more_names = False
    for name, parameter in signature.parameters.items():
        value = bound.arguments[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = list(value)
            positional += rest
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= value
            more_names = True
        else:
            named[name] = value
            if parameter.kind is not parameter.KEYWORD_ONLY:
                positional.append(value)
    return named, positional, rest, more_names
