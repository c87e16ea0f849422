"""The file that Flower executes before it starts, run against stand-ins of Flower and Tornado."""

from __future__ import annotations

import asyncio
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


class RefusedError(Exception):
    """Stands in for Tornado's HTTPError."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


ASKED: list[str] = []
ANSWERS: dict[str, Exception] = {}


async def fetched(_self: object, request: Any, raise_error: bool = True, **options: Any) -> str:
    """Stand in for Tornado's client: answer with the URL, or as the host in it does."""
    url = getattr(request, "url", request)
    ASKED.append(url)
    if error := ANSWERS.get(url.split("/")[2]):
        raise error
    return f"{url} {raise_error} {options}"


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
        "tornado.httpclient": {
            "AsyncHTTPClient": type("AsyncHTTPClient", (), {"fetch": fetched}),
            "HTTPError": RefusedError,
        },
        "tornado.ioloop": {"IOLoop": made, "PeriodicCallback": made.every},
        "tornado.web": {"authenticated": lambda method: f"protected {method}"},
    }
    for name, content in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in (
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "CELERYOPS_FLOWER_OPEN",
        "CELERY_BROKER_URL",
        "CELERYOPS_BROKER_APIS",
    ):
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


def fetch(request: Any, *arguments: Any, **options: Any) -> list[str]:
    """Ask as Flower does; return who was asked, and the answer or the error."""
    ASKED.clear()
    client: Any = sys.modules["tornado.httpclient"].AsyncHTTPClient()  # type: ignore[attr-defined]

    async def asked() -> str:
        try:
            return str(await client.fetch(request, *arguments, **options))
        except (OSError, RefusedError) as error:
            return repr(error)

    answer = asyncio.run(asked())
    return [*(url.split("/")[2] for url in ASKED), answer]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, loop: Loop) -> dict[str, Exception]:
    """Three nodes, and what they answer instead."""
    del loop
    monkeypatch.setenv("CELERYOPS_BROKER_APIS", "http://a/api/;http://b/api/;http://c/api/")
    ANSWERS.clear()
    run()
    return ANSWERS


def test_a_node_that_answers_is_asked(cluster: dict[str, Exception]) -> None:
    queues = "http://a/api/queues/shop"
    assert fetch(queues, auth_username="w") == ["a", f"{queues} True {{'auth_username': 'w'}}"]
    cluster.update({"a": ConnectionRefusedError("a"), "b": RefusedError(599)})
    assert fetch(queues) == ["a", "b", "c", "http://c/api/queues/shop True {}"]
    assert fetch(queues) == ["c", "http://c/api/queues/shop True {}"], "not the ones that are away again"
    cluster.clear()
    cluster["c"] = RefusedError(503)
    assert fetch(queues) == ["c", "a", "http://a/api/queues/shop True {}"]
    cluster.update({"a": OSError("a"), "b": OSError("b")})
    assert fetch(queues) == ["a", "c", "b", "OSError('b')"]


def test_a_refusal_is_an_answer(cluster: dict[str, Exception]) -> None:
    cluster["a"] = RefusedError(401)
    assert fetch("http://a/api/queues/shop") == ["a", "RefusedError(401)"]


def test_nobody_else_is_asked_for_what_is_elsewhere(cluster: dict[str, Exception]) -> None:
    cluster["login"] = OSError("login")
    assert fetch("http://login/x") == ["login", "OSError('login')"]
    cluster["a"] = OSError("a")
    assert fetch(SimpleNamespace(url="http://a/api/x")) == ["a", "OSError('a')"]


@pytest.mark.usefixtures("loop")
def test_of_one_node_the_client_is_tornados() -> None:
    run()
    client: Any = sys.modules["tornado.httpclient"].AsyncHTTPClient  # type: ignore[attr-defined]
    assert client.fetch is fetched


SENTINELS = "sentinel://shop:x@s1:26380/0;sentinel://shop:x@s2/0"


def broker_page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for Flower's broker of Sentinels; return what it asks after the file was executed."""

    class Asked:
        def __init__(self, **options: Any) -> None:
            self.options = options

    class RedisSentinel:
        def _get_redis_client(self, *_arguments: Any) -> Any:
            first = SimpleNamespace(sentinels=[Asked(host="s1", port=26380)], sentinel_kwargs={"username": "client"})
            return SimpleNamespace(connection_pool=SimpleNamespace(sentinel_manager=first))

    stand_ins: dict[str, dict[str, Any]] = {
        "flower.utils": {}, "flower.utils.broker": {"RedisSentinel": RedisSentinel},
        "redis": {}, "redis.asyncio": {"Redis": Asked},
    }  # fmt: skip
    for name, content in stand_ins.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    run()
    client = RedisSentinel()._get_redis_client({}, None)
    return [one.options for one in client.connection_pool.sentinel_manager.sentinels]


@pytest.mark.usefixtures("loop")
def test_the_broker_page_asks_every_sentinel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", SENTINELS)
    assert broker_page(monkeypatch) == [
        {"host": "s1", "port": 26380}, {"host": "s2", "port": 26379, "username": "client"},
    ]  # fmt: skip
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://shop:x@cache/0")
    assert broker_page(monkeypatch) == [{"host": "s1", "port": 26380}]
