"""How ansible-test is given the collection, pip and its verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import run_sanity as sanity

WANTED = "    default_packages = dict(\n        pip='25.2',\n    )\n"


def test_the_copy_has_what_the_repository_has_or_is_about_to_have(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "plugins").mkdir(parents=True)
    for name, text in ((".gitignore", "*.log\n"), ("plugins/a.py", ""), ("new.yml", ""), ("x.log", ""), ("gone", "")):
        (root / name).write_text(text)
    (root / "link").symlink_to("plugins")
    (root / "plugins/a.py").chmod(0o755)
    for words in (["init", "--quiet"], ["add", "plugins", "gone", "link", ".gitignore"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    (root / "gone").unlink()
    tree = sanity.copy(root, tmp_path / "copy")
    assert tree == tmp_path / "copy/ansible_collections/celeryops/stack"
    assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*")) == [
        ".gitignore", "link", "new.yml", "plugins", "plugins/a.py",
    ]  # fmt: skip
    assert (tree / "link").is_symlink()
    assert (tree / "plugins/a.py").stat().st_mode & 0o777 == 0o755


def test_pip_is_set_up_as_it_is_for_the_user(tmp_path: Path) -> None:
    user, home = tmp_path / "user", tmp_path / "home"
    (user / ".config/pip").mkdir(parents=True)
    (user / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://index.invalid/%40\ntimeout = 5\n")
    for _each in range(2):
        sanity.prepare(home, WANTED, {"HOME": str(user), "PIP_TIMEOUT": "180", "PIP_EXTRA_INDEX_URL": "a b", "X": "y"})
    told = (home / ".config/pip/pip.conf").read_text().split("\n")
    assert told[0] == "[global]"
    assert {*told[1:]} - {""} == {
        "index-url = https://index.invalid/%40", "timeout = 180", "extra-index-url = a b", "quiet = 2",
    }  # fmt: skip
    assert [path.name for path in (home / ".ansible/test/cache").iterdir()] == ["get_pip_25_2.py"]
    compile(sanity.BOOTSTRAP, "bootstrap.py", "exec")


def test_an_ansible_test_that_names_no_pip_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which pip"):
        sanity.prepare(tmp_path, "pip = PIP", {"HOME": str(tmp_path)})


def test_warnings_are_faults_and_the_language_of_the_machine_is_none() -> None:
    language = (
        'WARNING: Using locale "C.UTF-8" instead of "en_US.UTF-8". Tests which depend on it may behave unexpectedly.'
    )
    output = ['Running sanity test "pep8"', language, "WARNING: Reviewing previous 1 warning(s):", language]
    assert sanity.faults("\n".join(output)) == []
    more = ['WARNING: Required program "shellcheck" not found.', "ERROR: a.py:1:1: x", "FATAL: y", "[WARNING]: z"]
    assert sanity.faults("\n".join([*output, *more])) == more


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ('Running sanity test "pep8"\nRunning sanity test "no-assert"', 0, (0, "2 tests\n")),
        ('Running sanity test "pep8"\nWARNING: no', 0, (1, "WARNING: no")),
        ('Running sanity test "pep8"', 3, (3, "Running")),
        ("", 0, (1, "0 lines")),
    ],
)
def test_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    said: str, status: int, expected: tuple[int, str],
) -> None:  # fmt: skip
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ansible-test").write_text(f"import sys\nprint({said!r})\nsys.exit({status})\n")
    (tmp_path / "bin/python").symlink_to(sys.executable)
    monkeypatch.setattr(sanity.sys, "executable", str(tmp_path / "bin/python"))
    found = sanity.run(tmp_path, tmp_path / "home", ["--test", "x"])
    output = capsys.readouterr().out
    assert (found, expected[1] in output) == (expected[0], True), output
