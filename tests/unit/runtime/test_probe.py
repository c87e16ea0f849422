"""A task of the runtime's own that goes through a queue, and its answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from kombu.transport.virtual import Transport

from celeryops_runtime import probe
from celeryops_runtime.config import OnceRule
from celeryops_runtime.task_rules import matching

if TYPE_CHECKING:
    from collections.abc import Iterator


def _nothing(**_signal: object) -> None:
    """Set up no logging."""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app without a result backend that ignores all results, on a broker inside this process."""
    drain = Transport.drain_events

    def impatient(self: Transport, connection: object, timeout: float | None = None) -> object:
        return drain(self, connection, timeout and min(timeout, 0.1))

    # A worker looks whether it has to stop every two seconds.
    monkeypatch.setattr(Transport, "drain_events", impatient)
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(task_ignore_result=True, task_create_missing_queues=True)
    app.conf.broker_transport_options = {"polling_interval": 0.05}
    # A worker sets up the logging of its whole process, which here belongs to the tests.
    setup_logging.connect(_nothing)
    yield app
    setup_logging.disconnect(_nothing)
    app.close()


def work(app: Celery, queues: str, **options: object) -> object:
    return start_worker(app, perform_ping_check=False, pool="solo", queues=queues, shutdown_timeout=10.0, **options)


def test_every_queue_answers_without_a_result_backend(app: Celery) -> None:
    probe.install(app)
    with work(app, "one,two"):  # type: ignore[attr-defined]
        found = probe.ask(app, ["one", "two"], 20.0)
    assert sorted(found) == ["one", "two"]
    for answer in found.values():
        assert sorted(answer) == ["node", "pid", "queue", "release", "seconds"]


def test_a_queue_that_nobody_consumes_keeps_its_probe(app: Celery) -> None:
    probe.install(app)
    with work(app, "one"):  # type: ignore[attr-defined]
        found = probe.ask(app, ["one", "lonely"], 2.0)
    assert "node" in found["one"]
    assert found["lonely"] == {"waiting": 1}


def test_a_probe_that_comes_too_late_is_done_with_and_no_dead_letter(app: Celery) -> None:
    """A worker reads the header; by the property RabbitMQ itself would make a dead letter of it."""
    probe.install(app)
    with work(app, "one"):  # type: ignore[attr-defined]
        probe.ask(app, ["late"], 0.1)
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("late")
    assert message.headers["expires"]
    assert "expiration" not in message.properties
    ran: list[object] = []
    app.tasks[probe.NAME].run = lambda **asked: ran.append(asked)
    with work(app, "late"):  # type: ignore[attr-defined]
        time.sleep(0.5)
    with app.connection_for_read() as connection:
        assert (probe.ready(connection.default_channel, "late"), ran) == (0, [])


def test_a_queue_behind_a_prefix_is_counted_without_being_declared() -> None:
    """kombu's channel on Redis asks for the queue's key without the app's prefix, which the account may not do."""

    class Channel:
        def _size(self, queue: str) -> int:
            return len(queue)

        def queue_declare(self, _queue: str, **_options: object) -> None:
            raise AssertionError("it was declared")

    assert probe.ready(Channel(), "four") == 4


def test_a_worker_that_takes_it_and_does_not_answer(app: Celery) -> None:
    @app.task(name=probe.NAME, shared=False)
    def silent(**_arguments: object) -> None:
        time.sleep(0)

    with work(app, "silent"):  # type: ignore[attr-defined]
        assert probe.ask(app, ["silent"], 2.0) == {"silent": {"waiting": 0}}


def test_a_process_of_the_pool_keeps_what_it_inherited(app: Celery, recwarn: pytest.WarningsRecorder) -> None:
    probe.install(app)
    inherited = app.tasks[probe.NAME]
    probe.install(app)
    assert app.tasks[probe.NAME] is inherited
    assert not recwarn.list


def test_an_answer_goes_to_the_queues_of_senders_only(app: Celery) -> None:
    probe.install(app)
    with pytest.raises(ValueError, match="is not a queue of a probe"):
        app.tasks[probe.NAME].run(reply="payments", queue="one")


def test_no_rule_about_tasks_means_it() -> None:
    assert matching([OnceRule("*", 60), OnceRule("*.probe", 60)], probe.NAME) is None
    assert matching([OnceRule("*", 60)], "shop.probe") is not None
