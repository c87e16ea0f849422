"""Restarts and releases over two hosts while work goes on: what fails on one host is undone on both."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fleet import APP, STATE, Fleet
from hosts import wait

Source = dict[str, str]
STOP_TIMEOUT = 6


@pytest.fixture(autouse=True)
def _let_go(fleet: Fleet) -> Iterator[None]:
    """No task is held beyond its test."""
    yield
    fleet.enough()


def test_a_rolling_restart_leaves_no_queue_alone_and_cuts_a_task_once(fleet: Fleet) -> None:
    """The task that is held outlasts every stop. Its worker ends it; whoever takes it then may bring it to its end."""
    before = fleet.pids()
    with fleet.load():
        fleet.send("bulk.held", "long")
        wait(lambda: fleet.noted("begun", "long") == 1, 30, "the long task was not begun")
        run = fleet.play("restart")
        assert run.messages == []
        assert fleet.noted("begun", "long") == 2
        fleet.enough()
        wait(lambda: fleet.noted("done", "long") == 1, 30, "the long task did not end")
    assert (fleet.noted("begun", "long"), fleet.noted("done", "long")) == (2, 1)
    after = fleet.pids()
    assert {name for name in before if before[name] != after[name]} == fleet.workers()
    wait(lambda: fleet.standing_in() == "", 30, "something still stands in")


def test_nobody_waits_for_old_tasks_in_mode_drain(fleet: Fleet) -> None:
    fleet.forget()
    before = fleet.pids()
    fleet.send("default.held", "one", "two")
    wait(lambda: len(fleet.notes().get("begun", ())) == 2, 30, "the long tasks were not begun")
    assert fleet.each(f"grep -c begun {STATE}/notes") == {"app1": "1", "app2": "1"}
    began = time.monotonic()
    run = fleet.play("restart", celeryops_restart_mode="drain", celeryops_restart_classes=["default"])
    assert run.messages == []
    time.sleep(max(0.0, began + STOP_TIMEOUT + 4 - time.monotonic()))
    assert "done" not in fleet.notes(), "a task has ended"
    # What comes now does not wait for the old tasks.
    assert fleet.produce("print(json.dumps(app.send_task('default.work', args=('new',)).get(timeout=30)))")
    fleet.enough()
    wait(lambda: fleet.standing_in() == "", 90, "something still stands in")
    notes = fleet.notes()
    assert notes["begun"] == notes["done"] == {"one": 1, "two": 1, "new": 1}
    after = fleet.pids()
    assert {name for name in before if before[name] != after[name]} == {"default@app1", "default@app2"}
    assert "0" not in after.values()


def test_a_new_release_is_taken_into_use_on_both_hosts(fleet: Fleet, release: Callable[..., Source]) -> None:
    before, was = fleet.pids(), fleet.current()
    assert len(set(was.values())) == 1
    with fleet.load():
        run = fleet.deploy(release("second"))
    assert run.messages == []
    now = fleet.current()
    assert len(set(now.values())) == 1
    assert now != was
    assert set(fleet.releases().values()) == {now["app1"]}
    after = fleet.pids()
    assert {name for name in before if before[name] != after[name]} == {*fleet.workers(), "beat@app1"}
    wait(lambda: fleet.standing_in() == "", 30, "something still stands in")


def test_a_release_that_fails_on_one_host_goes_back_on_both(fleet: Fleet, release: Callable[..., Source]) -> None:
    """It can be imported everywhere, and its worker does not start where a file is."""
    line = 'import sys\nif "worker" in sys.argv and (STATE / "broken").exists():\n    raise SystemExit("broken here")'
    was = fleet.current()
    with fleet.load():
        fleet.on("app2", f"touch {STATE}/broken")
        run = fleet.deploy(release("broken", line))
    assert run.failed
    told = run.messages[-1]
    assert "\napp2: systemctl restart celery-fleet-default.service failed" in told
    assert "broken here" in told
    assert "\napp1: " not in told
    for host in was:
        assert f"{host} runs {was[host]} as before" in told
    assert fleet.current() == was
    assert set(fleet.releases().values()) == set(was.values())
    assert "0" not in fleet.pids().values()
    wait(lambda: fleet.standing_in() == "", 30, "something still stands in")


@pytest.fixture
def by_ssh(fleet: Fleet, tmp_path: Path) -> Iterator[Path]:
    """An inventory that has the second host reached as everybody reaches hosts: by a connection that can be lost."""
    key, host = tmp_path / "key", "app2"
    fleet.on(
        host,
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends openssh-server >/dev/null"
        " && systemctl start ssh",
    )
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    fleet.on(
        host, f"mkdir -pm 700 /root/.ssh && echo '{key.with_suffix('.pub').read_text()}' > /root/.ssh/authorized_keys"
    )
    address = fleet.engine(
        "inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", fleet.container(host)
    )
    options = {
        "ControlMaster": "no",
        "ServerAliveInterval": 2,
        "ServerAliveCountMax": 3,
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    extra = tmp_path / "ssh.yml"
    extra.write_text(
        f"all: {{hosts: {{{host}: {{ansible_connection: ssh, ansible_host: {address}, ansible_user: root,"
        f" ansible_ssh_private_key_file: {key}, ansible_ssh_timeout: 5,"
        f" ansible_ssh_args: {' '.join(f'-o {name}={value}' for name, value in options.items())}}}}}}}\n"
    )
    yield extra
    fleet.on(host, "systemctl disable --quiet --now ssh && rm -r /root/.ssh")


def test_a_host_that_is_lost_in_the_middle_stops_nobody_and_is_put_right_later(
    fleet: Fleet, release: Callable[..., Source], by_ssh: Path
) -> None:
    source, was = release("third"), fleet.current()
    assert fleet.standing_in() == ""
    lock = f"/run/celeryops/.lock/{APP}"
    with ThreadPoolExecutor(1) as pool:
        deploy = pool.submit(fleet.deploy, source, f"--inventory={by_ssh}")
        wait(lambda: deploy.done() or "_standin" in fleet.standing_in(), 180, "no stand-in was started")
        assert not deploy.done(), deploy.result().output
        try:
            with fleet.paused("app2"):
                run = deploy.result()
        finally:
            # Its session has ended, and all that belonged to it.
            fleet.on("app2", f"find /proc/[0-9]*/fd -lname {lock} 2>/dev/null | cut -d / -f 3 | xargs -r kill -KILL")
    assert run.failed
    told = run.messages[-1]
    assert f"app1 runs {was['app1']} as before" in told
    assert f"app2 could not go back to {was['app2']}" in told
    assert "When it is reachable, run this playbook again" in told
    assert fleet.current()["app1"] == was["app1"]
    assert fleet.releases()["default@app1"] == was["app1"]
    assert "_standin" in fleet.standing_in()
    again = fleet.deploy(source)
    assert again.messages == []
    now = fleet.current()
    assert len({*now.values(), *fleet.releases().values()}) == 1
    assert now["app1"] != was["app1"]
    wait(lambda: fleet.standing_in() == "", 30, "something still stands in")
