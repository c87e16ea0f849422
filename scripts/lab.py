#!/usr/bin/env python3
"""The test lab: systemd containers that stand in for Debian hosts.

The one place that knows how an engine is started, how an image is built from Debian's own packages and with which
options a container runs systemd. The demo, Molecule and the benchmark all come through here. Standard library only:
it has to run before anything is installed.

    scripts/lab.py up demo --suite trixie      engine, image and container, waiting until systemd is up
    scripts/lab.py restart demo                what a reboot is to a host
    scripts/lab.py down demo                   remove it
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "cache"
STATE = ROOT / "build" / "lab"
NETWORK = "celeryops-lab"
LABEL = "celeryops.lab"
SUITES = ("bookworm", "trixie", "forky")

PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "procps",
    "python3",
    "python3-apt",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
)
#: What an image is built with, on this machine.
BUILDERS = ("mmdebstrap", "debian-archive-keyring")
# Debian hardens these units with PrivateUsers=, which needs a user namespace that a container may not create.
PRIVATE_USERS_UNITS = (
    "redis-server.service",
    "redis-server@.service",
    "redis-sentinel.service",
    "valkey-server.service",
    "valkey-server@.service",
    "valkey-sentinel.service",
)
APT_CONFIGURATION = """\
Acquire::Languages "none";
Acquire::Retries "3";
"""
# The index of a suite in development may be past its date on a mirror that is updated seldom.
APT_CONFIGURATION_FORKY = """\
Acquire::Check-Valid-Until "false";
"""
CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
#: All containers of root share this many; a host takes 5.4 of them on average.
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_PER_HOST = 6
#: A warning is due when there is room for fewer hosts than this.
INOTIFY_NEAR = 4
CA_BUNDLE_INSIDE = "/etc/ssl/certs/ca-certificates.crt"


class LabError(Exception):
    """Something the person at the keyboard has to know, in words of theirs."""


# -- talking to the person -------------------------------------------------------------------------------------------


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


# -- the engine ------------------------------------------------------------------------------------------------------


def engine_answers() -> bool:
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0
    )


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


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
        log = STATE / "dockerd.log"
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


# -- the machine's limits --------------------------------------------------------------------------------------------


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


# -- images ----------------------------------------------------------------------------------------------------------


def image_name(suite: str) -> str:
    return f"celeryops-lab:{suite}"


def recipe(suite: str) -> list[str]:
    """The mmdebstrap command of a suite, without its output."""
    apt = APT_CONFIGURATION + (APT_CONFIGURATION_FORKY if suite == "forky" else "")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--aptopt={line}" for line in apt.splitlines()]
    command += ["--dpkgopt=force-unsafe-io"]  # like --aptopt it stays in the image: nobody's data lives there
    for unit in PRIVATE_USERS_UNITS:
        folder = f'"$1"/etc/systemd/system/{unit}.d'
        command.append(
            f"--customize-hook=mkdir -p {folder} && printf '[Service]\\nPrivateUsers=no\\n' > {folder}/90-lab.conf"
        )
    return [*command, suite]


def image(suite: str) -> None:
    """Build the image of a suite from Debian's packages, unless the engine has it from the same recipe."""
    wanted = hashlib.sha256(json.dumps(recipe(suite)).encode()).hexdigest()[:16]
    with exclusive(f"image-{suite}"):
        have = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{json .Config.Env}}", image_name(suite)],
            check=False,
            capture_output=True,
            text=True,
        )
        if have.returncode == 0 and f"CELERYOPS_LAB_RECIPE={wanted}" in have.stdout:
            return
        with exclusive("engine"):
            if shutil.which("mmdebstrap") is None:
                apt_install(*BUILDERS)
        with step(f"Building the image {image_name(suite)} from Debian's packages"):
            archive = STATE / f"{suite}.tar"
            try:
                run([*recipe(suite), str(archive)], log=STATE / f"image-{suite}.log")
                docker(
                    "import",
                    '--change=CMD ["/sbin/init"]',
                    f"--change=ENV CELERYOPS_LAB_RECIPE={wanted}",
                    str(archive),
                    image_name(suite),
                )
            finally:
                archive.unlink(missing_ok=True)


# -- containers ------------------------------------------------------------------------------------------------------


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
    packages = STATE / name / "apt"
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
    with exclusive("network"):
        check_limits()
        if NETWORK not in docker("network", "ls", "--format", "{{.Name}}").split():
            docker("network", "create", NETWORK)
    with step(f"Starting {name} ({suite})"):
        if state:
            docker("start", name)
        else:
            docker(
                "run",
                "--detach",
                f"--name={name}",
                f"--hostname={name}",
                f"--network={NETWORK}",
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
    folder = STATE / name
    if folder.is_dir():
        if state and state["suite"]:
            link_packages(folder / "apt", CACHE / "apt" / state["suite"])
        shutil.rmtree(folder)
    if state and not docker("ps", "--all", "--quiet", f"--filter=network={NETWORK}").strip():
        subprocess.run(["docker", "network", "rm", NETWORK], check=False, capture_output=True)
    return state is not None


# -- the command line ------------------------------------------------------------------------------------------------


def host_name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", text):
        raise argparse.ArgumentTypeError("a host name of lower-case letters, digits and dashes")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("engine", help="have a container engine answer")
    build = commands.add_parser("image", help="have the images of these suites")
    build.add_argument("suites", nargs="+", choices=SUITES)
    start = commands.add_parser("up", help="have a host running")
    start.add_argument("name", type=host_name)
    start.add_argument("--suite", choices=SUITES, default="trixie")
    start.add_argument("--publish", action="append", default=[], metavar="[ADDRESS:]PORT:PORT")
    start.add_argument(
        "--volume", action="append", default=[], metavar="FOLDER:FOLDER", help="a folder of this machine"
    )
    start.add_argument("--capability", action="append", default=[], metavar="NAME", help="such as NET_ADMIN")
    for command, text in (
        ("ready", "wait until systemd is up"),
        ("restart", "reboot a host"),
        ("down", "remove hosts"),
    ):
        commands.add_parser(command, help=text).add_argument("names", nargs="+", type=host_name)
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "engine":
                engine()
            case "image":
                engine()
                for suite in options.suites:
                    image(suite)
            case "up":
                # The word is what a caller that reports changes looks for.
                created = up(options.name, options.suite, options.publish, options.volume, options.capability)
                sys.stdout.write("changed\n" if created else "unchanged\n")
            case "down":
                removed = [down(name) for name in options.names]
                sys.stdout.write("changed\n" if any(removed) else "unchanged\n")
            case _:
                for name in options.names:
                    {"ready": ready, "restart": restart}[options.command](name)
    except LabError as problem:
        sys.stderr.write(f"lab: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
