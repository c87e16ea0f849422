"""What the tests of a cluster share."""

from __future__ import annotations

import pytest
from cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()
