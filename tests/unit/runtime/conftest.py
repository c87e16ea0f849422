"""Helpers for the tests of the runtime: a configuration file, and Python in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import celery
import kombu
import pytest
from celery._state import _set_task_join_will_block
from celery.worker import state
from celery.worker.request import Request as CeleryRequest
from kombu.asynchronous.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Python = Callable[..., subprocess.CompletedProcess[str]]

FILES = Path(__file__).resolve().parents[3] / "roles" / "celery_app" / "files"
APPS = Path(__file__).resolve().parent / "apps"

CELERY: tuple[int, int] = celery.VERSION[:2]
KOMBU: tuple[int, int] = kombu.VERSION[:2]
"""The versions that these tests run with (tests/runtime_versions.txt); what differs is said test by test."""

DOCUMENT: dict[str, Any] = {
    "format": 1,
    "app": "shop",
    "broker": "rabbitmq",
    "default_queue": "default",
    "exchange": "tasks",
    "queues": [{"name": "default", "type": "quorum"}, {"name": "payments", "type": "quorum"}],
    "routes": [{"task": "shop.pay*", "queue": "payments"}],
    "settings": {
        "task_time_limit": 777,
        "task_acks_late": True,
        "broker_transport_options": {"visibility_timeout": 77},
    },
}

BROKER = "amqp://shop:secret-word@broker.invalid:5672/shop"
BACKEND = "redis://:secret-word@results.invalid:6379/0"


class Request(CeleryRequest):  # type: ignore[misc]  # Celery has no type information
    """A task that the worker has got: as much of one as the runtime looks at."""

    name: str = ""
    id: str = ""
    task: Any = None

    def __init__(self, name: str = "a.task", **attributes: Any) -> None:
        self.name = self.id = name
        vars(self).update(attributes)


def schedule(timer: Timer, request: Request) -> Any:
    """Let a request wait for its ETA as this version of Celery does (celery/worker/strategy.py); return its entry."""
    entry = timer.call_after(3600, print, (request,))
    if CELERY >= (5, 7):
        request._eta_timer_entry = entry
        state.task_scheduled(request)
    return entry


def forget_requests() -> None:
    """Leave nothing of a test behind."""
    for name in ("requests", "reserved_requests", "active_requests", "scheduled_requests"):
        getattr(state, name, set()).clear()


@pytest.fixture(autouse=True)
def _nothing_done_yet() -> Iterator[None]:
    """Celery counts a process's tasks in one place; a test begins with none, whatever ran before it here."""
    state.total_count.clear()
    # What a pool's process is told, and a test that plays one leaves behind: nobody may wait for a result in here.
    _set_task_join_will_block(False)
    yield
    state.total_count.clear()


@pytest.fixture
def document() -> dict[str, Any]:
    """A valid document that a test may change."""
    copy: dict[str, Any] = json.loads(json.dumps(DOCUMENT))
    return copy


@pytest.fixture
def config_file(tmp_path: Path, document: dict[str, Any]) -> Path:
    """The document as a file."""
    path = tmp_path / "celery.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def environment(config_file: Path) -> dict[str, str]:
    """What a process gets from the app's celery.env, and nothing of Celery's from the tests' own environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CELERY", "C_")) and k != "NOTIFY_SOCKET"}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(FILES), str(APPS)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CELERY_LOADER": "celeryops_runtime.loader:Loader",
        "CELERYOPS_CONFIG": str(config_file),
        "CELERY_BROKER_URL": BROKER,
        "CELERY_RESULT_BACKEND": BACKEND,
    }


@pytest.fixture
def fresh_python(environment: dict[str, str], tmp_path: Path) -> Python:
    """Run Python in a process that has imported nothing, as :func:`python` otherwise."""

    def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            env={**environment, **(env or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def _forked() -> Iterator[subprocess.Popen[str]]:
    """The process that forks for each program (forked.py), with no more of an environment than it needs to start."""
    own = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "LC_ALL")}
    command = [sys.executable, str(Path(__file__).with_name("forked.py"))]
    with subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def python(_forked: subprocess.Popen[str], environment: dict[str, str], tmp_path: Path) -> Python:
    """Run Python in a process of its own: ``python("-c", code)``, with ``env={...}`` added to the environment.

    Celery is imported there already (forked.py).
    """
    assert _forked.stdin is not None
    assert _forked.stdout is not None
    asking, answer = _forked.stdin, _forked.stdout

    def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        out, err = tmp_path / ".out", tmp_path / ".err"
        asked = {
            "words": words,
            "environment": {**environment, **(env or {})},
            "folder": str(tmp_path),
            "out": str(out),
            "err": str(err),
        }
        asking.write(json.dumps(asked) + "\n")
        asking.flush()
        status = int(answer.readline())
        return subprocess.CompletedProcess([*words], status, out.read_text(), err.read_text())

    return run
