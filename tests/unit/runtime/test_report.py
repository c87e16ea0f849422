"""The file in which a worker says what it does. That a real one's is true is tested by molecule/default."""

from __future__ import annotations

import json
import os
import stat
import types
from typing import TYPE_CHECKING, Any

import pytest

from celeryops_runtime.config_reader import load
from celeryops_runtime.report import Report, describe

if TYPE_CHECKING:
    from pathlib import Path


def consumer(kind: str = "prefork") -> Any:
    """Just enough of a consumer."""
    enforcer = types.SimpleNamespace(timeout=60, soft_timeout=50, _maxtasksperchild=5, _max_memory_per_child=9000)
    pool = type("TaskPool", (), {"__module__": f"celery.concurrency.{kind}"})()
    pool.num_processes = 2
    pool.timeout = 33
    pool._pool = enforcer
    return types.SimpleNamespace(
        app=types.SimpleNamespace(
            conf=types.SimpleNamespace(task_acks_late=True),
            tasks={"shop.b": 1, "celery.chord": 1, "shop.a": 1, "celeryops.probe": 1},
            loader=types.SimpleNamespace(digest="abc"),
        ),
        pool=pool,
        hostname="high@host",
        task_consumer=types.SimpleNamespace(queues=[types.SimpleNamespace(name=n) for n in ("b", "a")]),
        qos=types.SimpleNamespace(value=2),
        prefetch_multiplier=1,
    )


def test_what_a_worker_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "1.4.2-abc").mkdir()
    (tmp_path / "current").symlink_to("1.4.2-abc")
    monkeypatch.setattr("sys.prefix", str(tmp_path / "current"))
    found = describe(consumer(), "consuming")
    versions = found.pop("versions")
    assert sorted(versions) == ["celery", "celeryops_runtime"]
    assert found == {
        "format": 1,
        "pid": os.getpid(),
        "node": "high@host",
        "phase": "consuming",
        "queues": ["a", "b"],
        "prefetch": 2,
        "prefetch_multiplier": 1,
        "pool": "prefork",
        "concurrency": 2,
        "time_limit": 60,
        "soft_time_limit": 50,
        "max_tasks_per_child": 5,
        "max_memory_per_child": 9000,
        "acks_late": True,
        "tasks": ["shop.a", "shop.b"],
        "release": "1.4.2-abc",
        "configuration": "abc",
    }


def test_a_worker_whose_pool_is_gone_still_says_what_it_does() -> None:
    """Celery's pool asks itself for its size, and has none after a cold shutdown."""

    class Gone:
        _pool = None

        @property
        def num_processes(self) -> int:
            return self._pool._processes  # type: ignore[attr-defined]

    leaving = consumer()
    leaving.pool = Gone()
    assert describe(leaving, "leaving")["concurrency"] is None


@pytest.mark.parametrize(
    ("kind", "pool", "limit"), [("thread", "threads", None), ("gevent", "gevent", 33), ("solo", "solo", None)]
)
def test_other_pools(kind: str, pool: str, limit: int | None) -> None:
    found = describe(consumer(kind), "consuming")
    assert (found["pool"], found["time_limit"], found["max_tasks_per_child"]) == (pool, limit, None)


def test_without_a_connection() -> None:
    one = consumer()
    one.task_consumer = one.qos = None
    found = describe(one, "offline")
    assert (found["queues"], found["prefetch"]) == ([], None)


def test_the_file_is_replaced_only_when_there_is_news(tmp_path: Path) -> None:
    path = tmp_path / "worker.json"
    report = Report({"RUNTIME_DIRECTORY": f"{tmp_path}:/elsewhere"})
    one = consumer()
    report.update(one, "consuming", 10.0)
    assert json.loads(path.read_text())["interval"] == 10.0
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 & ~current_umask()
    number = path.stat().st_ino
    os.utime(path, (5.0, 5.0))
    report.update(one, "consuming", 10.0)
    assert path.stat().st_ino == number
    assert path.stat().st_mtime > 5.0, "its time is the last sign of life"
    del one.task_consumer.queues[0]
    report.update(one, "consuming", 10.0)
    assert json.loads(path.read_text())["queues"] == ["a"]
    path.unlink()
    report.update(one, "consuming", 10.0)
    assert path.exists(), "a file that was removed comes back"
    assert [entry.name for entry in tmp_path.iterdir()] == ["worker.json"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_no_directory_no_file() -> None:
    report = Report({})
    report.update(consumer(), "consuming", 10.0)
    assert report.path is None


def test_an_error_is_told_once_and_stays_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = Report({"RUNTIME_DIRECTORY": str(tmp_path / "gone")})
    report.update(consumer(), "consuming", 10.0)
    report.update(consumer(), "consuming", 10.0)
    report.update(None, "consuming", 10.0)
    assert caplog.text.count("the worker goes on") == 1


def test_the_digest_is_that_of_the_file(config_file: Path) -> None:
    before = load(str(config_file)).digest
    assert len(before) == 64
    config_file.write_text(config_file.read_text() + "\n")
    assert load(str(config_file)).digest != before


@pytest.mark.parametrize("damage", ["", "{", "null", '{"format": 1}\n', "x" * 100_000])
def test_a_damaged_file_is_written_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "worker.json"
    report = Report({"RUNTIME_DIRECTORY": str(tmp_path)})
    one = consumer()
    report.update(one, "consuming", 10.0)
    whole = path.read_text()
    path.write_text(damage)
    report.update(one, "consuming", 10.0)
    assert path.read_text() == whole
