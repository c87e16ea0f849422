"""The mutation tester: that it breaks every pure module, judges by the module's tests, and never waits for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import mutate

ROOT = Path(__file__).resolve().parents[2]


def test_every_pure_module_has_tests_that_have_to_notice() -> None:
    assert [module for module, tests in mutate.MODULES.items() if not tests] == []
    assert [name for name in mutate.NOT_PURE if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("module", mutate.BESIDE)
def test_the_tests_beside_those_of_its_name_are_there(module: str) -> None:
    assert f"plugins/{module}.py" in mutate.MODULES
    for word in mutate.BESIDE[module].split():
        folder, _slash, name = word.rpartition("/")
        assert list((ROOT / mutate.TESTS / folder).glob(f"test_{name}.py")), word


@pytest.fixture
def tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of tests to judge by, in the directory that is judged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return tmp_path / "test_it.py"


def test_the_test_that_noticed_comes_first_the_next_time(tests: Path) -> None:
    killers: list[str] = []
    tests.write_text("def test_a(): pass\ndef test_b(): assert False\ndef test_c(): assert False\n")
    assert mutate.judged([tests.name], killers, 60, "scratch")
    assert killers == ["test_it.py::test_b"]
    tests.write_text("def test_a(): pass\ndef test_b(): pass\ndef test_c(): assert False\n")
    assert mutate.judged([tests.name], killers, 60, "scratch")
    assert killers == ["test_it.py::test_c", "test_it.py::test_b"]
    ran = "import os\ndef test_a(): os.mkdir('ran')\n"
    tests.write_text(f"{ran}def test_b(): pass\ndef test_c(): assert False\n")
    assert mutate.judged([tests.name], killers, 60, "scratch")
    assert not (tests.parent / "ran").exists()
    tests.write_text(f"{ran}def test_b(): pass\n")
    assert not mutate.judged([tests.name], killers, 60, "scratch")
    assert (tests.parent / "ran").exists()


@pytest.mark.parametrize("text", ["import nothing_of_that_name", "raise SystemExit(0)", "def test_a(", ""])
def test_what_cannot_be_collected_is_noticed(tests: Path, text: str) -> None:
    tests.write_text(text)
    assert mutate.judged([tests.name], [], 60, "scratch")


def runs(stat: Path) -> bool:
    """Tell whether a process is there and has not ended (proc_pid_stat(5))."""
    try:
        return stat.read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_never_ends_is_ended_with_all_that_it_started(tests: Path) -> None:
    tests.write_text(
        "import subprocess\n"
        "def test_a():\n"
        "    open('pid', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "    while True: pass\n"
    )
    started = time.monotonic()
    assert mutate.judged([tests.name], [], 6, "scratch")
    assert time.monotonic() - started < 30
    process = Path("/proc", (tests.parent / "pid").read_text(), "stat")
    # A busy machine takes a moment to end what was killed.
    while runs(process):
        assert time.monotonic() - started < 40
        time.sleep(0.1)
