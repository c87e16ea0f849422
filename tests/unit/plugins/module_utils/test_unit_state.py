"""What is found out about units and the files that they read."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.celeryops.stack.plugins.module_utils import unit_state
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Actions
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import Outlook, last_change, runs_in


def test_a_directory_is_as_new_as_the_newest_file_below_it_and_bytecode_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "package" / "sub").mkdir(parents=True)
    (tmp_path / "package" / "a.py").write_text("")
    inner = tmp_path / "package" / "sub" / "b.py"
    inner.write_text("")
    newest = inner.stat().st_ctime
    (tmp_path / "package" / "__pycache__").mkdir()
    (tmp_path / "package" / "__pycache__" / "a.pyc").write_text("")
    assert last_change(str(tmp_path / "package")) == newest
    time.sleep(0.05)  # the kernel stamps files by a clock of a few milliseconds
    inner.write_text("x = 1")
    assert last_change(str(tmp_path / "package")) == inner.stat().st_ctime > newest


def test_a_link_is_as_new_as_itself(tmp_path: Path) -> None:
    target = tmp_path / "releases"
    target.mkdir()
    link = tmp_path / "current"
    link.symlink_to(target)
    time.sleep(0.05)  # the kernel stamps files by a clock of a few milliseconds
    (target / "file").write_text("")
    assert last_change(str(link)) == os.lstat(link).st_ctime < os.lstat(target / "file").st_ctime


@pytest.mark.parametrize(
    "outlook",
    [
        Outlook(Actions(enable=["a.service"]), [], reload_needed=False),
        Outlook(Actions(), ["old.service"], reload_needed=False),
        Outlook(Actions(), [], reload_needed=True),
    ],
    ids=["a unit to enable", "a unit file to remove", "definitions to read again"],
)
def test_units_with_something_left_to_do_are_not_settled(outlook: Outlook) -> None:
    assert not outlook.settled


def test_units_with_nothing_left_to_do_are_settled() -> None:
    assert Outlook(Actions(), [], reload_needed=False).settled


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """A process 7 as the kernel shows it, whose directory is the release ``one``."""
    for name in ("one", "two"):
        (tmp_path / "releases" / name / "bin").mkdir(parents=True)
        (tmp_path / "releases" / name / "bin" / "python").symlink_to("/usr/bin/python3")
    (tmp_path / "current").symlink_to("releases/one")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cwd").symlink_to(tmp_path / "releases" / "one")
    (tmp_path / "7" / "cmdline").write_bytes(f"{tmp_path}/releases/two/bin/python\0celery\0worker".encode())
    return tmp_path


def move(process: Path, target: str) -> None:
    (process / "7" / "cwd").unlink()
    (process / "7" / "cwd").symlink_to(target)


def test_a_process_runs_from_the_directory_that_it_began_in(process: Path) -> None:
    assert runs_in(7, str(process)) == f"{process}/releases/one"


def test_a_release_that_was_deleted_is_no_release_that_is_there(process: Path) -> None:
    move(process, f"{process}/releases/gone (deleted)")
    assert runs_in(7, str(process)) == f"{process}/releases/gone (deleted)"


def test_the_interpreter_tells_of_an_app_that_changed_its_directory(process: Path) -> None:
    move(process, "/")
    assert runs_in(7, str(process)) == f"{process}/releases/two"


def test_the_interpreter_tells_where_root_may_not_look(process: Path) -> None:
    (process / "7" / "cwd").unlink()
    assert runs_in(7, str(process)) == f"{process}/releases/two"


@pytest.mark.parametrize("program", ["[celeryd: high@stack]", "/usr/bin/env", "{}/current/bin/python"])
def test_where_a_process_runs_may_be_unknown(process: Path, program: str) -> None:
    move(process, "/")
    (process / "7" / "cmdline").write_bytes(program.format(process).encode() + b"\0-c")
    assert runs_in(7, str(process)) is None
    assert runs_in(8, str(process)) is None, "a process that is gone"


class Module:
    """Stands for Ansible's module: answers for systemctl, and fails as it does."""

    def __init__(self, output: str = "", code: int = 0, errors: str = "") -> None:
        self.answer = (code, output, errors)
        self.asked: list[list[str]] = []

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        self.asked.append(command)
        return self.answer

    def fail_json(self, **told: Any) -> None:
        raise RuntimeError(told["msg"])


def running(name: str, started: float, pid: int = 7) -> str:
    """Return what systemd says of a unit that runs, whose main process began at a time since the epoch."""
    monotonic = int((started - (time.time() - time.monotonic())) * 1e6)
    return (
        f"Id={name}\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n"
        f"FragmentPath=\nDropInPaths=\nMainPID={pid}\n"
        f"ExecMainStartTimestampMonotonic={monotonic}\nStateChangeTimestampMonotonic={monotonic}\n"
    )


def unit(name: str = "a.service", **own: Any) -> dict[str, Any]:
    return {"name": name, "state": "started", "restart_on": [], "reload_on": [], **own}


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of unit files."""
    folder = tmp_path / "units"
    folder.mkdir()
    monkeypatch.setattr(unit_state, "UNIT_DIR", str(folder))
    return folder


def test_what_systemd_is_asked() -> None:
    module = Module(f"{running('a.service', 5.0)}\n{running('b.service', 5.0)}")
    found = unit_state.show(module, ["a.service", "b.service"])  # type: ignore[arg-type]
    assert [status.active for status in found.values()] == [True, True]
    (command,) = module.asked
    assert command[:2] == ["systemctl", "show"]
    assert command[-3:] == ["--", "a.service", "b.service"]
    assert unit_state.show(module, []) == {}  # type: ignore[arg-type]
    assert len(module.asked) == 1
    with pytest.raises(RuntimeError, match=r"^systemd does not answer: no bus$"):
        unit_state.show(Module(code=1, errors="no bus\n"), ["a.service"])  # type: ignore[arg-type]


def test_files_that_a_unit_reads_are_watched(tmp_path: Path) -> None:
    names = ["restart", "reload", "other"]
    for name in names:
        (tmp_path / name).write_text("")
    restart, reload = ([str(tmp_path / name), str(tmp_path / f"no {name}")] for name in names[:2])
    now = time.time()
    for started, actions in (
        (now - 60, Actions(restart=["a.service"])),
        (now + 60, Actions()),
    ):
        found = unit_state.look(Module(running("a.service", started)), [unit(restart_on=restart)], None, [])  # type: ignore[arg-type]
        assert (found.actions, found.leftovers, found.reload_needed) == (actions, [], False)
    found = unit_state.look(Module(running("a.service", now - 60)), [unit(reload_on=reload)], None, [])  # type: ignore[arg-type]
    assert found.actions == Actions(reload=["a.service"])
    found = unit_state.look(Module(running("a.service", now + 60)), [unit(restart_on=restart)], None, restart[:1])  # type: ignore[arg-type]
    assert found.actions == Actions(restart=["a.service"])


def test_definitions_are_read_again_when_one_is_new(units: Path) -> None:
    def needed(output: str, *pending: str) -> bool:
        wanted = [unit(state=None), unit("b.service", state=None)]
        both = f"{running('b.service', 5.0)}\n{output}"
        return unit_state.look(Module(both), wanted, None, pending).reload_needed  # type: ignore[arg-type]

    plain = running("a.service", 5.0)
    assert not needed(plain)
    assert not needed(plain, "/etc/other")
    assert needed(plain, "/etc/other", f"{units}/new.service")
    assert needed(plain.replace("NeedDaemonReload=no", "NeedDaemonReload=yes"))


def test_a_unit_runs_from_where_its_link_leads_or_elsewhere(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def folder(pid: int) -> str | None:
        asked.append(pid)
        return {7: f"{process}/releases/one", 8: f"{process}/releases/two"}.get(pid)

    monkeypatch.setattr(unit_state, "runs_in", folder)
    link = str(process / "current")
    long_ago = os.lstat(link).st_ctime - 60

    def restarted(pid: int, **own: Any) -> list[str]:
        module = Module(running("a.service", long_ago, pid))
        return unit_state.look(module, [unit(**own)], None, []).actions.restart  # type: ignore[arg-type]

    assert restarted(7, runs_from=link) == []
    assert restarted(8, runs_from=link) == ["a.service"]
    # Nobody can tell where it runs: the link is newer.
    assert restarted(9, runs_from=link) == ["a.service"]
    assert restarted(0, runs_from=link) == ["a.service"]
    assert restarted(8) == []
    assert asked == [7, 8, 9]


def test_unit_files_with_the_mark_of_the_role_go(units: Path) -> None:
    files = {
        "celery-shop-old.service": "# role celery_worker\n",
        "celery-shop-high.service": "# role celery_worker\n",
        "celery-shop-own.service": "# by hand\n# role celery_worker\n",
        "celery-crm-old.service": "# role celery_worker\n",
        "celery-shop-beat.service": "# role celery_beat\n",
        "celery-shop-zz.service": "# second mark\n",
    }
    for name, text in files.items():
        (units / name).write_text(text)
    (units / "celery-shop-folder.service").mkdir()
    prune = {"glob": "celery-shop-*.service", "markers": ["role celery_worker", "second mark"]}
    module = Module(running("celery-shop-high.service", time.time()))
    found = unit_state.look(module, [unit("celery-shop-high.service")], prune, [])  # type: ignore[arg-type]
    assert found.leftovers == ["celery-shop-old.service", "celery-shop-zz.service"]
    assert found.reload_needed
    units.rename(units.with_name("gone"))
    assert unit_state.look(module, [unit("celery-shop-high.service")], prune, []).leftovers == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"units": [{"name": "a.service"}], "prune": {"glob": "*", "markers": ["x"]}}, []),
        ({"units": [{}]}, ["name"]),
        ({"prune": {"markers": ["x"]}}, ["glob"]),
        ({"prune": {"glob": "*"}}, ["markers"]),
    ],
)
def test_what_has_to_be_said_of_units(values: dict[str, Any], missing: list[str]) -> None:
    told = ArgumentSpecValidator(unit_state.OPTIONS).validate(values).error_messages
    assert [
        f"missing required arguments: {name} found in" in text for name, text in zip(missing, told, strict=True)
    ] == ([True] * len(missing))


def test_an_empty_directory_is_older_than_everything(tmp_path: Path) -> None:
    assert last_change(str(tmp_path)) == 0.0


class Systemctl:
    """Answers as systemd does, and notes what is restarted; the units in ``broken`` do not come up."""

    def __init__(
        self, broken: tuple[str, ...] = (), prerequisite: dict[str, str] | None = None, limits: str = "infinity"
    ) -> None:
        self.broken = broken
        self.limits = limits
        self.done: list[str] = []
        self.params = {"prerequisite": prerequisite, "servers": [], "units": [{"name": "a.service"}], "wait": True}

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        names = [word for word in command if word.endswith(".service")]
        if command[1:3] == ["show", "--property=MemoryMax"]:
            return 0, "\n\n".join(self.limits for _each in names), ""
        if command[1] == "show":
            return 0, "\n\n".join(f"Id={name}\nActiveState={self._state(name)}" for name in names), ""
        if command[1] == "--no-reload":
            self.done.append(" ".join(command[2:]))
        if command[1] in ("stop", "daemon-reload"):
            self.done.append(" ".join([command[1], *names]))
        if command[1] in ("restart", "start"):
            self.done.append(f"{command[1]} {' '.join(names)}")
            failed = [name for name in names if name in self.broken]
            return len(failed), "", f"Job for {failed} failed" if failed else ""
        return 0, "", ""

    def _state(self, name: str) -> str:
        return "activating" if name in self.broken else "active"

    def fail_json(self, **told: Any) -> None:
        raise FailedError(told["msg"])


class FailedError(Exception):
    """What the module ends with."""


def act(actions: dict[str, list[str]], leftovers: list[str] | None = None, **options: Any) -> Systemctl:
    from ansible_collections.celeryops.stack.plugins.module_utils.systemd import Actions
    from ansible_collections.celeryops.stack.plugins.modules.units import Units

    module = Systemctl(**options)
    try:
        Units(module)._act(Outlook(Actions(**actions), leftovers or [], bool(leftovers)))  # type: ignore[arg-type]
    except FailedError as error:
        module.done.append(str(error))
    return module


def test_units_are_restarted_one_after_the_other() -> None:
    assert act({"restart": ["a.service", "b.service"], "start": ["c.service", "d.service"]}).done == [
        "restart a.service", "restart b.service", "start c.service d.service"
    ]  # fmt: skip


def test_one_that_does_not_come_up_leaves_the_next_alone() -> None:
    names = ["a.service", "b.service", "c.service", "d.service"]
    done = act({"restart": names, "start": ["e.service"]}, broken=("b.service",)).done
    assert done[:-1] == ["restart a.service", "restart b.service"]
    assert "systemctl restart b.service failed" in done[-1]
    assert "not touched, and running as before: c.service, d.service" in done[-1]
    # Nothing is left to say behind the last one.
    assert "not touched" not in act({"restart": names[:2]}, broken=("b.service",)).done[-1]


def test_nothing_is_started_without_what_it_runs(tmp_path: Path) -> None:
    prerequisite = {"path": str(tmp_path / "celery.env"), "missing": "apply celery_app first"}
    assert act({"start": ["a.service"]}, prerequisite=prerequisite).done == ["apply celery_app first"]
    (tmp_path / "celery.env").write_text("")
    assert act({"start": ["a.service"]}, prerequisite=prerequisite).done == ["start a.service"]


@pytest.fixture
def leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a unit that leaves."""
    from ansible_collections.celeryops.stack.plugins.modules import units

    monkeypatch.setattr(units, "UNIT_DIR", str(tmp_path))
    monkeypatch.setattr(units, "_memory", lambda: 1000)
    file = tmp_path / "old.service"
    file.write_text("")
    return file


REMOVED = ["--now disable -- old.service", "daemon-reload"]


def test_what_leaves_goes_when_the_others_were_seen_to_start(leaving: Path) -> None:
    done = act({"restart": ["b.service"], "start": ["a.service"]}, ["old.service"]).done
    assert done == ["daemon-reload", "restart b.service", "start a.service", *REMOVED]
    assert not leaving.exists()


def test_what_leaves_alone_takes_one_reload(leaving: Path) -> None:
    assert act({}, ["old.service"]).done == REMOVED
    assert not leaving.exists()


def test_what_leaves_stays_when_another_does_not_start(leaving: Path) -> None:
    for verb in ("restart", "start"):
        done = act({verb: ["a.service"]}, ["old.service"], broken=("a.service",)).done
        assert done[:-1] == ["daemon-reload", f"{verb} a.service"]
        assert "not removed, and running as before: old.service" in done[-1]
    assert leaving.exists()


def test_what_leaves_makes_room_where_the_memory_is_too_small_for_both(leaving: Path) -> None:
    start: dict[str, list[str]] = {"start": ["a.service"]}
    assert act(start, ["old.service"], limits="500").done[:2] == ["daemon-reload", "start a.service"]
    leaving.write_text("")
    done = act(start, ["old.service"], limits="501").done
    assert done == ["daemon-reload", "stop old.service", "start a.service", *REMOVED]
    leaving.write_text("")
    done = act(start, ["old.service"], limits="501", broken=("a.service",)).done
    assert done[:-1] == ["daemon-reload", "stop old.service", "start a.service", "start old.service"]
    assert "not removed, and started again: old.service" in done[-1]
    assert leaving.exists()
