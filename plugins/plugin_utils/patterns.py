# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Patterns of task names, which routes and once-rules share."""

from __future__ import annotations

import re

PATTERN_HELP = "a name such as shop.mails.send, with * for anything"


def glob(pattern: str) -> re.Pattern[str]:
    """Return the expression for a task pattern, in which ``*`` stands for anything."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def malformed(pattern: str) -> bool:
    """Say whether ``pattern`` can be no task's name: empty, with spaces, or written in another pattern language."""
    return not pattern or any(character.isspace() for character in pattern) or bool(set("?[]") & set(pattern))
