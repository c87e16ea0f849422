"""What follows a task: real tasks of a real app in Celery's own tracer, with a broker that refuses."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import celery
import pytest
import redis
from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed
from celery.app.trace import build_tracer
from celery.exceptions import Reject, Retry
from kombu.exceptions import EncodeError, OperationalError

from celeryops_runtime import follow, publish
from celeryops_runtime.loader import Loader


class Stand:
    """An app whose messages go nowhere, or are refused."""

    def __init__(self) -> None:
        follow.mend()
        follow.mend()
        self.app = celery.Celery("stand", broker="memory://", backend="cache+memory://", set_as_current=False)
        self.app.conf.task_acks_late = True
        self.errors: list[Exception] = []
        self.sent: list[str] = []
        self.waits: list[float | None] = []
        self.slept: list[float] = []

        def send(name: str, *_args: Any, **_options: Any) -> Any:
            self.waits.append(follow.seconds())
            if self.errors:
                raise self.errors.pop(0)
            self.sent.append(name)
            return self.app.AsyncResult("sent")

        self.app.__dict__["send_task"] = send
        follow.persist(self.app)

        @self.app.task(name="stand.done", shared=False)
        def done(*_words: Any) -> str:
            return "done"

        @self.app.task(name="stand.again", bind=True, shared=False)
        def again(task: Any) -> None:
            raise task.retry(countdown=1)

        @self.app.task(name="stand.auto", autoretry_for=(KeyError,), shared=False)
        def auto() -> None:
            raise KeyError("x")

        @self.app.task(name="stand.swap", bind=True, shared=False)
        def swap(task: Any) -> Any:
            return task.replace(done.si())

        @self.app.task(name="stand.calls", shared=False)
        def calls() -> None:
            done.delay()

        self.app.finalize()

    def run(self, name: str, **request: Any) -> Any:
        """Run a task as a process of the pool does; the exception that the worker gets, or its result."""
        task = self.app.tasks[name]
        tracer = build_tracer(name, task, app=self.app, eager=False, propagate=False)
        self.number = request.setdefault("id", f"{id(self)}-{len(self.waits)}")
        full = {"delivery_info": {}, "retries": 0, "task": name, "is_eager": False, **request}
        try:
            result = tracer(full["id"], (), {}, full)
        except Reject as exc:
            return exc
        value = result[0]
        return getattr(value, "exception", value)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    one = Stand()
    now = [100.0]

    def sleep(seconds: float) -> None:
        one.slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(follow, "_sleep", sleep)
    monkeypatch.setattr(follow, "_clock", lambda: now[0])
    monkeypatch.setattr(follow, "_loop", None)
    monkeypatch.setattr(follow, "_class_limit", None)
    follow.began()
    return one


def refused() -> list[Exception]:
    return [
        OperationalError("no broker"),
        ConnectionRefusedError(111, "refused"),
        AccessRefused("login refused"),
        publish.MaybeSentError("no answer"),
    ]


def exception_of(found: Any) -> Any:
    return getattr(found, "exc", found)


@pytest.mark.parametrize("name", ["stand.again", "stand.auto", "stand.swap"])
@pytest.mark.parametrize("number", range(4))
def test_a_retry_that_cannot_be_sent_goes_back(stand: Stand, name: str, number: int) -> None:
    stand.errors = [refused()[number]]
    found = exception_of(stand.run(name))
    assert isinstance(found, Reject)
    assert found.requeue
    assert stand.slept == [follow.PAUSE_SECONDS]
    assert stand.app.AsyncResult(stand.number).state != "FAILURE"


@pytest.mark.parametrize("number", range(4))
def test_the_next_step_of_a_chain_that_cannot_be_sent_brings_the_task_back(stand: Stand, number: int) -> None:
    step = dict(stand.app.signature("stand.done"))
    for request in ({"chain": [step]}, {"callbacks": [step]}, {"callbacks": [step, step]}):
        stand.errors = [refused()[number]] * 9
        stand.slept.clear()
        found = exception_of(stand.run("stand.done", **request))
        assert stand.slept == [follow.PAUSE_SECONDS]
        assert isinstance(found, Reject), request
        assert found.requeue
        stand.errors = []
        assert stand.app.AsyncResult(stand.number).state == "PENDING"
    assert stand.run("stand.done", chain=[step]) == "done"


def test_what_no_serializer_takes_is_the_tasks_failure(stand: Stand) -> None:
    stand.errors = [EncodeError("no")]
    found = exception_of(stand.run("stand.again"))
    assert not getattr(found, "requeue", False)


def test_the_tasks_own_calls_are_its_own_business(stand: Stand) -> None:
    stand.errors = [OperationalError("no broker")]
    found = exception_of(stand.run("stand.calls"))
    assert isinstance(found, OperationalError)
    assert stand.waits == [None]


def test_what_was_acknowledged_early_has_no_message_to_return(stand: Stand) -> None:
    stand.app.tasks["stand.again"].acks_late = False
    stand.errors = [OperationalError("no broker")]
    found = exception_of(stand.run("stand.again"))
    assert not getattr(found, "requeue", False)
    assert not stand.slept


@pytest.mark.parametrize("name", ["stand.again", "stand.auto", "stand.swap"])
def test_it_may_wait_as_long_as_the_time_limit_allows(stand: Stand, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    stand.run(name)
    stand.run(name, timelimit=[100, None])
    monkeypatch.setattr(stand.app.tasks[name], "time_limit", 50)
    follow.began()
    stand.run(name)
    assert stand.waits == [600.0, 90.0, 40.0]


def test_nothing_waits_in_the_loops_own_thread(stand: Stand) -> None:
    follow.loop_runs_here()
    stand.errors = [OperationalError("no broker")]
    stand.run("stand.again")
    stand.errors = [OperationalError("no broker")]
    stand.run("stand.done", chain=[dict(stand.app.signature("stand.done"))])
    assert stand.waits == [follow.SHORT_SECONDS] * 2
    assert stand.slept == [follow.RETRY_SECONDS] * 2, "the loop stands still meanwhile"


def test_what_the_backend_sends_is_tried_again(stand: Stand) -> None:
    follow.began()
    step = dict(stand.app.signature("stand.done", immutable=True))
    backend = stand.app.backend
    done: list[Callable[[], None]] = []

    def part(*_args: Any, **_options: Any) -> None:
        stand.app.signature("stand.done").delay()
        done.append(lambda: None)

    backend.on_chord_part_return = part
    stand.errors = [OperationalError("no broker")] * 3
    assert stand.run("stand.done", chord=step, group="g") == "done"
    assert done
    assert stand.slept == [follow.RETRY_SECONDS] * 3
    assert stand.waits[0] == 600.0


FINAL = [
    PreconditionFailed("message size 20000000 is larger than configured max size 16777216"),
    NotFound("no exchange 'tasks' in vhost 'shop'"),
    redis.exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    redis.exceptions.ResponseError("unknown command"),
]
STATES = [
    redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
    redis.exceptions.ResponseError("NOAUTH Authentication required."),
    redis.exceptions.ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
    redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    redis.exceptions.NoPermissionError("this user has no permissions"),
    redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
    redis.exceptions.AuthenticationError("invalid username-password pair"),
]


def raised_by_kombu(exc: Exception) -> Exception:
    """As kombu raises what a transport counts among its recoverable errors (kombu/connection.py)."""
    error = OperationalError(str(exc))
    error.__cause__ = exc
    return error


@pytest.mark.parametrize("number", range(len(FINAL)))
def test_what_can_never_be_sent_is_the_tasks_failure(stand: Stand, number: int) -> None:
    step = dict(stand.app.signature("stand.done", task_id="next"))
    for error in (FINAL[number], raised_by_kombu(FINAL[number])):
        assert not follow.is_transient(error)
        for name, request in (("stand.again", {}), ("stand.swap", {}), ("stand.done", {"chain": [step]})):
            stand.errors = [error] * 4
            found = exception_of(stand.run(name, **request))
            assert not getattr(found, "requeue", False), name
    assert not stand.slept


@pytest.mark.parametrize("number", range(len(STATES)))
def test_a_state_of_redis_passes(number: int) -> None:
    assert follow.is_transient(STATES[number])
    assert follow.is_transient(raised_by_kombu(STATES[number]))


@pytest.mark.parametrize("number", range(len(STATES)))
def test_a_result_that_cannot_be_stored_is_a_failure_and_no_second_run(stand: Stand, number: int) -> None:
    def store(*_args: Any, **_options: Any) -> None:
        raise STATES[number]

    stand.app.backend.store_result = store
    step = dict(stand.app.signature("stand.done"))
    for request in ({}, {"chain": [step]}):
        try:
            found = exception_of(stand.run("stand.done", **request))
        except Exception as exc:
            # What the tracer lets through, the worker takes for the task's failure.
            found = exc
        assert type(found) is type(STATES[number])
    assert not stand.slept


@pytest.mark.parametrize(
    "given",
    [Reject("no", requeue=False), Reject(ConnectionError("mine"), requeue=False), Reject, ConnectionError("mine")],
    ids=["reject", "with_cause", "class", "error"],
)
def test_what_the_task_says_when_it_gives_up_is_its_own_word(stand: Stand, given: Any) -> None:
    @stand.app.task(name="stand.gives_up", bind=True, max_retries=0, shared=False)
    def gives_up(task: Any) -> None:
        try:
            raise ConnectionRefusedError(111, "somebody else's server")
        except ConnectionRefusedError:
            raise task.retry(exc=given) from None

    found = exception_of(stand.run("stand.gives_up"))
    # A rejection that the task raises itself leaves the tracer without an exception in its result, or as one.
    assert not getattr(found, "requeue", False)
    with pytest.raises((Reject, ConnectionError)) as raised:
        gives_up()
    assert not getattr(raised.value, "requeue", False)
    assert not stand.slept


def test_what_runs_eagerly_is_left_alone(stand: Stand) -> None:
    step = dict(stand.app.signature("stand.done"))
    stand.app.backend.on_chord_part_return = lambda *_args, **_options: stand.app.signature("stand.done").delay()
    for name, options in (
        ("stand.done", {"link": stand.app.signature("stand.done")}),
        ("stand.again", {}),
        ("stand.swap", {}),
        ("stand.done", {"chain": [step]}),
    ):
        stand.errors = [OperationalError("no broker")] * 9
        with contextlib.suppress(OperationalError, Retry):
            stand.app.tasks[name].apply(throw=True, **options)
        stand.app.conf.task_always_eager = True
        with contextlib.suppress(OperationalError, Retry):
            stand.app.signature(name, options=options).apply_async()
        stand.app.conf.task_always_eager = False
    assert not stand.slept
    assert all(left is None for left in stand.waits)


def test_an_error_of_an_eager_replacement_is_its_callers(stand: Stand) -> None:
    marked: list[float | None] = []
    mark = functools.partial(follow._persistent, lambda _backend: marked.append(follow.seconds()))

    @stand.app.task(name="stand.swap_within", bind=True, shared=False)
    def swap_within(task: Any) -> Any:
        mark(None)
        return task.replace(stand.app.signature("stand.calls"))

    stand.errors = [OperationalError("no broker")]
    with pytest.raises(OperationalError):
        swap_within.apply(throw=True)
    assert not stand.slept
    assert marked == [None]


def test_what_runs_eagerly_within_a_task_begins_no_new_time(stand: Stand) -> None:
    loader = Loader(stand.app)
    seen: list[float] = []

    @stand.app.task(name="stand.within", bind=True, shared=False)
    def within(task: Any) -> None:
        Loader.on_task_init(loader, "id", task)
        seen.append(follow._here.began)

    before = follow._here.began
    follow._sleep(30)
    within.apply()
    assert seen == [before]
    stand.run("stand.within")
    assert seen == [before, before + 30]


def test_an_ignored_retry_leaves_no_state(stand: Stand) -> None:
    stand.app.tasks["stand.again"].ignore_result = True
    stand.app.tasks["stand.again"].store_errors_even_if_ignored = True
    stand.run("stand.again")
    assert stand.app.AsyncResult(stand.number).state == "PENDING"
    stand.run("stand.again", ignore_result=True)
    assert stand.app.AsyncResult(stand.number).state == "PENDING"
    stand.app.tasks["stand.again"].ignore_result = False
    stand.run("stand.again")
    assert stand.app.AsyncResult(stand.number).state == "RETRY"
