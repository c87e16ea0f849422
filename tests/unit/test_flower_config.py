"""The file that Flower executes before it starts, run against stand-ins of Flower and Tornado."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CONFIG = Path(__file__).resolve().parents[2] / "roles" / "flower" / "files" / "flowerconfig.py"


class Loop:
    """Stands in for Tornado's main loop: remembers what it is asked to run."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], Any]] = []
        self.periodic: list[tuple[Callable[[], Any], float]] = []

    def current(self) -> Loop:
        return self

    def add_callback(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.callbacks.append(lambda: function(*arguments))

    def every(self, function: Callable[[], Any], milliseconds: float) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: self.periodic.append((function, milliseconds)))


def declared(_self: object, nowait: bool = False, passive: bool | None = None, channel: object = None) -> Any:
    """Stands in for kombu's Exchange.declare: returns what it was asked for."""
    return nowait, passive, channel


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Replace the modules that the file imports, and clear what systemd would set."""
    made = Loop()
    stand_ins: dict[str, dict[str, Any]] = {
        "flower": {},
        "flower.views": {},
        "flower.views.monitor": {
            "Metrics": type("Metrics", (), {"get": "open"}),
            "Healthcheck": type("Healthcheck", (), {"get": "open"}),
        },
        "kombu": {"Exchange": type("Exchange", (), {"declare": declared})},
        "tornado": {},
        "tornado.ioloop": {"IOLoop": made, "PeriodicCallback": made.every},
        "tornado.web": {"authenticated": lambda method: f"protected {method}"},
    }
    for name, content in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "CELERYOPS_FLOWER_OPEN", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    return made


def run() -> tuple[str, str]:
    """Execute the file as Flower does; return what became of the two pages."""
    exec(compile(CONFIG.read_text(), str(CONFIG), "exec"), {})  # noqa: S102 - it is what Flower does with this file
    monitor: Any = sys.modules["flower.views.monitor"]
    return monitor.Metrics.get, monitor.Healthcheck.get


@pytest.mark.parametrize(
    ("named", "metrics", "healthcheck"),
    [
        ("", "protected open", "protected open"),
        ("metrics", "open", "protected open"),
        ("healthcheck metrics", "open", "open"),
    ],
)
@pytest.mark.usefixtures("loop")
def test_pages_are_protected_unless_named(
    monkeypatch: pytest.MonkeyPatch, named: str, metrics: str, healthcheck: str
) -> None:
    monkeypatch.setenv("CELERYOPS_FLOWER_OPEN", named)
    assert run() == (metrics, healthcheck)


@pytest.mark.usefixtures("loop")
def test_a_flower_without_these_pages_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flower.views.monitor", ModuleType("flower.views.monitor"))
    with pytest.raises(ImportError):
        run()


def test_systemd_hears_of_it_from_inside_the_loop(loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        monkeypatch.setenv("WATCHDOG_USEC", "120000000")
        run()
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        for callback in loop.callbacks:
            callback()
        assert systemd.recv(100).splitlines()[0] == b"READY=1"
        ((ping, milliseconds),) = loop.periodic
        ping()
        assert (systemd.recv(100), milliseconds) == (b"WATCHDOG=1", 30000)


def test_nothing_is_sent_without_systemd(loop: Loop) -> None:
    run()
    for callback in loop.callbacks:
        callback()
    assert loop.periodic == []


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize(
    ("url", "passive"),
    [("amqp://h/x", True), ("amqps://h/x", True), ("pyamqp://h/x", True), ("redis://h/0", False), ("", False)],
)
def test_it_declares_no_exchange_on_rabbitmq(monkeypatch: pytest.MonkeyPatch, url: str, passive: bool) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    run()
    exchange: Any = sys.modules["kombu"].Exchange()
    assert exchange.declare(channel="c") == (False, True if passive else None, "c")
    assert exchange.declare(True, False, "c") == (True, passive, "c")
