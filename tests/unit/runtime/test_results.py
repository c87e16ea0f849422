"""Whose results are kept: what a message says, what a task becomes, who is told. By exchange: Molecule."""

from __future__ import annotations

import json
import logging
import pickle
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chord, group

from celeryops_runtime import results as module
from celeryops_runtime.config import ConfigError, ResultRule
from celeryops_runtime.config_reader import parse
from celeryops_runtime.results import Results

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

IGNORE, KEEP = "ignore", "keep"


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app whose messages stay in this process."""
    made = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.task_default_queue = uuid.uuid4().hex
    yield made
    made.close()


def install(app: Celery, **rules: str) -> Results:
    found = Results(app, [ResultRule(task.replace("__", "."), result) for task, result in rules.items()])
    found.install()
    return found


def sent(app: Celery) -> list[tuple[str, Any]]:
    """Take the messages that were sent: name, and what the header says."""
    found = []
    with app.connection_for_write() as connection, connection.SimpleQueue(app.conf.task_default_queue) as queue:
        while queue.qsize():
            message = queue.get(block=False)
            message.ack()
            found.append((message.headers["task"], message.headers["ignore_result"]))
    return found


def task(app: Celery, name: str, **options: Any) -> Any:
    def run() -> None:
        """Nothing."""

    return app.task(run, name=name, shared=False, **options)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this package said; the garbage collector may have Celery speak of another test's result at any moment."""
    return [one.getMessage() for one in caplog.records if one.name == "celeryops.runtime"]


class TestDecision:
    def test_a_message_by_name_carries_the_rule(self, app: Celery) -> None:
        install(app, quiet=IGNORE, loud=KEEP)
        ignored, kept, other = (app.send_task(name) for name in ("quiet", "loud", "other"))
        assert sent(app) == [("quiet", True), ("loud", False), ("other", None)]
        assert (ignored.ignored, kept.ignored, other.ignored) == (True, False, None)

    def test_a_task_carries_the_rule_in_place_of_its_own_choice(self, app: Celery) -> None:
        install(app, quiet=IGNORE, loud=KEEP)
        quiet, loud, other = task(app, "quiet"), task(app, "loud", ignore_result=True), task(app, "other")
        assert [one.ignore_result for one in (quiet, loud, other)] == [True, False, False]
        for one in (quiet, loud, other):
            one.delay()
        assert sent(app) == [("quiet", True), ("loud", False), ("other", False)]

    def test_a_call_wins(self, app: Celery) -> None:
        install(app, quiet=IGNORE, loud=KEEP)
        app.send_task("quiet", ignore_result=False)
        task(app, "loud").apply_async(ignore_result=True)
        assert sent(app) == [("quiet", False), ("loud", True)]

    def test_a_known_task_sent_by_name_is_treated_as_itself(self, app: Celery) -> None:
        install(app)
        task(app, "own", ignore_result=True).name  # noqa: B018  # a lazy task is made when it is looked at
        assert app.send_task("own").get(timeout=1) is None
        assert sent(app) == [("own", True)]

    def test_the_first_rule_that_matches(self, app: Celery) -> None:
        install(app, **{"shop.total": KEEP, "shop.*": IGNORE})
        for name in ("shop.total", "shop.part"):
            app.send_task(name)
        assert sent(app) == [("shop.total", False), ("shop.part", True)]

    def test_celerys_own_tasks_are_not_meant(self, app: Celery) -> None:
        install(app, **{"*": KEEP})
        app.finalize()
        assert app.tasks["celery.chord_unlock"].ignore_result is True

    @pytest.mark.parametrize("annotations", [{"quiet": {"rate_limit": "1/s", "ignore_result": False}}, {}])
    def test_the_apps_own_annotations_hold_beside_it(self, app: Celery, annotations: dict[str, Any]) -> None:
        app.conf.task_annotations = {"*": {"priority": 7}, **annotations}
        install(app, quiet=IGNORE)
        quiet, other = task(app, "quiet"), task(app, "other")
        assert (quiet.ignore_result, quiet.priority, other.priority) == (True, 7, 7)
        assert quiet.rate_limit == ("1/s" if annotations else None)

    def test_twice_is_once(self, app: Celery) -> None:
        rules = install(app, quiet=IGNORE)
        send = app.send_task
        rules.install()
        assert app.send_task is send


class TestChord:
    def test_its_parts_are_kept_and_it_is_told_once(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        install(app, part=IGNORE)
        part, body = task(app, "part"), task(app, "body")
        for _each in range(2):
            for by in (part.si(), app.signature("part", immutable=True)):
                by.set(chord=body.si(), group_id="g").apply_async()
        assert sent(app) == [("part", False)] * 4
        assert told(caplog) == [
            (
                "part: its result is kept, although celery_app_results (part: ignore) ignores it: "
                "the task is part of a chord"
            )
        ]

    def test_by_the_apps_own_choice_too(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        app.conf.task_ignore_result = True
        install(app)
        chord([task(app, "part").si(), task(app, "own", ignore_result=True).si()], app=app)(task(app, "body").si())
        assert [ignored for name, ignored in sent(app) if name in ("part", "own")] == [False, False]
        assert "part: its result is kept, although task_ignore_result ignores it" in caplog.text


class TestWaiting:
    def test_nobody_waits_in_vain_and_the_rule_is_named_once(
        self, app: Celery, caplog: pytest.LogCaptureFixture
    ) -> None:
        install(app, **{"qui*": IGNORE})
        assert [app.send_task("quiet").get(timeout=1) for _each in range(2)] == [None, None]
        assert told(caplog) == [
            (
                "quiet: its result is waited for, but celery_app_results (qui*: ignore) ignores it: "
                "get() returns None at once"
            )
        ]
        assert {one.levelno for one in caplog.records if one.name == "celeryops.runtime"} == {logging.WARNING}

    def test_a_group_neither(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        install(app, quiet=IGNORE)
        quiet = task(app, "quiet")
        assert group([quiet.si(), quiet.si()], app=app).apply_async().get(timeout=1) == [None, None]
        assert len(told(caplog)) == 1

    def test_what_a_worker_sends_is_told_and_waited_for(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        install(app, quiet=IGNORE)
        later = task(app, "quiet").si().freeze()
        with pytest.raises(app.AsyncResult.TimeoutError):
            later.get(timeout=0.1)
        assert "(quiet: ignore) ignores it: get() may never return" in caplog.text

    def test_a_kept_result_is_waited_for_in_silence(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        install(app, quiet=IGNORE)
        quiet = task(app, "quiet")
        for result in (task(app, "other").delay(), quiet.apply_async(ignore_result=False)):
            app.backend.mark_as_done(result.id, 42)
            assert result.get(timeout=1) == 42
        assert told(caplog) == []

    def test_memory_is_bounded(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "REMEMBERED", 3)
        rules = install(app, quiet=IGNORE)
        results = [app.send_task("quiet") for _each in range(5)]
        assert list(rules._ignored) == [one.id for one in results[2:]]

    def test_a_result_can_be_pickled(self, app: Celery) -> None:
        install(app, quiet=IGNORE)
        result = app.send_task("other")
        again = pickle.loads(pickle.dumps(result))  # noqa: S301  # it is ours
        assert again.id == result.id


def test_the_loader_applies_them_to_an_unmodified_app(
    python: Callable[..., subprocess.CompletedProcess[str]], config_file: Path, document: dict[str, Any]
) -> None:
    document["results"] = [{"task": "shop.quiet", "result": "ignore"}]
    config_file.write_text(json.dumps(document))
    done = python(
        "-c",
        "from celery import Celery, shared_task\n"
        "app = Celery('shop')\n"
        "@app.task(name='shop.quiet')\ndef quiet(): pass\n"
        "@shared_task(name='shop.quiet', lazy=True)\ndef other(): pass\n"
        "print(quiet.ignore_result, app.tasks['shop.quiet'].ignore_result, 'send_task' in vars(app))",
    )
    assert done.stdout.split() == ["True", "True", "True"], done.stderr


def test_the_very_first_message_carries_the_rule_too(
    python: Callable[..., subprocess.CompletedProcess[str]], config_file: Path, document: dict[str, Any]
) -> None:
    document["results"] = [{"task": "shop.quiet", "result": "ignore"}]
    document |= {"broker": "redis", "queues": [{"name": "default"}], "routes": []}
    del document["settings"]["broker_transport_options"]
    config_file.write_text(json.dumps(document))
    done = python(
        "-c",
        "from celery import Celery, signals\n"
        "said = []\n"
        "@signals.before_task_publish.connect\ndef sent(headers, **_): said.append(headers['ignore_result'])\n"
        "app = Celery('shop')\n"
        "result = app.send_task('shop.quiet')\n"
        "print(said, result.get(timeout=1))",
        env={"CELERY_BROKER_URL": "memory://", "CELERY_RESULT_BACKEND": "cache+memory://"},
    )
    assert done.stdout.strip() == "[True] None", done.stderr


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({}, "results is dict"),
        ([{"task": "a"}], "results[0]: result is None"),
        ([{"task": "a", "result": "drop"}], "results[0].result: 'drop' is not one of keep, ignore"),
        ([{"task": "a", "result": "keep", "x": 1}], "results[0]: 'x' is not known here"),
        ([{"task": "", "result": "keep"}], "results[0]: task is ''"),
    ],
)
def test_a_wrong_document_is_refused(document: dict[str, Any], rules: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({**document, "results": rules})
    assert words in str(caught.value)
