"""What the tests of lost servers share."""

from __future__ import annotations

import pytest
from restore import Stack


@pytest.fixture(scope="session")
def stack() -> Stack:
    return Stack()
