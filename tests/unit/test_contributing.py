"""What CONTRIBUTING.md and the READMEs of the tests and scripts name is there: a wrong map is worse than none."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = "".join((ROOT / name).read_text() for name in ("CONTRIBUTING.md", "tests/README.md", "scripts/README.md"))
#: What runs leave behind, and what lies on a host.
MADE = ("build/", "celery.json", "queues.json", "celery.env")
#: With an ending, as a folder, or below a folder of the repository.
FILE = re.compile(
    r"(?:[\w.*<>-]+/)*[\w.*<>-]+\.(?:py|yml|sh|j2|md|json|txt)\b|(?:[\w.*<>-]+/)+|"
    rf"(?:{'|'.join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())})(?:/[\w.*<>-]+)+"
)


def tracked() -> list[str]:
    """Return the files of the repository, those not yet committed too, and their folders with a slash at their end."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [*files, *{f"{folder}/" for name in files for folder in map(str, Path(name).parents) if folder != "."}]


def named(text: str) -> list[str]:
    """Return the files and folders in code, in links and in the diagram of a text."""
    marked = re.findall(r"`([^`\n]+)`|\]\(([^)]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    words = [word for pair in marked for part in pair for word in part.split()]
    diagrams = re.findall(r"```mermaid(.*?)```", text, re.DOTALL)
    drawn = [word for diagram in diagrams for word in re.split(r"[\s,\"<>]+", diagram)]
    found = [word for word in (*words, *drawn) if FILE.fullmatch(word) and not word.startswith(MADE)]
    return list(dict.fromkeys(found))


def exists(name: str, files: list[str]) -> bool:
    """Tell whether a name, with ``<role>`` for any, is that of a file, or the end of one's path."""
    pattern = re.sub(r"<\w+>", "*", name)
    wanted = [f"{before}{pattern}{after}" for before in ("", "*/") for after in ("", "/")]
    return any(fnmatchcase(file, one) for file in files for one in wanted)


def test_every_file_that_is_named_is_there() -> None:
    files = tracked()
    names = named(TEXT)
    assert len(names) > 50
    assert [name for name in names if not exists(name, files)] == []


def test_what_is_named_in_a_file_stands_there() -> None:
    places = re.findall(r"`(\w+)` in `([\w./]+)`", TEXT)
    assert len(places) > 3
    assert [(word, file) for word, file in places if not re.search(rf"\b{word}\b", (ROOT / file).read_text())] == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`plugins/plugin_utils/none.py`", ["plugins/plugin_utils/none.py"]),
        ("see [it](docs/none.md), `none/` and `roles/none`", ["docs/none.md", "none/", "roles/none"]),
        ("`roles/<role>/none.yml`", ["roles/<role>/none.yml"]),
        ('```mermaid\na["x<br>none.py, rules/*.py"]\n```', ["none.py"]),
        ("`roles/<role>/tasks/main.yml` `site.yml` `make test` `.ci/run` `build/none.json`", []),
    ],
)
def test_a_file_that_is_not_there_is_noticed(text: str, missing: list[str]) -> None:
    files = tracked()
    assert sorted(name for name in named(text) if not exists(name, files)) == sorted(missing)
