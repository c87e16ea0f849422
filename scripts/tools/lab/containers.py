"""Containers that stand in for Debian hosts: with which options they run systemd, and how they come and go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tools.lab import machine, network
from tools.lab.engine import check_limits, engine, engine_answers
from tools.lab.images import image, image_name
from tools.lab.machine import CACHE, LabError, docker, exclusive, step, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

LABEL = "celeryops.lab"
CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
CA_BUNDLE_INSIDE = "/etc/ssl/certs/ca-certificates.crt"


def cgroup_options(suite: str, version: str, unified: bool) -> list[str]:
    """How systemd gets control groups to manage, without a privileged container.

    With version 2 the container sees the host's tree and delegates below its own group. With version 1, systemd before
    258 still manages the legacy tree when told to; a later one needs the (empty) unified tree and does without resource
    control.
    """
    if version == "2":
        return ["--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    if suite in {"bookworm", "trixie"}:
        return [
            "--cgroupns=host",
            "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
            "--env=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
        ]
    if not unified:
        raise LabError(f"{suite} needs control groups version 2, and this machine has no /sys/fs/cgroup/unified")
    return ["--cgroupns=host", "--volume=/sys/fs/cgroup/unified:/sys/fs/cgroup:rw"]


def resource_control(suite: str) -> bool:
    """Whether the kernel enforces the limits of units (MemoryMax=) in a container of this suite on this machine."""
    version = docker("info", "--format", "{{.CgroupVersion}}").strip()
    return version == "2" or suite in {"bookworm", "trixie"}


def container_options(suite: str) -> list[str]:
    version = docker("info", "--format", "{{.CgroupVersion}}").strip()
    return [
        "--cap-add=SYS_ADMIN",
        "--security-opt=seccomp=unconfined",
        "--tmpfs=/run:exec",
        "--tmpfs=/run/lock",
        "--tmpfs=/tmp:exec",
        "--stop-signal=SIGRTMIN+3",
        "--env=container=docker",
        *cgroup_options(suite, version, Path("/sys/fs/cgroup/unified").is_dir()),
    ]


def cache_options(name: str, suite: str) -> list[str]:
    """Downloads are kept between containers. uv and pip share a folder safely; apt locks its own, so each container
    gets one with hard links to what is there, and gives back what it fetched when it is removed."""
    packages = machine.STATE / name / "apt"
    (packages / "partial").mkdir(parents=True, exist_ok=True)
    link_packages(CACHE / "apt" / suite, packages)
    options = [f"--volume={packages}:/var/cache/apt/archives"]
    for tool in ("uv", "pip"):
        folder = CACHE / tool
        folder.mkdir(parents=True, exist_ok=True)
        options.append(f"--volume={folder}:/root/.cache/{tool}")
    return options


def link_packages(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for package in source.glob("*.deb"):
        copy = target / package.name
        if not copy.exists():
            try:
                copy.hardlink_to(package)
            except OSError:  # another file system, or a file of root's
                shutil.copyfile(package, copy)


def ca_options() -> list[str]:
    """The machine's own CA bundle, for the networks that need one."""
    candidates = (os.environ.get("SSL_CERT_FILE", ""), *CA_BUNDLES)
    bundle = next((path for path in candidates if path and Path(path).is_file()), None)
    return [f"--volume={Path(bundle).resolve()}:{CA_BUNDLE_INSIDE}:ro"] if bundle else []


def container_state(name: str) -> dict[str, str] | None:
    """Status and suite of a container of the lab, or None."""
    query = f'{{{{json .State.Status}}}} {{{{json (index .Config.Labels "{LABEL}")}}}}'
    found = subprocess.run(
        ["docker", "container", "inspect", "--format", query, name], check=False, capture_output=True, text=True
    )
    if found.returncode:
        return None
    status, suite = (json.loads(word) for word in found.stdout.split())
    return {"status": status, "suite": suite or ""}


def family(name: str) -> list[str]:
    """The containers of the lab that are called `name`, or `name` with something after a dash."""
    listed = docker("ps", "--all", f"--filter=label={LABEL}", "--format={{.Names}}").split()
    return sorted(one for one in listed if one == name or one.startswith(f"{name}-"))


def up(
    name: str, suite: str, publish: Sequence[str], volumes: Sequence[str] = (), capabilities: Sequence[str] = ()
) -> bool:
    """Have a container `name` of `suite` running with systemd up. True if it had to be created or started.

    Its ports, volumes and capabilities are those that it was created with.
    """
    engine()
    image(suite)
    state = container_state(name)
    if state and state["suite"] != suite:
        raise LabError(f"a container {name} exists and is not a lab host of {suite}: remove it, or take another name")
    if state and state["status"] == "running":
        ready(name)
        return False
    with step(f"Starting {name} ({suite})"):
        with exclusive("network"):
            check_limits()
            if state:
                docker("start", name)
            else:
                docker(
                    "run",
                    "--detach",
                    f"--name={name}",
                    f"--hostname={name}",
                    *network.options(),
                    f"--label={LABEL}={suite}",
                    *container_options(suite),
                    *cache_options(name, suite),
                    *ca_options(),
                    *(f"--publish={port}" for port in publish),
                    *(f"--volume={volume}" for volume in volumes),
                    *(f"--cap-add={capability}" for capability in capabilities),
                    image_name(suite),
                )
                # There is no package index yet: what asks how old it is must not take the image's age for it.
                docker("exec", name, "touch", "--date=@0", "/var/lib/apt/lists")
        ready(name)
    return True


def ready(name: str, seconds: float = 120) -> None:
    """Wait until systemd has finished its start; fail with what failed."""
    state = ""

    def settled() -> bool:
        nonlocal state
        asked = subprocess.run(
            ["docker", "exec", name, "systemctl", "is-system-running"], check=False, capture_output=True, text=True
        )
        state = asked.stdout.strip() or asked.stderr.strip()
        return state in {"running", "degraded"}

    if not wait_for(settled, seconds):
        raise LabError(f"systemd in {name} did not come up within {seconds:.0f} s: {state}")
    if state == "degraded":
        failed = docker("exec", name, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
        raise LabError(f"{name} is up, with failed units:\n{failed}")


def restart(name: str) -> None:
    """What a reboot is to a host: everything ends, /run is empty, systemd starts from nothing."""
    docker("restart", "--time=90", name)
    ready(name)


def down(name: str) -> bool:
    """Remove a container and what the lab kept for it, but not the downloads. True if there was one."""
    state = container_state(name) if engine_answers() else None
    if state:
        if state["status"] == "running":  # apt gives this folder to a user of its own
            docker("exec", name, "rm", "-rf", "/var/cache/apt/archives/partial")
        docker("rm", "--force", "--volumes", name)
    folder = machine.STATE / name
    if folder.is_dir():
        if state and state["suite"]:
            link_packages(folder / "apt", CACHE / "apt" / state["suite"])
        shutil.rmtree(folder)
    if state:
        with exclusive("network"):
            network.forget()
    return state is not None
