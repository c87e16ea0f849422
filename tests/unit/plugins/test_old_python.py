"""What runs on hosts keeps to Python 3.9: an older host would fail in the middle of a run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
ON_HOSTS = sorted([*(PLUGINS / "modules").glob("*.py"), *(PLUGINS / "module_utils").rglob("*.py")])


def too_new(text: str) -> list[str]:
    """Return what of a source needs Python 3.10 or newer, with its line."""
    tree = ast.parse(text)
    quoted: set[int] = set()
    future = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    for node in ast.walk(tree) if future else ():
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                quoted |= {id(inner) for inner in ast.walk(part)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Match):
            found.append(f"{node.lineno}: match")
        elif isinstance(node, getattr(ast, "TryStar", ())):
            found.append(f"{node.lineno}: except*")
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            words = {keyword.arg for keyword in node.keywords}
            if name == "zip" and "strict" in words:
                found.append(f"{node.lineno}: zip(strict=)")
            if name == "dataclass" and words & {"slots", "kw_only"}:
                found.append(f"{node.lineno}: dataclass(slots=, kw_only=)")
            if name in ("isinstance", "issubclass") and any(isinstance(arg, ast.BinOp) for arg in node.args[1:]):
                found.append(f"{node.lineno}: {name}(X | Y)")
            if name in ("pairwise", "bit_count", "chdir", "UTC"):
                found.append(f"{node.lineno}: {name}")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in quoted:
            if any(isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right)):
                found.append(f"{node.lineno}: X | None at run time")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            found += [f"{node.lineno}: {name}" for name in names if name in ("tomllib", "pairwise", "UTC", "StrEnum")]
    return found


@pytest.mark.parametrize("path", ON_HOSTS, ids=lambda path: path.stem)
def test_nothing_on_a_host_needs_more(path: Path) -> None:
    text = path.read_text()
    ast.parse(text, feature_version=(3, 9))
    assert too_new(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "zip(a, b, strict=True)", "match a:\n  case 1: pass", "Kind = int | None", "isinstance(a, int | str)",
        "import tomllib", "from itertools import pairwise", "@dataclass(slots=True)\nclass A: pass",
        "def f(a: int | None): pass",
    ],
)  # fmt: skip
def test_what_is_newer_is_seen(text: str) -> None:
    assert too_new(text)
    assert too_new("from __future__ import annotations\ndef f(a: int | None) -> int | None:\n  b: int | None = a") == []
