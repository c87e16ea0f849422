# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""A mistake in the variables, and the one message that lists all of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: The password of a URL: what stands between the first ":" of the user part and the last "@" of the authority.
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^:/?#\s]*):[^\s]*@", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """One mistake, told so that the reader can mend it without looking anything up.

    Arguments:
        variable: name of the variable, with the path inside it (``celery_worker_classes.high.time_limit``).
        value: what the user wrote; passwords inside URLs are hidden when it is shown.
        reason: why it is wrong, continuing the sentence "<variable>: <value> ..." (``is not a duration``).
        instead: what to write instead, continuing "write ..." (``a duration such as 90s, 15m or 12h``).
    """

    variable: str
    value: Any
    reason: str
    instead: str

    def __str__(self) -> str:
        # One line, whatever somebody put into the name of a class.
        return " ".join(f"{self.variable}: {shown(self.value)} {self.reason}; write {self.instead}".splitlines())


def shown(value: Any) -> str:
    """Return ``value`` as a person would recognise it, at most 120 characters long, URL passwords hidden."""
    text = _URL_PASSWORD.sub(r"\g<head>:***@", repr(_plain(value)))
    return text if len(text) <= 120 else text[:117] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"<closest>"`` phrased as a suggestion for a misspelt ``name``, or the list of what is known.

    Arguments:
        name: what the user wrote.
        known: the names that would have been right.
    """
    candidates = sorted(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if close:
        return f"{close[0]} (did you mean that?)"
    return "one of " + ", ".join(candidates) if candidates else "nothing"


def message(problems: Sequence[Problem]) -> str:
    """Return the one message for all ``problems``, each on a line of its own, without repetitions."""
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    head = "1 mistake in the variables" if len(lines) == 1 else f"{len(lines)} mistakes in the variables"
    return "\n".join([f"{head}; nothing was changed:", *(f"  - {line}" for line in lines)])


def _plain(value: Any) -> Any:
    """Return ``value`` built from plain types: Ansible's tagged values have another ``repr`` on some versions."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value
