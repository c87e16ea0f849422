"""What imports what: no circle, and a process that only sends tasks loads nothing of what workers do."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import FILES

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "celeryops_runtime"


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted((FILES / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(FILES).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module, names: frozenset[str]) -> set[str]:
    """Name the package's modules that one imports, also within a function; not those that only types come from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                found.add(part if part in names else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in names}
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    trees = modules()
    names = frozenset(trees)
    assert len(names) > 30
    graph = {name: imported(tree, names) for name, tree in trees.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_producer_loads_nothing_of_what_workers_do(fresh_python: Callable[..., Any]) -> None:
    code = (
        "import sys; from celery import Celery; Celery('a').conf.task_time_limit;"
        f"print(*sorted(name.partition('.')[2] for name in sys.modules if name.startswith('{PACKAGE}.')))"
    )
    done = fresh_python("-c", code)
    assert done.stdout.split() == [
        "around", "awaiting", "celery_settings", "config", "config_reader", "delay", "follow", "loader", "locks",
        "nodes", "publish", "queues_file", "results", "sentinel", "silence", "systemd", "task_rules", "tls", "urls",
        "versions",
    ], done.stderr  # fmt: skip
