"""Each message of the check has an id of its own, by which it is found whatever its wording."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[5] / "plugins"
FILES = sorted(path for path in PLUGINS.rglob("*.py") if "Problem(" in path.read_text())
#: What makes a problem, and takes its id first.
MAKERS = {"Problem", "UnreadableError"}
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def ids(text: str) -> list[tuple[int, str]]:
    """Return line and id of each message in a source; an empty one where it is handed on, or is none."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS and node.args:
            first = node.args[0]
            constant = isinstance(first, ast.Constant) and isinstance(first.value, str)
            handed_on = isinstance(first, (ast.Attribute, ast.Name))
            found.append((node.lineno, "handed-on" if handed_on else str(first.value) if constant else ""))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_every_message_has_an_id(path: Path) -> None:
    assert [
        f"line {line}: {one!r}"
        for line, one in ids(path.read_text())
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one)
    ] == []


@pytest.mark.parametrize("text", ['Problem(f"x", 1)', 'Problem("celery_app_name", 1)', "UnreadableError(1)"])
def test_what_is_no_id_is_noticed(text: str) -> None:
    ((_line, one),) = ids(text)
    assert not ID.fullmatch(one)
