"""Whether RabbitMQ starts on a disk without room: the script itself, on real logs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from rabbitmq_plans import ROLE, planned

from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import render


def test_the_disk_is_that_of_the_logs() -> None:
    command = planned(config={"raft.data_dir": "/srv/quorum 100%"})["disk"]["command"]
    assert command == '/bin/sh /etc/rabbitmq/celeryops-disk.sh "/srv/quorum 100%%" 64 60'


def test_before_the_first_start_no_room_is_asked_for(tmp_path: Path) -> None:
    look_at(tmp_path, ["0"], "1000")
    (tmp_path / "store").rmdir()
    assert start_check(tmp_path, 0).returncode == 0


@pytest.mark.parametrize(
    ("free", "size", "logs", "wanted"),
    [
        pytest.param("0", "1000", (), 64, id="full"),
        pytest.param("63", "1000", (), 64, id="a MiB too little"),
        pytest.param("64", "1000", (), 0, id="just enough"),
        pytest.param("66", "1000", (1, 2), 67, id="not enough for the logs"),
        pytest.param("67", "1000", (1, 2), 0, id="enough for the logs"),
        pytest.param("9", "50", (1,), 10, id="not a fifth of the disk"),
        pytest.param("10", "50", (1,), 0, id="a fifth of the disk"),
        pytest.param("-", "-", (), 0, id="a file system without numbers"),
        pytest.param("", "", (), 0, id="nothing to be read"),
    ],
)
def test_the_server_does_not_start_on_a_full_disk(
    tmp_path: Path, free: str, size: str, logs: tuple[int, ...], wanted: int
) -> None:
    """The script itself, on real logs, with a disk whose room is written down. ``wanted``: what it asks for, or 0."""
    look_at(tmp_path, [free], size)
    # The store may be a link to another disk.
    (tmp_path / "store" / "quorum").symlink_to(tmp_path / "disk")
    for number, mebibytes in enumerate(logs):
        folder = tmp_path / "disk" / f"node-{number}"
        folder.mkdir(parents=True)
        (folder / "00000001.wal").write_bytes(bytes(mebibytes << 20))
    done = start_check(tmp_path, 0)
    assert done.returncode == bool(wanted)
    told = f"{tmp_path}/store has {free} MiB left, and RabbitMQ needs {wanted} MiB to start: "
    assert done.stderr.startswith(told) if wanted else "MiB" not in done.stderr


@pytest.mark.parametrize(("rooms", "status", "sleeps"), [(["0", "63", "64"], 0, 2), (["0"], 1, 3)])
def test_a_start_waits_for_room_and_tells_it_once(tmp_path: Path, rooms: list[str], status: int, sleeps: int) -> None:
    look_at(tmp_path, rooms, "1000")
    done = start_check(tmp_path, 3)
    assert (done.returncode, done.stderr.count("has 0 MiB left")) == (status, 1)
    assert (tmp_path / "slept").read_text() == "1\n" * sleeps


def look_at(folder: Path, rooms: list[str], size: str) -> None:
    """Make a df that finds so much room, a line at each look and the last for ever, and a sleep that takes no time."""
    (folder / "rooms").write_text("\n".join(rooms))
    (folder / "df").write_text(
        f"#!/bin/sh\ncd {folder}\necho heading\ncase $1 in\n"
        f"*avail) head -n 1 rooms; [ $(wc -l <rooms) -eq 0 ] || sed -i 1d rooms ;;\n*) echo {size} ;;\nesac\n"
    )
    (folder / "sleep").write_text(f"#!/bin/sh\necho $1 >>{folder}/slept\n")
    for command in ("df", "sleep"):
        (folder / command).chmod(0o755)
    (folder / "store").mkdir()


def start_check(folder: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run the script as the unit does, with the commands of :func:`look_at`."""
    script = folder / "disk.sh"
    script.write_text(render(ROLE / "templates" / "disk.sh.j2", {}))
    command = ["/bin/sh", script, folder / "store", "64", str(seconds)]
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=30)
