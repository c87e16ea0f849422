"""Once per period: rules, keys, the guard in front of a task. The exchange with Redis is Molecule's test_once.py."""

from __future__ import annotations

import datetime
import decimal
import functools
import json
import pickle
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, Task

from celeryops_runtime.config import ConfigError, Once, OnceRule
from celeryops_runtime.config_reader import parse
from celeryops_runtime.once import OnceError, digest
from celeryops_runtime.once_guard import Guard
from celeryops_runtime.once_store import url_of
from celeryops_runtime.task_rules import matching

if TYPE_CHECKING:
    from collections.abc import Callable


def report(day: str, kind: str = "sales", *, copies: int = 1) -> None:
    """A task's function."""


def anything(first: str, *more: Any, **named: Any) -> None:
    """A task's function that takes what comes."""


class TestDigest:
    def test_how_an_argument_is_passed_makes_no_difference(self) -> None:
        same = [
            digest(report, ("monday",), {}, None),
            digest(report, (), {"day": "monday"}, None),
            digest(report, ("monday", "sales"), {"copies": 1}, None),
            digest(functools.partial(report), ["monday"], {"kind": "sales"}, None),
        ]
        assert len(set(same)) == 1
        assert len(same[0]) == 32

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [(("tuesday",), {}), (("monday", "costs"), {}), (("monday",), {"copies": 2}), ((1,), {}), (("1",), {})],
    )
    def test_another_value_is_another_call(self, args: Any, kwargs: Any) -> None:
        others = [digest(report, ("monday",), {}, None), digest(report, (True,), {}, None)]
        assert digest(report, args, kwargs, None) not in others

    def test_a_part_of_the_arguments(self) -> None:
        by_name = digest(report, ("monday", "costs"), {"copies": 3}, ["day"])
        assert by_name == digest(report, ("monday",), {}, ["day"])
        assert by_name != digest(report, ("tuesday",), {}, ["day"])
        assert digest(report, ("monday", "costs"), {}, [1]) == digest(report, ("x",), {"kind": "costs"}, [1])
        assert digest(report, ("x", "y"), {}, ["copies", 0]) != digest(report, ("z", "y"), {}, ["copies", 0])
        assert digest(report, ("x",), {}, []) == digest(report, ("y",), {"copies": 9}, [])

    def test_a_function_that_takes_what_comes(self) -> None:
        assert digest(anything, ("a", 1), {"x": 1}, None) != digest(anything, ("a", 2), {"x": 1}, None)
        assert digest(anything, ("a", 1), {"x": 1}, None) != digest(anything, ("a", 1), {"x": 2}, None)
        assert digest(anything, ("a", 1), {"x": 1}, ["x", 1]) == digest(anything, ("b", 1), {"x": 1, "y": 2}, ["x", 1])
        # Absent is a value of its own kind: such a call is like another without it, and unlike one with it.
        assert digest(anything, ("a",), {}, ["x", 5]) == digest(anything, ("b",), {}, ["x", 5])
        assert digest(anything, ("a",), {}, ["x"]) != digest(anything, ("a",), {"x": 1}, ["x"])

    @pytest.mark.parametrize(("part", "words"), [("dya", "'dya'.*day, kind, copies"), (2, "number 2")])
    def test_an_argument_that_the_task_does_not_have_is_said_and_not_guessed(self, part: Any, words: str) -> None:
        with pytest.raises(OnceError, match=words):
            digest(report, ("monday",), {}, [part])

    def test_a_wrong_call_is_the_tasks_business(self) -> None:
        assert digest(report, (), {}, None) != digest(report, (), {"weekday": 1}, None)

    def test_what_a_message_can_carry(self) -> None:
        moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
        number = uuid.UUID(int=7)
        for value in (moment, moment.date(), decimal.Decimal("1.20"), number, {"b": [1, None], "a": 2.5}):
            assert digest(report, (value,), {}, None) == digest(report, (value,), {}, None)
        assert digest(report, ({"a": 1, "b": 2},), {}, None) == digest(report, ({"b": 2, "a": 1},), {}, None)
        with pytest.raises(OnceError, match="cannot be compared"):
            digest(report, (object(),), {}, None)


class TestRules:
    def test_the_first_that_matches_decides(self) -> None:
        rules = (OnceRule("shop.reports.nightly", 1), OnceRule("shop.*", 2))
        found = {name: matching(rules, name) for name in ("shop.reports.nightly", "shop.a", "shopping", "x.shop.a")}
        assert {name: rule and rule.period for name, rule in found.items()} == {
            "shop.reports.nightly": 1,
            "shop.a": 2,
            "shopping": None,
            "x.shop.a": None,
        }

    def test_celerys_own_tasks_are_meant_only_by_name(self) -> None:
        assert matching((OnceRule("*", 1),), "celery.chord_unlock") is None
        assert matching((OnceRule("celery.backend_cleanup", 1),), "celery.backend_cleanup")

    def test_where_the_keys_are(self) -> None:
        results, own = "redis://results:6379/0", "rediss://own:6379/1"
        assert url_of({"CELERY_RESULT_BACKEND": results}) == results
        assert url_of({"CELERY_RESULT_BACKEND": results, "CELERYOPS_ONCE_URL": own}) == own
        assert url_of({"CELERY_RESULT_BACKEND": "rpc://"}) == url_of({}) == ""

    @pytest.mark.parametrize(
        ("once", "words"),
        [
            ([], "once is list"),
            ({"prefix": "s:"}, "rules is missing"),
            ({"rules": [{"task": "a", "period": 0}]}, r"once.rules\[0\].period: 0"),
            ({"rules": [{"task": "a", "period": True}]}, "period: True"),
            ({"rules": [{"task": "a"}]}, "period: None"),
            ({"rules": [{"period": 1}]}, "task is None"),
            ({"rules": [{"task": "a", "period": 1, "key": "day"}]}, "key: 'day'"),
            ({"rules": [{"task": "a", "period": 1, "key": [-1]}]}, r"key: \[-1\]"),
            ({"rules": [{"task": "a", "period": 1, "on_failure": "x"}]}, "on_failure: 'x' is not one of free, keep"),
            ({"rules": [{"task": "a", "period": 1, "when_redis_is_down": "x"}]}, "when_redis_is_down: 'x'"),
            ({"rules": [], "redis": "x"}, "'redis' is not known here"),
        ],
    )
    def test_a_document_of_another_shape(self, document: dict[str, Any], once: Any, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            parse({**document, "once": once})

    def test_a_document_without_rules_is_as_before(self, document: dict[str, Any]) -> None:
        assert parse(document).once == Once()


@pytest.fixture
def app() -> Celery:
    return Celery(
        "t", loader="celery.loaders.app:AppLoader", set_as_current=False, broker="memory://", backend="cache+memory://"
    )


class Counting(Task):  # type: ignore[misc]
    """A team's own task class, with hooks of its own."""

    calls: list[str]

    def before_start(self, *call: Any) -> None:
        self.calls.append(f"start {call[0]}")

    def on_success(self, *call: Any) -> None:
        self.calls.append(f"success {call[1]}")

    def on_failure(self, *call: Any) -> None:
        self.calls.append(f"failure {call[1]}")


def made(app: Celery, run: Callable[..., Any], **options: Any) -> Any:
    """Make a task of this app alone: Celery puts others into every app of the process."""
    task = app.task(shared=False, **{"name": "a", **options})(run)
    return app.tasks[task.name]


def collecting(days: list[str]) -> Callable[[str], str]:
    """A task's function that keeps what it was called with, and gives it back."""

    def collect(day: str) -> str:
        days.append(day)
        return day

    return collect


def traced(app: Celery, task: Any, task_id: str, *args: Any, **request: Any) -> Any:
    """Run a task as a worker's pool does; returns the state that the tracer came to."""
    from celery.app.trace import build_tracer

    task.__trace__ = build_tracer(task.name, task, app.loader, "w@h", app=app)
    sent = {"id": task_id, "delivery_info": {}, "retries": 0, "ignore_result": True, **request}
    info = task.__trace__(task_id, args, {}, sent).info
    return info.state if info else "SUCCESS"


def guard(app: Celery, *rules: OnceRule, url: str = "redis://127.0.0.1:1/0") -> Guard:
    """A guard whose Redis does not exist: nothing listens on port 1."""
    guarded = Guard(app, Once("s:", rules), url)
    guarded.install()
    return guarded


class TestGuard:
    def test_only_the_tasks_of_a_rule_are_touched(self, app: Celery) -> None:
        one, two = (made(app, report, name=name) for name in ("a.one", "b.two"))
        before = type(two), type(app.tasks["celery.chord_unlock"])
        guarded = Guard(app, Once("", (OnceRule("a.*", 5), OnceRule("c.*", 5))), "")
        assert guarded.install() == ["c.*"]
        assert (type(two), type(app.tasks["celery.chord_unlock"])) == before
        wrapped = type(one)
        assert "before_start" in vars(wrapped)
        assert guarded.install() == ["c.*"]
        assert one.__class__ is wrapped, "wrapped twice"

    def test_tasks_of_one_class_have_a_rule_each(self, app: Celery) -> None:
        first, second = Counting(), Counting()
        first.name, second.name = "a", "b"
        app._tasks.update({"a": first, "b": second})
        guard(app, OnceRule("a", 5))
        assert second.__class__ is Counting
        assert first.__class__ is not Counting

    def test_a_guarded_task_is_found_again_when_pickled(self, app: Celery) -> None:
        one = made(app, report, name="a.one")
        module = type(one).__module__
        guard(app, OnceRule("a.*", 5))
        assert type(one).__module__ == module
        assert one.__reduce__()[1] == ("a.one", module)
        assert pickle.dumps(one)

    @pytest.mark.parametrize(("wish", "state"), [("run", "SUCCESS"), ("refuse", "IGNORED")])
    def test_without_redis_the_rule_decides_and_soon(self, app: Celery, wish: str, state: str) -> None:
        ran: list[str] = []
        task = made(app, collecting(ran), base=Counting, calls=[])
        guard(app, OnceRule("a", 5, when_redis_is_down=wish))
        sent: list[dict[str, Any]] = []
        task.apply_async = lambda args, _kwargs, **options: sent.append({"args": args, **options})
        began = time.monotonic()
        assert traced(app, task, "i", "monday", retries=2) == state
        assert time.monotonic() - began < 10
        if wish == "run":
            assert (ran, sent, task.calls) == (["monday"], [], ["start i", "success i"])
        else:
            # The same call, later: its id, its arguments, and no retry used up.
            assert (ran, task.calls, len(sent)) == ([], [], 1)
            kept = {name: sent[0][name] for name in ("args", "task_id", "retries", "countdown")}
            assert kept == {"args": ("monday",), "task_id": "i", "retries": 2, "countdown": 30}

    def test_what_cannot_be_sent_again_goes_back_to_its_queue(self, app: Celery) -> None:
        task = made(app, report)
        guard(app, OnceRule("a", 5))

        def away(*_args: Any, **_options: Any) -> None:
            raise OSError("no broker")

        task.apply_async = away
        assert traced(app, task, "i", "monday") == "REJECTED"

    def test_no_address_is_no_redis(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        task = made(app, report)
        guard(app, OnceRule("a", 5, when_redis_is_down="run"), url="")
        assert traced(app, task, "i", "monday") == "SUCCESS"
        assert "CELERYOPS_ONCE_URL" in caplog.text

    def test_a_rule_that_does_not_fit_fails_the_task(self, app: Celery) -> None:
        ran: list[str] = []
        task = made(app, collecting(ran))
        guard(app, OnceRule("a", 5, ("dya",), when_redis_is_down="run"))
        assert traced(app, task, "i", "monday") == "FAILURE"
        assert ran == []

    def test_an_eager_call_and_a_direct_one_ask_nobody(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        task = made(app, collecting([]), base=Counting, calls=[])
        guard(app, OnceRule("a", 5))
        assert task("monday") == task.apply(("monday",)).get() == "monday"
        assert caplog.text == ""
        assert [call.split()[0] for call in task.calls] == ["start", "success"]


def test_a_worker_guards_its_tasks_and_names_rules_without_one(
    python: Callable[..., Any], config_file: Any, document: dict[str, Any]
) -> None:

    document["once"] = {
        "prefix": "s:",
        "rules": [{"task": "shop.pay*", "period": 5}, {"task": "shop.gone", "period": 5}],
    }
    config_file.write_text(json.dumps(document))
    done = python(
        "-c",
        "import logging; logging.basicConfig()\n"
        "from celery import Celery, signals\n"
        "app = Celery('shop')\n"
        "@app.task(name='shop.pay')\n"
        "def pay(): pass\n"
        "app.finalize(); app.conf.timezone\n"
        "app.loader.on_worker_init()\n"
        "print('before_start' in vars(type(pay._get_current_object())))\n"
        "signals.celeryd_after_setup.send(sender='w', instance=type('W', (), {'app': app}), conf=app.conf)\n"
        "print('before_start' in vars(type(pay._get_current_object())))\n",
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
    assert "no task of this app is called shop.gone" in done.stderr
    assert "shop.pay*" not in done.stderr
