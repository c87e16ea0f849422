# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mistake in the variables, and the one message that lists all of them."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.celeryops.stack.plugins.module_utils.masking import hidden, without_accounts, without_passwords
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import MASK, NOT_SHOWN, named_like_a_secret

#: An address with a password that is not empty and has no "@", wherever it stands.
_ADDRESS_WITH_PASSWORD = re.compile(r"://[^/\s:@]*:[^\s@]{1,4096}@")
#: What stands behind such a name in a text: PASSWORD=..., --password=...
_ASSIGNED = re.compile(
    r"(?P<head>(?:passw|passphrase|secret|token|credential|api_?key)[\w-]{0,64}\s*[=:]\s*)[^\s'\"]+", re.IGNORECASE
)
#: Variables and keys that are addresses, with an account in it perhaps.
_URL_VARIABLE = re.compile(
    r"(_url|_backend|_broker_api|_mirror|(^|\.)(uris?|index_url|extra_index_urls))(\[[0-9]+\])?$"
)
#: Words that people misspell, behind which secrets stand.
_SECRET_WORDS = ("password", "passphrase", "secret", "token", "credentials")
_ENVIRONMENT = ("environment", "environ", "env")
#: How the reasons begin of what has no value.
_NOTHING = ("is missing", "is empty")
#: What stands in for the value of something whose name is wrong.
_NAMES = ("(a key)", "(a variable)")
#: What stands in for a value already.
_STAND_INS = frozenset({"", NOT_SHOWN, *_NAMES})


class FilePath(str):
    """The name of a file or of a directory in place of a value: always shown."""

    __slots__ = ()


@dataclass(frozen=True)
class Problem:
    """One mistake, told so that the reader can mend it without looking anything up.

    Arguments:
        id: of the message, a few words with dashes; tests and readers of logs go by it, so that its wording is free.
        variable: name of the variable, with the path inside it (``celery_worker_classes.high.time_limit``).
        value: what the user wrote; it is not shown where it may be a secret, nor are passwords inside URLs.
        reason: why it is wrong, continuing the sentence "<variable>: <value> ..." (``is not a duration``).
        instead: what to write instead, continuing "write ..." (``a duration such as 90s, 15m or 12h``).
        readable: whether the value can be read all the same, so that what is worked out from it is what was meant.
    """

    id: str = field(compare=False)
    variable: str
    value: Any
    reason: str
    instead: str
    readable: bool = field(default=False, compare=False, kw_only=True)

    def __str__(self) -> str:
        # One line, whatever somebody put into the name of a class.
        value = NOT_SHOWN if may_be_secret(self.variable, self.value) else self.value
        # Rules tell places, which have neither.
        if isinstance(value, str) and re.search("@|://", value) and _URL_VARIABLE.search(self.variable):
            value = hidden(value)
        # What is not there has no value to show, and of a name it is not what is wrong.
        nothing = value is None and self.reason.startswith(_NOTHING)
        told = "" if nothing or value in _NAMES else f"{shown(value)} "
        return " ".join(f"{self.variable}: {told}{self.reason}; write {self.instead}".splitlines())


class UnreadableError(ValueError):
    """A value that is not what it has to be, whichever variable it is of.

    Arguments:
        identity: the id, as of a Problem.
        reason: as of a Problem.
        instead: as of a Problem.
    """

    def __init__(self, identity: str, reason: str, instead: str) -> None:
        super().__init__(f"{reason}; write {instead}")
        self.id = identity
        self.reason = reason
        self.instead = instead

    def of(self, variable: str, value: Any) -> Problem:
        """Return the mistake.

        Arguments:
            variable: that holds the value, with the path inside it.
            value: what the user wrote.
        """
        return Problem(self.id, variable, value, self.reason, self.instead)


@dataclass(frozen=True)
class Found(Problem):
    """Something that a host was found to have, which no variable says and which has to be mended there or here.

    Its ``value`` is the host, its ``reason`` a whole sentence, its ``instead`` what to do.
    """

    def __str__(self) -> str:
        return " ".join(f"{self.variable}: on {self.value}, {self.reason}; {self.instead}".splitlines())


@dataclass(frozen=True)
class Sentence(Problem):
    """What cannot be told by the value: its ``reason`` is a whole sentence, its ``instead`` what to do, if anything."""

    def __str__(self) -> str:
        told = f"{self.variable}: {self.reason}" + (f"; {self.instead}" if self.instead else "")
        return " ".join(told.splitlines())


def may_be_secret(variable: str, value: Any) -> bool:
    """Whether what somebody wrote may be a secret, by the name of the variable, of a key on the way or of one inside.

    Arguments:
        variable: the variable with the path inside it.
        value: what was written there.
    """
    if value is None or isinstance(value, (bool, FilePath)) or (isinstance(value, str) and value in _STAND_INS):
        return False
    variable, *keys = [key for key in re.split(r"[.\[\] :]+", variable) if key] or [""]
    # A variable that is a secret itself is never handed over; what says the name of a key of it, is not a secret.
    if any(map(_names_a_secret, keys)) or variable.endswith("_environment"):
        return True
    # Names and permissions of accounts may be shown; a whole account may not.
    whole = isinstance(value, (Mapping, list, tuple)) or "".join(keys).isdigit()
    return (whole and holds_accounts(variable) and len(keys) < 2) or _holds_a_secret(value)


def holds_accounts(variable: str) -> bool:
    """Whether a variable has accounts with their passwords."""
    return re.split(r"[.\[]", variable)[0].endswith("_users")


def holds_password(value: object) -> bool:
    """Whether a value is, or holds, an address with a password in it."""
    return bool(_ADDRESS_WITH_PASSWORD.search(str(value)))


@functools.lru_cache(maxsize=4096)
def _names_a_secret(key: str) -> bool:
    """Whether secrets are kept under ``key``, or under what it was meant to be."""
    if named_like_a_secret(key):
        return True
    words = key.lower().split("_")
    return any(
        difflib.SequenceMatcher(None, word, right).ratio() >= 0.8
        for word in words
        for right in (*_SECRET_WORDS, *_ENVIRONMENT)
    )


def _holds_a_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            (entry not in (None, "") and _names_a_secret(str(key))) or _holds_a_secret(entry)
            for key, entry in value.items()
        )
    return isinstance(value, (list, tuple)) and any(map(_holds_a_secret, value))


def without_secrets(text: str) -> str:
    """Return a text without the passwords of URLs, and without what is assigned to a name of a secret."""
    return _ASSIGNED.sub(rf"\g<head>{MASK}", without_passwords(text))


def shown(value: Any) -> str:
    """Return ``value`` as a person would recognise it, at most 120 characters long, passwords in texts hidden."""
    text = without_secrets(repr(_plain(value)))
    return text if len(text) <= 120 else text[:117] + "..."


def closest(name: str, known: Iterable[str], cutoff: float = 0.8) -> str:
    """Return the one of ``known`` that ``name`` nearly is, or an empty text.

    Arguments:
        name: what the user wrote.
        known: the names that would have been right.
        cutoff: how near it has to be, from 0 to 1.
    """
    return next(iter(difflib.get_close_matches(name, sorted(known), cutoff=cutoff)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"<closest>"`` phrased as a suggestion for a misspelt ``name``, or the list of what is known.

    Arguments:
        name: what the user wrote.
        known: the names that would have been right.
    """
    candidates = sorted(known)
    close = closest(name, candidates, 0.6)
    if close:
        return f"{close} (did you mean that?)"
    return "one of " + ", ".join(candidates) if candidates else "nothing"


def message(problems: Sequence[Problem]) -> str:
    """Return the one message for all ``problems``, each on a line of its own, without repetitions."""
    lines = _lines(problems)
    head = "1 mistake in the variables" if len(lines) == 1 else f"{len(lines)} mistakes in the variables"
    return "\n".join([f"{head}; nothing was changed:", *(f"  - {line}" for line in lines)])


def mistakes(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Return ``id`` and ``variable`` of each line of the message, for programs."""
    return [{"id": problem.id, "variable": problem.variable} for problem in _lines(problems).values()]


def _lines(problems: Sequence[Problem]) -> dict[str, Problem]:
    """Return the lines of a message, each with the first problem that it tells."""
    lines: dict[str, Problem] = {}
    for problem in problems:
        lines.setdefault(str(problem), problem)
    return lines


def _plain(value: Any) -> Any:
    """Return ``value`` built from plain types, whatever Ansible's ``repr`` is, without the accounts of addresses."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, str):
        return without_accounts(str(value))
    return next((kind(value) for kind in (int, float) if isinstance(value, kind)), value)
