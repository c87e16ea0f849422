"""How long what follows a task is waited for: all of Celery's own tries within one time, on a broker that is silent."""

from __future__ import annotations

from typing import Any

import amqp
import pytest
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu.transport.memory import Channel as MemoryChannel
from kombu.utils import functional

from celeryops_runtime import follow, publish

from .test_follow import Stand, exception_of
from .test_publish import Channel


class Held(Stand):
    """An app whose messages go through the runtime's publishing, to a RabbitMQ in an alarm, or one that is silent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        del self.app.__dict__["send_task"]
        follow.persist(self.app)
        self.channel = Channel()
        self.connection = self.channel.connection
        self.asked: list[float | None] = []
        self.ends: list[Exception] = []

        def basic_publish(_self: Any, message: Any, **options: Any) -> None:
            self.asked.append(follow.seconds())
            headers = {"id": message["headers"]["id"], "retries": 0}
            options = {"exchange": options["exchange"], "routing_key": options["routing_key"]}
            publish._publish(self.channel, amqp.Message("body", application_headers=headers), **options)

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.connection.now += seconds
            for problem in self.ends:
                raise problem

        monkeypatch.setattr(MemoryChannel, "basic_publish", basic_publish)

        def between(seconds: float) -> None:
            self.connection.now += seconds

        monkeypatch.setattr(functional, "sleep", between)
        monkeypatch.setattr(follow, "_sleep", sleep)
        monkeypatch.setattr(follow, "_clock", self.connection.clock)
        monkeypatch.setattr(publish, "_clock", self.connection.clock)
        monkeypatch.setattr(follow, "_loop", None)
        monkeypatch.setattr(follow, "_class_limit", None)
        self.step = dict(self.app.signature("stand.done"))

    def spend(self, name: str, **request: Any) -> tuple[Any, float]:
        """Run a task; what the worker gets, and how long it took on the clock."""
        follow.began()
        begun = self.connection.now
        found = exception_of(self.run(name, **request))
        return found, self.connection.now - begun


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


FOLLOWS = ["chain", "callbacks", "stand.again", "stand.swap"]


def spend(held: Held, what: str, **request: Any) -> tuple[Any, float]:
    if what.startswith("stand."):
        return held.spend(what, **request)
    return held.spend("stand.done", **{what: [held.step]}, **request)


@pytest.mark.parametrize("what", FOLLOWS)
@pytest.mark.parametrize("blocked", [True, False], ids=["alarm", "silent"])
def test_all_tries_have_one_time(held: Held, what: str, blocked: bool) -> None:
    held.connection.block(blocked=blocked)
    found, took = spend(held, what)
    assert isinstance(found, Reject)
    assert found.requeue
    assert held.slept == [follow.PAUSE_SECONDS]
    if blocked:
        assert took == pytest.approx(follow.HOLD_SECONDS + follow.PAUSE_SECONDS, abs=1)
        assert all(left == 0.0 for left in held.asked[1:])
    else:
        assert took < follow.HOLD_SECONDS
    assert follow.seconds() is None


@pytest.mark.parametrize("what", FOLLOWS)
@pytest.mark.parametrize("limit", [4, 12, 25, 100, 700])
@pytest.mark.parametrize("where", ["message", "task", "class"])
@pytest.mark.parametrize("blocked", [True, False], ids=["alarm", "silent"])
def test_no_try_goes_beyond_the_time_limit(
    held: Held, monkeypatch: pytest.MonkeyPatch, what: str, limit: int, where: str, blocked: bool
) -> None:
    held.connection.block(blocked=blocked)
    request: dict[str, Any] = {}
    if where == "message":
        request = {"timelimit": [limit, None]}
    elif where == "task":
        for task in held.app.tasks.values():
            monkeypatch.setattr(task, "time_limit", limit, raising=False)
    else:
        follow.limit_class(limit)
    found, took = spend(held, what, **request)
    assert isinstance(found, Reject)
    assert found.requeue, "its message goes back"
    assert took < limit, "the hard limit would acknowledge it"


@pytest.mark.parametrize("what", FOLLOWS)
@pytest.mark.parametrize("elapsed", [0, 3.5])
def test_a_task_with_little_time_sends_what_follows_it(held: Held, what: str, elapsed: float) -> None:
    held.channel.at(elapsed + 0.1, "ack", 1)
    follow.began()
    held.connection.now += elapsed
    request = {what: [held.step]} if not what.startswith("stand.") else {}
    found = exception_of(held.run(what if not request else "stand.done", timelimit=[4, None], **request))
    assert not isinstance(found, Reject)
    assert len(held.channel.written) == 1


def test_what_the_backend_sends_is_within_the_same_time(held: Held) -> None:
    held.connection.block(blocked=True)

    def part(*_args: Any, **_options: Any) -> None:
        for _body in range(2):
            with pytest.raises(publish.NotSentError):
                held.app.signature("stand.done").delay()

    held.app.backend.on_chord_part_return = part
    found, took = held.spend("stand.done", chord=held.step, group="g")
    assert found == "done"
    assert took <= follow.HOLD_SECONDS
    follow.limit_class(100)
    _found, took = held.spend("stand.done", chord=held.step, group="g")
    assert took < 100


def test_a_second_wait_of_one_task_gets_what_the_first_left(held: Held) -> None:
    held.connection.block(blocked=True)
    held.channel.at(400, "unblocked")
    held.channel.at(400.1, "ack", 1)

    def part(*_args: Any, **_options: Any) -> None:
        held.channel.at(0.1, "ack", 2)
        held.app.signature("stand.done").delay()

    held.app.backend.on_chord_part_return = part
    held.spend("stand.done", callbacks=[held.step], chord=held.step, group="g")
    assert held.asked[0] == follow.HOLD_SECONDS
    assert held.asked[1] == pytest.approx(200, abs=1)


def test_a_soft_limit_in_the_pause_loses_nothing(held: Held) -> None:
    held.connection.block(blocked=True)
    held.ends = [SoftTimeLimitExceeded()]
    for what in FOLLOWS:
        found, _took = spend(held, what, timelimit=[100, 95])
        assert isinstance(found, Reject), what
        assert found.requeue


def test_a_connection_is_made_within_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    publish.mend("rabbitmq")
    seen: list[Any] = []

    class Socket:
        def connect(self) -> None:
            raise ConnectionRefusedError

        def close(self) -> None:
            pass

    def transport(_host: str, timeout: Any, *_args: Any, **_options: Any) -> Any:
        seen.append(timeout)
        return Socket()

    connection = amqp.Connection(connect_timeout=4)
    connection.Transport = transport
    for left in (None, 600.0, 1.5):
        monkeypatch.setattr(follow, "seconds", lambda left=left: left)
        with pytest.raises(ConnectionRefusedError):
            connection.connect()
    assert seen == [4, 4, 1.5]
    monkeypatch.setattr(follow, "seconds", lambda: 0.0)
    with pytest.raises(publish.NotSentError):
        connection.connect()
    assert len(seen) == 3
    assert connection.connect_timeout == 4
