"""The demo's driver: how the host is reached, asked and watched."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import demo
from tools.demo.report import Expected

DOCKER = "community.docker.docker"


@pytest.mark.parametrize(
    ("variables", "user_id", "prefix"),
    [
        ({"ansible_connection": DOCKER}, 1000, ["docker", "exec", "--interactive", "app1"]),
        ({"ansible_connection": DOCKER, "ansible_host": "c1"}, 0, ["docker", "exec", "--interactive", "c1"]),
        ({"ansible_connection": "local"}, 0, []),
        ({"ansible_connection": "local"}, 1000, ["sudo"]),
        ({}, 0, ["ssh", "app1", "sudo"]),
        ({"ansible_host": "10.0.0.9", "ansible_user": "admin"}, 0, ["ssh", "admin@10.0.0.9", "sudo"]),
    ],
)
def test_reach_follows_the_inventory(variables: dict[str, Any], user_id: int, prefix: list[str]) -> None:
    assert demo.reach("app1", variables, user_id) == prefix


def test_command_is_quoted_where_a_shell_reads_it() -> None:
    command = ["sh", "-c", "echo 'a b'"]
    assert demo.command_on(["docker", "exec", "c"], command) == ["docker", "exec", "c", *command]
    assert demo.command_on(["ssh", "h", "sudo"], command) == ["ssh", "h", "sudo", """sh -c 'echo '"'"'a b'"'"''"""]


def test_traffic_runs_as_the_app_with_its_environment() -> None:
    command = demo.traffic_command(Expected("shop", {}, (), user="seller"), ["--tasks=1"])
    assert "--property=User=seller" in command
    assert "--property=EnvironmentFile=/etc/celeryops/shop/celery.env" in command
    assert command[-3:] == ["/opt/celeryops/shop/current/bin/python", "-", "--tasks=1"]


def test_host_of_takes_the_first_with_workers() -> None:
    listing = {
        "_meta": {"hostvars": {"a": {"x": 1}, "b": {"x": 2}}},
        "celery_workers": {"hosts": ["b", "a"]},
    }
    assert demo.host_of(listing, None) == ("b", {"x": 2})
    assert demo.host_of(listing, "a") == ("a", {"x": 1})


def test_host_of_an_inventory_without_workers() -> None:
    with pytest.raises(demo.DemoError, match="no host in the group celery_workers"):
        demo.host_of({"_meta": {"hostvars": {}}}, None)


def test_events_come_while_the_traffic_runs_and_other_output_is_left_out() -> None:
    source = """print('a warning'); print('{"event": "progress"}'); print('{"event": "report"}')"""
    assert list(demo.events([sys.executable, "-"], source)) == [{"event": "progress"}, {"event": "report"}]


def test_events_of_traffic_that_fails_tell_why() -> None:
    with pytest.raises(demo.DemoError, match=r"ended with 3\nno broker"):
        list(demo.events([sys.executable, "-"], "import sys; sys.stderr.write('no broker'); sys.exit(3)"))


def test_run_tells_what_is_missing_and_what_failed() -> None:
    with pytest.raises(demo.DemoError, match="no-such-command is not installed"):
        demo.run(["no-such-command"])
    with pytest.raises(demo.DemoError, match=r"ended with 4\nbecause"):
        demo.run(["sh", "-c", "echo because >&2; exit 4"])


def progress(sent: int, done: int, missing: str = "") -> dict[str, Any]:
    return {"event": "progress", "total": 9, "sent": sent, "done": done, "waiting_for": missing}


@pytest.mark.parametrize("terminal", [True, False])
def test_watch_shows_progress_and_returns_the_report(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a continuous integration's "dumb" terminal shows no progress
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    report = {"event": "report", "records": []}
    stream = [progress(4, 2), progress(9, 9, "the periodic task"), report]
    assert demo.watch(console, iter(stream), every=0.0) == report
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    if terminal:
        assert "Waiting for the periodic task" in text
    else:
        assert text.splitlines() == [
            "  4 of 9 tasks sent, 2 done",
            "  9 of 9 tasks sent, 9 done, waiting for the periodic task",
        ]


def test_watch_does_without_no_report() -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(demo.DemoError, match="without a report"):
        demo.watch(console, iter([progress(1, 0)]))


class Locked(BaseHTTPRequestHandler):
    """A page behind a password."""

    expected = "Basic " + base64.b64encode(b"admin:secret").decode()

    def do_GET(self) -> None:
        self.send_response(200 if self.headers.get("Authorization") == self.expected else 401)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Locked) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_pages_are_asked_without_and_with_their_password(port: int, tmp_path: Path) -> None:
    (tmp_path / "flower").write_text("secret\n")
    page = {"name": "Flower", "port": port, "check": "/api/workers", "user": "admin", "secret": "flower"}
    (asked,) = demo.ask_pages([page], [], "here", tmp_path)
    assert (asked.refused, asked.accepted) == (401, 200)
    assert asked.url == f"http://127.0.0.1:{port}"
    assert "secret" not in repr(asked).replace("secret=", "")


def test_a_page_whose_password_is_not_there(tmp_path: Path) -> None:
    page = {"name": "Flower", "port": 1, "check": "/", "user": "admin", "secret": "flower"}
    with pytest.raises(demo.DemoError, match="Flower: there is no password in"):
        demo.ask_pages([page], [], "here", tmp_path)


def test_status_of_nothing_is_nought() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Locked) as server:
        closed = server.server_port
    assert demo.status(f"http://127.0.0.1:{closed}/") == 0


@pytest.mark.parametrize(
    ("ports", "address"),
    [
        ({"5555/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]}, "127.0.0.1:49153"),
        ({"5555/tcp": None}, "172.18.0.2:5555"),
        (None, "172.18.0.2:5555"),
    ],
)
def test_address_of_a_container(monkeypatch: pytest.MonkeyPatch, ports: Any, address: str) -> None:
    settings = {"Ports": ports, "Networks": {"lab": {"IPAddress": "172.18.0.2"}}}
    monkeypatch.setattr(demo, "run", lambda _command: json.dumps(settings))
    assert demo.address(["docker", "exec", "--interactive", "c"], "app1", 5555) == address


def test_address_of_a_host() -> None:
    assert demo.address([], "app1", 5555) == "127.0.0.1:5555"
    assert demo.address(["sudo"], "app1", 5555) == "127.0.0.1:5555"
    assert demo.address(["ssh", "app1", "sudo"], "app1", 5555) == "app1:5555"


def test_main_ends_with_2_when_the_host_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> bool:
        raise demo.DemoError("the engine is not running")

    monkeypatch.setattr(demo, "demo", fail)
    assert demo.main([]) == 2
    assert "the engine is not running" in capsys.readouterr().out


@pytest.mark.parametrize(("happened", "code"), [(True, 0), (False, 1)])
def test_main_ends_with_1_when_something_did_not_happen(
    monkeypatch: pytest.MonkeyPatch, happened: bool, code: int
) -> None:
    monkeypatch.setattr(demo, "demo", lambda *_: happened)
    assert demo.main([]) == code


def answers(show: str, variables: dict[str, Any]) -> Any:
    """Return what to put in the place of `run`: an inventory of one host, and its systemd and processes."""
    listing = {"_meta": {"hostvars": {"here": variables}}, "celery_workers": {"hosts": ["here"]}}

    def run(command: list[str]) -> str:
        return json.dumps(listing) if command[0] == "ansible-inventory" else f"{show}----\n  7 1 shop\n"

    return run


SHOP = {"celery_app_name": "shop", "celery_worker_classes": {"default": {}}, "ansible_connection": "local"}
UP = "Id=celery-shop-default.service\nActiveState=active\nMainPID=7\n"


def test_a_stack_that_is_not_up_is_told_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "run", answers(UP.replace("=active", "=failed"), SHOP))
    monkeypatch.setattr(demo, "events", lambda *_: pytest.fail("something was sent"))
    assert demo.main([]) == 2
    assert "celery-shop-default.service: not running on here" in capsys.readouterr().out


def test_main_prints_what_happened_and_ends_with_1_when_that_is_too_little(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {"event": "report", "begin": 1.0, "end": 3.0, "records": [], "periodic": []}
    monkeypatch.setattr(demo, "run", answers(UP, SHOP))
    monkeypatch.setattr(demo, "events", lambda *_: iter([report]))
    assert demo.main([]) == 1
    text = capsys.readouterr().out
    assert "0 tasks in 2 s on here" in text
    assert "celery-shop-default" in text
    assert "make demo-down" in text
