"""Names of queues."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.values.queue_names import is_queue


@pytest.mark.parametrize("name", ["a", "payments", "eu.payments-2", "_x", "A.B.c", "q" * 100])
def test_what_can_be_a_queue(name: str) -> None:
    assert is_queue(name)


@pytest.mark.parametrize(
    "name", ["", "-a", "a b", "a,b", ".a", "a.", "a..b", "a/b", "ä", "q" * 101, "a\n", 7, None, ["a"]]
)
def test_what_can_be_none(name: Any) -> None:
    assert not is_queue(name)
