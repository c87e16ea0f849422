# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns of task names, which routes, once-rules and rules of results share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATTERN_HELP = "a name such as shop.mails.send, with * for anything"
#: What stands in lists, quotes and patterns of other kinds (expressions, shells, topics, SQL), and in no task's name.
_FOREIGN = re.compile(r"""[\s,"'^$\\()|+{}?\[\]#%]|^$|^/.*/$""")
#: Of these, what only regular expressions have, and ``.*`` where a name begins or behind another dot.
_EXPRESSION = re.compile(r"[\^$\\()|+]|^/.*/$|(?:^|\.)\.\*")
_EMPTY_PART = re.compile(r"\.\.|^\.|\.$")
_WRAPPED = re.compile(r"""(?:re\.compile\()?r?(?P<quote>["'/])(?P<text>.*)(?P=quote)\)?""")
#: Stands for the dot that is meant as one while those of ``.*`` are read.
_DOT = "\0"


def glob(pattern: str) -> re.Pattern[str]:
    """Return the expression for a task pattern, in which ``*`` stands for anything."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def pattern_fault(pattern: str) -> tuple[str, str]:
    """Return why ``pattern`` matches no task, and what to write instead; empty texts if it can match one.

    Arguments:
        pattern: the name of a task, in which ``*`` stands for anything.
    """
    if not _matches_nothing(pattern):
        return "", ""
    meant = _meant(pattern)
    instead = PATTERN_HELP if _matches_nothing(meant) else f"{meant} (did you mean that?)"
    if _EXPRESSION.search(pattern):
        return "is a regular expression, and here only * is special", instead
    return "is not a task name or pattern", instead


def pattern_problems(variable: str, patterns: Iterable[str], what: str) -> Iterator[Problem]:
    """Yield the patterns that match nothing, and those that never get their turn, as the first match wins.

    Arguments:
        variable: where they are written.
        patterns: in their order.
        what: what each of them belongs to, such as ``route``.
    """
    seen: set[str] = set()
    # Compiled once: each is held against all that follow.
    wide: list[tuple[str, re.Pattern[str]]] = []
    for pattern in patterns:
        reason, instead = pattern_fault(pattern)
        if reason:
            yield Problem("pattern-matches-nothing", variable, pattern, reason, instead)
            continue
        if pattern in seen:
            reason = f"is never reached: {pattern} stands before it and matches too"
            yield Problem("route-never-reached", variable, pattern, reason, "it once")
            continue
        hiding = next((other for other, expression in wide if expression.fullmatch(pattern)), "")
        if hiding:
            reason = f"is never reached: {hiding} stands before it and matches too"
            yield Problem("route-never-reached", variable, pattern, reason, f"it above that {what}")
        seen.add(pattern)
        if "*" in pattern:
            wide.append((pattern, glob(pattern)))


def _matches_nothing(pattern: str) -> bool:
    return bool(_FOREIGN.search(pattern) or _EMPTY_PART.search(pattern))


def _meant(pattern: str) -> str:
    """Return what a pattern of another kind seems to mean, as far as it can be told."""
    wrapped = _WRAPPED.fullmatch(pattern)
    text = (wrapped["text"] if wrapped else pattern).removeprefix("^").removesuffix("$")
    text = re.sub(r"\.[*+]\??|[#%]", "*", text.replace("\\.", _DOT)).replace(_DOT, ".")
    # "shop.mails." and ".send" are what stands before, and behind, anything.
    return f"{'*' if text.startswith('.') else ''}{text}{'*' if text.endswith('.') else ''}"
