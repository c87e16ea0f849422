"""Modules that are nothing but documentation: their action plugins take what it names, and nothing else."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "ansible_collections.celeryops.stack.plugins"


def only_documented() -> list[str]:
    """Return the modules without code; of all others ansible-test compares documentation and argument spec."""
    return sorted(
        path.stem
        for path in (ROOT / "plugins" / "modules").glob("*.py")
        if not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.parse(path.read_text()).body)
    )


def test_they_are_known() -> None:
    assert only_documented() == ["further", "plan", "rollout", "stranded", "unregistered"]


@pytest.mark.parametrize("name", only_documented())
def test_an_action_takes_what_its_documentation_names(name: str) -> None:
    documentation = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)
    action = importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule
    # Ansible refuses all others, but for an empty set, which stands for any.
    assert sorted(action._VALID_ARGS) == sorted(documentation.get("options") or [])
