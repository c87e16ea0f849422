"""What a server holds before and after its restart, and the run that ends when something is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.doc_fragments.servers import ModuleDocFragment
from ansible_collections.celeryops.stack.plugins.module_utils import server_contents
from ansible_collections.celeryops.stack.plugins.module_utils.file_placer import Placer
from ansible_collections.celeryops.stack.plugins.module_utils.redis_found import keyspace
from ansible_collections.celeryops.stack.plugins.module_utils.server_contents import (
    contents,
    lost,
    lost_by_restart,
    missing_keys,
)
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Actions
from ansible_collections.celeryops.stack.plugins.modules import units

RABBITMQ = {"unit": "rabbitmq-server.service", "kind": "rabbitmq", "username": "", "password": "", "before": None}
REDIS = {"unit": "redis-server.service", "kind": "redis", "username": "admin", "password": "x", "before": None}
DAY = 86_400_000


def text(messages: int) -> str:
    """Return what a RabbitMQ with one queue says."""
    return f"vhost {b'v'.hex()} 0\nqueue {b'v'.hex()} {b'q'.hex()} lasting {messages} {messages} 0\nok\n"


class Host:
    """Answers commands; ``said`` is what rabbitmqctl says, call for call, the last one again and again."""

    def __init__(self, *said: str, state: str = "active") -> None:
        self.said, self.state = list(said), state
        self.calls: list[str] = []

    def __call__(self, command: Sequence[str]) -> str:
        if command[:2] == ["systemctl", "is-active"]:
            return f"{self.state}\n"
        self.calls.append(command[0])
        return self.said[min(len(self.calls), len(self.said)) - 1]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_contents, "PAUSE", 0)


def test_a_server_that_does_not_run_is_not_asked() -> None:
    host = Host(text(1), state="inactive")
    assert contents(RABBITMQ, host) == {}
    assert host.calls == []


def test_what_was_not_told_to_the_end_is_not_known() -> None:
    assert contents(RABBITMQ, Host("Error: no")) == {}
    assert contents(RABBITMQ, Host(text(1)[:-4])) == {}
    assert contents(RABBITMQ, Host(text(1))) == {"text": text(1)}


def test_nothing_is_lost_that_was_not_known() -> None:
    known = {"text": text(1)}
    assert lost(RABBITMQ, {}, known) == lost(RABBITMQ, known, {}) == []
    assert lost(RABBITMQ, known, {"text": text(0)}) == ["1 messages of queue q in virtual host v"]


def test_a_server_has_some_time_to_read_what_it_has() -> None:
    host = Host(text(0), text(0), text(5))
    assert lost_by_restart(RABBITMQ, {"text": text(5)}, host) == []
    assert len(host.calls) == 3
    host = Host(text(0))
    assert lost_by_restart(RABBITMQ, {"text": text(5)}, host) == ["5 messages of queue q in virtual host v"]
    assert len(host.calls) == server_contents.TRIES


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [
        ("db0:keys=40,expires=0,avg_ttl=0", "db0:keys=40,expires=0,avg_ttl=0", []),
        ("", "db0:keys=40,expires=0,avg_ttl=0", []),
        ("db0:keys=40,expires=0,avg_ttl=0", "", ["40 of 40 keys of database 0"]),
        ("db0:keys=1,expires=0,avg_ttl=0", "", ["1 of 1 keys of database 0"]),
        # Some come and go.
        ("db0:keys=40,expires=0,avg_ttl=0", "db0:keys=21,expires=0,avg_ttl=0", []),
        ("db0:keys=40,expires=0,avg_ttl=0", "db0:keys=19,expires=0,avg_ttl=0", ["21 of 40 keys of database 0"]),
        ("db0:keys=19,expires=0,avg_ttl=0", "db0:keys=1,expires=0,avg_ttl=0", []),
        # Results live for a day; what lives for a minute may be gone.
        (f"db0:keys=40,expires=40,avg_ttl={DAY}", "", ["40 of 40 keys of database 0"]),
        ("db0:keys=40,expires=40,avg_ttl=60000", "", []),
        ("db0:keys=40,expires=39,avg_ttl=60000", "", ["1 of 1 keys of database 0"]),
        ("db0:keys=4,expires=0,avg_ttl=0\r\ndb3:keys=2,expires=0,avg_ttl=0,subexpiry=0",
         "db0:keys=4,expires=0,avg_ttl=0", ["2 of 2 keys of database 3"]),
    ],
)  # fmt: skip
def test_which_keys_a_restart_must_not_lose(before: str, after: str, missing: list[str]) -> None:
    assert missing_keys(keyspace(before), keyspace(after)) == missing


class FailedError(Exception):
    """The module ended with a message."""


class Module:
    def __init__(self, host: Host, **params: Any) -> None:
        self.host, self.params, self.check_mode = host, params, False

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        return 0, self.host(command) if command[0] in ("rabbitmqctl", "systemctl") else "", ""

    def fail_json(self, msg: str, **_more: Any) -> None:
        raise FailedError(msg)


def restarted(host: Host, monkeypatch: pytest.MonkeyPatch, **server: Any) -> None:
    """Run what the module units does when RabbitMQ has to be restarted."""
    module = Module(host, servers=[{**RABBITMQ, **server}])
    monkeypatch.setattr(units, "show", lambda _module, _names: {})
    monkeypatch.setattr(units.Units, "_systemctl", lambda *_: None)
    outlook = units.Outlook(Actions(restart=[RABBITMQ["unit"] or ""]), [], reload_needed=False)
    units.Units(module)._act(outlook)  # type: ignore[arg-type]


def test_a_restart_that_loses_something_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FailedError, match=r"lacks what it held before: 5 messages of queue q .*rabbitmq_node_name"):
        restarted(Host(text(5), text(0)), monkeypatch)
    restarted(Host(text(5), text(5)), monkeypatch)


def test_what_was_held_before_the_files_were_replaced_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FailedError, match="7 messages of queue q"):
        restarted(Host(text(0)), monkeypatch, before={"text": text(7)})


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/etc/rabbitmq/rabbitmq.conf", True),
        ("/etc/systemd/system/rabbitmq-server.service.d/celeryops.conf", True),
        ("/etc/rabbitmq/definitions.json", False),
    ],
)
def test_a_server_is_asked_when_a_file_that_restarts_it_is_about_to_be_replaced(path: str, *, asked: bool) -> None:
    unit = {"name": RABBITMQ["unit"], "restart_on": ["/etc/rabbitmq/rabbitmq.conf"]}
    placer = Placer(Module(Host(text(5)), units=[unit], servers=[RABBITMQ]))  # type: ignore[arg-type]
    placer.staged = [("/tmp/x", {"path": path})]
    placer._ask_servers()
    assert placer.held == ({RABBITMQ["unit"]: {"text": text(5)}} if asked else {})


def test_what_is_documented_is_what_the_modules_take() -> None:
    def plain(option: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in option.items() if key not in ("description", "no_log")}
        inner = kept.pop("suboptions", None) or kept.pop("options", None)
        return {**kept, "options": {name: plain(one) for name, one in inner.items()}} if inner else kept

    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["servers"]
    assert plain(documented) == plain(server_contents.OPTION)
