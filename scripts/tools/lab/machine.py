"""This machine: where the lab keeps what is its own, how its programs are run, and how the person is told of it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / "build" / "cache"
STATE = ROOT / "build" / "lab"


class LabError(Exception):
    """Something the person at the keyboard has to know, in words of theirs."""


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is going on, and for how long; on a terminal the seconds run."""
    started = time.monotonic()
    done = threading.Event()
    live = sys.stderr.isatty()

    def tick() -> None:
        while not done.wait(1):
            sys.stderr.write(f"\r  {what} ... {time.monotonic() - started:.0f} s")
            sys.stderr.flush()

    if live:
        threading.Thread(target=tick, daemon=True).start()
    else:
        sys.stderr.write(f"  {what} ...\n")
    try:
        yield
    except BaseException:
        done.set()
        sys.stderr.write(f"\r  {what}: failed after {time.monotonic() - started:.0f} s\n")
        raise
    done.set()
    sys.stderr.write(
        f"{chr(13) if live else ''}  {what}: {time.monotonic() - started:.0f} s{' ' * 8 if live else ''}\n"
    )


def run(command: Sequence[str], *, log: Path | None = None, stdin: str | None = None) -> str:
    """Run a command; its output is the result, or goes to `log`. A failure carries the last lines."""
    finished = subprocess.run(
        command,
        check=False,
        text=True,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if log else subprocess.PIPE,
    )
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as stream:
            stream.write(f"$ {' '.join(command)}\n{finished.stdout}")
    if finished.returncode:
        last = "\n".join(((finished.stderr or "") + finished.stdout).strip().splitlines()[-15:])
        raise LabError(f"`{' '.join(command[:4])} ...` ended with {finished.returncode}:\n{last}")
    return finished.stdout


def docker(*arguments: str) -> str:
    return run(["docker", *arguments])


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """One process at a time: suites that are tested side by side share the engine and the images."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def own(name: str) -> str:
    """Return the name of this checkout's host or volume: another one on this machine may be testing too."""
    return f"{name}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:4]}"


def privileged(*command: str) -> list[str]:
    if os.geteuid() == 0:
        return list(command)
    if shutil.which("sudo"):
        return ["sudo", *command]
    raise LabError(f"root is needed for `{' '.join(command)}`: run it as root, or install sudo")


def apt_install(*packages: str) -> None:
    if not shutil.which("apt-get"):
        raise LabError(f"please install {', '.join(packages)}: this machine has no apt-get to do it with")
    log = STATE / "apt.log"
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    with step(f"Installing {', '.join(packages)}"):
        run(privileged(*environment, "apt-get", "update"), log=log)
        run(privileged(*environment, "apt-get", "install", "-y", "--no-install-recommends", *packages), log=log)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
