"""What a worker does between SIGTERM and its end, with just enough of a worker and a clock of the test's own."""

from __future__ import annotations

import os
import signal
import types
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from celery.worker import state
from kombu.asynchronous.timer import Timer

from celeryops_runtime import drain as module
from celeryops_runtime.drain import Drain, own_time, stop_seconds

from .conftest import Request as Received
from .conftest import forget_requests, schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Python


class Request(Received):
    """One that notes whether it was given back, or ended."""

    def __init__(self, name: str, *, late: bool = True, acknowledged: bool = False) -> None:
        super().__init__(name, task=types.SimpleNamespace(acks_late=late), acknowledged=acknowledged)
        self.returned = False
        self.ended = ""
        self.worker_pid = None

    def reject(self, requeue: bool = False) -> None:
        self.returned = requeue
        self.acknowledged = True

    def terminate(self, _pool: Any, signal: str) -> None:
        """End it as Celery does (celery/worker/request.py, 5.4.0 to 5.7.0): it is done with then."""
        self.ended, self.acknowledged = signal, True
        state.task_ready(self)


class Hub:
    """A loop that turns when the test says so."""

    def __init__(self) -> None:
        self.timer = self
        self.readers: dict[int, Callable[[], None]] = {}
        self.repeated: list[Callable[[], None]] = []

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self.readers[fd] = callback

    def call_repeatedly(self, seconds: float, callback: Callable[[], None]) -> None:
        assert seconds == module.LOOK_SECONDS
        self.repeated.append(callback)

    def turn(self) -> None:
        for callback in [*self.readers.values(), *self.repeated]:
            callback()


class Worker:
    """A worker, what Celery's own handlers were told, and the drain before them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 60.0, *, pool: str = "prefork") -> None:
        self.now = 100.0
        self.told: list[str] = []
        self.cancelled = 0
        self.turns = True
        self.hub = Hub()
        self.timer = Timer()
        semaphore = types.SimpleNamespace(_waiting=deque())
        self.c: Any = types.SimpleNamespace(
            hub=self.hub,
            pool=type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})(),
            connection=object(),
            controller=types.SimpleNamespace(semaphore=semaphore),
            task_buckets={},
            task_consumer=types.SimpleNamespace(cancel=self._cancel),
            timer=self.timer,
            call_soon=lambda callback: callback(),
        )
        signal.signal(signal.SIGTERM, lambda *_: self.told.append("warm"))
        signal.signal(signal.SIGQUIT, lambda *_: self.told.append("cold"))
        monkeypatch.delenv("REMAP_SIGTERM", raising=False)
        self.drain = Drain(
            self.c, seconds, lambda: self.told.append("draining"), lambda: self.turns, clock=lambda: self.now
        )
        self.drain.install()
        self.drain.install()
        self.drain.register_with_event_loop(self.hub)

    def _cancel(self) -> None:
        self.cancelled += 1

    def run(self, *requests: Request) -> None:
        for request in requests:
            state.reserved_requests.add(request)
            state.active_requests.add(request)
        self.kept = requests


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Nothing of a test stays behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    forget_requests()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("", 0.0), (None, 0.0), ("soon", 0.0), ("-3", 0.0)])
def test_stop_seconds(text: str | None, seconds: float) -> None:
    assert stop_seconds({} if text is None else {"CELERYOPS_STOP_TIMEOUT": text}) == seconds


def test_the_tasks_end_and_are_acknowledged_before_the_worker_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    running = Request("running")
    worker.run(running)
    terminate()
    assert worker.told == [], "nothing happens inside the signal's handler"
    worker.hub.turn()
    assert (worker.cancelled, worker.told) == (1, ["draining"])
    worker.now += 59
    worker.hub.turn()
    assert worker.told == ["draining"]
    terminate()
    worker.hub.turn()
    assert (worker.cancelled, worker.told) == (1, ["draining"]), "a second signal changes nothing"
    state.task_ready(running)
    worker.hub.turn()
    worker.hub.turn()
    assert worker.told == ["draining", "warm"]
    assert not running.returned


def test_what_nobody_has_begun_with_goes_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    running, waiting, limited, later, done = (Request(n) for n in ("running", "waiting", "limited", "later", "done"))
    done.acknowledged = True
    worker.run(running)
    for request in (waiting, limited, done):
        state.reserved_requests.add(request)
    worker.c.controller.semaphore._waiting.extend([(print, (waiting,), {}), (print, (done,), {}), (print, (), {})])
    contents = deque([(limited, 1)])
    worker.c.task_buckets = {
        "limited": types.SimpleNamespace(contents=contents, clear_pending=contents.clear),
        "free": None,
    }
    entry, other = schedule(worker.timer, later), worker.timer.call_after(3600, print, ("no request",))
    terminate()
    worker.hub.turn()
    assert [request.name for request in (running, waiting, limited, later, done) if request.returned] == [
        "waiting",
        "limited",
        "later",
    ]
    assert set(state.reserved_requests) == {running, done}
    assert (entry.canceled, other.canceled) == (True, False)
    assert (list(contents), len(worker.c.controller.semaphore._waiting)) == ([], 0)


@pytest.mark.parametrize(("pool", "told"), [("prefork", ["draining", "cold"]), ("thread", ["draining"])])
def test_when_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pool: str, told: list[str]
) -> None:
    worker = Worker(monkeypatch, seconds=60, pool=pool)
    worker.run(Request("late"), Request("early", late=False))
    terminate()
    worker.hub.turn()
    worker.now += 60
    worker.hub.turn()
    worker.hub.turn()
    assert worker.told == told, "systemd ends a pool that cannot be made to end"
    lines = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert lines == [
        "still running after 60 s, back to the queue: late[late]",
        "still running after 60 s, lost because acknowledged before they began: early[early]",
    ]


def test_a_probe_that_does_not_end_holds_no_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As those of a release whose signal handlers hang: the way back from it waited for the whole stop_timeout."""
    worker = Worker(monkeypatch, seconds=600)
    running, hung = Request("running"), Request("celeryops.probe")
    worker.run(running, hung)
    terminate()
    worker.hub.turn()
    worker.now += 60
    worker.hub.turn()
    assert worker.told == ["draining"], "a task of the app's has its time"
    state.task_ready(running)
    worker.hub.turn()
    worker.now += module.PROBE_SECONDS - 0.1
    worker.hub.turn()
    assert worker.told == ["draining"], "a probe that works ends by itself"
    worker.now += 0.1
    worker.hub.turn()
    assert worker.told == ["draining", "warm"]
    assert (hung.ended, running.ended) == ("KILL", "")
    assert "a probe has not ended: celeryops.probe" in caplog.text
    assert "back to the queue" not in caplog.text


def test_where_nothing_can_be_ended_a_probe_waits_for_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, seconds=60, pool="thread")
    hung = Request("celeryops.probe")
    worker.run(hung)
    terminate()
    for _second in range(10):
        worker.hub.turn()
        worker.now += 1
    assert (worker.told, hung.ended) == (["draining"], "")


def test_when_the_time_is_up_no_probe_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, seconds=60)
    hung, late = Request("celeryops.probe"), Request("late")
    worker.run(hung, late)
    terminate()
    worker.hub.turn()
    worker.now += 60
    worker.hub.turn()
    assert worker.told == ["draining", "cold"]
    assert (hung.ended, late.ended) == ("KILL", "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3600\n", 3600.0), ("", 0.0), ("soon", 0.0), ("-5", 0.0), ("inf", 0.0), ("nan", 0.0), (None, 0.0)],
)
def test_the_time_that_somebody_left_word_of(tmp_path: Path, text: str | None, seconds: float) -> None:
    if text is not None:
        (tmp_path / "drain").write_text(text)
    assert own_time({"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other"}) == seconds
    assert own_time({}) == 0.0


def test_old_tasks_have_their_own_time_and_systemd_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    monkeypatch.setattr(module, "notify", told.append)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    worker = Worker(monkeypatch, seconds=60)
    worker.run(Request("running"))
    (tmp_path / "drain").write_text("600\n")
    terminate()
    for _each in range(59):
        worker.hub.turn()
        worker.now += 10
    assert worker.told == ["draining"], "the class's own time does not count"
    # Every 20 s for 60 s more: one word may be lost, and systemd still waits.
    assert told == ["EXTEND_TIMEOUT_USEC=60000000"] * 29
    worker.now += 10
    worker.hub.turn()
    assert worker.told == ["draining", "cold"]


def test_a_stop_of_which_nobody_left_word_is_systemds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    monkeypatch.setattr(module, "notify", told.append)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    worker = Worker(monkeypatch, seconds=60)
    worker.run(Request("running"))
    terminate()
    worker.hub.turn()
    worker.now += 60
    worker.hub.turn()
    assert (told, worker.told) == ([], ["draining", "cold"])


def test_without_a_broker_celery_stops_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    worker.c.connection = None
    terminate()
    assert (worker.told, worker.cancelled) == (["warm"], 0)


def test_a_worker_whose_start_fails_again_and_again_hears_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    # The tasks' own step has started anew, and one behind it fails before the loop turns, each time.
    worker.turns = False
    terminate()
    assert (worker.told, worker.cancelled) == (["warm"], 0)


def test_a_connection_that_comes_back_while_draining_does_not_consume(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    running = Request("running")
    worker.run(running)
    worker.drain.consuming()
    assert worker.cancelled == 0
    terminate()
    worker.hub.turn()
    worker.drain.consuming()
    assert worker.cancelled == 2
    state.task_ready(running)
    worker.hub.turn()
    worker.drain.consuming()
    assert (worker.cancelled, worker.told[-1]) == (2, "warm")


def test_without_a_hub_a_thread_asks_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, pool="gevent")
    asked: list[Callable[[], None]] = []
    worker.c.hub, worker.c.call_soon = None, asked.append
    running = Request("running")
    worker.run(running)
    terminate()
    asked.pop()()
    assert worker.told == ["draining"]
    state.task_ready(running)
    for _each in range(100):
        if asked:
            break
        signal.sigtimedwait([], 0.05)
    asked.pop()()
    assert worker.told == ["draining", "warm"]


def test_an_error_leaves_the_stop_to_celery(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(monkeypatch)
    worker.c.task_consumer.cancel = lambda: 1 / 0
    terminate()
    worker.hub.turn()
    assert worker.told == ["warm"]
    assert "Celery's warm shutdown follows" in caplog.text


@pytest.mark.parametrize(("seconds", "remap"), [(0.0, ""), (60.0, "SIGQUIT")])
def test_nobody_asked_for_it(monkeypatch: pytest.MonkeyPatch, seconds: float, remap: str) -> None:
    worker = Worker(monkeypatch)
    told: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: told.append("as ever"))
    monkeypatch.setenv("REMAP_SIGTERM", remap)
    Drain(worker.c, seconds, lambda: None, lambda: True).install()
    terminate()
    assert told == ["as ever"]


def test_a_process_of_the_pool_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch)
    monkeypatch.setattr(worker.drain, "_pid", os.getpid() + 1)
    terminate()
    worker.hub.turn()
    assert (worker.told, worker.drain.active) == ([], False)


def test_a_long_list_is_cut(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(monkeypatch, seconds=1)
    worker.run(*[Request(f"task{number:02}") for number in range(25)])
    terminate()
    worker.hub.turn()
    worker.now += 1
    worker.hub.turn()
    assert "task00[task00], " in caplog.text
    assert "task19[task19] and 5 more" in caplog.text


def test_what_no_process_was_given_goes_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, stuck, handed = Worker(monkeypatch), Request("stuck"), Request("handed")
    stuck._apply_result, handed._apply_result = None, object()  # type: ignore[attr-defined]
    state.reserved_requests.update({stuck, handed})
    terminate()
    worker.hub.turn()
    assert stuck.returned
    assert not handed.returned, "a process may begin with it at any moment"
    assert stuck not in state.reserved_requests
    assert worker.told == ["draining"]
    state.reserved_requests.discard(handed)
    worker.hub.turn()
    assert worker.told == ["draining", "warm"]


NEITHER = {"CELERY_LOADER": "default", "CELERY_BROKER_URL": "memory://", "CELERY_RESULT_BACKEND": "cache+memory://"}
REAL = """
import os, signal, sys, time, types
from celery import Celery
from celery.concurrency.prefork import TaskPool
from celery.worker import state
from celery.worker.request import Request
from kombu import Connection, Queue
from kombu.asynchronous import Hub, set_event_loop
from celeryops_runtime.drain import Drain

lost, ends = (word == "True" for word in sys.argv[1:])
app = Celery("real")

@app.task(name="slow", acks_late=True, reject_on_worker_lost=lost)
def slow():
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    open("done", "w").close()

app.finalize()
hub = Hub()
set_event_loop(hub)
pool = TaskPool(1, initargs=(app, "w@here"), app=app, threads=False)
pool.start()
pool.register_with_event_loop(hub)
events = hub.create_loop()

def turn(until, seconds=20):
    over = time.monotonic() + seconds
    while not until() and time.monotonic() < over:
        next(events)

said = []
with Connection("memory://") as connection:
    channel = connection.channel()
    queue = Queue("q", channel=channel)
    queue.declare()
    message = app.amqp.as_task_v2("an-id", "slow", (), {})
    producer = connection.Producer()
    producer.publish(message.body, routing_key="q", headers=message.headers, **{
        key: message.properties[key] for key in ("correlation_id", "reply_to")})
    got = queue.get()
    request = Request(
        got, app=app, task=app.tasks["slow"], on_ack=lambda *_: said.append("acknowledged"),
        on_reject=lambda log, errors, requeue: said.append(f"rejected {requeue}"), hostname="w@here")
    state.task_reserved(request)
    request.execute_using_pool(pool)
    turn(lambda: request.time_start and os.path.exists("begun"))
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append("warm"))
    signal.signal(signal.SIGQUIT, lambda *_: told.extend(["cold", *said]))
    consumer = types.SimpleNamespace(
        hub=hub, pool=pool, connection=object(), controller=types.SimpleNamespace(semaphore=None), task_buckets={},
        task_consumer=types.SimpleNamespace(cancel=lambda: None), timer=hub.timer)
    drain = Drain(consumer, 0.5, lambda: told.append("draining"), lambda: True)
    drain.install()
    drain.register_with_event_loop(hub)
    os.kill(os.getpid(), signal.SIGTERM)
    turn(lambda: told)
    time.sleep(0.6)
    if ends:
        # In the moment in which its time is up, and nobody has read of it yet.
        open("go", "w").close()
        time.sleep(0.4)
    turn(lambda: "cold" in told)
    # As long as Celery's cold shutdown may take for the end of the process.
    open("go", "w").close()
    turn(lambda: False, 1)
    print(told, said, os.path.exists("done"), flush=True)
    pool.terminate()
os._exit(0)
"""


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        pytest.param(False, "['draining', 'cold'] [] False", id="its message goes back, and it never ends"),
        pytest.param(
            True, "['draining', 'cold', 'acknowledged'] ['acknowledged'] True", id="it has ended, and is acknowledged"
        ),
    ],
)
def test_a_task_whose_time_is_up_is_done_or_goes_back_never_both(
    python: Python, lost: bool, ends: bool, outcome: str
) -> None:
    ran = python("-c", REAL, str(lost), str(ends), env=NEITHER)
    assert ran.stdout.strip() == outcome, ran.stderr
