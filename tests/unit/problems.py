"""Mistakes by the ids of their messages and by the variables: the wording is free, and stands once, in the plugins."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem


def told(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    """Return id and variable of each mistake, in their order."""
    return [(problem.id, problem.variable) for problem in problems]
