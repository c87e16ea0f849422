"""What of the control machine goes into a release."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible.errors import AnsibleError

from ansible_collections.celeryops.stack.plugins.plugin_utils.app import source_tree


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[project]")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    write(root, "pyproject.toml", "src/shop/a.py", "src/shop/build/b.py")
    return root


def digest(root: Path, exclude: list[str] | None = None) -> str:
    return source_tree.content_digest(root, "path", exclude or [])


def test_caches_and_secrets_do_not_count(tree: Path) -> None:
    before = digest(tree)
    write(tree, "src/shop/__pycache__/a.pyc", ".git/config", ".venv/x", ".env", "build/lib/x", "shop.egg-info/PKG-INFO")
    assert digest(tree) == before
    (tree / "notes.txt").write_text("x")
    assert digest(tree) != before
    assert digest(tree, ["notes.*"]) == before


@pytest.mark.parametrize("change", ["content", "name", "mode", "nested build"])
def test_everything_else_counts(tree: Path, change: str) -> None:
    before = digest(tree)
    path = tree / "src" / "shop" / "a.py"
    if change == "content":
        path.write_text("3")
    elif change == "name":
        path.rename(path.with_name("c.py"))
    elif change == "mode":
        path.chmod(0o755)
    else:
        (tree / "src" / "shop" / "build" / "b.py").write_text("3")
    assert digest(tree) != before


def test_times_and_place_do_not_count(tree: Path) -> None:
    before = digest(tree)
    (tree / "src" / "shop" / "a.py").touch()
    assert digest(tree.rename(tree.with_name("elsewhere"))) == before


def test_a_link_out_of_the_tree_is_refused(tree: Path) -> None:
    (tree / "inside").symlink_to("src/shop/a.py")
    digest(tree)
    (tree / "outside").symlink_to("/etc/passwd")
    with pytest.raises(AnsibleError, match="outside is a link out of the tree"):
        digest(tree)
    digest(tree, ["outside"])


def test_the_archive_belongs_to_root_and_holds_what_was_counted(tree: Path) -> None:
    (tree / "src" / "shop" / "a.py").chmod(0o777)
    stream = io.BytesIO()
    source_tree.write_archive(tree, [], stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        entries = {entry.name: entry for entry in archive.getmembers()}
    assert sorted(entries) == ["pyproject.toml", "src/shop/a.py", "src/shop/build/b.py"]
    assert {entry.uid for entry in entries.values()} == {0}
    assert {name for name, entry in entries.items() if entry.mode == 0o755} == {"src/shop/a.py"}
    assert {entry.mode for entry in entries.values()} == {0o755, 0o644}


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for kind in ("wheel", "path"):
        with pytest.raises(AnsibleError, match=r"celery_app_source.path: there is no .* on the control machine"):
            source_tree.content_digest(tmp_path / "missing", kind, [])


def test_only_files_and_links_are_part_of_a_release(tree: Path) -> None:
    os.mkfifo(tree / "src" / "pipe")
    (tree / "linked").symlink_to("src/shop")
    (tree / "dangling").symlink_to("src/none")
    names = [name for name, _path in source_tree.members(tree, ["src/shop/a.py"])]
    assert names == ["dangling", "linked", "pyproject.toml", "src/shop/build/b.py"]


def test_a_file_is_a_program_when_its_owner_may_run_it(tree: Path) -> None:
    path = tree / "src" / "shop" / "a.py"
    path.chmod(0o644)
    before = digest(tree)
    path.chmod(0o645)
    assert digest(tree) == before
    stream = io.BytesIO()
    source_tree.write_archive(tree, [], stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        assert archive.getmember("src/shop/a.py").mode == 0o644
    path.chmod(0o744)
    assert digest(tree) != before
