# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Describes what is wrong with a task's message: the field, but not its content."""

from __future__ import annotations

import json
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery.utils.time import maybe_iso8601

from celeryops_runtime.malformed.decompression import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHOWN = 80
"""At most so many characters of an id or a name in the log."""


def _text(value: object) -> bool:
    return isinstance(value, str)


def _id(value: object) -> bool:
    # kombu's JSON makes an object of a UUID.
    return isinstance(value, UUID) or (isinstance(value, str) and bool(value))


def _name(value: object) -> bool:
    # A worker counts its tasks by it; Celery prints whatever it is.
    return isinstance(value, Hashable)


def _number(value: object) -> bool:
    return isinstance(value, (int, float))


def _seconds(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e10


def _limits(value: object) -> bool:
    # Celery takes no notice of an empty one.
    return isinstance(value, (list, tuple)) and (not value or (len(value) == 2 and all(map(_seconds, value))))


def _moment(value: object) -> bool:
    try:
        if not isinstance(value, (str, datetime)):
            return False
        moment = maybe_iso8601(value) if value else None
        if moment is not None:
            # The worker computes with it in its own time zone.
            (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).astimezone()
        return value == "" or moment is not None
    except (ValueError, OverflowError):
        return False


def _names(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_text, value))


def _mapping(value: object) -> bool:
    return isinstance(value, dict) and all(map(_text, value))


def _signature(value: object) -> bool:
    # A name alone is a signature too (celery/canvas.py, 5.7.0: ``signature``).
    if isinstance(value, str):
        return bool(value)
    return (
        isinstance(value, dict)
        and isinstance(value.get("task"), str)
        and isinstance(value.get("args") or (), (list, tuple))
        and _mapping(value.get("kwargs") or {})
        and _mapping(value.get("options") or {})
        and isinstance(value.get("subtask_type") or "", str)
    )


def _signatures(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_signature, value))


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "timelimit": (_limits, "two numbers of seconds"),
    "eta": (_moment, "a time in ISO 8601"),
    "expires": (_moment, "a time in ISO 8601"),
    "retries": (_number, "a number"),
    "shadow": (_name, "text"),
    "callbacks": (_signatures, "a list of signatures"),
    "errbacks": (_signatures, "a list of signatures"),
    "chain": (_signatures, "a list of signatures"),
    "chord": (_signature, "a signature"),
    "stamped_headers": (_names, "a list of names"),
    "stamps": (_mapping, "an object"),
}
"""What a worker trips over if it is of another type, beside id and task (celery/worker/request.py, strategy.py, 5.7.0).
None is as good as absent. Anything else is only passed on, or taken for true or false, and may be a header that the app
gave the name itself."""

_EMBEDDED = frozenset({"callbacks", "errbacks", "chain", "chord"})
"""What stands in the body of protocol 2. A header of the name counts only where the body does not have it."""

_OF_A_PART: dict[str, tuple[Callable[[object], bool], str]] = {
    "group": (_text, "text"),
    "taskset": (_text, "text"),
    "group_index": (_number, "a number"),
}
"""What is only used of a part of a chord."""


def _fields(values: Mapping[Any, Any], where: str, fields: Mapping[str, Any] | None = None) -> str | None:
    for name, (right, wanted) in (_FIELDS if fields is None else fields).items():
        value = values.get(name)
        if value is not None and not right(value):
            return f"{where} {name} is not {wanted}"
    return None


def _part(values: Mapping[Any, Any]) -> str | None:
    return None if values.get("chord") is None else _fields(values, "of a chord's part,", _OF_A_PART)


def _identity(values: Mapping[Any, Any], where: str) -> str | None:
    for name in ("id", "task"):
        value = values.get(name)
        if not (_id if name == "id" else _text)(value) or not value:
            return f"{where} {name} is missing" if value is None else f"{where} {name} is not text, or empty"
    return None


def _arguments(args: object, kwargs: object) -> str | None:
    if not isinstance(args, (list, tuple)):
        return "the positional arguments are not a list"
    return None if _mapping(kwargs) else "the keyword arguments are not an object with names"


def flaw(headers: Mapping[Any, Any], payload: object) -> str | None:
    """Tell what is wrong with a task's message.

    :param headers: the message's headers.
    :param payload: its decoded body: of protocol 2 if the headers name the task, else of protocol 1.
    :returns: one phrase that names the field and not its content, or None if nothing is.
    """
    if headers.get("task") is None:
        if not isinstance(payload, dict):
            return "it has no header task, and its body is not an object"
        return (
            _identity(payload, "in the body,")
            or _fields(payload, "in the body,")
            or _part(payload)
            or _arguments(payload.get("args", ()), payload.get("kwargs", {}))
        )
    found = _identity(headers, "header")
    if found:
        return found
    others = {name: value for name, value in headers.items() if name not in _EMBEDDED}
    if isinstance(payload, dict):
        # The form between the two protocols (celery/worker/strategy.py, 5.7.0: ``hybrid_to_proto2``).
        if "args" not in payload:
            return "its body is an object without args"
        return (
            _fields(others, "header")
            or _fields(payload, "in the body,")
            or _part({**payload, **others})
            or _arguments(payload["args"], payload.get("kwargs", {}))
        )
    if not isinstance(payload, (list, tuple)) or len(payload) != 3:
        return "its body is not a list of arguments, keyword arguments and options"
    args, kwargs, embed = payload
    if embed is not None and not _mapping(embed):
        return "the options in its body are not an object"
    embedded = embed or {}
    seen = {**others, **{name: headers.get(name) for name in _EMBEDDED - embedded.keys()}}
    return (
        _arguments(args, kwargs)
        or _fields(seen, "header")
        or _fields(embedded, "in the body,")
        or _part({**seen, **embedded})
    )


def unreadable(exc: BaseException) -> str:
    """Say why a body cannot be read, without a word of it.

    :param exc: what was raised.
    """
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, UnicodeError):
            return "its body is not in the encoding that it names"
        if isinstance(cause, TooLargeError):
            return str(cause)
        if isinstance(cause, json.JSONDecodeError):
            return f"its body is not JSON ({cause.msg})"
        if type(cause).__name__ == "ContentDisallowed":
            # kombu's own words name the type, and nothing of the body.
            return f"its content type is not accepted ({shown(str(cause))})"
        cause = cause.__cause__ or cause.__context__
    return f"its body cannot be read ({type(exc).__name__})"


def shown(value: object) -> str:
    """Return what of an id or a name the log may have.

    :param value: it, as the message has it.
    """
    if value is None:
        return "(none)"
    if isinstance(value, UUID):
        value = str(value)
    # repr: what comes from outside must not begin a new line.
    return repr(value[:_SHOWN]) if isinstance(value, str) else f"({type(value).__name__})"
