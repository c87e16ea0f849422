"""What the tests of the applications share: the one that is on this host."""

from __future__ import annotations

from pathlib import Path

import pytest
from application import NAME, Application

#: Those of another application are not this host's.
MINE = {"test_every_application", f"test_{NAME.replace('-', '_')}"}
collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if path.stem not in MINE]


@pytest.fixture(scope="session")
def application() -> Application:
    return Application()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The journal is read when everything has been done that could leave something in it."""
    items.sort(key=lambda item: "journal" in item.name)
