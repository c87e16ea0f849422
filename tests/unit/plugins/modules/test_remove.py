"""The module that removes: nothing goes while something speaks against it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.removal import Removal
from ansible_collections.celeryops.stack.plugins.modules import remove

UNITS = ["celery-shop-beat.service", "celery-shop-high.service", "celery-shop-low.service"]


class EndError(Exception):
    """The module ended; ``failed`` and what it said are in it."""


class Host:
    """Stands for systemd and the module's surroundings."""

    def __init__(self, **params: Any) -> None:
        self.params = {
            "app": "shop", "servers": False, "data": False, "messages": False, "phase": "all", "units": [], **params,
        }  # fmt: skip
        self.check_mode = False
        self.states = dict.fromkeys(UNITS, "active")
        self.stubborn = ""
        self.calls: list[list[str]] = []
        self.locked: list[str] = []
        self.held_while_removing: list[str] = []

    def run_command(self, words: list[str], **_options: Any) -> tuple[int, str, str]:
        self.calls.append(words)
        if words[:2] == ["systemctl", "is-active"]:
            state = self.states[words[-1]]
            return 0 if state == "active" else 3, f"{state}\n", ""
        if words[:2] == ["systemctl", "stop"] and words[-1] == self.stubborn:
            return 1, "", "timeout"
        return 0, "", ""

    def fail_json(self, **said: Any) -> None:
        raise EndError({"failed": True, **said})

    def exit_json(self, **said: Any) -> None:
        raise EndError({"failed": False, **said})

    def did(self, verb: str) -> list[str]:
        return [
            unit for words in self.calls if words[:2] == ["systemctl", verb] for unit in words[2:] if unit[0] != "-"
        ]


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    own = SimpleNamespace(waiting=[{}], users=[], held=[], removed=[])

    @contextlib.contextmanager
    def locked(app: str) -> Iterator[None]:
        own.held.append(app)
        yield
        own.held.remove(app)

    def waits(_self: Any, _app: str, _users: Any) -> Any:
        return own.waiting.pop(0) if len(own.waiting) > 1 else own.waiting[0]

    def removes(_self: Any, removal: Removal) -> None:
        own.removed.append((tuple(removal.units), tuple(own.held)))

    monkeypatch.setattr(remove, "locked", locked)
    monkeypatch.setattr(remove, "of_app", lambda *_, **__: Removal(units=list(UNITS), accounts=["shop"]))
    monkeypatch.setattr(remove, "users_of", lambda *_: own.users)
    monkeypatch.setattr(remove.Remover, "_marked", staticmethod(list))
    monkeypatch.setattr(remove.Remover, "_apps", lambda _self: ["shop"])
    monkeypatch.setattr(remove.Remover, "_waiting", waits)
    monkeypatch.setattr(remove.Remover, "_remove", removes)
    monkeypatch.setattr(remove.Remover, "_tidy", lambda _self: None)
    return own


TIDY = remove.Remover._tidy


def run(host: Host) -> dict[str, Any]:
    with pytest.raises(EndError) as end:
        remove.Remover(host).run()  # type: ignore[arg-type]
    said: dict[str, Any] = end.value.args[0]
    return said


def test_all_goes_while_the_app_is_locked(around: SimpleNamespace) -> None:
    said = run(Host())
    assert (said["failed"], around.removed, around.held) == (False, [(tuple(UNITS), ("shop",))], [])


def test_a_unit_that_does_not_end_starts_the_others_again(around: SimpleNamespace) -> None:
    host = Host()
    host.stubborn = UNITS[2]
    # One that waits to be started again runs as well; one that is off stays off.
    host.states.update({UNITS[1]: "activating", UNITS[2]: "inactive"})
    said = run(host)
    assert said["failed"]
    assert said["msg"] == f"{UNITS[2]} could not be stopped: timeout; nothing was removed"
    assert (host.did("start"), around.removed) == (UNITS[:2], [])


def test_what_workers_give_back_keeps_the_app(around: SimpleNamespace) -> None:
    around.waiting = [{"high": 0}, {"high": 2}]
    host = Host()
    said = run(host)
    assert "2 in high" in said["msg"]
    assert (host.did("start"), around.removed) == (UNITS, [])


def test_who_uses_the_app_is_told_before_anything_ends(around: SimpleNamespace) -> None:
    around.users = ["gunicorn (pid 7)"]
    for host in (Host(), Host(messages=True), Host(phase="stop")):
        said = run(host)
        assert (said["failed"], "gunicorn (pid 7) uses shop" in said["msg"]) == (True, True)
        assert (host.calls, around.removed) == ([], [])


def test_hosts_stop_before_any_removes(around: SimpleNamespace) -> None:
    host = Host(phase="stop")
    said = run(host)
    assert (said["running"], said["refused"], said["changed"], around.removed) == (UNITS, "", True, [])
    host.stubborn = UNITS[1]
    assert (UNITS[1] in run(host)["refused"], host.did("start")) == (True, UNITS)
    again = Host(phase="start", units=UNITS[:1])
    assert (run(again)["changed"], again.did("start")) == (True, UNITS[:1])
    foretold = Host(phase="stop")
    foretold.check_mode = True
    assert (run(foretold)["running"], foretold.calls) == ([], [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "whether tasks of rabbitmq wait is not known"),
        ("queue 73 66 lasting 3 3 0\nok", "tasks of rabbitmq wait: 3 in s/f"),
        ("queue 73 66 lasting unknown unknown 0\nok", "the queue s/f does not say what it holds"),
        ("queue 73 66 lasting 0 0 0\nqueue 73 67 fleeting 9 9 1\nok", ""),
    ],
)
def test_data_of_a_server_go_when_it_holds_no_messages(
    monkeypatch: pytest.MonkeyPatch, around: SimpleNamespace, text: str, says: str
) -> None:
    ours = Removal(units=["rabbitmq-server.service"], packages=["rabbitmq-server"])
    monkeypatch.setattr(remove, "of_server", lambda kind, **_: ours if kind == "rabbitmq" else Removal())
    monkeypatch.setattr(remove, "contents", lambda _server, _run: {"text": text} if text else {})
    everything = {"app": "", "servers": True, "data": True}
    said = run(Host(**everything))
    assert said["failed"] is bool(says)
    assert says in said.get("msg", "")
    assert bool(around.removed) is not bool(says)
    # Without the data they stay where they are.
    assert not run(Host(**{**everything, "data": False}))["failed"]
    assert not run(Host(**everything, messages=True))["failed"]


@pytest.mark.parametrize(
    ("options", "other", "mark", "stays"),
    [
        ({}, True, True, {"UV", "CACHE", "RUN_COMMAND", "PLACED"}),
        ({}, False, True, {"PLACED"}),
        ({}, False, False, {"RUN_COMMAND", "PLACED"}),
        ({"servers": True}, False, True, {"PLACED"}),
        ({"servers": True, "data": True}, False, True, set()),
    ],
)
def test_what_all_apps_share_goes_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], other: bool, mark: bool, stays: set[str]
) -> None:
    places = {
        "UV": "opt/uv",
        "CACHE": "cache",
        "RUN_COMMAND": "run",
        "PLACED": "record",
        "LOCKS": "lock",
        "RECEIPTS": "receipts",
    }
    for name, place in places.items():
        monkeypatch.setattr(paths, name, str(tmp_path / place))
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n# Managed by celeryops.stack (role celery_app). x\n" if mark else "#!/bin/sh\n")
    monkeypatch.setattr(remove, "PARENTS", ())
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path / "opt"))
    monkeypatch.setattr(paths, "DYNAMIC_STATE", str(tmp_path / "nowhere"))
    if other:
        (tmp_path / "opt/blog").mkdir()
    TIDY(remove.Remover(Host(**options)))  # type: ignore[arg-type]
    left = {name for name, place in places.items() if (tmp_path / place).exists()}
    assert left - {"LOCKS", "RECEIPTS"} == stays
