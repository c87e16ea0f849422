"""Which names nobody can have meant."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.values.object_names import (
    faulty,
    name_fault,
    told_apart_by_blanks,
)


@pytest.mark.parametrize("name", ["/", "shop", "team/a b", "ünï.code-1", "x" * 255])
def test_names_with_any_visible_sign_are_fine(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        (" ", "begins or ends with a blank, which is invisible"),
        ("shop ", "begins or ends with a blank, which is invisible"),
        ("\u00a0shop", "begins or ends with a blank, which is invisible"),
        ("shop\n", "begins or ends with a blank, which is invisible"),
        ("sh\nop", "contains an unprintable character, such as a line break"),
        ("sh\x00op", "contains an unprintable character, such as a line break"),
        ("x" * 256, "is longer than 255 bytes"),
        ("ü" * 128, "is longer than 255 bytes"),
    ],
)
def test_what_nobody_can_have_meant(name: str, reason: str) -> None:
    fault = name_fault(name)
    assert fault is not None
    assert fault[0] == reason


def test_what_to_write_is_the_name_without_its_blanks() -> None:
    assert list(faulty(["ok", "shop ", "shop ", " "])) == [
        ("shop ", "begins or ends with a blank, which is invisible", "'shop'"),
        (" ", "begins or ends with a blank, which is invisible", "a name"),
    ]


def test_names_that_only_a_number_of_blanks_tells_apart() -> None:
    assert list(told_apart_by_blanks(["a b", "ab", "a  b", "a b"])) == [("a  b", "a b")]
