"""The container engine: the one that answers, or Docker, and how many hosts it has room for."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.lab import machine
from tools.lab.machine import LabError, apt_install, docker, exclusive, privileged, run, step, wait_for

#: What an image is built with, on this machine.
BUILDERS = ("mmdebstrap", "debian-archive-keyring")
#: All containers of root share this many; a host takes 5.4 of them on average.
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_PER_HOST = 6
#: A warning is due when there is room for fewer hosts than this.
INOTIFY_NEAR = 4


def engine_answers() -> bool:
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0
    )


def engine(seconds: float = 60) -> None:
    """Use the engine that answers; where none does, install Docker and start it."""
    with exclusive("engine"):
        if engine_answers():
            return
        if os.environ.get("DOCKER_HOST"):
            raise LabError(f"no engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}")
        if shutil.which("dockerd") is None:
            # With what the images are built with: the package lists are read once.
            apt_install("docker.io", "iptables", *BUILDERS)
        if engine_answers():  # the package's own unit has started it
            return
        log = machine.STATE / "dockerd.log"
        with step("Starting the Docker engine"):
            if Path("/run/systemd/system").is_dir():
                run(privileged("systemctl", "start", "docker"), log=log)
            else:
                with log.open("ab") as stream:
                    subprocess.Popen(
                        privileged("dockerd"),
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=stream,
                        start_new_session=True,
                    )
            if not wait_for(engine_answers, seconds):
                last = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""
                who = "" if os.geteuid() == 0 else " (is your user in the group `docker`?)"
                raise LabError(f"the Docker engine does not answer{who}:\n{last}")


def inotify_instances(proc: Path = Path("/proc")) -> int:
    """Return how many inotify instances this user's processes hold, as far as one may see; root sees all."""
    found = 0
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == os.geteuid():
                found += sum(str(one.readlink()) == "anon_inode:inotify" for one in (process / "fd").iterdir())
    return found


def room_for_a_host(used: int, limit: int) -> str:
    """Say when the machine's limits are near; return a warning, or nothing.

    systemd that gets no inotify instance says so in its journal only, mounts over /tmp, and comes up all the same.

    Args:
        used: inotify instances that are in use.
        limit: ``fs.inotify.max_user_instances``, which all containers of root share.

    Raises:
        LabError: there is no room for another host.
    """
    numbers = f"{used} of the {limit} inotify instances of this machine are in use, and a host needs {INOTIFY_PER_HOST}"
    advice = (
        "remove hosts (scripts/lab.py down NAME; `docker ps` lists them), or raise the limit:"
        f" sysctl fs.inotify.max_user_instances={limit * 4}"
    )
    if used + INOTIFY_PER_HOST > limit:
        raise LabError(f"{numbers}: it would come up broken. Please {advice}")
    if used + INOTIFY_NEAR * INOTIFY_PER_HOST > limit:
        return f"{numbers}: room for {(limit - used) // INOTIFY_PER_HOST} more. You may {advice}"
    return ""


def check_limits() -> None:
    """Refuse another host, or warn, when the machine could not carry it."""
    if os.environ.get("DOCKER_HOST") or not INOTIFY_LIMIT.exists():
        return  # the engine is on another machine
    running = len(docker("ps", "--quiet").split())
    # What has just been started has not taken all of its own yet; and only root sees what others hold.
    used = max(inotify_instances(), running * INOTIFY_PER_HOST)
    warning = room_for_a_host(used, int(INOTIFY_LIMIT.read_text()))
    if warning:
        sys.stderr.write(f"  lab: {warning}\n")
