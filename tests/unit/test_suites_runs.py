"""What the gate consists of: that no test is without a run, and that what goes wrong beside the tests counts."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import selection

import lab
import run_suites
from tools.lab import images
from tools.suites import molecule, programs
from tools.suites import run as runs_of
from tools.suites.molecule import Suite
from tools.suites.run import Run

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "molecule" / "default" / "tests"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logs and rows of the tests are no one else's."""
    monkeypatch.setattr(runs_of, "WORK", tmp_path)
    monkeypatch.setattr(run_suites, "WORK", tmp_path)
    monkeypatch.setattr(run_suites, "MEASURED", tmp_path / "durations.json")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    # That is what --record sets, for all that this process starts.
    monkeypatch.setenv("CELERYOPS_THOROUGH", "")
    Run.stopped.clear()
    yield
    Run.stopped.clear()


# Which tests a run has


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ({}, {"first", "all"}),
        ({"long": ()}, {"first", "all"}),
        ({"alike": ()}, {"first", "all"}),
        ({"apart": ()}, {"apart", "all"}),
        ({"apart": ("releases",), "long": ()}, {"releases", "all"}),
    ],
)
def test_every_test_is_on_one_host_of_its_stack(marks: dict[str, tuple[str, ...]], wanted: set[str]) -> None:
    shards = ("all", *molecule.SHARDS)
    assert {
        shard
        for shard in shards
        if selection.belongs("test_x", marks, broker="redis", depth=selection.THOROUGH, shard=shard)
    } == wanted


def test_the_shards_of_a_run_are_those_that_a_marker_may_name() -> None:
    assert (selection.FIRST, *selection.APART) == molecule.SHARDS
    with pytest.raises(selection.UnknownShardError, match="nowhere"):
        selection.belongs("test_x", {"apart": ("nowhere",)}, broker="redis", depth=selection.THOROUGH)
    with pytest.raises(selection.UnknownShardError, match="CELERYOPS_SHARD=nowhere"):
        selection.belongs("test_x", {}, broker="redis", depth=selection.THOROUGH, shard="nowhere")


def test_a_run_leaves_out_what_it_cannot_show() -> None:
    brief, full, thorough = selection.BRIEF, selection.FULL, selection.THOROUGH

    def has(module: str, marks: dict[str, tuple[str, ...]], modules: str = "", *, depth: int = brief) -> bool:
        return selection.belongs(module, marks, broker="rabbitmq", depth=depth, modules=modules.split())

    assert has("test_stops", {})
    for marker in ("long", "alike"):
        assert not has("test_stops", {marker: ()})
        assert not has("test_stops", {marker: (), "broker": ("rabbitmq",)})
        assert has("test_stops", {marker: ()}, depth=full)
        assert not has("test_stops", {marker: (), "seldom": ()}, depth=full)
        assert has("test_stops", {marker: (), "seldom": ()}, depth=thorough)
    assert not has("test_stops", {"seldom": ()})
    assert not has("test_stops", {"seldom": ()}, depth=full)
    assert has("test_stops", {"broker": ("rabbitmq",)})
    assert not has("test_stops", {"broker": ("redis",)})
    for marks in ({}, {"long": ()}, {"apart": ()}, {"seldom": ()}):
        assert has("test_stops", marks, "once stops")
    assert not has("test_stops", {"broker": ("redis",)}, "once stops")
    assert not selection.belongs(
        "test_stops", {}, broker="redis", depth=selection.THOROUGH, shard="none", modules=["once"]
    )
    assert selection.belongs("test_stops", {}, broker="redis", depth=selection.BRIEF, shard="first", modules=["once"])


def markers(path: Path) -> set[str]:
    """Return the hosts that the markers of a module of tests name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "apart":
            found.add("apart")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "apart":
            found |= {str(one.value) for one in node.args if isinstance(one, ast.Constant)} or {"apart"}
            found -= {"apart"} if node.args else set()
    return found


def test_every_host_that_a_marker_names_has_tests_and_is_in_both_gates() -> None:
    """A marker without its run would drop tests in silence."""
    named = set().union(*(markers(path) for path in TESTS.glob("test_*.py")))
    assert named <= set(selection.APART)
    for shard in selection.APART:
        assert f"trixie-{shard}" in run_suites.GATE
        for suite, scenario in itertools.product(images.SUITES, ("", "-redis")):
            assert f"{suite}{scenario}-{shard}" in run_suites.ALL
    every = run_suites.every_run()
    assert {*run_suites.GATE, *run_suites.ALL} <= every.keys()
    assert {*run_suites.GATE} <= {*run_suites.ALL}
    # Whatever can be asked for is part of one of them, but for the long chaos runs of two releases.
    assert every.keys() - {*run_suites.ALL} == {
        "bookworm-chaos",
        "forky-chaos",
        "bookworm-cluster-chaos",
        "forky-cluster-chaos",
    }
    assert {f"trixie-celery{version}" for version in ("5.4", "5.5", "5.6")} <= {*run_suites.ALL}
    # The oldest and the newest ansible-core of a user are tried at every change, all of them before a release.
    assert {"ansible2.18", "ansible2.21"} <= {*run_suites.GATE}
    assert {f"ansible2.{minor}" for minor in range(18, 22)} <= {*run_suites.ALL}
    # Applications that nobody here wrote, too: each takes long, for its packages are not the stack's.
    assert {"apps-django-ca", "apps-superset", "apps-weblate"} <= {*run_suites.ALL} - {*run_suites.GATE}


def test_the_modules_of_the_celery_runs_exist() -> None:
    assert [name for name in molecule.CELERY_TESTS if not (TESTS / f"test_{name}.py").exists()] == []


def test_no_two_runs_share_a_host_a_folder_or_secrets() -> None:
    runs = [run for run in run_suites.every_run().values() if isinstance(run, Suite)]
    hosts = [run.host for run in runs]
    assert len({*hosts}) == len({run.folder for run in runs}) == len(runs)
    # Whose name begins with another one's would be removed with it (tools.lab.containers.family).
    assert [(one, other) for one in hosts for other in hosts if other.startswith(f"{one}-")] == []
    assert [run.host for run in runs if lab.host_name(run.host) != run.host] == []
    # The inventories keep what they generate in a folder of that name, which the end of the run removes.
    assert [run.name for run in runs if run.environment()["CELERYOPS_RUN"] != run.folder.name] == []
    for scenario, file in (("default", "servers"), ("redis", "servers"), ("apps", "lab")):
        text = (ROOT / "molecule" / scenario / f"inventory/group_vars/all/{file}.yml").read_text()
        assert re.search(r"(?m)^test_run: .*CELERYOPS_RUN", text)


def test_only_the_first_host_of_a_stack_is_run_dry_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def sequence(name: str) -> list[str]:
        run = run_suites.every_run()[name]
        assert isinstance(run, Suite)
        return run.environment()["CELERYOPS_SEQUENCE"].strip("[]").split(", ")

    whole = ["create", "prepare", "check", "converge", "idempotence", "verify", "destroy"]
    first = ["create", "prepare", "check", "converge", "verify", "destroy"]
    short = ["create", "prepare", "converge", "verify", "destroy"]
    # The gate has a dry run on a bare host once.
    assert sequence("trixie") == first
    assert [sequence(name) for name in ("bookworm-celery5.6", "trixie-redis", "trixie-apart")] == [short] * 3
    assert sequence("trixie-fleet") == [step for step in whole if step != "check"]
    monkeypatch.setenv("CELERYOPS_THOROUGH", "1")
    assert sequence("trixie-fleet") == whole
    assert [sequence(name) for name in ("trixie", "bookworm", "forky-redis")] == [first] * 3
    assert [sequence(name) for name in ("trixie-apart", "bookworm-redis-releases", "trixie-celery5.6")] == [short] * 3


def test_the_second_run_of_a_stack_is_its_first_test() -> None:
    """In place of Molecule's step; whatever comes before it might do what a second run would still have to."""
    names = sorted(path.name for path in TESTS.glob("test_*.py"))
    assert names[0] == "test_again.py"
    text = (TESTS / names[0]).read_text()
    assert text.index("def test_a_second_run_changes_nothing") == text.index("def test_")
    assert "pytestmark" not in text
    marked = re.findall(r"pytest\.mark\.(\w+)", text)
    assert {*marked} <= {"broker"}


def test_a_run_with_another_celery_has_the_tests_that_differ() -> None:
    run = run_suites.every_run()["trixie-celery5.6"]
    assert isinstance(run, Suite)
    given = run.environment()
    assert (run.row, run.scenario, run.suite) == ("trixie-celery5.6", "default", "trixie")
    assert (given["CELERYOPS_CELERY"], given["CELERYOPS_SHARD"]) == ("5.6", "none")
    assert given["CELERYOPS_TESTS"].split() == ["exchange", "stops", "pitfalls", "once"]


def test_the_gate_has_an_older_celery_with_the_tests_of_debian_12_beside_those_that_differ() -> None:
    run = run_suites.every_run()["bookworm-celery5.6"]
    assert isinstance(run, Suite)
    given = run.environment()
    assert (given["CELERYOPS_CELERY"], given["CELERYOPS_SHARD"], run.row) == ("5.6", "none", "bookworm-celery5.6")
    assert given["CELERYOPS_TESTS"].split() == [
        *("again", "host", "messages", "prune"),
        *("exchange", "stops", "pitfalls", "once"),
    ]
    assert run.name in run_suites.GATE


def test_each_application_has_its_inventory_its_tests_and_a_row() -> None:
    for application, suite in molecule.APPLICATIONS.items():
        run = run_suites.every_run()[f"apps-{application}"]
        assert isinstance(run, Suite)
        given = run.environment()
        assert (run.row, run.scenario, run.suite) == (f"apps-{application}", "apps", suite)
        assert (given["CELERYOPS_APP"], given["CELERYOPS_SUITE"]) == (application, suite)
        prepare = "prepare, " if (ROOT / "examples" / application / "before.yml").exists() else ""
        assert given["CELERYOPS_SEQUENCE"] == f"[create, {prepare}converge, idempotence, verify, destroy]"
        assert run.folder.name == run.log.stem == run.report.parent.name == run.name
        assert (ROOT / "examples" / application / "inventory" / "hosts.yml").exists()
        assert (ROOT / "molecule" / "apps" / "tests" / f"test_{application.replace('-', '_')}.py").exists()
    # Whose folder is forgotten in the list would have no run.
    assert {path.parent.name for path in (ROOT / "examples").glob("*/inventory")} == {*molecule.APPLICATIONS}


def test_the_hosts_of_a_stack_share_its_row() -> None:
    every = run_suites.every_run()
    rows = {name: every[name].row for name in ("trixie", "trixie-apart", "trixie-redis-releases", "trixie-fleet")}
    assert rows == {
        "trixie": "trixie",
        "trixie-apart": "trixie",
        "trixie-redis-releases": "trixie-redis",
        "trixie-fleet": "",
    }


# How a run goes


class Script(Run):
    """A run of a program's text."""

    def __init__(self, name: str, program: str, passed: int = 1) -> None:
        super().__init__(name)
        self.program, self.passes = program, passed

    def run(self) -> None:
        ended_well = self.command([sys.executable, "-c", self.program])
        self.counts["passed" if ended_well else "failed"] += self.passes
        self.finished("work", "ok" if ended_well else "failed", 1)


class Check(programs.Checks):
    """The checks, of which a script stands for make."""

    def __init__(self, program: str, report: Path, folder: Path) -> None:
        super().__init__()
        self.report = report  # type: ignore[misc]
        (folder / "make").write_text(f"#!/bin/sh\n{program}\n")
        (folder / "make").chmod(0o755)


def gate(monkeypatch: pytest.MonkeyPatch, runs: list[Run], *arguments: str, tree: str = "abc") -> int:
    """Call the command with these runs instead of the real ones."""
    monkeypatch.setattr(run_suites, "every_run", lambda: {run.name: run for run in runs})
    monkeypatch.setattr("suites_record.identity", lambda _root: tree)
    return run_suites.main([*arguments, *(run.name for run in runs)])


def test_the_last_line_counts_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(monkeypatch, [Script("a", "print(1)", 3), Script("b", "print(2)", 4)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "7 passed, 0 failed"


@pytest.mark.parametrize(
    "broken",
    [
        Script("b", "raise SystemExit(3)"),
        type("Silent", (Script,), {"run": lambda self: None})("b", ""),  # noqa: ARG005
        type("Raising", (Script,), {"run": lambda self: 1 / 0})("b", ""),  # noqa: ARG005
    ],
    ids=["fails", "counts nothing", "raises"],
)
def test_a_run_that_fails_counts_nothing_or_raises_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: Run
) -> None:
    assert gate(monkeypatch, [Script("a", "print(1)"), broken]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed"


def test_checks_that_fail_end_the_others_and_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "unit.xml"
    report.write_text('<testsuites><testsuite tests="7"></testsuite></testsuites>')  # of an earlier time
    checks = Check("echo '  FAIL  mypy'; sleep 0.5; exit 2", report, tmp_path)
    monkeypatch.setattr(run_suites, "Checks", lambda: checks)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    began = time.monotonic()
    record = f"--record={tmp_path / 'rows.json'}"
    assert gate(monkeypatch, [Script("long", "import time; time.sleep(60)")], "--checks", record) == 1
    assert time.monotonic() - began < 30
    out = capsys.readouterr().out
    assert "  FAIL  mypy" in out
    assert out.splitlines()[-1] == "0 passed, 2 failed"
    # What was ended says nothing about the tree.
    assert not (tmp_path / "rows.json").exists()


def test_a_row_that_cannot_be_kept_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(monkeypatch, [Script("a", "print(1)")], f"--record={tmp_path / 'gone' / 'rows.json'}") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed"


def test_a_record_that_cannot_be_read_ends_the_gate_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.json").write_text("half a fi")
    with pytest.raises(SystemExit):
        gate(monkeypatch, [Script("a", "print(1)")], f"--record={tmp_path / 'rows.json'}")
    assert "rows.json" in capsys.readouterr().err
    assert (tmp_path / "rows.json").read_text() == "half a fi"


def test_the_unit_tests_are_part_of_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "unit.xml"
    report.write_text("an old one")
    xml = '<testsuites><testsuite tests="5" failures="0" errors="0" skipped="1"></testsuite></testsuites>'
    checks = Check(f"echo '{xml}' > {report}", report, tmp_path)
    monkeypatch.setattr(run_suites, "Checks", lambda: checks)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gate(monkeypatch, [Script("a", "print(1)")], "--checks") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5 passed, 0 failed"


def test_an_interrupted_gate_goes_on_with_what_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count = f"open('{tmp_path}/ran', 'a').write('x')"
    monkeypatch.setattr(run_suites, "ALL", ("a", "b"))
    resumed = ("--resume", f"--record={tmp_path / 'rows.json'}")
    assert gate(monkeypatch, [Script("a", f"{count}"), Script("b", "raise SystemExit(1)")], *resumed) == 1
    assert "not seen to pass on this very tree yet: b\n" in capsys.readouterr().out
    runs: list[Run] = [Script("a", f"{count}"), Script("b", "print(1)", 4)]
    assert gate(monkeypatch, runs, *resumed) == 0
    assert (tmp_path / "ran").read_text() == "x"
    out = capsys.readouterr().out
    assert "passed on this very tree" in out
    assert "not seen" not in out
    assert out.splitlines()[-1] == "5 passed, 0 failed"
    # Another tree, and one that was not asked to resume, begin anew.
    gate(monkeypatch, [Script("a", count)], *resumed, tree="another")
    gate(monkeypatch, [Script("a", count)], resumed[1], tree="another")
    assert (tmp_path / "ran").read_text() == "xxx"


def test_what_is_recorded_was_run_with_every_long_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_suites, "ALL", ("a",))
    asks = Script("a", "import os, sys; sys.exit(os.environ.get('CELERYOPS_THOROUGH') != '1')")
    assert gate(monkeypatch, [asks]) == 1
    assert not (tmp_path / "rows.json").exists()
    assert gate(monkeypatch, [Script("a", asks.program)], f"--record={tmp_path / 'rows.json'}") == 0
    assert json.loads((tmp_path / "rows.json").read_text())["a"]["passed"] == 1


def test_a_run_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["trixie", "nowhere"]):
        with pytest.raises(SystemExit):
            run_suites.main(words)
    told = capsys.readouterr().err
    assert "nothing is no run; name some of gate, all, " in told
    assert "nowhere is no run" in told


def test_durations_are_kept_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_suites, "DURATIONS", tmp_path / "kept.json")
    (tmp_path / "durations.json").write_text('{"trixie": {"wall": 812.4, "waited": 0, "phases": {}, "tests": {}}}')
    assert run_suites.main(["--keep-durations"]) == 0
    assert json.loads((tmp_path / "kept.json").read_text()) == {"trixie": 812}


def test_to_resume_needs_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_suites.main(["--resume", "trixie"])
    assert "--resume needs --record" in capsys.readouterr().err


def test_a_tree_that_changed_meanwhile_keeps_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = iter(["before", "before", "after", "after"])
    monkeypatch.setattr(run_suites, "every_run", lambda: {"a": Script("a", "print(1)")})
    monkeypatch.setattr("suites_record.identity", lambda _root: next(trees))
    assert run_suites.main(["a", f"--record={tmp_path / 'rows.json'}"]) == 0
    assert not (tmp_path / "rows.json").exists()


def test_every_stack_of_the_table_has_its_runs_in_make_test_all() -> None:
    assert run_suites.stacks()["trixie-redis"] == ["trixie-redis", "trixie-redis-apart", "trixie-redis-releases"]
    assert {name for names in run_suites.stacks().values() for name in names} < set(run_suites.ALL)


@pytest.mark.parametrize(("processors", "room"), [(1, 2.0), (2, 4.0), (4, 6.0), (64, 6.0)])
def test_a_bigger_machine_has_more_places_up_to_what_the_lab_can_carry(processors: int, room: float) -> None:
    assert run_suites.capacity(processors) == room
