"""What the tests of the applications share: the one that is on this host."""

from __future__ import annotations

import pytest
from application import NAME, Application

#: Those of another application are not this host's.
MINE = {"test_every_application", f"test_{NAME.replace('-', '_')}"}


@pytest.fixture(scope="session")
def application() -> Application:
    return Application()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what is this host's; the journal is read when everything has been done that could leave something in it.

    Molecule names each file, and pytest asks no ``collect_ignore`` about a file that is named.
    """
    items[:] = [item for item in items if item.path.stem in MINE]
    items.sort(key=lambda item: "journal" in item.name)
