"""Unit tests import the plugins by the names that Ansible gives them, from this checkout."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader
from compiled import compile_once

init_plugin_loader([str(Path(__file__).resolve().parents[2] / "collections")])
compile_once()
