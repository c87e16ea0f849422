"""How a worker is replaced: what stands in for it, in which order, and what is left when something fails."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worker_plans import unit_text

from ansible_collections.celeryops.stack.plugins.module_utils import handover, paths, stand_ins
from ansible_collections.celeryops.stack.plugins.module_utils.releases import store
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store
from ansible_collections.celeryops.stack.plugins.modules import roll


class Host:
    """A systemd with one worker class ``high``, as far as the module asks; it writes down what it was told."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.told: list[str] = []
        self.broken: set[str] = set()
        #: Units whose tasks do not end.
        self.long: set[str] = set()
        self.active = {"celery-shop-high.service"}
        self.check_mode = False
        self.params: dict[str, Any] = {}
        self.pids = {"celery-shop-high.service": 10}
        (base / "run" / "high").mkdir(parents=True)
        (base / "units").mkdir()
        (base / "etc").mkdir()
        (base / "etc" / "celery-shop-high.service").write_text(unit_text("high", queues=["payments"]))
        for name in ("old", "new"):
            (base / "opt" / "shop" / "releases" / name / "bin").mkdir(parents=True)
            (base / "opt" / "shop" / "releases" / name / "bin" / "python").write_text("")
        (base / "opt" / "shop" / "current").symlink_to("releases/old")
        self.runs = {10: "old"}

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        words = [word for word in command[1:] if word != "--" and not word.startswith("--")]
        if command[0] == "journalctl":
            return 0, "Traceback: boom", ""
        if command[0] == "/bin/sh":
            self._end(command[2])
            return 0, "", ""
        verb, units = words[0], words[1:]
        if verb == "show":
            if "--value" in command:
                return 0, "active\n" if units[0] in self.active else "inactive\n", ""
            return 0, "\n\n".join(self._show(name) for name in units), ""
        if verb == "reset-failed":
            return 0, "", ""
        self.told.append(" ".join([verb, *(name.removeprefix("celery-shop-") for name in units)]))
        for name in units:
            if verb in ("start", "restart", "stop"):
                self.active.discard(name)
            if verb in ("start", "restart"):
                if name in self.broken:
                    return 1, "", "Job failed"
                self._start(name)
        return 0, "", ""

    def _end(self, text: str) -> None:
        """As module_utils.handover.end says: the test of that runs it."""
        stopped = re.search(r"systemctl stop (\S+) ", text)
        assert stopped
        name = stopped[1]
        path = self.base / "units" / name
        if not path.exists():
            return
        self.told.append(f"end {name.removeprefix('celery-shop-')}")
        self.active.discard(name)
        if name in self.long:
            self.active.add(name.replace(".service", "-end.service"))
        else:
            path.unlink()

    def _start(self, name: str) -> None:
        self.active.add(name)
        self.pids[name] = pid = max(self.pids.values()) + 1
        self.runs[pid] = Store("shop").current
        folder = self.base / "run" / name.removeprefix("celery-shop-").removesuffix(".service")
        if name.endswith("_handover.service"):
            return
        folder.mkdir(exist_ok=True)
        report = {"format": 1, "pid": pid, "phase": "consuming", "interval": 10, "queues": ["payments"]}
        (folder / "worker.json").write_text(json.dumps(report))

    def _show(self, name: str) -> str:
        state = "active" if name in self.active else "inactive"
        pid = self.pids.get(name, 0) if name in self.active else 0
        fragment = self.base / "etc" / name
        return f"LoadState=loaded\nActiveState={state}\nFragmentPath={fragment}\nMainPID={pid}\n"

    def units(self) -> list[str]:
        return sorted(path.name for path in (self.base / "units").iterdir())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path / "opt"))
    monkeypatch.setattr(paths, "TRANSIENT_UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(roll, "PAUSE", 0.0)
    monkeypatch.setattr(stand_ins, "PAUSE", 0.0)
    monkeypatch.setattr(stand_ins, "PATIENCE", 0.0)
    for module in (roll, store):
        monkeypatch.setattr(
            module, "runs_in",
            lambda pid: f"{tmp_path}/opt/shop/releases/{host.runs[pid]}" if pid in host.runs else None,
        )  # fmt: skip
    return host


@pytest.fixture
def replace(host: Host) -> Callable[..., dict[str, Any]]:
    def run(**options: Any) -> dict[str, Any]:
        high = {
            "name": "high",
            "unit": "celery-shop-high.service",
            "report": str(host.base / "run" / "high" / "worker.json"),
            "queues": ["payments"],
        }
        defaults: dict[str, Any] = {
            "app": "shop",
            "classes": [high],
            "hand_over": [],
            "units": [],
            "reload_units": [],
            "release": "",
            "only_moved": False,
            "mode": "wait",
            "drain_seconds": 900,
            "timeout": 0,
            "discard": "",
            "after": False,
        }
        host.params = {**defaults, **options}
        one = roll.Roll(host)
        try:
            one.run()
        except roll.RollError as error:
            return one.result(str(error))
        return one.result("")

    return run


def test_where_others_work_a_restart_is_enough(host: Host, replace: Callable[..., Any]) -> None:
    found = replace()
    assert host.told == ["restart high.service"]
    assert (found["rolled"], found["stand_ins"], found["problem"]) == (["celery-shop-high.service"], [], "")


def test_somebody_consumes_before_the_old_worker_is_touched(host: Host, replace: Callable[..., Any]) -> None:
    found = replace(hand_over=["high"])
    assert [line for line in host.told if line != "daemon-reload"] == [
        "start high_standin.service",
        "restart high.service",
        "end high_standin.service",
    ]
    assert (found["stand_ins"], host.units()) == (["high"], [])


def test_nobody_waits_for_the_tasks_of_a_stand_in(host: Host, replace: Callable[..., Any]) -> None:
    """They may be those that the old worker was not given the time for, and it may be replaced again meanwhile."""
    host.long = {f"celery-shop-high{slot}.service" for slot in handover.SLOTS}
    for slot in handover.SLOTS:
        host.told.clear()
        assert replace(hand_over=["high"])["problem"] == ""
        assert [line for line in host.told if line != "daemon-reload"] == [
            f"start high{slot}.service",
            "restart high.service",
            f"end high{slot}.service",
        ]
    host.told.clear()
    assert "4 stand-ins of the class high still end their tasks" in replace(hand_over=["high"])["problem"]
    assert host.told == []


def test_a_release_whose_worker_does_not_start_stops_nobody(host: Host, replace: Callable[..., Any]) -> None:
    host.broken = {"celery-shop-high_standin.service"}
    found = replace(hand_over=["high"], release="new", only_moved=True)
    assert "restart high.service" not in host.told
    assert "Traceback: boom" in found["problem"]
    assert "was not touched" in found["problem"]
    assert host.units() == []
    assert "celery-shop-high.service" in host.active


def test_where_a_worker_does_not_come_back_its_stand_in_works(host: Host, replace: Callable[..., Any]) -> None:
    host.broken = {"celery-shop-high.service"}
    found = replace(hand_over=["high"])
    assert "systemctl restart celery-shop-high.service failed" in found["problem"]
    assert "Its stand-in goes on working." in found["problem"]
    assert "celery-shop-high_standin.service" in host.active
    host.broken.clear()
    host.told.clear()
    assert replace(hand_over=["high"])["problem"] == ""
    assert (host.told, host.units()) == (["restart high.service", "end high_standin.service"], [])


def test_a_release_is_switched_to_and_only_who_runs_another_is_replaced(
    host: Host, replace: Callable[..., Any]
) -> None:
    found = replace(release="new", only_moved=True, hand_over=["high"])
    assert (found["previous"], found["problem"]) == ("old", "")
    assert Store("shop").current == "new"
    assert host.runs[host.pids["celery-shop-high.service"]] == "new"
    host.told.clear()
    again = replace(release="new", only_moved=True, hand_over=["high"])
    assert (host.told, again["changed"]) == ([], False)


def test_going_back_restarts_only_what_ran_the_bad_release(host: Host, replace: Callable[..., Any]) -> None:
    replace(release="new", only_moved=True, classes=[], after=True)
    # What comes after the switch is due until it was done; nothing is after the way back.
    assert Store("shop").history["after"] == "releases/new"
    back = replace(release="old", only_moved=True, discard="new")
    assert Store("shop").history["after"] == ""
    assert host.told == []
    assert back["rolled"] == []
    assert not (host.base / "opt" / "shop" / "releases" / "new").exists()


def test_a_release_that_is_not_there_changes_nothing(host: Host, replace: Callable[..., Any]) -> None:
    assert "is not on this host" in replace(release="nowhere")["problem"]
    assert host.told == []


def test_what_an_aborted_run_left_goes_first(host: Host, replace: Callable[..., Any]) -> None:
    (host.base / "units" / "celery-shop-high_standin.service").write_text("")
    (host.base / "units" / "celery-shop-gone_standin.service").write_text("")
    (host.base / "units" / "celery-shop-bulk.service").write_text("somebody's own")
    replace()
    assert host.told[:2] == ["end gone_standin.service", "end high_standin.service"]
    assert host.units() == ["celery-shop-bulk.service"]


def test_a_stand_in_that_works_alone_goes_last(host: Host, replace: Callable[..., Any]) -> None:
    (host.base / "units" / "celery-shop-high_standin.service").write_text("")
    host.active.clear()
    replace()
    assert host.told == ["restart high.service", "end high_standin.service"]
    assert host.units() == []


def test_a_handover_that_failed_goes_when_the_worker_is_back(host: Host, replace: Callable[..., Any]) -> None:
    replace(mode="drain")
    host.active = {"celery-shop-high_standin.service"}
    replace(mode="drain")
    assert host.units() == []
    replace(mode="drain")
    host.active = {"celery-shop-high.service"}
    found = replace()
    assert found["actions"][0] == (
        "end celery-shop-high_standin.service and celery-shop-high_handover.service, left by an aborted run"
    )
    assert host.units() == []


def test_nobody_waits_for_old_tasks_in_mode_drain(host: Host, replace: Callable[..., Any]) -> None:
    found = replace(mode="drain")
    assert [line for line in host.told if line != "daemon-reload"] == [
        "start high_standin.service",
        "start high_handover.service",
    ]
    assert found["stand_ins"] == ["high"]
    assert (host.base / "run" / "high" / "drain").read_text() == "900\n"
    assert host.units() == ["celery-shop-high_handover.service", "celery-shop-high_standin.service"]


def test_while_an_old_worker_drains_only_its_stand_in_is_replaced(host: Host, replace: Callable[..., Any]) -> None:
    replace(mode="drain")
    host.told.clear()
    replace(mode="drain")
    assert [line for line in host.told if line != "daemon-reload"] == [
        "start high_standin2.service",
        "end high_standin.service",
    ]
    assert host.units() == ["celery-shop-high_handover.service", "celery-shop-high_standin2.service"]


def test_a_stand_in_that_fails_to_replace_another_leaves_that_one(host: Host, replace: Callable[..., Any]) -> None:
    replace(mode="drain")
    host.broken = {"celery-shop-high_standin2.service"}
    assert "Traceback: boom" in replace()["problem"]
    assert host.units() == ["celery-shop-high_handover.service", "celery-shop-high_standin.service"]
    assert "celery-shop-high_standin.service" in host.active


def test_word_is_left_beside_no_link(host: Host, replace: Callable[..., Any]) -> None:
    """The directory is the app's, which must not have root write where it wants."""
    precious = host.base / "precious"
    precious.write_text("untouched")
    (host.base / "run" / "high" / "drain").symlink_to(precious)
    replace(mode="drain")
    assert precious.read_text() == "untouched"
    assert not (host.base / "run" / "high" / "drain").is_symlink()


def test_a_dry_run_only_tells(host: Host, replace: Callable[..., Any]) -> None:
    host.check_mode = True
    found = replace(hand_over=["high"], release="new", units=["celery-shop-beat.service"], reload_units=["web.service"])
    assert host.told == []
    assert found["actions"] == [
        "switch to new",
        "restart celery-shop-high.service, with a stand-in",
        "restart celery-shop-beat.service",
        "reload or restart web.service",
    ]
    assert "current -> new" in found["diff"]["after"]
    assert Store("shop").current == "old"


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ({"queues": ["mails"]}, "it consumes mails, and not payments"),
        ({"pid": 3}, "its report is of process 3"),
        ({"phase": "offline"}, "no connection to the broker"),
    ],
)
def test_a_worker_has_to_do_what_its_class_says(
    replace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, report: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(
        roll,
        "read_report",
        lambda _path: (
            {"format": 1, "pid": 11, "phase": "consuming", "interval": 10, "queues": ["payments"], **report},
            time.time(),
        ),
    )
    assert told in replace()["problem"]


def test_a_worker_of_another_release_is_no_success(host: Host, replace: Callable[..., Any]) -> None:
    host.runs = dict.fromkeys(range(20), "elsewhere")
    host._start = host.active.add  # type: ignore[method-assign]
    (host.base / "run" / "high" / "worker.json").write_text(
        json.dumps({"format": 1, "pid": 10, "phase": "consuming", "interval": 10, "queues": ["payments"]})
    )
    assert "elsewhere, and not from" in replace()["problem"]
