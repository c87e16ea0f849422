"""What systemd is told, over a real socket; and when a worker counts as alive, with a clock of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import types
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from celeryops_runtime.liveness import RECONNECT_SECONDS, Liveness
from celeryops_runtime.readiness import Readiness, install
from celeryops_runtime.systemd import notify, watchdog_seconds

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]

RUN, CLOSE = 1, 2


class Systemd:
    """The other end of the socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """Take what arrived."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    """A socket to report to, named in the environment, with a watchdog of 2 s."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    other = Systemd(path)
    yield other
    other.socket.close()


def test_notify(systemd: Systemd) -> None:
    assert notify("READY=1", "STATUS=ä")
    assert systemd.heard() == ["READY=1\nSTATUS=ä"]
    assert not notify()


def test_notify_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(f"\0celeryops-test-{os.getpid()}")
        assert notify("READY=1", environ={"NOTIFY_SOCKET": f"@celeryops-test-{os.getpid()}"})
        assert other.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nonexistent/socket", "vsock:2:1"])
def test_notify_never_raises(address: str) -> None:
    assert notify("READY=1", environ={"NOTIFY_SOCKET": address}) is False


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "12000000"}, 12.0),
        ({"WATCHDOG_USEC": "12000000", "WATCHDOG_PID": "7"}, 12.0),
        ({"WATCHDOG_USEC": "12000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": ""}, 0.0),
    ],
)
def test_watchdog_seconds(environ: dict[str, str], seconds: float) -> None:
    assert watchdog_seconds(environ, pid=7) == seconds


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_liveness_consuming() -> None:
    clock = Clock()
    life = Liveness(40.0, clock)
    assert (life.interval, life.patience) == (10.0, 20.0)
    assert life.alive(busy=False, progress=0)
    clock.now += 1000
    assert life.alive(busy=False, progress=0), "start-up is limited by TimeoutStartSec="
    assert life.enter("consuming")
    assert not life.enter("consuming")
    clock.now += 19
    assert life.alive(busy=False, progress=0)
    clock.now += 2
    assert not life.alive(busy=False, progress=1), "progress counts only while reconnecting"
    life.tick()
    assert life.alive(busy=False, progress=0)
    clock.now += 500
    assert life.alive(busy=True, progress=0)
    clock.now += 19
    assert life.alive(busy=False, progress=0), "a task that just ended leaves the loop its time"


def test_liveness_reconnecting() -> None:
    clock = Clock()
    life = Liveness(12.0, clock)
    life.enter("consuming")
    assert life.enter("offline")
    for attempt in range(20):
        clock.now += 34
        assert life.alive(busy=False, progress=attempt), "a broker that is away for long is no reason to restart"
    clock.now += RECONNECT_SECONDS + 1
    assert not life.alive(busy=False, progress=19), "a reconnect that hangs is"
    life.enter("leaving")
    clock.now += 10_000
    assert life.alive(busy=False, progress=19)
    assert not life.enter("consuming"), "leaving is final"


def test_liveness_without_watchdog_still_reports() -> None:
    assert Liveness(0.0).interval == 10.0


class Timer:
    """Keeps what the hub's timer is asked to repeat."""

    def __init__(self) -> None:
        self.repeated: list[tuple[float, Callable[[], None]]] = []

    def call_repeatedly(self, seconds: float, call: Callable[[], None]) -> None:
        self.repeated.append((seconds, call))


def consumer(*, hub: bool, pool: str = "celery.concurrency.prefork") -> Any:
    """Just enough of a consumer."""
    waiting: deque[Callable[[], None]] = deque()
    return types.SimpleNamespace(
        hub=types.SimpleNamespace(timer=Timer(), add_reader=lambda *_: None) if hub else None,
        pool=type("TaskPool", (), {"__module__": pool})(),
        blueprint=types.SimpleNamespace(state=RUN),
        task_consumer=types.SimpleNamespace(queues=[types.SimpleNamespace(name=n) for n in ("b", "a")]),
        call_soon=waiting.append,
        waiting=waiting,
        restart_count=0,
        broker_connection_retry_attempt=0,
        connection=object(),
        on_connection_error_after_connected=lambda _exc: None,
    )


def turn(c: Any) -> None:
    """One turn of the event loop."""
    while c.waiting:
        c.waiting.popleft()()


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "celeryops-systemd"]


@pytest.fixture
def step(systemd: Systemd) -> Iterator[Callable[..., tuple[Readiness, Any]]]:
    """Make steps, and end their threads."""
    del systemd
    made: list[Readiness] = []

    def make(**kwargs: Any) -> tuple[Readiness, Any]:
        c = consumer(**kwargs)
        made.append(Readiness(c))
        return made[-1], c

    yield make
    for one in made:
        one._end_thread()
    assert not threads()


def test_ready_only_from_inside_the_loop(systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]) -> None:
    one, c = step(hub=True)
    one.start(c)
    one.register_with_event_loop(c, c.hub)
    assert "READY=1" not in "".join(systemd.heard())
    turn(c)
    assert systemd.heard() == ["READY=1\nSTATUS=consuming a, b: 0 active, 0 waiting, 0 done"]
    assert not threads(), "a pool that forks must not fork beside a thread"


def test_hub_pings_and_reconnect(systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]) -> None:
    one, c = step(hub=True)
    one.start(c)
    one.register_with_event_loop(c, c.hub)
    turn(c)
    systemd.heard()
    [(seconds, tick)] = c.hub.timer.repeated
    assert seconds == 0.5
    tick()
    assert systemd.heard() == ["WATCHDOG=1"], "an unchanged status is not repeated"
    one.stop(c)
    heard: list[str] = []
    deadline = time.monotonic() + 10
    while "WATCHDOG=1" not in heard and time.monotonic() < deadline:
        heard += systemd.heard()
        time.sleep(0.01)
    assert heard[0] == "STATUS=waiting for the broker"
    assert "WATCHDOG=1" in heard
    assert len(threads()) == 1
    one.start(c)
    turn(c)
    assert systemd.heard()[-1].startswith("STATUS=consuming"), "READY=1 is said once"
    assert not threads()


def test_clearing_up_after_a_lost_connection_is_no_silence(
    systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]
) -> None:
    one, c = step(hub=True)
    told: list[Any] = []

    def clear_up(exc: Exception) -> None:
        # No loop runs any more, and Celery cancels tasks, closes connections, and writes results.
        told.append((exc, one.liveness.phase, len(threads())))

    assert c.on_connection_error_after_connected.__wrapped__, "put around the consumer's own"
    c2 = types.SimpleNamespace(**{**vars(c), "on_connection_error_after_connected": clear_up})
    one._go_offline_first(c2)
    one.start(c)
    turn(c)
    exc = OSError("gone")
    c2.on_connection_error_after_connected(exc)
    assert told == [(exc, "offline", 1)]
    assert "STATUS=waiting for the broker" in "\n".join(systemd.heard())


def test_without_hub_the_loop_has_to_answer(systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]) -> None:
    one, c = step(hub=False, pool="celery.concurrency.gevent")
    one.start(c)
    turn(c)
    one._end_thread()
    systemd.heard()
    clock = Clock()
    one.liveness._clock = clock
    one.liveness.tick()
    one._watch_once()
    assert systemd.heard() == ["WATCHDOG=1"]
    clock.now += 100
    one._watch_once()
    assert systemd.heard() == [], "no answer, no ping"
    assert len(c.waiting) == 1, "questions do not pile up"
    turn(c)
    one._watch_once()
    assert systemd.heard() == ["WATCHDOG=1"]


def test_solo_is_alive_while_a_task_runs(
    systemd: Systemd, step: Callable[..., tuple[Readiness, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, c = step(hub=True, pool="celery.concurrency.solo")
    one.start(c)
    turn(c)
    assert len(threads()) == 1
    one._end_thread()
    clock = Clock()
    one.liveness._clock = clock
    one.liveness.tick()
    monkeypatch.setattr("celery.worker.state.active_requests", {"a task"})
    systemd.heard()
    clock.now += 1000
    one._watch_once()
    assert "WATCHDOG=1" in systemd.heard()
    monkeypatch.setattr("celery.worker.state.active_requests", set())
    clock.now += 1000
    one._watch_once()
    assert "WATCHDOG=1" not in systemd.heard()


def test_stopping_is_said_once(systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]) -> None:
    one, c = step(hub=True)
    one.start(c)
    turn(c)
    systemd.heard()
    one._on_shutting_down(how="Warm")
    c.blueprint.state = CLOSE
    one.stop(c)
    stopping = [m for m in systemd.heard() if m.startswith("STOPPING=1")]
    assert stopping == ["STOPPING=1\nSTATUS=stopping (warm shutdown): 0 tasks still running"]
    one.start(c)
    turn(c)
    assert "READY" not in "".join(systemd.heard())


def test_a_worker_that_gets_nothing_falls_silent(systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]) -> None:
    one, c = step(hub=True)
    one.start(c)
    one.register_with_event_loop(c, c.hub)
    turn(c)
    systemd.heard()
    [(_seconds, tick)] = c.hub.timer.repeated
    asked: list[Any] = []
    one.intake.look = asked.append  # type: ignore[assignment, method-assign]
    one.intake.starved = True
    tick()
    assert systemd.heard() == ["STATUS=not consuming a, b, where messages wait: to be restarted"]
    one.intake.starved = False
    tick()
    assert systemd.heard() == ["WATCHDOG=1", "STATUS=consuming a, b: 0 active, 0 waiting, 0 done"]
    assert asked == [c, c]
    one.liveness.enter("draining")
    tick()
    assert len(asked) == 2, "a worker that drains has to get nothing"


def test_draining_is_told(systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]) -> None:
    one, c = step(hub=True)
    one.start(c)
    turn(c)
    systemd.heard()
    one._on_draining()
    assert systemd.heard() == ["STOPPING=1", "STATUS=draining: 0 tasks still running"]
    one.drain.active = True
    one._on_consuming()
    assert one.liveness.phase == "draining", "a connection that comes back does not make it consume again"


def test_a_stop_waits_for_the_loop_only_while_one_turns(
    monkeypatch: pytest.MonkeyPatch, step: Callable[..., tuple[Readiness, Any]]
) -> None:
    """A connection comes back, and a step behind this one fails each time: no loop hears of the signal."""
    told: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("warm"))
    try:
        monkeypatch.setenv("CELERYOPS_STOP_TIMEOUT", "60")
        monkeypatch.delenv("REMAP_SIGTERM", raising=False)
        for again, expected in ((False, []), (True, ["warm"])):
            signal.signal(signal.SIGTERM, lambda *_: told.append("warm"))
            one, c = step(hub=True)
            one.start(c)
            one.register_with_event_loop(c, c.hub)
            turn(c)
            if again:
                one.stop(c)
                one.start(c)
            os.kill(os.getpid(), signal.SIGTERM)
            assert told == expected
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_worker_that_replaces_itself_is_not_stopping(
    systemd: Systemd, step: Callable[..., tuple[Readiness, Any]]
) -> None:
    # SIGHUP: Celery closes the consumer without the signal worker_shutting_down, and calls exec.
    one, c = step(hub=True)
    one.start(c)
    turn(c)
    systemd.heard()
    c.blueprint.state = CLOSE
    one.stop(c)
    heard = systemd.heard()
    assert heard[0] == "STATUS=stopping: 0 tasks still running"
    assert "STOPPING" not in "".join(heard)


def test_nothing_in_the_step_reaches_the_worker(
    step: Callable[..., tuple[Readiness, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    one, c = step(hub=True)
    broken = types.SimpleNamespace(timer=None)
    one.register_with_event_loop(c, broken)
    one.start(types.SimpleNamespace())
    one.stop(types.SimpleNamespace())
    one.consumer = None
    one._on_consuming()
    one._on_hub_tick()
    one._watch_once()
    assert "the worker goes on" in caplog.text
    install(types.SimpleNamespace())


def test_outside_systemd_no_step_is_added(python: Python) -> None:
    code = (
        "from celery import Celery; a = Celery('a'); a.loader.on_worker_init();"
        "print(*sorted({'Readiness', 'Prefetch'} & {step.__name__ for step in a.steps['consumer']}))"
    )
    assert python("-c", code).stdout == "\n"
    assert python("-c", code, env={"NOTIFY_SOCKET": "/nonexistent"}).stdout == "Prefetch Readiness\n"
    fixed = {"NOTIFY_SOCKET": "/nonexistent", "CELERYOPS_PREFETCH": "fixed"}
    assert python("-c", code, env=fixed).stdout == "Readiness\n"


def test_beat_is_ready_when_it_says_so(python: Python, systemd: Systemd) -> None:
    code = "from celery import Celery, signals; a = Celery('a'); a.loader; {before}signals.beat_init.send(sender=None)"
    env = {"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"]}
    python("-c", code.format(before=""), env=env)
    assert systemd.heard() == ["READY=1\nSTATUS=scheduling"]
    python("-c", code.format(before="signals.worker_init.send(sender=None);"), env=env)
    assert systemd.heard() == [], "beat inside a worker does not speak for it"
