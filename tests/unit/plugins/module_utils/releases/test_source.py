"""Where the content of a release comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases.source import is_package, pick_commit


def test_a_tag_wins_over_a_branch_and_stands_for_its_commit() -> None:
    listing = "a\trefs/heads/v1\nb\trefs/tags/v1\nc\trefs/tags/v1^{}\nd\trefs/heads/main\ne\tHEAD\n"
    assert pick_commit(listing, "v1") == "c"
    assert pick_commit(listing, "main") == "d"
    assert pick_commit(listing, "HEAD") == "e"
    assert pick_commit(listing, "v") is None


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("setup.py", "", True),
        ("pyproject.toml", "[project]\nname='x'", True),
        ("pyproject.toml", "[build-system]", True),
        ("pyproject.toml", "[tool.ruff]", False),
        ("manage.py", "", False),
    ],
)
def test_a_tree_is_a_package_when_it_can_be_built(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    (tmp_path / name).write_text(content)
    assert is_package(tmp_path.as_posix()) is expected
