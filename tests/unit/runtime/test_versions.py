"""What differs between versions of Celery and kombu: a test says the same of all of them, or what holds instead."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from celery import Celery, states
from celery.app.trace import build_tracer
from celery.utils.collections import ConfigurationView
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request as CeleryRequest
from kombu.asynchronous.timer import Entry, Timer

from celeryops_runtime import versions
from celeryops_runtime.config import Once, OnceRule
from celeryops_runtime.loader import PinnedSettings
from celeryops_runtime.once_guard import Guard

from .conftest import CELERY, KOMBU, Request, forget_requests, schedule

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _requests() -> Iterator[None]:
    yield
    forget_requests()


class TestScheduled:
    def test_requests_that_wait_and_nothing_else(self) -> None:
        timer = Timer()
        one, other = Request("one"), Request("other")
        entries = {one.name: schedule(timer, one), other.name: schedule(timer, other)}
        timer.call_after(3600, print, ("no request",))
        timer.call_repeatedly(3600, print)
        found = {request.name: entry for request, entry in versions.scheduled(types.SimpleNamespace(timer=timer))}
        assert found == entries
        for entry in found.values():
            timer.cancel(entry)
        assert all(entry.canceled for entry in entries.values())

    @pytest.mark.parametrize("cancelled", [False, True])
    def test_threads_of_gevent_and_eventlet(self, cancelled: bool) -> None:
        # celery/concurrency/gevent.py and eventlet.py: what waits is a greenlet with the entry on it.
        request = Request()
        greenlet = types.SimpleNamespace(entry=Entry(print, (request,)), canceled=cancelled)
        timer = types.SimpleNamespace(schedule=types.SimpleNamespace(queue={"a": greenlet}.values()))
        if CELERY >= (5, 7):
            request._eta_timer_entry = greenlet
            if not cancelled:
                state.task_scheduled(request)
        found = list(versions.scheduled(types.SimpleNamespace(timer=timer)))
        assert found == ([] if cancelled else [(request, greenlet)])


class TestSettings:
    @pytest.mark.parametrize(
        ("prefix", "name"), [("CELERY", "CELERY_TASK_TIME_LIMIT"), ("celery", "celery_task_time_limit")]
    )
    def test_the_pinned_value_is_found_first_whatever_the_namespace(self, prefix: str, name: str) -> None:
        conf = ConfigurationView({}, [{name: 5}], prefix=prefix)
        aliases = dict.fromkeys(versions.looked_up_first(conf, "task_time_limit"), "task_time_limit")
        assert aliases == ({} if CELERY >= (5, 7) else {name: "task_time_limit"})
        changes = PinnedSettings({}, {"task_time_limit": 777}, conf._to_keys("task_time_limit"), aliases)
        conf.__dict__["changes"] = conf.maps[0] = changes
        conf[name] = 6
        assert conf["task_time_limit"] == conf.task_time_limit == 777
        assert changes.__reduce__() == (dict, ({"task_time_limit": 777},)), "a rebuilt app is not to mix old and new"

    def test_without_a_namespace_there_is_one_name(self) -> None:
        assert versions.looked_up_first(ConfigurationView({}), "task_time_limit") == []

    def test_what_celery_knows(self) -> None:
        assert versions.has_setting("task_acks_late")
        assert not versions.has_setting("task_acks_sometimes")
        assert versions.has_setting("task_default_queue_type") is (CELERY >= (5, 5))


def traced(app: Celery, task: Any, **request: Any) -> Any:
    """Run a task as a worker does, with what its message says; return the result that is stored then."""
    build_tracer(task.name, task, app=app)("an id", (), {}, {"id": "an id", **request})
    return app.AsyncResult("an id")


class TestResults:
    @pytest.fixture
    def app(self) -> Iterator[Celery]:
        app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
        versions.mend_results()
        versions.mend_results()
        yield app
        app.backend.client.cache.clear() if hasattr(app.backend.client, "cache") else None
        app.close()

    @pytest.mark.parametrize(
        ("task", "message", "kept"),
        [
            (False, {"ignore_result": False}, True),
            (False, {"ignore_result": True}, False),
            (False, {"ignore_result": None}, True),
            (False, {}, True),
            (True, {"ignore_result": False}, True),
            (True, {"ignore_result": True}, False),
            (True, {"ignore_result": None}, False),
            (True, {}, False),
        ],
    )
    @pytest.mark.parametrize("fails", [False, True])
    def test_the_message_decides_before_the_task(
        self, app: Celery, task: bool, message: dict[str, Any], kept: bool, fails: bool
    ) -> None:
        def run() -> str:
            return str(1 / 0) if fails else "done"

        made = app.task(run, name="a", shared=False, ignore_result=task)
        result = traced(app, made._get_current_object(), **message)
        if fails and not task and message.get("ignore_result") and CELERY < (5, 6):
            # Before 5.6 an error is stored as the task has it, whatever the message says.
            kept = True
        assert result.state == ((states.FAILURE if fails else states.SUCCESS) if kept else states.PENDING)

    @pytest.mark.parametrize("first", ["versions.mend_results", "follow._mend_backend"])
    def test_what_follows_a_task_is_mended_beside_it(self, python: Python, first: str) -> None:
        # Both wrap the same functions; neither may take the other's for its own.
        other = {"versions.mend_results", "follow._mend_backend"} - {first}
        code = (
            "from celeryops_runtime import follow, versions; from celery.backends.base import Backend\n"
            f"own = Backend.mark_as_done; {first}(); one = Backend.mark_as_done; {other.pop()}()\n"
            "print(Backend.mark_as_done is not own, hasattr(Backend.mark_as_done, '__celeryops__'),"
            "hasattr(Backend.mark_as_done, '__celeryops_versions__'))"
        )
        done = python("-c", code)
        assert done.stdout.split() == ["True", "True", str(CELERY < (5, 6))], done.stderr

    @pytest.mark.parametrize("ignored", [False, True])
    @pytest.mark.parametrize("said", [None, False, True, "nothing"])
    def test_whether_a_run_is_ignored(self, ignored: bool, said: Any) -> None:
        from celery.app.task import Context

        request = Context({} if said == "nothing" else {"ignore_result": said})
        expected = said if isinstance(said, bool) else ignored
        assert versions.ignores_result(types.SimpleNamespace(ignore_result=ignored), request) is expected

    def test_a_duplicate_is_revoked(self, app: Celery) -> None:
        ran: list[str] = []

        def run() -> None:
            ran.append("it")

        task = app.task(run, name="a", shared=False)._get_current_object()
        guard = Guard(app, Once("s:", (OnceRule("a", 5),)), "redis://none.invalid")
        guard.store = types.SimpleNamespace(  # type: ignore[assignment]
            prefix="s:", take=lambda *_: ("done", "another"), count=lambda *_: None
        )
        guard.install()
        assert traced(app, task).state == states.REVOKED
        assert ran == []

    def test_keys_begin_with_the_prefix_and_nothing_else(self, python: Python, config_file: Path) -> None:
        document = json.loads(config_file.read_text())
        code = (
            "from celery import Celery; a = Celery('a'); b = a.backend;"
            "print(*(key.decode() for key in (b.task_keyprefix, b.group_keyprefix, b.chord_keyprefix)))"
        )
        names = ("celery-task-meta-", "celery-taskset-meta-", "chord-unlock-")
        for prefix, begins in (("shop:", "shop:"), ("shop", "shop_"), ("", "")):
            document["settings"]["result_backend_transport_options"] = {"global_keyprefix": prefix}
            config_file.write_text(json.dumps(document))
            done = python("-c", code)
            assert done.stdout.split() == [f"{begins}{name}" for name in names], done.stderr


QOS = """
import json, types
from celery import Celery
from celery.worker.consumer import Tasks
app = Celery("shop"); app.conf.timezone
told = []
connection = app.connection_for_read()
transport = connection.transport
connection._connection = types.SimpleNamespace(
    server_properties={"product": "RabbitMQ", "version": VERSION}, connected=True)
connection._default_channel = types.SimpleNamespace(basic_qos=lambda *words: told.append(words[2]))
c = types.SimpleNamespace(app=app, connection=None, update_strategies=lambda: None, initial_prefetch_count=2,
                          on_decode_error=None)
class Connection:
    default_channel = connection._default_channel
    transport = connection.transport
    qos_semantics_matches_spec = property(lambda self: transport.qos_semantics_matches_spec(connection._connection))
c.connection = Connection()
app.amqp.__dict__["TaskConsumer"] = lambda *words, **more: types.SimpleNamespace(
    qos=lambda prefetch_count, apply_global: told.append(apply_global))
Tasks(c).start(c)
c.qos.increment_eventually(1); c.qos.update()
print(json.dumps(told))
"""


@pytest.mark.parametrize("server", ["3.10.8", "4.0.5"])
@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_quorum_queues_have_a_prefetch_for_each_consumer(
    python: Python, config_file: Path, kind: str, server: str
) -> None:
    document = json.loads(config_file.read_text())
    document["queues"] = [{"name": name, "type": kind} for name in ("default", "payments")]
    config_file.write_text(json.dumps(document))
    done = python("-c", QOS.replace("VERSION", repr(server)))
    assert done.returncode == 0, done.stderr
    # Classic queues as ever: one for the channel, unless kombu knows that the server has given that up.
    one_for_all = kind == "classic" and (server == "3.10.8" or KOMBU < (5, 7))
    assert json.loads(done.stdout) == [one_for_all] * 2


def test_a_retry_carries_nothing_of_the_delay_queues(python: Python) -> None:
    # Read in RabbitMQ 3: a message that says it was in this queue before, and was not rejected, is a cycle: dropped.
    code = (
        "import json; from celery import Celery; from celery.app.task import Context; Celery('a').conf.timezone\n"
        "own = {'x-death': [1], 'x-first-death-queue': 'q', 'x-first-death-reason': 'r', 'x-first-death-exchange': 'e',"
        " 'tenant': 7}\n"
        "print(json.dumps([Context({'headers': own}).as_execution_options()['headers'], len(own),"
        " Context({'headers': None}).as_execution_options()['headers'] or {}]))"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    if KOMBU >= (5, 5):
        assert json.loads(done.stdout) == [{"tenant": 7}, 5, {}], "the delivery's own headers stay as they are"
    else:
        assert len(json.loads(done.stdout)[0]) == 5, "with no delay queue there is no such header"


class Broken:
    """A connection to a broker that is away at first."""

    alt: tuple[str, ...] = ()

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def as_uri(self) -> str:
        return "amqp://away.invalid"

    def connect(self) -> None:
        raise AssertionError

    def ensure_connection(self, errback: Any = None, *_more: Any, **_named: Any) -> Broken:
        for number in range(self.failures):
            errback(OSError("refused"), 2.0 * number + 2.0)
        return self


def test_attempts_to_reconnect_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    # With Celery's own function, so that what it calls is what is counted.
    settings = types.SimpleNamespace(
        broker_connection_max_retries=None, broker_connection_retry_on_startup=True, broker_connection_retry=True
    )
    c: Any = types.SimpleNamespace(app=types.SimpleNamespace(conf=settings), first_connection_attempt=True)
    if hasattr(Consumer, "broker_connection_retry_attempt"):
        assert CELERY >= (5, 6)
        c.broker_connection_retry_attempt = 0
    c.ensure_connected = types.MethodType(Consumer.ensure_connected, c)
    versions.count_reconnects(c)
    versions.count_reconnects(c)
    seen = []

    class Watched(Broken):
        def ensure_connection(self, errback: Any = None, *more: Any, **named: Any) -> Broken:
            def noted(*what: Any) -> None:
                errback(*what)
                seen.append(versions.reconnects(c))

            return super().ensure_connection(noted, *more, **named)

    connection = Watched(3)
    assert c.ensure_connected(connection) is connection
    assert seen == [1, 2, 3]
    assert caplog.text.count("consumer: Cannot connect to amqp://away.invalid: refused") == 3
    assert versions.reconnects(types.SimpleNamespace()) == 0


class Unreachable(CeleryRequest):  # type: ignore[misc]  # Celery has no type information
    """A task that runs while everything is away that could be told of its end."""

    name = id = "a.task"
    time_start, worker_pid, acknowledged, _apply_result, _already_cancelled = 1.0, 7, False, None, False
    task = MagicMock(acks_late=True)

    def __init__(self) -> None:
        """Need no message."""

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__

    def send_event(self, *_args: Any, **_more: Any) -> None:
        raise OSError("the results are in the same Redis")


def test_a_worker_survives_that_it_cannot_note_what_it_cancels() -> None:
    # With Celery's own function for a connection that is lost.
    versions.mend_cancelling()
    versions.mend_cancelling()
    c = MagicMock(prefetch_multiplier=1, max_prefetch_count=2)
    c.connection.connection_errors, c.connection.channel_errors = (OSError,), ()
    c.app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
    request = Unreachable()
    state.active_requests.add(request)
    Consumer.on_connection_error_after_connected(c, OSError("gone"))
    c.pool.terminate_job.assert_called_once()
    assert request._already_cancelled is (CELERY < (5, 7)), "5.7 catches it one step later"


def test_gevents_pool_says_how_many_tasks_it_takes() -> None:
    pool: Any = type("TaskPool", (), {"__module__": "celery.concurrency.gevent", "num_processes": 0})
    versions.mend_pool(pool)
    versions.mend_pool(pool)
    one = pool()
    one.limit, one._pool = 100, None
    if CELERY >= (5, 7):
        assert one.num_processes == 0, "left alone: this Celery says it itself"
        return
    assert one.num_processes == 100
    one._pool = types.SimpleNamespace(size=70)
    assert one.num_processes == 70
    other: Any = type("TaskPool", (), {"__module__": "celery.concurrency.prefork", "num_processes": 4})
    versions.mend_pool(other)
    versions.mend_pool(None)
    assert other.num_processes == 4


class TestHardLimits:
    @pytest.mark.parametrize(
        ("soft", "leaving", "heard"), [(False, None, True), (True, None, False), (False, True, False)]
    )
    def test_somebody_hears_of_a_task_that_its_limit_has_ended(
        self, monkeypatch: pytest.MonkeyPatch, soft: bool, leaving: bool | None, heard: bool
    ) -> None:
        told: list[Any] = []
        own = CeleryRequest.on_timeout
        monkeypatch.setattr(CeleryRequest, "on_timeout", own)
        monkeypatch.setattr(state, "should_terminate", leaving)
        versions.hear_hard_limits(lambda task, task_id, args, kwargs: told.append((task.name, task_id, args, kwargs)))
        if CELERY >= (5, 7):
            assert CeleryRequest.on_timeout is own, "Celery sends task_failure itself"
            return
        request = Request("a.task", task=MagicMock())
        for name, value in {"_args": [1], "_kwargs": {"b": 2}, "_context": {}, "_ignore_result": True}.items():
            setattr(request, name, value)
        request.task.name, request.task.acks_late = "a.task", False
        CeleryRequest.on_timeout(request, soft, 3)
        assert told == ([("a.task", "a.task", [1], {"b": 2})] if heard else [])


@pytest.mark.parametrize("censored", [True, False])
def test_the_table_of_settings_names_no_address_that_is_not_set(
    caplog: pytest.LogCaptureFixture, censored: bool
) -> None:
    app = Celery("table", broker="redis://:unseen@cache/0", set_as_current=False)
    app.conf.update(broker_read_url=None, broker_write_url=None, task_default_queue=None, timezone="UTC")
    versions.leave_out_unset_brokers(app.conf)
    for with_defaults in (False, True):
        found = app.conf.table(with_defaults=with_defaults, censored=censored)
        assert not {"broker_read_url", "broker_write_url"} & set(found)
        assert (found["timezone"], found["task_default_queue"]) == ("UTC", None)
        assert ("unseen" in str(found)) is not censored
    assert "timezone" in app.conf.humanize()
    assert "No hostname was supplied" not in caplog.text
    app.conf.broker_read_url = "redis://:unseen@replica/0"
    assert "replica" in app.conf.table(censored=censored)["broker_read_url"]
    assert app.conf.broker_write_url == app.conf.broker_url
