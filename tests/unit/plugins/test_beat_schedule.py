"""Entries of ``beat_schedule``, held against what Celery's own beat does with them."""

from __future__ import annotations

import inspect
from typing import Any

import kombu
import pytest
from celery import Celery
from celery.app.task import Task
from celery.beat import ScheduleEntry

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.beat_schedule import (
    KEYS,
    OPTIONS,
    schedule_problems,
    sent_to,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import MAX_SECONDS

SOUND: dict[str, Any] = {"task": "shop.mails.send", "schedule": 300}
INSTEAD = "a number of seconds such as 300, or the whole schedule in the app's own code, where crontab() is"


def told(**changes: Any) -> list[str]:
    """Return what is said of the sound entry with changes, without where it is."""
    entry = {key: value for key, value in {**SOUND, **changes}.items() if value is not ...}
    return [str(problem).removeprefix("v.nightly") for problem in schedule_problems("v", {"nightly": entry})]


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
    assert told(**changes) == []
    app = Celery(set_as_current=False, broker="memory://")
    assert ScheduleEntry(name="nightly", app=app, **{**SOUND, **changes}).is_due()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"task": ...}, ".task: is missing; write the name of a task, such as shop.mails.send"),
        ({"task": "shop.*"}, ".task: 'shop.*' is not the name of a task; write the name of a task, such as"),
        ({"task": "shop mails"}, ".task: 'shop mails' is not the name of a task"),
        ({"task": 5}, ".task: 5 is not the name of a task"),
        ({"schedule": ...}, f".schedule: is missing; write {INSTEAD}"),
        ({"schedule": "crontab(hour=7)"}, f".schedule: 'crontab(hour=7)' is not a number of seconds; write {INSTEAD}"),
        ({"schedule": "0 7 * * *"}, ".schedule: '0 7 * * *' is not a number of seconds"),
        ({"schedule": {"hour": 7}}, ".schedule: {'hour': 7} is not a number of seconds"),
        ({"schedule": True}, f".schedule: True is not a number of seconds; write {INSTEAD}"),
        ({"schedule": "5m"}, ".schedule: '5m' is not a number of seconds; write 300"),
        ({"schedule": "300"}, ".schedule: '300' is not a number of seconds; write 300"),
        ({"schedule": 0}, f".schedule: 0 is due at every moment: beat would send without a pause; write {INSTEAD}"),
        ({"schedule": -1}, ".schedule: -1 is due at every moment"),
        ({"schedule": MAX_SECONDS + 1}, f".schedule: {MAX_SECONDS + 1} is more than a hundred years; write {INSTEAD}"),
        (
            {"agrs": [1]},
            ".agrs: [1] is not a key of an entry, and beat would not start; write args (did you mean that?)",
        ),
        ({"every": 60}, "is not a key of an entry, and beat would not start; write one of args, kwargs, options, rel"),
        ({"schedule": ..., "shedule": 60}, ".shedule: 60 is not a key of an entry"),
        ({"task": ..., "tsak": "a"}, ".tsak: 'a' is not a key of an entry"),
        ({"args": "day"}, ".args: 'day' is not a list; write a list such as [1, two]"),
        ({"kwargs": ["day"]}, ".kwargs: ['day'] is not a dictionary; write key: value pairs"),
        ({"options": "mails"}, ".options: 'mails' is not a dictionary; write key: value pairs such as {queue: mails}"),
        ({"relative": "yes"}, ".relative: 'yes' is not true or false; write true or false, without quotes"),
        ({"options": {"quue": "m"}}, ".options.quue: 'm' is not an option of a task; write queue (did you mean that?)"),
        ({"options": {"queue": 5}}, ".options.queue: 5 is not the name of a queue; write one that a worker class"),
        ({"options": {"expires": 0}}, ".options.expires: 0 is over before a worker can begin"),
        ({"options": {"expires": -0.5}}, ".options.expires: -0.5 is over before a worker can begin"),
    ],
)
def test_what_beat_cannot_run(changes: dict[str, Any], line: str) -> None:
    (only,) = told(**changes)
    assert line in only


def test_what_other_schedulers_take_may_stand_there() -> None:
    assert told(enabled=False, description="closes the day", one_off=True) == []


@pytest.mark.parametrize("entry", [None, 300, ["shop.mails.send", 300], "shop.mails.send"])
def test_what_is_no_entry(entry: Any) -> None:
    (problem,) = schedule_problems("v", {"nightly": entry, "hourly": SOUND})
    reason = "is not an entry of a schedule; write {task: shop.mails.send, schedule: 300}"
    assert str(problem) == f"v.nightly: {entry!r} {reason}"
    assert len(list(schedule_problems("v", {"nightly": entry, "hourly": entry}))) == 2


def test_the_queues_that_entries_name() -> None:
    schedule = {"a": {"options": {"queue": "mails"}}, "b": SOUND, "c": {"options": {"queue": 5}}, "d": {"options": 5}}
    assert list(sent_to({**schedule, "e": None})) == [("a", "mails")]
    assert list(sent_to(["a"])) == list(sent_to(None)) == []
