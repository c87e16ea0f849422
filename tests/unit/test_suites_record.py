"""What counts as seen on this very tree, and which rows the support table has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import suites_record
from docs import support_block, support_rows

ROW = {"tree": "abc", "row": "trixie", "suite": "trixie", "passed": 3, "failed": 0, "versions": {}}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with a commit."""
    folder = tmp_path / "checkout"
    for name, text in {
        "plugins/a.py": "one",
        "roles/redis/README.md": "read",
        "tests/support.json": "{}",
        "README.md": "read",
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
        lambda tree: (tree / "plugins/a.py").write_text("two"),
        lambda tree: (tree / "plugins/new.py").touch(),
        lambda tree: (tree / "plugins/a.py").unlink(),
        lambda tree: (tree / "plugins/a.py").rename(tree / "plugins/b.py"),
        lambda tree: (tree / "plugins/a.py").chmod(0o755),
        lambda tree: (tree / "meta").mkdir() or (tree / "meta/runtime.yml").touch(),
    ],
    ids=["changed", "new", "deleted", "renamed", "executable", "another part"],
)
def test_another_tree_has_another_identity(tree: Path, change: Callable[[Path], Any]) -> None:
    before = suites_record.identity(tree)
    assert before
    change(tree)
    assert suites_record.identity(tree) != before


def test_what_is_no_part_of_the_collection_leaves_the_tree_what_it_is(tree: Path) -> None:
    before = suites_record.identity(tree)
    for name in ("tests/support.json", "tests/test_a.py", "README.md", "roles/redis/README.md", "build/log"):
        (tree / name).write_text("another")
    assert suites_record.identity(tree) == before


def test_a_commit_of_what_was_tested_leaves_the_tree_what_it_is(tree: Path) -> None:
    (tree / "plugins/a.py").write_text("two")
    before = suites_record.identity(tree)
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "commit", "--quiet", "--all", "--message=two"], check=True, capture_output=True)
    assert suites_record.identity(tree) == before


def test_outside_of_git_nothing_has_been_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert suites_record.identity(tmp_path) == ""
    assert not suites_record.passed({**ROW, "tree": ""}, "")


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        (ROW, True),
        ({**ROW, "tree": "abd"}, False),
        ({**ROW, "failed": 1}, False),
        ({**ROW, "passed": 0}, False),
        (None, False),
    ],
)
def test_a_run_is_left_out_only_if_all_of_it_passed_on_this_tree(row: dict[str, Any] | None, counts: bool) -> None:
    assert suites_record.passed(row, "abc") is counts


def test_rows_are_kept_one_by_one(tmp_path: Path) -> None:
    record = tmp_path / "support.json"
    suites_record.keep(record, "trixie", ROW)
    suites_record.keep(record, "trixie-apart", {**ROW, "failed": 1})
    suites_record.keep(record, "forky", {**ROW, "tree": "other"})
    wanted = ["trixie", "trixie-apart", "forky", "bookworm"]
    assert suites_record.missing(suites_record.read(record), wanted, "abc") == wanted[1:]
    suites_record.keep(record, "trixie-apart", ROW)
    assert suites_record.missing(suites_record.read(record), wanted, "abc") == wanted[2:]
    assert {"date", *ROW} == set(suites_record.read(record)["trixie"])


def test_the_support_table_adds_up_the_hosts_of_a_stack() -> None:
    entry = {**ROW, "date": "2026-11-30", "versions": {"debian": "13", "redis": "5:8.0.2-3", "celery": "5.7.0"}}
    seen = {
        "trixie": entry,
        "trixie-apart": {**entry, "passed": 4, "versions": {"ansible-core": "2.19.14", "celery": "5.6.3"}},
        "forky": {**entry, "suite": "forky", "tree": "abd"},
        "bookworm": {**entry, "suite": "bookworm"},
        "bookworm-apart": {**entry, "suite": "bookworm", "failed": 1},
        "bookworm-redis": {**entry, "suite": "bookworm"},
        "bookworm-redis-apart": {**entry, "suite": "bookworm", "tree": "abd"},
        "trixie-celery5.6": {**entry, "versions": {"celery": "5.6.3"}},
        "apps-weblate": {**entry, "versions": {"debian": "13", "application": "weblate 2026.10.1"}},
    }
    stacks = {
        "trixie": ["trixie", "trixie-apart"],
        "forky": ["forky"],
        "bookworm": ["bookworm", "bookworm-apart"],
        "bookworm-redis": ["bookworm-redis", "bookworm-redis-apart"],
        "trixie-redis": ["trixie-redis"],
        "trixie-celery5.6": ["trixie-celery5.6"],
        "apps-weblate": ["apps-weblate"],
    }
    # What failed, what was not run, and what passed on two trees, is not a stack.
    assert [row["row"] for row in support_rows(seen, stacks)] == ["apps-weblate", "trixie", "trixie-celery5.6", "forky"]
    assert support_block(seen, stacks).splitlines()[2:6] == [
        "| 13 (trixie) | - | - | - | - | - | - | - | - | weblate 2026.10.1 | 2026-11-30, 3 tests of abc |",
        "| 13 (trixie) | - | 8.0.2 | - | - | - | 5.7.0 | - | 2.19.14 | - | 2026-11-30, 7 tests of abc |",
        "|  (trixie) | - | - | - | - | - | 5.6.3 | - | - | - | 2026-11-30, 3 tests of abc |",
        "| 13 (forky) | - | 8.0.2 | - | - | - | 5.7.0 | - | - | - | 2026-11-30, 3 tests of abd |",
    ]
    assert support_block({}, stacks) == "Nothing yet: `make test-all` writes this table."
