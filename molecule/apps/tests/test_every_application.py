"""What holds for each of the applications, whoever wrote it."""

from __future__ import annotations

import json
import re

from application import NAME, Application
from hosts import wait

#: What an application says although all is well, each with its reason.
KNOWN: dict[str, tuple[str, ...]] = {
    "django-ca": (),
    "superset": (),
    "weblate": (),
}


def test_every_unit_runs_and_none_was_started_again(application: Application) -> None:
    """The scheduler too, which ends at once where its tables are not there yet."""
    units = application.units()
    assert {name: f"{unit['ActiveState']} {unit['SubState']} {unit['NRestarts']}" for name, unit in units.items()} == (
        dict.fromkeys([*application.classes, "beat", "flower"], "active running 0")
    )


def test_nothing_runs_as_root(application: Application) -> None:
    owners = {}
    for name, unit in application.units().items():
        # systemd's own group of the unit, with all processes of the pool.
        pids = application.on(f"cat /sys/fs/cgroup/systemd{unit['ControlGroup']}/cgroup.procs 2>/dev/null"
                              f" || cat /sys/fs/cgroup{unit['ControlGroup']}/cgroup.procs").split()  # fmt: skip
        owners[name] = set(application.on(f"ps --no-headers -o user:40= -p {','.join(pids)}").split())
    flower = owners.pop("flower")
    assert owners == {name: {application.name} for name in (*application.classes, "beat")}
    assert "root" not in flower


def test_a_restart_replaces_every_worker(application: Application) -> None:
    before = {name: unit["MainPID"] for name, unit in application.units().items()}
    run = application.play("restart")
    assert not run.failed, run.output
    after = {name: unit["MainPID"] for name, unit in application.units().items()}
    assert {name for name in before if before[name] != after[name]} >= {*application.classes}
    wait(lambda: len(application.runs()) == len(application.classes), 60, "a worker does not answer")


def test_a_release_is_deployed_and_its_commands_run_once(application: Application) -> None:
    """The example's own commands among them: what they do to the database is done twice without harm."""
    note = f"{application.state}/commands-ran"
    commands = [
        *application.variables["celery_app_release_commands"],
        *({"command": ["sh", "-c", f"echo {when} >> {note}"], "when": when} for when in ("before", "after")),
    ]
    application.on(f"rm -f {note}")
    old = application.on(f"readlink /opt/celeryops/{application.name}/current")
    source = {**application.variables["celery_app_source"], "build": f"after {old}"}
    run = application.play("deploy", celery_app_source=source, celery_app_release_commands=commands)
    assert not run.failed, run.output
    new = application.on(f"readlink /opt/celeryops/{application.name}/current")
    assert new != old
    assert application.on(f"cat {note}").split() == ["before", "after"]
    for name in application.classes:
        report = json.loads(application.on(f"cat /run/celeryops/{application.name}/{name}/worker.json"))
        assert report["release"] == new.removeprefix("releases/")
    wait(lambda: len(application.runs()) == len(application.classes), 60, "a worker does not answer")


def test_the_journal_has_nothing_but_what_is_known(application: Application) -> None:
    bad = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^Traceback|Exception|[a-z]Error\b")
    known = [re.compile(pattern) for pattern in KNOWN[NAME]]
    assert [
        line for line in application.journal() if bad.search(line) and not any(one.search(line) for one in known)
    ] == []
