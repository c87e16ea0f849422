"""The scheduler: what is due is sent once, over restarts, an absent broker and a stop in the wrong moment."""

from __future__ import annotations

import json
import signal
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.schedules import crontab
from kombu.exceptions import OperationalError

from celeryops_runtime import beat
from celeryops_runtime.beat import Scheduler, offer, read_state, write_state
from celeryops_runtime.publish import MaybeSentError, NotSentError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 29, 0, 59, 58, tzinfo=UTC)


class Made(Scheduler):
    """A scheduler that sends into a list, or fails as it is told to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sent: list[str] = []
        self.failures: list[Exception] = []
        self.ids: list[str] = []
        self.forgotten = 0
        super().__init__(*args, **kwargs)

    producer = None

    def _forget_connection(self) -> None:
        self.forgotten += 1
        super()._forget_connection()

    def send_task(self, name: str, *_args: Any, **options: Any) -> None:
        self.ids.append(options["task_id"])
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "schedule.json"


def scheduler(path: Path, **schedule: Any) -> Made:
    app = Celery("shop", set_as_current=False)
    app.conf.beat_schedule = {name: {"task": name, "schedule": every} for name, every in schedule.items()}
    app.conf.timezone = "Europe/Berlin"
    return Made(app, schedule_filename=str(path.with_suffix("")))


def ran(path: Path, **ago: float) -> None:
    """Write that entries ran so many seconds ago."""
    now = datetime.now(UTC)
    write_state(path, {name: (now - timedelta(seconds=seconds), 7) for name, seconds in ago.items()})


def tick(one: Made) -> None:
    for _each in range(5):
        one.tick()


def test_what_ran_when_survives(path: Path) -> None:
    write_state(path, {"a": (NOW, 3), "b": (NOW.astimezone(timezone(timedelta(hours=5))), 0)})
    assert read_state(path) == {"a": (NOW, 3), "b": (NOW, 0)}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": 2, "entries": {}}', '{"format": 1, "entries": {"a": {"last_run_at": "soon"}}}', "[]"]
)
def test_a_file_of_somebody_else_holds_nothing(path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(text)
    assert read_state(path) == {}
    assert "every entry counts from now" in caplog.text


def test_a_new_entry_counts_from_now_and_that_is_remembered(path: Path) -> None:
    tick(first := scheduler(path, hourly=3600))
    assert first.sent == []
    begun = read_state(path)["hourly"]
    tick(scheduler(path, hourly=3600))
    assert read_state(path)["hourly"] == begun, "a restart does not begin the hour anew"


def test_what_came_due_while_beat_was_away_is_sent_once(path: Path) -> None:
    ran(path, hourly=3 * 3600, later=60)
    tick(first := scheduler(path, hourly=3600, later=3600))
    assert first.sent == ["hourly"]
    assert read_state(path)["hourly"][1] == 8
    tick(second := scheduler(path, hourly=3600, later=3600))
    assert second.sent == [], "not again by the next one, even after kill -9: it was written when it was sent"


def test_a_crontab_is_understood_in_the_apps_time_zone(path: Path) -> None:
    here = datetime.now(UTC).astimezone(beat_zone(path))
    ran(path, nightly=86400)
    due = crontab(minute=str(here.minute), hour=str(here.hour))
    tick(first := scheduler(path, nightly=due))
    tick(second := scheduler(path, nightly=due))
    assert (first.sent, second.sent) == (["nightly"], [])


def beat_zone(path: Path) -> Any:
    return scheduler(path).app.timezone


def test_entries_that_are_gone_are_forgotten(path: Path) -> None:
    ran(path, old=10, kept=10)
    scheduler(path, kept=3600)
    assert list(read_state(path)) == ["kept"]


def test_without_a_broker_a_due_task_stays_due(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    ran(path, hourly=7200)
    one = scheduler(path, hourly=3600)
    before = read_state(path)["hourly"]

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        one.sync()
        assert read_state(path)["hourly"] == before, "a stop now leaves it due"

    monkeypatch.setattr(beat.time, "sleep", sleep)
    one.failures = [OperationalError("away"), ConnectionResetError(), *[OperationalError("away")] * 4]
    tick(one)
    assert one.sent == ["hourly"]
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert read_state(path)["hourly"][1] == 8


@pytest.mark.parametrize("kind", [MaybeSentError, NotSentError])
def test_in_an_alarm_the_message_that_waits_already_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[MaybeSentError]
) -> None:
    monkeypatch.setattr(beat.time, "sleep", lambda _seconds: None)
    ran(path, hourly=7200, daily=10)
    one = scheduler(path, hourly=3600, daily=86400)

    def told() -> Exception:
        error = kind("an alarm")
        error.in_alarm = True
        return error

    # On the connection that knows of the alarm, and by the name that the channel knows it by (publish).
    one.failures = [told(), told(), told()]
    tick(one)
    assert one.sent == ["hourly"]
    assert one.forgotten == 0
    assert len(set(one.ids)) == 1
    one.failures = [kind("no answer")]
    ran(path, hourly=7200, daily=10)
    one.setup_schedule()
    one._heap = None
    tick(one)
    assert one.forgotten == 1
    assert len(set(one.ids)) == 2, "the next run is another message"


def test_an_id_of_ones_own_stays(path: Path) -> None:
    ran(path, hourly=7200)
    one = scheduler(path, hourly=3600)
    one.schedule["hourly"].options["task_id"] = "mine"
    tick(one)
    assert one.ids == ["mine"]


def test_a_task_that_cannot_be_sent_at_all_does_not_block_the_others(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran(path, bad=7200, good=7200)
    one = scheduler(path, bad=3600, good=3600)
    one.failures = [TypeError("not JSON")]
    tick(one)
    assert len(one.sent) == 1, "the first of the two failed, whichever it was"
    assert "Message Error" in caplog.text
    assert [runs for _when, runs in read_state(path).values()] == [8, 8]


def test_a_stop_waits_until_what_is_being_sent_is_written_down(path: Path) -> None:
    """Also when a thread without anything to protect is the one that gets the signal, as beat's remote control is."""
    over = threading.Event()
    bystander = threading.Thread(target=over.wait)
    bystander.start()
    ran(path, hourly=7200)
    one = scheduler(path, hourly=3600)

    def leave(*_signal: Any) -> None:
        raise SystemExit

    before = signal.signal(signal.SIGTERM, leave)
    try:
        send = one.send_task

        def interrupted(*args: Any, **options: Any) -> None:
            signal.pthread_kill(bystander.ident or 0, signal.SIGTERM)
            time.sleep(0.1)
            send(*args, **options)

        one.send_task = interrupted  # type: ignore[method-assign]
        with pytest.raises(SystemExit):
            tick(one)
    finally:
        over.set()
        bystander.join()
        signal.signal(signal.SIGTERM, before)
    assert one.sent == ["hourly"]
    tick(second := scheduler(path, hourly=3600))
    assert second.sent == []


def test_a_disk_that_is_full_does_not_stop_the_schedule(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran(path, hourly=7200)
    one = scheduler(path, hourly=3600)

    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(beat, "write_state", full)
        tick(one)
    assert one.sent == ["hourly"]
    assert "cannot be written" in caplog.text
    one.sync()
    assert json.loads(path.read_text())["entries"]["hourly"]["runs"] == 8


def configured(app: Celery) -> Any:
    """Return the settings once they are read, as the loader has them."""
    app.conf.finalize()
    return app.conf


@pytest.mark.parametrize("style", ["beat_scheduler", "CELERYBEAT_SCHEDULER"])
def test_the_app_may_have_a_scheduler_of_its_own(style: str) -> None:
    ours = {"CELERYOPS_BEAT_SCHEDULER": "celeryops_runtime.beat:Scheduler"}
    for own in (None, "redbeat.RedBeatScheduler"):
        app = Celery("shop", set_as_current=False)
        app.config_from_object({style: own} if own else {"timezone": "UTC"})
        offer(configured(app), {})
        assert app.conf.beat_scheduler == (own or "celery.beat:PersistentScheduler")
        offer(configured(app), ours)
        assert app.conf.beat_scheduler == (own or ours["CELERYOPS_BEAT_SCHEDULER"])


def test_redbeat_finds_its_redis_and_fails_over_quickly() -> None:
    environ = {
        "CELERYOPS_BEAT_SCHEDULER": "celeryops_runtime.beat:Scheduler",
        "CELERY_RESULT_BACKEND": "rediss://shop:secret@redis:6379/0",
    }
    app = Celery("shop", set_as_current=False)
    app.config_from_object(
        {
            "beat_scheduler": "redbeat.RedBeatScheduler",
            "redbeat_lock_timeout": 60,
            "result_backend_transport_options": {"global_keyprefix": "shop:"},
            "redis_backend_use_ssl": {"ssl_cert_reqs": 2},
        }
    )
    offer(configured(app), environ)
    names = ("redis_url", "key_prefix", "lock_timeout", "redis_use_ssl")
    told = {name: app.conf[f"redbeat_{name}"] for name in names}
    assert told == {
        "redis_url": "rediss://shop:secret@redis:6379/0",
        "key_prefix": "shop:redbeat:",
        "lock_timeout": 60,
        "redis_use_ssl": {"ssl_cert_reqs": 2},
    }
    assert app.conf.beat_max_loop_interval == 5
    plain = Celery("shop", set_as_current=False)
    plain.config_from_object({"beat_max_loop_interval": 7})
    offer(configured(plain), {**environ, "CELERY_RESULT_BACKEND": "db+postgresql://results"})
    assert ("redbeat_redis_url" in plain.conf, plain.conf.beat_max_loop_interval) == (False, 7)


def test_redbeat_finds_its_redis_behind_sentinels() -> None:
    environ = {
        "CELERYOPS_BEAT_SCHEDULER": "celeryops_runtime.beat:Scheduler",
        "CELERY_RESULT_BACKEND": "sentinel://shop:secret@s1:26379/0;sentinel://shop:secret@s2:26379/0",
    }
    app = Celery("shop", set_as_current=False)
    options = {"global_keyprefix": "shop:", "master_name": "celeryops", "sentinel_kwargs": {"username": "client"}}
    app.config_from_object({"beat_scheduler": "redbeat.RedBeatScheduler", "result_backend_transport_options": options})
    offer(configured(app), environ)
    assert (app.conf.redbeat_redis_url, app.conf.redbeat_key_prefix) == ("redis-sentinel://", "shop:redbeat:")
    assert app.conf.redbeat_redis_options["sentinels"] == [("s1", 26379), ("s2", 26379)]
    assert app.conf.redbeat_redis_options["sentinel_kwargs"] == {"username": "client"}
    assert (app.conf.redbeat_lock_timeout, app.conf.beat_max_loop_interval) == (25, 5)


def test_looking_at_it_changes_nothing(path: Path) -> None:
    app = Celery("shop", set_as_current=False)
    one = Scheduler(app, schedule_filename=str(path.with_suffix("")), lazy=True)
    assert not path.exists()
    assert one.info.endswith("schedule.json")
