"""Unit tests import the plugins by the names that Ansible gives them, from this checkout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader
from compiled import compile_once

init_plugin_loader([str(Path(__file__).resolve().parents[2] / "collections")])
compile_once()


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """A program or module that is run in this process sets its own, which is for the process."""
    before = os.umask(0o022)
    yield
    os.umask(before)
