"""One run at a time works on an app, and nobody but root can keep it waiting."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases.lock import (
    ENDS,
    FOLDER,
    LockError,
    held_back,
    locked,
)

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


COLLECTIONS = str(Path(__file__).resolve().parents[5] / "collections")
#: As the module "commands" does: a secret file in its place, and a program of the app in a session of its own.
MIGRATES = """
import getpass, os, signal, sys
from ansible_collections.celeryops.stack.plugins.module_utils import trial
from ansible_collections.celeryops.stack.plugins.module_utils.releases.lock import locked
# As sshd starts it, whatever started the tests (nohup).
signal.signal(signal.SIGHUP, signal.SIG_DFL)
folder, token, pid = sys.argv[1:]
me = trial.account_of(getpass.getuser())
access = {"owner": me.name, "group": str(trial.grp.getgrgid(me.gid).gr_name), "mode": "0600"}
files = [{"own": True, "path": token, "content": "s3cret", **access}]
with locked("shop", folder=folder), trial.standing_in(files, "/nowhere"):
    command = ["sh", "-c", f"echo $$ > {pid}; mv {pid} {pid}.whole; exec sleep 60"]
    trial.run_as(me, command, {"PATH": "/usr/bin:/bin"}, "/", 60)
"""


def runs(pid: int) -> bool:
    """Whether a process is there, other than as an entry that its parent, or init, has not asked for yet (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_what_is_under_way_ends_with_the_run(folder: Path, tmp_path: Path, number: int) -> None:
    token, pid = tmp_path / "files" / "token", tmp_path / "pid.whole"
    words = [sys.executable, "-c", MIGRATES, str(folder), str(token), str(tmp_path / "pid")]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": COLLECTIONS}) as run:
        deadline = time.monotonic() + 60
        while not pid.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        migration = int(pid.read_text())
        assert token.exists()
        run.send_signal(number)
        ended = run.wait(60)
    try:
        assert not runs(migration)
        assert ended == 128 + number
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(migration, signal.SIGKILL)
    assert not token.parent.exists(), "a secret stays that no record has"
    with locked("shop", 0, str(folder)):
        pass


def test_signals_are_as_they_were_afterwards(folder: Path) -> None:
    own = {number: signal.getsignal(number) for number in ENDS}
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with locked("shop", folder=str(folder)):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, "as nohup wants it"
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number, handler in own.items():
            signal.signal(number, handler)


def test_a_signal_waits_until_a_program_is_known(folder: Path) -> None:
    steps: list[str] = []

    def start() -> None:
        try:
            with held_back():
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("started")
        finally:
            steps.append("known")

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit), locked("shop", folder=str(folder)):
            start()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps == ["started", "known"]


def test_a_signal_comes_when_what_it_waited_for_has_failed(folder: Path) -> None:
    def start() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            raise OSError("no such program")

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit), locked("shop", folder=str(folder)):
            start()
    finally:
        signal.signal(signal.SIGTERM, before)
