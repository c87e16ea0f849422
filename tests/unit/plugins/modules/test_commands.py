"""The commands around a release: as they are written, and as they are run."""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import paths, placed, trial
from ansible_collections.celeryops.stack.plugins.modules import commands as module
from ansible_collections.celeryops.stack.plugins.plugin_utils.app.release_commands import release_commands


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "manage.py migrate --noinput",
            {"argv": ["manage.py", "migrate", "--noinput"], "when": "before", "timeout": 3600},
        ),
        ("python -c 'print(\"a b\")'", {"argv": ["python", "-c", 'print("a b")'], "when": "before", "timeout": 3600}),
        (
            ["superset", "db", "upgrade", 1],
            {"argv": ["superset", "db", "upgrade", "1"], "when": "before", "timeout": 3600},
        ),
        (
            {"command": "superset init", "when": "after", "timeout": "10m"},
            {"argv": ["superset", "init"], "when": "after", "timeout": 600},
        ),
        (["sh", "-c", "a && b"], {"argv": ["sh", "-c", "a && b"], "when": "before", "timeout": 3600}),
        ("sh -c 'a | b'", {"argv": ["sh", "-c", "a | b"], "when": "before", "timeout": 3600}),
        ("manage.py createcachetable --database=default", None),
        ("manage.py shell -c 'a = 1; b = 2;' source cd", None),
    ],
)
def test_commands_are_read(entry: Any, expected: dict[str, Any] | None) -> None:
    commands, problems = release_commands([entry])
    assert problems == []
    assert expected is None or commands == [expected]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("", "celery_app_release_commands[0]: '' is empty"),
        ([], "is empty"),
        ({"command": ""}, "celery_app_release_commands[0].command: '' is empty"),
        (None, "is not a command"),
        (7, "is not a command"),
        (["a", True], "is not a command"),
        ({"when": "after"}, "is not a command"),
        (
            {"command": "a", "whan": "after"},
            "celery_app_release_commands[0].whan: '(not shown)' is not a key of a command",
        ),
        ({"command": "a", "when": "later"}, "celery_app_release_commands[0].when: 'later' is not a moment"),
        ({"command": "a", "timeout": "soon"}, "celery_app_release_commands[0].timeout: 'soon'"),
        ({"command": "a", "timeout": "0s"}, "must be longer than 0s"),
        ("a 'b", "has a quote that is not closed"),
        ("manage.py migrate && manage.py check", "holds &&, which only a shell understands"),
        ("manage.py dumpdata > x", "holds >, which only a shell understands"),
        ("cd app; ./manage.py migrate", "holds ;, which only a shell understands"),
        ("source venv/bin/activate", "holds source, which only a shell understands"),
        ("DEBUG=canary manage.py migrate", "holds DEBUG=, which only a shell understands"),
        ("x --password=canary", "holds a secret"),
        (["x", "--api-key", "canary"], "holds a secret"),
        ("psql postgres://u:canary@db/x", "holds a secret"),
    ],
)
def test_mistakes_in_commands_are_told(entry: Any, said: str) -> None:
    _commands, problems = release_commands([entry])
    assert [said in str(problem) for problem in problems] == [True], problems
    assert "canary" not in str(problems[0])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A release with a source tree of its own."""
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path / "opt"))
    monkeypatch.setattr(paths, "STATE", str(tmp_path / "var"))
    monkeypatch.setattr(trial, "PLACE", str(tmp_path))
    release = tmp_path / "opt" / "shop" / "releases" / "r2"
    (release / "bin").mkdir(parents=True)
    (release / "app").mkdir()
    (release / "bin" / "python").symlink_to(sys.executable)
    (release / "app" / "manage.py").write_text(
        "import os, sys; print('managed', sys.argv[1:], os.getcwd(), os.environ['A'])\n"
    )

    def call(*commands: list[str], check_mode: bool = False, **changes: Any) -> dict[str, Any]:
        request = {
            "name": "shop", "user": pwd.getpwuid(os.getuid()).pw_name, "release": "r2", "previous": "r1",
            "when": "before",
            "commands": [{"argv": list(argv), "when": "before", "timeout": 20} for argv in commands],
            "environment": {"A": "1"}, "contents": [], **changes,
        }  # fmt: skip
        return module.Commands(request, check_mode=check_mode).run()

    return call


def test_a_program_of_the_source_is_run_by_the_releases_python(run: Callable[..., Any], tmp_path: Path) -> None:
    folder = f"{tmp_path}/opt/shop/releases/r2/app"
    out = tmp_path / "out"
    found = run(["manage.py", "migrate"], ["sh", "-c", f"python manage.py x > {out}"])
    assert found["changed"] is True
    assert found["ran"][0] == "manage.py migrate"
    assert out.read_text() == f"managed ['x'] {folder} 1\n"
    assert module.program(["manage.py", "x"], folder, "/r", "/bin") == ["/r/bin/python", "manage.py", "x"]
    assert module.program(["nosuch"], folder, "/r", "/nowhere") == ["nosuch"]


def test_the_first_that_fails_ends_it(run: Callable[..., Any], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(module.CommandsError) as error:
        run(["sh", "-c", "echo no such table; exit 4"], ["touch", str(mark)])
    text = str(error.value)
    assert "ended with 4" in text
    assert "The release r2 was not taken into use, r1 goes on.\nno such table" in text
    assert not mark.exists()


def test_what_it_prints_is_shown_without_secrets(run: Callable[..., Any]) -> None:
    environment = {"A": "1", "DB_PASSWORD": "canary-1", "DATABASE_URL": "postgres://shop:canary-2@db/x", "MODE": "fast"}
    with pytest.raises(module.CommandsError) as error:
        run(["sh", "-c", "echo $DB_PASSWORD $DATABASE_URL $MODE; exit 1"], environment=environment)
    assert str(error.value).endswith("*** postgres://***@db/x fast")


def test_a_secret_file_that_has_left_the_inventory_is_not_shown_either(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "left"
    left.write_text("canary-number-3\n")
    left.chmod(0o640)
    (tmp_path / "etc" / "shop").mkdir(parents=True)
    monkeypatch.setattr(paths, "CONFIG", str(tmp_path / "etc"))
    placed.write(str(tmp_path / "etc" / "shop" / placed.NAME), {str(left): {"sha256": "", "left": True}})
    with pytest.raises(module.CommandsError) as error:
        run(["sh", "-c", f"cat {left}; exit 1"])
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nosuch", "x"], "nosuch x cannot be run: No such file or directory; neither the release nor"),
        (["sleep", "60"], "sleep 60 took more than 1 s"),
    ],
)
def test_what_cannot_be_run_and_what_does_not_end(run: Callable[..., Any], argv: list[str], said: str) -> None:
    with pytest.raises(module.CommandsError, match=said):
        run(commands=[{"argv": argv, "when": "before", "timeout": 1}])


def test_each_is_run_at_its_moment(run: Callable[..., Any], tmp_path: Path) -> None:
    commands = [
        {"argv": ["touch", str(tmp_path / "early")], "when": "before", "timeout": 9},
        {"argv": ["touch", str(tmp_path / "late")], "when": "after", "timeout": 9},
    ]
    assert run(commands=commands, when="after")["ran"] == [f"touch {tmp_path}/late"]
    assert not (tmp_path / "early").exists()
    with pytest.raises(module.CommandsError, match="The release r2 is in use; what comes after it was not finished"):
        run(commands=[{"argv": ["false"], "when": "after", "timeout": 9}], when="after")


def test_check_mode_says_and_does_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    found = run(["touch", str(tmp_path / "mark")], check_mode=True, user="not-made-yet")
    assert found["diff"]["after"] == f"before the switch: touch {tmp_path}/mark\n"
    assert found["changed"] is True
    assert not (tmp_path / "mark").exists()


def test_it_finds_the_configuration_that_will_be_placed(run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        ["sh", "-c", f"cat $CELERYOPS_CONFIG > {out}"], environment={"A": "1", "CELERYOPS_CONFIG": "/etc/no/such.json"},
        contents=[{"path": "/etc/no/such.json", "content": "new"}],
    )  # fmt: skip
    assert out.read_text() == "new"


def test_another_run_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[str] = []

    @contextlib.contextmanager
    def locked(name: str) -> Iterator[None]:
        held.append(name)
        try:
            yield
        finally:
            held.remove(name)

    def run(_self: module.Commands) -> dict[str, Any]:
        raise module.CommandsError(f"held: {held}")

    class Module:
        check_mode = False

        def __init__(self, **_more: Any) -> None:
            self.params = {"name": "shop", "release": "1"}

        def fail_json(self, msg: str) -> None:
            raise SystemExit(msg)

    monkeypatch.setattr(module, "locked", locked)
    monkeypatch.setattr(module, "QuietModule", Module)
    monkeypatch.setattr(module.Commands, "run", run)
    with pytest.raises(SystemExit, match=r"held: \['shop'\]"):
        module.main()
    assert held == []
