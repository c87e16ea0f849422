# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Variables that look like a role's and are not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem


def misspelt(role: str, known: Iterable[str], present: Iterable[str]) -> list[Problem]:
    """Return a problem for each variable that carries the role's prefix and nearly is one of its variables.

    Only near misses count: a team may well have a ``redis_exporter_port`` of its own beside this collection.

    Arguments:
        role: the role's name, which is the prefix of its variables.
        known: the variables of the role.
        present: the names of all variables of a host.
    """
    names = sorted(known)
    problems = []
    for name in sorted(str(entry) for entry in present):
        if not name.startswith(f"{role}_") or name in names:
            continue
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.87)
        if close:
            problems.append(Problem(name, "(a variable)", f"is not a variable of the role {role}", close[0]))
    return problems
