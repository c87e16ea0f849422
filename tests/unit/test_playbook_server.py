"""The process that runs the playbooks of the Molecule tests: what it says is what ansible-playbook says."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

import playbooks  # noqa: E402 - as the Molecule tests import it


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """The server of this module alone."""
    playbooks.server.cache_clear()
    yield
    playbooks.server.cache_clear()


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., playbooks.Run]:
    """Run tasks on this machine: play({"ansible.builtin.debug": {"msg": 1}})."""
    inventory = tmp_path / "hosts.yml"
    own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(yaml.dump({"all": {"hosts": {"here": own}}}))

    def run(*tasks: dict[str, Any], arguments: tuple[str, ...] = (), **variables: Any) -> playbooks.Run:
        path = tmp_path / f"{threading.get_ident()}.yml"
        path.write_text(yaml.dump([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]))
        return playbooks.run_playbook(inventory, *arguments, playbook=str(path), variables=variables)

    return run


def test_a_run_tells_what_was_called_changed_and_failed(play: Callable[..., playbooks.Run]) -> None:
    change = {"name": "Change", "ansible.builtin.command": {"cmd": "echo {{ word }}"}}
    run = play(change, {"ansible.builtin.debug": {"msg": "x"}, "when": False}, word="said-aloud")
    assert (run.failed, run.changed, run.called) == (False, ["Change"], ["ansible.builtin.command"])
    assert run.stats["here"]["ok"] == 1
    assert "said-aloud" in run.output
    assert "already been configured" not in run.output
    failed = play({"ansible.builtin.fail": {"msg": "for a reason"}})
    assert (failed.failed, failed.messages, failed.stats["here"]["failures"]) == (True, ["for a reason"], 1)


def test_it_says_what_the_command_says(play: Callable[..., playbooks.Run], tmp_path: Path) -> None:
    run = play({"ansible.builtin.debug": {"msg": "{{ 6 * 7 }}"}}, arguments=("--check", "--limit=here,nobody"))
    words = [
        "--check",
        "--limit=here,nobody",
        f"--inventory={tmp_path / 'hosts.yml'}",
        *map(str, tmp_path.glob("[0-9]*")),
    ]
    command = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *words],
        check=False,
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert command.returncode == 0
    assert "Could not match supplied host pattern, ignoring: nobody" in command.stderr
    assert command.stderr.strip() in run.output


def test_a_command_line_that_ansible_refuses_is_shown(play: Callable[..., playbooks.Run]) -> None:
    with pytest.raises(AssertionError, match="unrecognized arguments: --nonsense"):
        play(arguments=("--nonsense",))


def test_two_runs_go_beside_each_other(play: Callable[..., playbooks.Run], tmp_path: Path) -> None:
    # Each waits for the other one.
    for name in "ab":
        os.mkfifo(tmp_path / name)
    runs: list[playbooks.Run] = []

    def one(mine: str, other: str) -> None:
        command = {"ansible.builtin.shell": f"echo x > {tmp_path}/{mine} & timeout 20 cat {tmp_path}/{other}; wait"}
        runs.append(play(command))

    threads = [threading.Thread(target=one, args=names) for names in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.failed for run in runs] == [False, False]


def test_a_run_that_was_killed_is_told(play: Callable[..., playbooks.Run]) -> None:
    # The shell is a child of the task's process, which is one of the run.
    kill = {"ansible.builtin.debug": {"msg": "{{ lookup('ansible.builtin.pipe', 'kill -9 $(ps -o ppid= $PPID)') }}"}}
    with pytest.raises(AssertionError, match="ended by the signal 9"):
        play(kill)


def test_a_server_that_has_ended_is_told(play: Callable[..., playbooks.Run]) -> None:
    play({"ansible.builtin.debug": {"msg": "x"}})
    process = playbooks.server()._process
    process.kill()
    process.wait()
    with pytest.raises((AssertionError, BrokenPipeError)):
        play({"ansible.builtin.debug": {"msg": "x"}})
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    playbooks.server.cache_clear()
