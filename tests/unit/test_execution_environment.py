"""An execution environment gets what the plugins import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
OWN = {"ansible", "ansible_collections"}


def imported(path: Path) -> Iterator[str]:
    """Yield the first names of the modules that a file imports, those of the standard library left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OWN


def test_an_execution_environment_gets_what_the_plugins_import() -> None:
    metadata = yaml.safe_load((ROOT / "meta" / "execution-environment.yml").read_text())
    wanted = (ROOT / metadata["dependencies"]["python"]).read_text().split()
    names = {name for path in (ROOT / "plugins").rglob("*.py") for name in imported(path)}
    installed = packages_distributions()
    assert sorted(distribution.lower() for name in names for distribution in {*installed[name]}) == sorted(
        distribution.lower() for distribution in wanted
    )


def test_nothing_that_runs_on_a_host_needs_more_than_python() -> None:
    files = [path for folder in ("modules", "module_utils") for path in (ROOT / "plugins" / folder).rglob("*.py")]
    assert {path.name: names for path in files if (names := [*imported(path)])} == {}
