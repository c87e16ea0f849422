"""What the module takes away from a server: only what is proven to be missed by nobody, at the moment it goes."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import rabbitmq_reconciler
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_api import Api
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_differences import record_name


class EndedError(Exception):
    """The module is done."""


class Server:
    """A RabbitMQ with some queues, seen through its API, and through rabbitmqctl.

    Arguments:
        queues: name -> what the statistics say of it; an empty dict in the first seconds after a start.
        answers: what the queues themselves say, look for look; the last one again and again.
    """

    def __init__(self, queues: dict[str, dict[str, Any]], answers: Sequence[str], *, kind: str = "classic") -> None:
        self.queues, self.answers, self.looks = queues, list(answers), 0
        self.removed: list[str] = []
        self.parameters: dict[str, Any] = {}
        self.in_use: set[str] = set()
        self.nodes: tuple[int, Any] = (500, "asked although nobody wants to know")
        self.flags: list[dict[str, str]] = []
        arguments = {"x-queue-type": kind}
        mine = {"vhosts": [["v"]], "queues": [["shop", name] for name in queues], "exchanges": [["shop", "e"]]}
        self.definitions: dict[str, Any] = {
            "vhosts": [{"name": "shop"}, {"name": "v"}],
            "queues": [
                {"vhost": "shop", "name": name, "durable": True, "auto_delete": False, "arguments": arguments}
                for name in queues
            ],
            "exchanges": [{"vhost": "shop", "name": "e", "type": "direct"}],
            "global_parameters": [{"name": record_name("celeryops"), "value": mine}],
        }

    @property
    def record(self) -> dict[str, Any]:
        """What the module says that it made."""
        made: dict[str, Any] = self.parameters[record_name("celeryops")]
        return made

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        plain, _sign, condition = unquote(path).partition("?")
        if method == "DELETE":
            if condition and plain in self.in_use:
                return 400, {"reason": "in use"}
            self.removed.append(unquote(path))
            return 204, None
        if method == "PUT" and plain.startswith("feature-flags/"):
            (flag,) = (flag for flag in self.flags if flag["name"] == plain.split("/")[1])
            flag["state"] = "enabled"
            return 204, None
        if plain == "feature-flags":
            return 200, [dict(flag) for flag in self.flags]
        if method == "POST":
            self.parameters |= {entry["name"]: entry["value"] for entry in body.get("global_parameters", [])}
            return 204, None
        if plain == "definitions":
            return 200, self.definitions
        if plain == "nodes":
            return self.nodes
        if plain.startswith("queues/shop/"):
            return 200, self.queues[plain.split("/")[2]]
        return 200, []

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        assert command[0] == "rabbitmqctl"
        answer = self.answers[min(self.looks, len(self.answers) - 1)]
        self.looks += 1
        return 0, answer, ""


def line(name: str, messages: object = 0, consumers: object = 0) -> str:
    """Return what a queue says of itself."""
    return f"queue {b'shop'.hex()} {name.encode().hex()} lasting {messages} {messages} {consumers}\n"


IDLE_VHOST = f"vhost {b'v'.hex()} 0\n"


def run(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    *,
    check_mode: bool = False,
    prune: list[str] | None = None,
    found: str = "",
    open_files: int = 0,
) -> tuple[dict[str, Any], list[str]]:
    """Run the module with an inventory that declares nothing but the virtual host shop."""
    result: dict[str, Any] = {}
    warnings: list[str] = []

    class Module:
        def __init__(self) -> None:
            self.params = {
                "definitions": {"vhosts": [{"name": "shop"}]}, "passwords": {}, "password_hashes": {},
                "owner": "celeryops", "prune": prune or [], "found": {"text": found} if found else {},
                "login_user": "admin", "timeout": 1, "open_files": open_files,
            }  # fmt: skip
            self.check_mode = check_mode
            self.run_command = server.run_command
            self.warn = warnings.append

        def exit_json(self, **told: Any) -> None:
            result.update(told)
            raise EndedError

    monkeypatch.setattr(rabbitmq_reconciler, "Api", lambda _params: server)
    with pytest.raises(EndedError):
        rabbitmq_reconciler.Reconciler(Module()).run()  # type: ignore[arg-type]
    return result, warnings


def test_what_is_proven_to_be_empty_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {"messages": 0, "consumers": 0}}, [line("old") + IDLE_VHOST])
    result, warnings = run(server, monkeypatch)
    assert sorted(server.removed) == [
        "exchanges/shop/e?if-unused=true",
        "queues/shop/old?if-empty=true&if-unused=true",
        "vhosts/v",
    ]
    assert sorted(result["changes"]) == ["remove exchange shop/e", "remove queue shop/old", "remove vhost v"]
    assert warnings == []
    assert server.record == {"vhosts": [["shop"]]}


@pytest.mark.parametrize("statistics", [{}, {"messages": 0, "consumers": 0}])
@pytest.mark.parametrize("said", [line("old", 5), line("old", 0, 1), line("old", "unknown", "unknown"), ""])
def test_a_queue_stays_unless_it_proves_to_be_empty(
    monkeypatch: pytest.MonkeyPatch, statistics: dict[str, Any], said: str
) -> None:
    server = Server({"old": statistics}, [said + IDLE_VHOST], kind="quorum")
    result, warnings = run(server, monkeypatch)
    assert "queues/shop/old" not in server.removed
    assert "remove queue shop/old" not in result["changes"]
    assert [text.split(" is no longer")[0] for text in warnings] == ["queue shop/old"]
    # A later run takes it away.
    assert server.record["queues"] == [["shop", "old"]]


@pytest.mark.parametrize(
    "said", ["", f"vhost {b'v'.hex()} 1\n", f"{IDLE_VHOST}queue {b'v'.hex()} {b'q'.hex()} lasting 5 5 0\n"]
)
def test_a_virtual_host_stays_unless_it_proves_to_be_empty(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    server = Server({}, [said])
    _result, warnings = run(server, monkeypatch)
    assert "vhosts/v" not in server.removed
    assert [text.split(" is no longer")[0] for text in warnings] == ["vhost v"]
    assert server.record["vhosts"] == [["shop"], ["v"]]


def test_what_is_used_since_the_first_look_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {}}, [line("old") + IDLE_VHOST, line("old", 1) + IDLE_VHOST], kind="quorum")
    result, _warnings = run(server, monkeypatch)
    assert "queues/shop/old" not in server.removed
    assert "remove queue shop/old" not in result["changes"]


def test_the_server_has_the_last_word_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {}}, [line("old") + IDLE_VHOST])
    server.in_use = {"queues/shop/old", "exchanges/shop/e"}
    result, warnings = run(server, monkeypatch)
    assert (server.removed, result["changes"]) == (["vhosts/v"], ["remove vhost v"])
    assert len(warnings) == 2
    assert server.record == {"vhosts": [["shop"]], "queues": [["shop", "old"]], "exchanges": [["shop", "e"]]}


def test_a_virtual_host_that_cannot_be_asked_for_its_queues_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {}}, [line("old") + IDLE_VHOST])
    answer = server.call

    def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        failed = 500, {"error": "Internal Server Error", "reason": "timeout"}
        return failed if (method, path) == ("GET", "queues/v") else answer(method, path, body)

    monkeypatch.setattr(server, "call", call)
    result, _warnings = run(server, monkeypatch)
    assert sorted(result["changes"]) == ["remove exchange shop/e", "remove queue shop/old"]


def test_an_exchange_that_may_hold_messages_itself_stays_and_so_does_its_virtual_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server({"old": {}}, [line("old") + IDLE_VHOST])
    for entry in server.definitions["exchanges"]:
        entry["type"] = "x-delayed-message"
    server.definitions["exchanges"].append({"vhost": "v", "name": "later", "type": "x-delayed-message"})
    result, warnings = run(server, monkeypatch)
    assert result["changes"] == ["remove queue shop/old"]
    assert sorted(text.partition(" is no longer")[0] for text in warnings) == ["exchange shop/e", "vhost v"]


def test_a_dry_run_removes_nothing_and_says_what_would_go(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {}}, [line("old", 3) + IDLE_VHOST])
    result, warnings = run(server, monkeypatch, check_mode=True)
    assert server.removed == []
    assert sorted(result["changes"]) == ["remove exchange shop/e", "remove vhost v"]
    assert len(warnings) == 1


def test_what_the_statistics_show_in_use_costs_no_second_question(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {"messages": 7}}, [""])
    server.definitions["vhosts"] = [{"name": "shop"}]
    server.definitions["exchanges"] = []
    run(server, monkeypatch)
    assert server.looks == 0


@pytest.mark.parametrize(
    ("connections", "goes"),
    [([], True), ([{"user": "other"}], True), ([{"user": "other"}, {"user": "old"}], False), ([{}], False)],
)
def test_a_user_goes_when_nobody_is_connected_as_it(
    monkeypatch: pytest.MonkeyPatch, connections: list[dict[str, str]], goes: bool
) -> None:
    server = Server({}, [""])
    permission = {"user": "old", "vhost": "shop", "configure": "", "write": "", "read": ".*"}
    server.definitions |= {"vhosts": [{"name": "shop"}], "exchanges": []}
    server.definitions |= {"users": [{"name": "old", "tags": [], "password_hash": "x"}], "permissions": [permission]}
    mine = {"vhosts": [["shop"]], "users": [["old"]], "permissions": [["shop", "old"]]}
    server.definitions["global_parameters"] = [{"name": record_name("celeryops"), "value": mine}]
    answer = server.call
    monkeypatch.setattr(
        server,
        "call",
        lambda method, path, body=None: (200, connections) if "connections" in path else answer(method, path, body),
    )
    _result, warnings = run(server, monkeypatch)
    assert bool(server.removed) is goes
    assert any("user old" in text for text in warnings) is not goes
    if not goes:
        assert server.record["users"] == [["old"]]


def test_what_was_there_before_is_remembered_with_the_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {}}, [""])
    server.definitions["global_parameters"] = []
    result, _warnings = run(server, monkeypatch, found=line("old") + IDLE_VHOST)
    assert server.parameters["celeryops_found"] == {"vhosts": [["v"]], "queues": [["shop", "old"]]}
    assert result["changes"] == ["set global parameter celeryops_found"]


def test_what_was_there_before_is_not_remembered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {"messages": 1}}, [IDLE_VHOST])
    run(server, monkeypatch, found=line("old") + IDLE_VHOST)
    assert "celeryops_found" not in server.parameters


def test_what_was_there_before_stays_unless_its_kind_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"old": {}}, [line("old") + IDLE_VHOST])
    remembered = {"name": "celeryops_found", "value": {"vhosts": [["v"]], "queues": [["shop", "old"]]}}
    server.definitions["global_parameters"].append(remembered)
    result, warnings = run(server, monkeypatch)
    assert (result["changes"], warnings) == (["remove exchange shop/e"], [])
    result, _warnings = run(server, monkeypatch, prune=["vhosts"])
    assert sorted(result["changes"]) == ["remove exchange shop/e", "remove vhost v"]


def test_many_are_asked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"q{number}" for number in range(120)]
    server = Server({name: {} for name in names}, ["".join(map(line, names)) + IDLE_VHOST])
    run(server, monkeypatch)
    assert len(server.removed) == 122
    assert server.looks == 6


class Impatient(http.server.BaseHTTPRequestHandler):
    """A management API that keeps a connection open, and ends it as soon as nothing more comes."""

    protocol_version = "HTTP/1.1"
    timeout = 0.05

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


def test_a_connection_that_the_server_has_ended_meanwhile_is_no_failure() -> None:
    """RabbitMQ ends one that is idle for five seconds, and rabbitmqctl may take longer than that."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Impatient) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = {"api_host": "127.0.0.1", "api_port": server.server_address[1]}
        api = Api({**address, "login_user": "admin", "login_password": "x"})
        assert api.call("GET", "definitions") == (200, {})
        time.sleep(0.3)
        assert api.call("GET", "definitions") == (200, {})
        server.shutdown()


@pytest.mark.parametrize(
    ("nodes", "warned"),
    [
        ((200, [{"name": "rabbit@a", "fd_total": 20000}, {"name": "rabbit@b", "fd_total": 30000}]), ["rabbit@a"]),
        ((200, [{"name": "rabbit@a", "fd_total": 29999}]), ["rabbit@a"]),
        ((200, [{"name": "rabbit@a", "fd_total": 0}, {"name": "rabbit@b"}, {"fd_total": "unknown"}]), []),
        ((401, {"error": "not_authorized"}), []),
    ],
)
def test_a_node_that_may_open_too_few_files_is_told(
    monkeypatch: pytest.MonkeyPatch, nodes: tuple[int, Any], warned: list[str]
) -> None:
    server = Server({}, [IDLE_VHOST])
    server.nodes = nodes
    _result, warnings = run(server, monkeypatch, open_files=30000)
    told = [text for text in warnings if text.startswith("rabbitmq_open_files: ")]
    assert [text.split()[1] for text in told] == warned
    assert all("need 30000" in text for text in told)
    _result, warnings = run(server, monkeypatch)
    assert [text for text in warnings if text.startswith("rabbitmq_open_files: ")] == []


FLAGS = [
    {"name": "old", "state": "enabled", "stability": "required"},
    {"name": "new", "state": "disabled", "stability": "stable"},
    {"name": "risky", "state": "disabled", "stability": "experimental"},
    # Of a cluster in which a node does not know it yet.
    {"name": "early", "state": "unavailable", "stability": "stable"},
]


def test_an_upgrade_ends_with_its_feature_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({}, [""])
    server.flags = [dict(flag) for flag in FLAGS]
    # RabbitMQ refuses while a node is away: the next run does it.
    server.nodes = (200, [{"name": "a", "running": True}, {"name": "b", "running": False}])
    assert "enable feature flag new" not in run(server, monkeypatch)[0]["changes"]
    server.nodes = (200, [{"name": "a", "running": True}])
    told, _warnings = run(server, monkeypatch, check_mode=True)
    assert "enable feature flag new" in told["changes"]
    assert server.flags == FLAGS
    told, _warnings = run(server, monkeypatch)
    assert "enable feature flag new" in told["changes"]
    assert '"feature flag new": "enabled"' in told["diff"]["after"]
    assert [flag["state"] for flag in server.flags] == ["enabled", "enabled", "disabled", "unavailable"]
    assert "enable feature flag new" not in run(server, monkeypatch)[0]["changes"]
