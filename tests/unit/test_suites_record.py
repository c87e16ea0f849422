"""What counts as seen on this very tree, and when the support table may be written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import suites_record
from docs import support_block, support_rows

ROW = {"tree": "abc", "thorough": True, "row": "trixie", "suite": "trixie", "passed": 3, "failed": 0, "versions": {}}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with a commit."""
    folder = tmp_path / "checkout"
    for name, text in {
        "a.py": "one",
        "tests/support.json": "{}",
        "tests/durations.json": "{}",
        "README.md": "read\n<!-- BEGIN_SUPPORT -->\nold\n<!-- END_SUPPORT -->\nme",
        ".gitignore": "/build/\n",
        "build/log": "x",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=one"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "a.py").write_text("two"),
        lambda tree: (tree / "new.py").touch(),
        lambda tree: (tree / "a.py").unlink(),
        lambda tree: (tree / "a.py").rename(tree / "b.py"),
        lambda tree: (tree / "a.py").chmod(0o755),
        lambda tree: (tree / "README.md").write_text("read\n<!-- BEGIN_SUPPORT -->\nold\n<!-- END_SUPPORT -->\nthis"),
    ],
    ids=["changed", "new", "deleted", "renamed", "executable", "the readme's own text"],
)
def test_another_tree_has_another_identity(tree: Path, change: Callable[[Path], Any]) -> None:
    before = suites_record.identity(tree)
    assert before
    change(tree)
    assert suites_record.identity(tree) != before


def test_what_recording_writes_leaves_the_tree_what_it_is(tree: Path) -> None:
    before = suites_record.identity(tree)
    (tree / "tests/support.json").write_text('{"trixie": 1}')
    (tree / "tests/durations.json").write_text('{"trixie": 1}')
    (tree / "README.md").write_text("read\n<!-- BEGIN_SUPPORT -->\nnew\nrows\n<!-- END_SUPPORT -->\nme")
    (tree / "build/log").write_text("y")
    assert suites_record.identity(tree) == before


def test_a_commit_of_what_was_tested_leaves_the_tree_what_it_is(tree: Path) -> None:
    (tree / "a.py").write_text("two")
    before = suites_record.identity(tree)
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "commit", "--quiet", "--all", "--message=two"], check=True, capture_output=True)
    assert suites_record.identity(tree) == before


def test_outside_of_git_nothing_has_been_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert suites_record.identity(tmp_path) == ""
    assert not suites_record.passed({**ROW, "tree": ""}, "", thorough=False)


@pytest.mark.parametrize(
    ("row", "thorough", "counts"),
    [
        (ROW, True, True),
        (ROW, False, True),
        ({**ROW, "thorough": False}, False, True),
        ({**ROW, "thorough": False}, True, False),
        ({**ROW, "tree": "abd"}, False, False),
        ({**ROW, "failed": 1}, False, False),
        ({**ROW, "passed": 0}, False, False),
        (None, False, False),
    ],
)
def test_a_run_is_left_out_only_if_all_of_it_passed_on_this_tree(
    row: dict[str, Any] | None, thorough: bool, counts: bool
) -> None:
    assert suites_record.passed(row, "abc", thorough=thorough) is counts


def test_rows_are_kept_one_by_one_and_published_together(tmp_path: Path) -> None:
    rows, support = tmp_path / "rows.json", tmp_path / "support.json"
    support.write_text("before")
    suites_record.keep(rows, "trixie", ROW)
    suites_record.keep(rows, "stray", {**ROW, "tree": "other"})
    suites_record.keep(rows, "trixie-apart", {**ROW, "failed": 1})
    wanted = ["trixie", "trixie-apart", "forky"]
    assert suites_record.publish(suites_record.read(rows), wanted, "abc", support) == ["trixie-apart", "forky"]
    assert support.read_text() == "before"
    suites_record.keep(rows, "trixie-apart", ROW)
    suites_record.keep(rows, "forky", {**ROW, "row": "forky", "suite": "forky"})
    assert suites_record.publish(suites_record.read(rows), wanted, "abc", support) == []
    written = json.loads(support.read_text())
    assert list(written) == ["forky", "trixie", "trixie-apart"]
    assert {"date", *ROW} - {"thorough"} == set(written["trixie"])


def test_the_support_table_adds_up_the_hosts_of_a_stack() -> None:
    entry = {**ROW, "date": "2026-11-30", "versions": {"debian": "13", "redis": "5:8.0.2-3", "celery": "5.7.0"}}
    seen = {
        "trixie": entry,
        "trixie-apart": {**entry, "passed": 4, "versions": {"ansible-core": "2.19.14", "celery": "5.6.3"}},
        "forky": {**entry, "row": "forky", "suite": "forky"},
        "trixie-fleet": {**entry, "row": ""},
        "bookworm": {**entry, "row": "bookworm", "suite": "bookworm"},
        "bookworm-apart": {**entry, "row": "bookworm", "suite": "bookworm", "failed": 1},
        "trixie-celery5.6": {**entry, "row": "trixie-celery5.6", "versions": {"celery": "5.6.3"}},
        "apps-weblate": {
            **entry,
            "row": "apps-weblate",
            "versions": {"debian": "13", "application": "weblate 2026.10.1"},
        },
    }
    assert [row["row"] for row in support_rows(seen)] == ["apps-weblate", "trixie", "trixie-celery5.6", "forky"]
    assert support_block(seen).splitlines()[2:5] == [
        "| 13 (trixie) | - | - | - | - | - | - | - | - | weblate 2026.10.1 | 2026-11-30, 3 tests |",
        "| 13 (trixie) | - | 8.0.2 | - | - | - | 5.7.0 | - | 2.19.14 | - | 2026-11-30, 7 tests |",
        "|  (trixie) | - | - | - | - | - | 5.6.3 | - | - | - | 2026-11-30, 3 tests |",
    ]
    assert support_block({}) == "Nothing yet: `make test-all` writes this table."
