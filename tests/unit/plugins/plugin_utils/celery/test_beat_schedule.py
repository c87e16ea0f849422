"""Entries of ``beat_schedule``, held against what Celery's own beat does with them."""

from __future__ import annotations

import inspect
from typing import Any

import kombu
import pytest
from celery import Celery
from celery.app.task import Task
from celery.beat import ScheduleEntry
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.beat_schedule import (
    KEYS,
    OPTIONS,
    schedule_problems,
    sent_to,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import MAX_SECONDS

SOUND: dict[str, Any] = {"task": "shop.mails.send", "schedule": 300}


def found(**changes: Any) -> list[Problem]:
    """Return what is wrong with the sound entry with changes."""
    entry = {key: value for key, value in {**SOUND, **changes}.items() if value is not ...}
    return list(schedule_problems("v", {"nightly": entry}))


def test_the_keys_are_what_beat_takes() -> None:
    own = {"self", "name", "app", "last_run_at", "total_run_count"}
    assert set(inspect.signature(ScheduleEntry.__init__).parameters) - own == set(KEYS)


def test_the_options_are_what_tasks_take() -> None:
    takers = (Celery.send_task, Task.apply_async, kombu.Producer.publish)
    known = {name for taker in takers for name in inspect.signature(taker).parameters}
    # Looked up among all others: Router.route in celery/app/routes.py, Celery.send_task in celery/app/base.py.
    assert set(OPTIONS) - known == {"queue", "ignore_result"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": 0.5},
        {"schedule": MAX_SECONDS},
        {"args": [1, "two"], "kwargs": {"day": 1}, "relative": True},
        {"args": (), "kwargs": None, "options": None},
        {"options": {"queue": "mails", "expires": 0.1, "priority": 3}},
        {"options": {"expires": "2030-01-01T00:00:00", "tenant": "shop", "queues_of": 1}},
    ],
)
def test_what_beat_can_run(changes: dict[str, Any]) -> None:
    assert found(**changes) == []
    app = Celery(set_as_current=False, broker="memory://")
    assert ScheduleEntry(name="nightly", app=app, **{**SOUND, **changes}).is_due()


@pytest.mark.parametrize(
    ("changes", "key", "identity"),
    [
        ({"task": ...}, "task", "missing"),
        ({"task": "shop.*"}, "task", "not-the-name"),
        ({"task": "shop mails"}, "task", "not-the-name"),
        ({"task": 5}, "task", "not-the-name"),
        ({"schedule": ...}, "schedule", "missing"),
        *(
            ({"schedule": value}, "schedule", "not-a-number-of-seconds")
            for value in ("crontab(hour=7)", "0 7 * * *", {"hour": 7}, True, "5m", "300")
        ),
        ({"schedule": 0}, "schedule", "due-at-every-moment"),
        ({"schedule": -1}, "schedule", "due-at-every-moment"),
        ({"schedule": MAX_SECONDS + 1}, "schedule", "more-than-a-hundred-years"),
        ({"agrs": [1]}, "agrs", "no-key-of-an-entry"),
        ({"every": 60}, "every", "no-key-of-an-entry"),
        ({"schedule": ..., "shedule": 60}, "shedule", "no-key-of-an-entry"),
        ({"task": ..., "tsak": "a"}, "tsak", "no-key-of-an-entry"),
        ({"args": "day"}, "args", "no-key-of-an-entry"),
        ({"kwargs": ["day"]}, "kwargs", "no-key-of-an-entry"),
        ({"options": "mails"}, "options", "no-key-of-an-entry"),
        ({"relative": "yes"}, "relative", "no-key-of-an-entry"),
        ({"options": {"quue": "m"}}, "options.quue", "no-option-of-a-task"),
        ({"options": {"queue": 5}}, "options.queue", "not-the-name"),
        ({"options": {"expires": 0}}, "options.expires", "expires-before-it-starts"),
        ({"options": {"expires": -0.5}}, "options.expires", "expires-before-it-starts"),
    ],
)
def test_what_beat_cannot_run(changes: dict[str, Any], key: str, identity: str) -> None:
    assert told(found(**changes)) == [(identity, f"v.nightly.{key}")]


@pytest.mark.parametrize(
    ("changes", "instead"),
    [
        ({"agrs": [1]}, "args (did you mean that?)"),
        ({"every": 60}, "one of args, kwargs, options, rel"),
        ({"options": {"quue": "m"}}, "queue (did you mean that?)"),
        ({"schedule": "5m"}, "300"),
        ({"schedule": "300"}, "300"),
        ({"schedule": "crontab(hour=7)"}, "a number of seconds such as 300, or the whole schedule in the app"),
    ],
)
def test_what_is_meant_is_said(changes: dict[str, Any], instead: str) -> None:
    (problem,) = found(**changes)
    assert problem.instead.startswith(instead)
    assert instead != "300" or problem.instead == instead


def test_what_other_schedulers_take_may_stand_there() -> None:
    assert found(enabled=False, description="closes the day", one_off=True) == []


@pytest.mark.parametrize("entry", [None, 300, ["shop.mails.send", 300], "shop.mails.send"])
def test_what_is_no_entry(entry: Any) -> None:
    found = schedule_problems("v", {"nightly": entry, "hourly": SOUND, "daily": entry})
    assert told(found) == [("not-an-entry", "v.nightly"), ("not-an-entry", "v.daily")]


def test_the_queues_that_entries_name() -> None:
    schedule = {"a": {"options": {"queue": "mails"}}, "b": SOUND, "c": {"options": {"queue": 5}}, "d": {"options": 5}}
    assert list(sent_to({**schedule, "e": None})) == [("a", "mails")]
    assert list(sent_to(["a"])) == list(sent_to(None)) == []
