"""How messages name several things, and what is read of a file that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of
from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of
from celeryops_runtime.wording import some_of as some_of_at_run_time


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        (list("abcdef"), "a, b and 4 more"),
    ],
)
def test_what_is_too_much_to_name_is_counted(names: list[str], told: str) -> None:
    assert some_of(names, 2) == some_of_at_run_time(names, 2) == told


def test_a_file_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    assert text_of(str(tmp_path / "latin")) == "caf\ufffd\n"
    assert text_of(str(tmp_path / "none")) == text_of(str(tmp_path)) == ""
