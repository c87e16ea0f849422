"""A worker that is deaf after a reconnect (celery/celery issues 10205, 10302, 10502), which is too rare to wait for.

So it is forced: a real worker of this Celery, on kombu's queues in files. Its connection breaks once; the next one is
open, its loop turns, and nothing comes of what waits in the queue, which is what that hang looks like from inside.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

WORKER = """
import os, socket, time
os.getuid = os.geteuid = lambda: 1000
from pathlib import Path
from celery import Celery
from kombu.transport.virtual import Transport
from celeryops_runtime import intake

intake.SHORTEST_SECONDS = 0.2
app = Celery("shop")
own, broken, deaf = Transport.drain_events, Path("broken"), DEAF

@app.task(name="shop.note", ignore_result=True)
def note(text):
    with open("noted", "a") as file:
        print(text, file=file)

def drain_events(self, connection, timeout=None):
    if Path("break").exists() and not broken.exists():
        broken.touch()
        raise self.connection_errors[0]("the connection is lost")
    if broken.exists() and deaf:
        time.sleep(0.05)
        raise socket.timeout()
    return own(self, connection, timeout=min(timeout or 0.2, 0.2))

Transport.drain_events = drain_events
if __name__ == "__main__":
    app.worker_main(["worker", "-P", "solo", "-l", "INFO", "--without-mingle", "--without-gossip"])
"""

SEND = """
from worker import app, note
app.conf.broker_transport_options["data_folder_out"] = "sent"
note.delay({text!r})
"""


class Worker:
    """The worker, and systemd at the other end of its socket."""

    def __init__(self, folder: Path, environment: dict[str, str], *, deaf: bool) -> None:
        self.folder = folder
        (folder / "worker.py").write_text(WORKER.replace("DEAF", repr(deaf)), encoding="utf-8")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.settimeout(0.2)
        self.environment = {
            **environment,
            "CELERY_BROKER_URL": "filesystem://",
            "CELERY_RESULT_BACKEND": "",
            "PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], str(folder)]),
        }
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "worker.py"],
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**self.environment, "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "2000000"},
            )

    def send(self, text: str) -> None:
        code, sent = SEND.format(text=text), self.folder / "sent"
        sent.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-c", code], cwd=self.folder, env=self.environment, check=True, timeout=60)
        # Whole and at once: kombu's worker takes a file that is still empty, too, and ends with that.
        for message in sent.iterdir():
            message.rename(self.folder / "queue" / message.name)

    def hears(self, wanted: str, seconds: float = 60.0) -> bool:
        """Wait until systemd is told something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if wanted in self.socket.recv(4096).decode():
                    return True
            except TimeoutError:
                assert self.process.poll() is None, self.log
        return False

    def noted(self, text: str, seconds: float = 60.0) -> bool:
        """Wait until the task was run."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (self.folder / "noted").exists() and text in (self.folder / "noted").read_text():
                return True
            time.sleep(0.1)
        return False

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self.socket.close()


@pytest.fixture
def start(tmp_path: Path, document: dict[str, Any], environment: dict[str, str]) -> Iterator[Any]:
    folder, made = tmp_path / "w", []
    folder.mkdir()
    places = {name: str(folder / "queue") for name in ("data_folder_in", "data_folder_out")}
    document |= {"broker": "redis"}
    document["settings"] = {
        "broker_transport_options": {**places, "control_folder": str(folder / "control"), "store_processed": False},
        "broker_connection_retry_on_startup": True,
        "worker_enable_remote_control": False,
    }
    (folder / "queue").mkdir()
    (tmp_path / "celery.json").write_text(json.dumps(document), encoding="utf-8")

    def worker(*, deaf: bool) -> Worker:
        made.append(Worker(folder, {**environment, "CELERYOPS_CONFIG": str(tmp_path / "celery.json")}, deaf=deaf))
        return made[-1]

    yield worker
    for one in made:
        one.end()


def test_a_worker_that_is_deaf_after_a_reconnect_falls_silent(start: Any) -> None:
    worker = start(deaf=True)
    assert worker.hears("READY=1"), worker.log
    worker.send("before")
    assert worker.noted("before"), worker.log
    (worker.folder / "break").touch()
    assert worker.hears("STATUS=consuming"), worker.log
    assert worker.hears("WATCHDOG=1"), "an idle worker is no deaf one: nothing waits yet"
    worker.send("after")
    assert worker.hears("not consuming default, payments, where messages wait: to be restarted"), worker.log
    assert not worker.hears("WATCHDOG=1", seconds=4.0), "systemd would end it after 2 s of silence"
    assert "consuming nothing although messages wait (1 in default)" in worker.log
    assert not worker.noted("after", seconds=0.0)


def test_a_worker_that_hears_goes_on(start: Any) -> None:
    worker = start(deaf=False)
    assert worker.hears("READY=1"), worker.log
    (worker.folder / "break").touch()
    assert worker.hears("STATUS=consuming"), worker.log
    worker.send("after")
    assert worker.noted("after"), worker.log
    assert worker.hears("WATCHDOG=1"), worker.log
    assert "messages wait" not in worker.log
