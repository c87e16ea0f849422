"""The lab: which options a host gets, and what happens where no engine answers. Two scripts play Docker."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest

import lab
from tools.lab import containers, engine, images, machine, network

# The engine is meant to outlive the process that starts it.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which `docker` answers only while `dockerd` runs, and on which nothing else of the engine is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "touch", "test", "env", "echo"):
        (folder / tool).symlink_to(f"/bin/{tool}" if Path(f"/bin/{tool}").exists() else f"/usr/bin/{tool}")
    program(folder / "docker", f"test -f {tmp_path}/running")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(machine, "STATE", tmp_path / "state")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return folder


def program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def without_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine's first process be something else than systemd."""
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: str(path) != "/run/systemd/system" and is_dir(path))


def test_an_engine_that_answers_is_used(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "running").touch()
    program(programs / "dockerd", f"touch {tmp_path}/started-another")
    engine.engine()
    assert not (tmp_path / "started-another").exists()


def test_an_engine_that_does_not_answer_is_started(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_init(monkeypatch)
    program(programs / "dockerd", f"touch {tmp_path}/running")
    engine.engine()
    assert engine.engine_answers()


def test_an_engine_that_is_missing_is_installed_then_started(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_init(monkeypatch)
    (programs / "docker").unlink()
    install = f'echo "$@" >> {tmp_path}/asked; test "$1" = update && exit 0\n'
    for name, line in (("docker", f"test -f {tmp_path}/running"), ("dockerd", f"touch {tmp_path}/running")):
        program(tmp_path / name, line)
    (programs / "cp").symlink_to("/bin/cp")
    program(programs / "apt-get", f"{install}cp {tmp_path}/docker {tmp_path}/dockerd {programs}/")
    engine.engine()
    assert engine.engine_answers()
    assert "docker.io iptables" in (tmp_path / "asked").read_text()


def test_the_users_own_engine_is_not_replaced(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://builder:2376")
    program(programs / "dockerd", f"touch {tmp_path}/running")
    with pytest.raises(machine.LabError, match="tcp://builder:2376"):
        engine.engine()


def test_an_engine_that_does_not_come_up_shows_its_log(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_init(monkeypatch)
    program(programs / "dockerd", "echo no iptables here")
    with pytest.raises(machine.LabError, match="no iptables here"):
        engine.engine(seconds=1)


@pytest.mark.parametrize("suite", images.SUITES)
def test_with_control_groups_2_every_suite_gets_the_hosts_tree(suite: str) -> None:
    options = containers.cgroup_options(suite, "2", unified=False)
    assert "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw" in options
    assert not [option for option in options if "LEGACY" in option]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_with_control_groups_1_an_older_systemd_is_told_to_use_them(suite: str) -> None:
    assert "--env=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1" in containers.cgroup_options(suite, "1", unified=True)


def test_with_control_groups_1_a_new_systemd_gets_the_unified_tree_or_a_reason() -> None:
    assert "--volume=/sys/fs/cgroup/unified:/sys/fs/cgroup:rw" in containers.cgroup_options("forky", "1", unified=True)
    with pytest.raises(machine.LabError, match="version 2"):
        containers.cgroup_options("forky", "1", unified=False)


def test_no_host_is_privileged(programs: Path) -> None:
    program(programs / "docker", "echo 1")
    options = containers.container_options("trixie")
    assert "--privileged" not in options
    assert [option for option in options if option.startswith("--cap-add")] == ["--cap-add=SYS_ADMIN"]


def test_packages_are_shared_between_hosts_without_being_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "one_1.deb").write_text("one")
    (tmp_path / "cache" / "lock").touch()
    containers.link_packages(tmp_path / "cache", tmp_path / "host")
    assert [path.name for path in (tmp_path / "host").iterdir()] == ["one_1.deb"]
    (tmp_path / "host" / "two_1.deb").write_text("two")
    containers.link_packages(tmp_path / "host", tmp_path / "cache")
    assert (tmp_path / "cache" / "two_1.deb").read_text() == "two"


@pytest.mark.parametrize("name", ["Demo", "-x", "a b", "a;b", ""])
def test_a_name_that_is_no_host_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lab.main(["up", "--", name])
    assert "lower-case" in capsys.readouterr().err


def test_a_host_that_the_machine_has_no_room_for_is_refused_before_it_comes_up_broken() -> None:
    with pytest.raises(
        machine.LabError, match=r"124 of the 128 inotify instances .*sysctl fs\.inotify\.max_user_instances=512"
    ):
        engine.room_for_a_host(124, 128)
    with pytest.raises(machine.LabError, match="remove hosts"):
        engine.room_for_a_host(123, 128)
    assert "room for 1 more" in engine.room_for_a_host(122, 128)
    assert "room for 3 more" in engine.room_for_a_host(110, 128)
    assert engine.room_for_a_host(104, 128) == ""


def test_the_instances_of_this_users_processes_are_counted(tmp_path: Path) -> None:
    for process, leads_to in (("1", "anon_inode:inotify"), ("2", "anon_inode:inotify"), ("3", "socket:[1]")):
        (tmp_path / process / "fd").mkdir(parents=True)
        (tmp_path / process / "fd" / "5").symlink_to(leads_to)
    (tmp_path / "self").mkdir()
    (tmp_path / "4").mkdir()  # has ended meanwhile
    assert engine.inotify_instances(tmp_path) == 2
    assert engine.inotify_instances() >= 0


def test_no_host_is_started_where_the_limit_is_near(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = tmp_path / "limit"
    limit.write_text("128\n")
    monkeypatch.setattr(engine, "INOTIFY_LIMIT", limit)
    monkeypatch.setattr(engine, "inotify_instances", lambda: 0)
    monkeypatch.setattr(containers, "image", lambda _suite: None)
    asked = tmp_path / "asked"
    listing = " ".join(["echo", *(f"{number:012}" for number in range(21))])
    program(programs / "docker", f'echo "$1" >> {asked}; case "$1" in ps) {listing};; container) exit 1;; esac')
    with pytest.raises(machine.LabError, match="126 of the 128"):
        containers.up("one", "trixie", [])
    assert "run" not in asked.read_text().split()
    limit.write_text("140\n")
    engine.check_limits()
    assert "room for 2 more" in capsys.readouterr().err
    monkeypatch.setenv("DOCKER_HOST", "tcp://builder:2376")
    limit.write_text("1\n")
    engine.check_limits()


def test_a_host_that_is_stopped_keeps_its_address() -> None:
    subnet = ipaddress.IPv4Network("172.18.0.0/16")
    assert network.next_address(subnet, set()) == "172.18.0.2"
    assert network.next_address(subnet, {"172.18.0.2", "172.18.0.4"}) == "172.18.0.3"


def test_the_network_is_made_of_what_the_engine_has_free(programs: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    answer = 'case "$2" in ls) echo bridge;; inspect) echo 10.1.0.0/24;; esac; case "$1" in ps) echo 10.1.0.2;; esac'
    program(programs / "docker", f'echo "$*" >> {asked}; {answer}')
    assert network.options() == [
        "--network=celeryops-hosts",
        "--ip=10.1.0.3",
        "--label=celeryops.address=10.1.0.3",
    ]
    made = [line for line in asked.read_text().splitlines() if line.startswith(("network create", "network rm"))]
    assert made == [
        "network create celeryops-hosts",
        "network rm celeryops-hosts",
        "network create --subnet=10.1.0.0/24 celeryops-hosts",
    ]
