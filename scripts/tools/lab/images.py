"""The images of hosts, from Debian's own packages."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess

from tools.lab import machine
from tools.lab.engine import BUILDERS
from tools.lab.machine import apt_install, docker, exclusive, run, step

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
            archive = machine.STATE / f"{suite}.tar"
            try:
                run([*recipe(suite), str(archive)], log=machine.STATE / f"image-{suite}.log")
                docker(
                    "import",
                    '--change=CMD ["/sbin/init"]',
                    f"--change=ENV CELERYOPS_LAB_RECIPE={wanted}",
                    str(archive),
                    image_name(suite),
                )
            finally:
                archive.unlink(missing_ok=True)
