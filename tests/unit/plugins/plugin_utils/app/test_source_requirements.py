"""What a source on the control machine says of Celery: pins that the installation follows, and lock files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.app.source_requirements import (
    SourceLines,
    missing_parts,
    read_source,
)

V = "celery_app_source.path"
PROJECT = """
[project]
name = "shop"
dependencies = ["Django>=5", "celery[redis]==5.6.3"]
[project.optional-dependencies]
fast = ["redis>=6", "orjson"]
old = ["kombu<5.5"]
"""


def read(root: Path, files: dict[str, str], **source: Any) -> SourceLines:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_source({"type": "path", "path": str(root), **source}, root)


def test_a_project_says_what_it_needs(tmp_path: Path) -> None:
    assert read(tmp_path, {"pyproject.toml": PROJECT}).lines == ((V, "celery[redis]==5.6.3 # pyproject.toml"),)
    assert [line for _place, line in read(tmp_path, {}, extras=["fast"]).lines] == [
        "celery[redis]==5.6.3 # pyproject.toml",
        "redis>=6 # pyproject.toml",
    ]
    # A tree is not installed, so nobody reads what its project asks for.
    assert read(tmp_path, {}, install_as="tree") == SourceLines()


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ('"5.6.3"', "celery==5.6.3"),
        ('{version = "5.6.3", extras = ["redis"]}', "celery==5.6.3"),
        ('">=5.4,<5.7"', "celery>=5.4,<5.7"),
        ('"~=5.6.0"', "celery~=5.6.0"),
        ('"^5.4"', "celery>=5.4,<6"),
        ('"^0.4.1"', "celery>=0.4.1,<0.5"),
        ('"^0.0"', "celery>=0.0,<0.1"),
        ('"~5.3"', "celery>=5.3,<5.4"),
        ('"~5.3.6"', "celery>=5.3.6,<5.4"),
        ('"~5"', "celery>=5,<6"),
        ('{version = "^5.3, !=5.4.0", extras = ["redis"]}', "celery>=5.3,<6,!=5.4.0"),
        ('"5.3.*"', "celery==5.3.*"),
        ('"^5.3 || ^6"', ""),
        ('">=5.3 || <5"', ""),
        ('"^5.x"', ""),
        ('{git = "https://h/celery"}', ""),
        ('{version = "5.3.6", optional = true}', ""),
        ('{version = "5.3.6", python = "<3.9"}', ""),
        ('[{version = "5.3.6", python = "<3.9"}, {version = "5.6.3", python = ">=3.9"}]', ""),
        ('"*"', ""),
    ],
)
def test_poetry_has_a_table_of_its_own(tmp_path: Path, written: str, line: str) -> None:
    found = read(tmp_path, {"pyproject.toml": f"[tool.poetry.dependencies]\ncelery = {written}\n"}).lines
    assert found == (((V, f"{line} # pyproject.toml"),) if line else ())


def test_requirements_are_read_with_what_they_include_and_no_further(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    (tmp_path / "outside.txt").write_text("celery==4.4\n")
    files = {
        "requirements/prod.txt": "-r base.txt\n-c ../limits.txt\n-r ../../outside.txt\ngunicorn\n-r prod.txt\n",
        "requirements/base.txt": "celery[redis]==5.6.3 \\\n  --hash=sha256:00\nshop-kombu==1\n",
        "limits.txt": "kombu<5.7  # why\n--index-url https://h\n",
    }
    found = read(root, files, requirements_file="requirements/prod.txt")
    assert [line for _place, line in found.lines] == [
        "celery[redis]==5.6.3 # requirements/base.txt",
        "kombu<5.7 # limits.txt",
    ]
    assert found.locked == ()


def test_what_no_installation_reads_is_told_apart(tmp_path: Path) -> None:
    lock = '[[{}]]\nname = "celery"\nversion = "5.6.3"\n[[{}]]\nname = "vine"\nversion = "5.1"\n'
    files = {
        "uv.lock": lock.format("package", "package"),
        "pylock.toml": lock.format("packages", "packages"),
        "poetry.lock": lock.format("package", "package"),
        "pdm.lock": lock.format("package", "package"),
        "requirements.txt": "celery<5.7\n",
    }
    found = read(tmp_path, files)
    assert found.lines == ()
    assert [line for _place, line in found.locked] == [
        "celery==5.6.3 # uv.lock",
        "celery==5.6.3 # pylock.toml",
        "celery==5.6.3 # poetry.lock",
        "celery==5.6.3 # pdm.lock",
        "celery<5.7 # requirements.txt",
    ]
    assert [line for _place, line in read(tmp_path, {}, requirements_file="requirements.txt").lines] == [
        "celery<5.7 # requirements.txt"
    ]


def test_a_lock_with_two_versions_says_nothing(tmp_path: Path) -> None:
    text = '[[package]]\nname = "celery"\nversion = "5.6.3"\n[[package]]\nname = "celery"\nversion = "5.7.0"\n'
    assert read(tmp_path, {"uv.lock": text}) == SourceLines()


@pytest.mark.parametrize(
    "text", ["not = [toml", "", "package = 3", "[project]\ndependencies = 'x'\n[tool]\npoetry = 1"]
)
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, {"pyproject.toml": text, "uv.lock": text.replace("package = 3", "")}) == SourceLines()


def test_the_source_may_be_in_a_folder(tmp_path: Path) -> None:
    assert len(read(tmp_path, {"app/pyproject.toml": PROJECT}, subdirectory="app").lines) == 1
    assert read(tmp_path, {}) == SourceLines()


def test_a_wheel_says_it_in_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "shop-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(
            "shop-1.dist-info/METADATA",
            "Name: shop\nRequires-Dist: celery[redis]==5.6.3\nRequires-Dist: Django\n"
            "Requires-Dist: redis<6; extra == 'old'\n\ntext\n",
        )
    source = {"type": "wheel", "path": str(path)}
    assert read_source(source, path).lines == ((V, f"celery[redis]==5.6.3 # {path.name}"),)
    assert len(read_source({**source, "extras": ["Old"]}, path).lines) == 2
    path.write_text("no wheel")
    assert read_source(source, path) == SourceLines()
    assert read_source(source, tmp_path / "none.whl") == SourceLines()


def test_an_extra_has_one_name_in_all_spellings(tmp_path: Path) -> None:
    text = '[project]\nname = "shop"\n[project.optional-dependencies]\nOld_Celery = ["celery==5.4.0"]\n'
    assert read(tmp_path, {"pyproject.toml": text}, extras=["old-celery"]).lines == (
        (V, "celery==5.4.0 # pyproject.toml"),
    )


def missing(root: Path, **source: Any) -> list[str]:
    return [f"{problem.variable}: {problem.value}" for problem in missing_parts({"type": "path", **source}, root)]


def test_what_the_source_does_not_have_is_told(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "requirements.txt").write_text("")
    assert missing(tmp_path, subdirectory="backend", requirements_file="requirements.txt") == []
    assert missing(tmp_path, subdirectory="back", requirements_file="x") == ["celery_app_source.subdirectory: back"]
    assert missing(tmp_path, requirements_file="requirements.txt") == [
        "celery_app_source.requirements_file: requirements.txt"
    ]


POETRY = '[tool.poetry]\n[tool.poetry.extras]\nold-fast = ["x"]\n'


@pytest.mark.parametrize(
    ("project", "asked", "told"),
    [
        (PROJECT, "fast", False),
        (PROJECT, "FAST", False),
        (PROJECT, "fats", True),
        (POETRY, "old_fast", False),
        (POETRY, "fast", True),
        ('[project]\nname = "shop"\n' + POETRY, "old-fast", False),
        ('[project]\nname = "shop"\n', "fast", True),
        # What a build works out, and what no such file says.
        ('[project]\nname = "shop"\ndynamic = ["optional-dependencies"]\n', "fast", False),
        ('[build-system]\nrequires = ["setuptools"]\n', "fast", False),
        ("", "fast", False),
    ],
)
def test_an_extra_that_the_app_does_not_have_is_told(tmp_path: Path, project: str, asked: str, told: bool) -> None:
    """uv and pip install the app without it, and warn at most."""
    (tmp_path / "pyproject.toml").write_text(project)
    assert missing(tmp_path, extras=[asked]) == [f"celery_app_source.extras: {asked}"] * told
    assert missing(tmp_path, extras=[asked], install_as="tree") == []


def test_an_extra_that_a_wheel_does_not_have_is_told(tmp_path: Path) -> None:
    path = tmp_path / "shop-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("shop-1.dist-info/METADATA", "Name: shop\nProvides-Extra: Old_fast\n\n")
    assert [*missing_parts({"type": "wheel", "extras": ["old-fast"]}, path)] == []
    (problem,) = missing_parts({"type": "wheel", "extras": ["old-fats"]}, path)
    assert problem.instead == "Old_fast (did you mean that?)"
    path.write_text("")
    assert [*missing_parts({"type": "wheel", "extras": ["old-fats"]}, path)] == []
