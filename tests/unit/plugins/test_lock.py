"""One run at a time works on an app, and nobody but root can keep it waiting."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.lock import FOLDER, LockError, locked

KEEP = "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True); input()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "celeryops" / ".lock"


@pytest.fixture
def other(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the app."""
    with locked("shop", folder=str(folder)):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", KEEP, str(folder / "shop")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_the_folder_is_roots_alone_and_no_app_has_its_name(folder: Path) -> None:
    with locked("shop", folder=str(folder)):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "shop").stat().st_mode & 0o777 == 0o600
    assert Path(FOLDER).parent == Path("/run/celeryops")
    assert Path(FOLDER).name.startswith(".")


def test_another_run_is_waited_for_and_named(folder: Path, other: subprocess.Popen[str]) -> None:
    told = rf"another run works on shop on this host \(pid {other.pid}, since [0-9]+s\), and did not end within 0s"
    with pytest.raises(LockError, match=told), locked("shop", 0.2, str(folder)):
        raise AssertionError("two runs at a time")


def test_it_goes_on_when_the_other_ends(folder: Path, other: subprocess.Popen[str]) -> None:
    threading.Timer(0.3, other.kill).start()
    with locked("shop", 20, str(folder)):
        assert other.wait(5)


def test_another_app_does_not_wait(folder: Path, other: subprocess.Popen[str]) -> None:
    assert other.pid
    with locked("blog", 0, str(folder)):
        pass


def test_a_link_is_not_followed(folder: Path) -> None:
    with locked("blog", folder=str(folder)):
        pass
    (folder / "shop").symlink_to(folder / "blog")
    with pytest.raises(OSError, match="symbolic"), locked("shop", folder=str(folder)):
        pass
