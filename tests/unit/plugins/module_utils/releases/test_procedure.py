"""A release beside the one in use: what it must fulfil before anything that runs is touched."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from release_request import Host, procedure, request

from ansible_collections.celeryops.stack.plugins.action import release as action
from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.releases import procedure as module
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError
from ansible_collections.celeryops.stack.plugins.module_utils.trial import account_of, digest
from ansible_collections.celeryops.stack.plugins.modules import commands

UNIT = "celery-shop-high.service"


class Systemd(Host):
    """One worker that runs."""

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        return 0, "LoadState=loaded\nActiveState=active\nMainPID=7\n" if UNIT in command else "", ""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that runs the release ``old`` and has kept two others."""
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path))
    base = tmp_path / "shop"
    verified = {}
    for name in ("old", "older", "new"):
        release = base / "releases" / name
        packages = release / "lib" / "python3.13" / "site-packages"
        for folder in (release / "bin", packages / "celery-5.7.0.dist-info", packages / "kombu-5.7.0.dist-info"):
            folder.mkdir(parents=True)
        (release / "bin" / "python").write_text("")
        (release / "release.json").write_text("{}")
        tasks = ["shop.a", "shop.b"] if name != "new" else ["shop.a", "shop.c"]
        verified[str(release)] = {"import": "shop:app", "user": "shop", "tasks": tasks}
    (base / "current").symlink_to("releases/old")
    history = {"activations": [[1.0, "new"], [2.0, "older"], [3.0, "old"]], "verified": verified}
    (base / "activations.json").write_text(json.dumps(history))
    (tmp_path / "worker.json").write_text(json.dumps({"pid": 7, "tasks": ["shop.a", "shop.b"]}))
    monkeypatch.setattr(module, "runs_in", lambda _pid: str(base / "releases" / "old"))
    return base


@pytest.fixture
def prepare(base: Path) -> Callable[..., dict[str, Any]]:
    def run(**changes: Any) -> dict[str, Any]:
        running = [{"unit": UNIT, "report": str(base.parent / "worker.json")}]
        return procedure(Systemd(), **{"switch": False, "running": running, **changes}).run()

    return run


def test_the_one_before_is_what_was_in_use_last(prepare: Callable[..., Any]) -> None:
    found = prepare(select="previous")
    assert (found["release"], found["previous"], found["kept"]) == ("older", "old", ["older", "new"])
    assert (found["moved"], found["changed"], found["fresh"]) == (True, False, False)


def test_a_release_that_never_was_in_use_is_not_the_one_before(prepare: Callable[..., Any], base: Path) -> None:
    """A command before the switch failed: what it should have made is not there."""
    history = json.loads((base / "activations.json").read_text())
    (base / "activations.json").write_text(json.dumps({**history, "activations": [[1, "old"]]}))
    with pytest.raises(ReleaseError, match=r"no other release of shop was in use .*: new, older$"):
        prepare(select="previous")
    found = prepare(select="older")
    assert (found["release"], found["fresh"], found["built"]) == ("older", True, False), (
        "a deploy that goes back removes it"
    )


def test_what_was_built_and_never_used_does_not_hold_up_the_way_back(prepare: Callable[..., Any], base: Path) -> None:
    history = json.loads((base / "activations.json").read_text())
    activations = [[2.0, "older"], [3.0, "old"]]
    (base / "activations.json").write_text(json.dumps({**history, "activations": activations}))
    assert prepare(select="previous")["release"] == "older"


@pytest.mark.parametrize(
    ("number", "shown"), [(3, "0, {0}/1, {0}/2 on"), (4, "2 and 1 more on"), (6, "0, {0}/1, {0}/2 and 3 more on")]
)
def test_of_many_files_that_differ_three_are_named(
    prepare: Callable[..., Any], tmp_path: Path, number: int, shown: str
) -> None:
    expected = [{"path": f"{tmp_path}/{name}", "sha256": "x"} for name in range(number)]
    with pytest.raises(ReleaseError, match=re.escape(shown.format(tmp_path))):
        prepare(select="older", expected=expected)


def test_a_release_that_is_not_kept_is_answered_with_those_that_are(prepare: Callable[..., Any]) -> None:
    with pytest.raises(ReleaseError, match=r"nowhere is no release .* write one of: older, new \(in use is old\)"):
        prepare(select="nowhere")


def test_the_release_in_use_needs_nothing(prepare: Callable[..., Any]) -> None:
    assert prepare(select="old")["moved"] is False


def test_a_worker_that_runs_something_else_does(
    prepare: Callable[..., Any], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "runs_in", lambda _pid: str(base / "releases" / "new"))
    assert prepare(select="old")["moved"] is True


def test_a_task_that_a_worker_has_must_not_be_gone(prepare: Callable[..., Any]) -> None:
    with pytest.raises(ReleaseError, match=r"has no task shop\.b,.*accept_missing_tasks: \[shop\.b\]"):
        prepare(select="new")
    assert prepare(select="new", accept_missing_tasks=["shop.b"])["missing_tasks"] == ["shop.b"]
    assert prepare(select="new", accept_missing_tasks=["*"])["missing_tasks"] == ["shop.b"]


def test_what_a_worker_before_this_one_wrote_does_not_count(prepare: Callable[..., Any], base: Path) -> None:
    (base.parent / "worker.json").write_text(json.dumps({"pid": 6, "tasks": ["shop.z"]}))
    assert prepare(select="new")["missing_tasks"] == []


def test_another_configuration_is_left_to_the_site(prepare: Callable[..., Any], tmp_path: Path) -> None:
    settings = tmp_path / "celery.json"
    settings.write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert prepare(select="older", expected=[{"path": str(settings), "sha256": digest}])["release"] == "older"
    settings.write_text('{"other": 1}')
    with pytest.raises(ReleaseError, match=r"celery\.json on this host is not .* run site\.yml first"):
        prepare(select="older", expected=[{"path": str(settings), "sha256": digest}])


def test_an_app_that_was_never_installed_is_left_to_the_site(prepare: Callable[..., Any], base: Path) -> None:
    (base / "current").unlink()
    with pytest.raises(ReleaseError, match="was never installed"):
        prepare(select="older", expected=[{"path": "/nowhere", "sha256": ""}])


def test_what_was_verified_by_an_older_version_is_verified_again(prepare: Callable[..., Any], base: Path) -> None:
    """It did not note the tasks."""
    path = base / "releases" / "older"
    history = {"activations": [], "verified": {"path": str(path), "import": "shop:app", "user": "shop"}}
    (base / "activations.json").write_text(json.dumps(history))
    with pytest.raises(ReleaseError, match="there is no account shop"):
        prepare(select="older")


def test_files_are_compared_by_their_digests_and_secrets_stay_here() -> None:
    files = [
        {"path": "/etc/x", "content": "one"},
        {"path": "/etc/y", "content": "a password", "secret": True},
        {"path": "/etc/d", "state": "directory"},
    ]
    found = action.digests(files, [])
    assert [entry["path"] for entry in found] == ["/etc/x", "/etc/y"]
    assert found[1]["sha256"] == hashlib.sha256(b"a password").hexdigest()
    assert "password" not in str(found)


def test_the_app_has_its_directories_before_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owned: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: owned.append((path, user, group)))
    log, state = tmp_path / "log" / "shop", tmp_path / "lib" / "shop"
    state.mkdir(parents=True, mode=0o700)
    nobody = account_of("nobody")
    procedure(directories=[str(log), str(state)]).verification.provide_directories(nobody)
    assert log.stat().st_mode & 0o777 == 0o750
    # What is there already is left to the task that looks after it.
    assert state.stat().st_mode & 0o777 == 0o700
    assert owned == [(str(log), nobody.uid, nobody.gid)]


# What site.yml does: everything is tried on all hosts before anything is taken into use on one


@pytest.fixture
def hold(base: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Ask for the release ``new`` with a configuration, as the role does; ``verified`` notes what it was tried with."""
    settings = tmp_path / "celery.json"
    settings.write_text("{}")

    def run(*, content: str = "{}", noted: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        files = [{"path": str(settings), "sha256": hashlib.sha256(content.encode()).hexdigest()}]
        request = {
            "name": "shop", "import": "shop:app", "user": "shop", "source": {"type": "virtualenv"}, "hold": True,
            "select": "current", "configuration": files, "environment": {"A": "1"}, **changes,
        }  # fmt: skip
        history = json.loads((base / "activations.json").read_text())
        history["verified"][str(base / "releases" / "old")]["tried"] = digest(noted or {"A": "1"}, files)
        (base / "activations.json").write_text(json.dumps(history))
        return procedure(Systemd(), **request).run()

    return run


def test_what_was_tried_is_not_tried_again(hold: Callable[..., Any]) -> None:
    assert hold() == {"changed": False, "release": "old", "actions": [], "held": False}


@pytest.mark.parametrize(
    "change",
    [
        {"environment": {"A": "2"}}, {"environment": {"A": "1", "B": "1"}}, {"environment": {}}, {"user": "other"},
        {"import": "shop.other:app"},
    ],
)  # fmt: skip
def test_another_environment_is_tried_with_the_release_in_use(hold: Callable[..., Any], change: dict[str, Any]) -> None:
    with pytest.raises(ReleaseError, match="there is no account"):
        hold(**change)


def test_settings_that_are_not_on_the_host_are_asked_for(hold: Callable[..., Any]) -> None:
    # They were tried, so nothing is asked.
    assert hold(content='{"new": 1}')["held"] is False
    found = hold(content='{"new": 1}', noted={"A": "0"})
    assert found == {"changed": False, "needs_files": True}
    with pytest.raises(ReleaseError, match="there is no account"):
        hold(content='{"new": 1}', noted={"A": "0"}, contents=[])


def test_without_a_verification_nothing_is_tried(hold: Callable[..., Any]) -> None:
    assert hold(environment={"A": "2"}, verify=False)["held"] is False


def test_a_release_is_held_back_until_it_is_taken(base: Path) -> None:
    def call(**changes: Any) -> dict[str, Any]:
        path = str(base / "releases" / "new")
        request = {
            "name": "shop", "import": "shop:app", "user": "shop", "source": {"type": "virtualenv", "path": path},
            **changes,
        }  # fmt: skip
        return procedure(Systemd(), **request).run()

    held = call(hold=True)
    assert (held["held"], held["switches"], held["changed"], held["previous"]) == (True, True, False, "old")
    assert (base / "current").readlink() == Path("releases/old")
    taken = call(take=held["release"])
    assert taken["changed"] is True
    assert (base / "current").readlink() == base / "releases" / "new"
    assert call(hold=True)["held"] is False


def test_old_releases_are_a_reason_for_the_second_call(base: Path) -> None:
    def call(**changes: Any) -> dict[str, Any]:
        request = {"name": "shop", "import": "shop:app", "user": "shop", "source": {"type": "pip"}, **changes}
        return procedure(Systemd(), **request).run()

    assert call(take="old", hold=True)["held"] is False
    assert call(take="old", hold=True, keep=2)["held"] is True
    call(take="old", keep=2)
    assert not (base / "releases" / "new").exists()


@pytest.mark.usefixtures("base")
def test_a_release_that_is_gone_is_not_taken() -> None:
    with pytest.raises(ReleaseError, match="is not on this host any more"):
        procedure(take="nowhere").run()


def test_only_what_the_app_reads_itself_is_laid_beside() -> None:
    files = [
        {"path": "/etc/celery.json", "content": "{}"},
        {"path": "/etc/celery.env", "content": "SECRET=1", "secret": True},
    ]
    assert action.placed(files, []) == [{"path": "/etc/celery.json", "content": "{}"}]


def test_what_is_left_to_be_done_after_the_switch_is_remembered(base: Path) -> None:
    def call(**changes: Any) -> dict[str, Any]:
        path = str(base / "releases" / "new")
        source = {"type": "virtualenv", "path": path}
        request = {"name": "shop", "import": "shop:app", "user": "shop", "source": source, **changes}
        return procedure(Systemd(), **request).run()

    assert call(hold=True)["due"] is False
    assert call(switch=False)["due"] is False
    call(take=str(base / "releases" / "new"), after="True")
    # The run ended here; the next one knows, be it site.yml or deploy.yml.
    assert call(hold=True)["due"] is True
    prepared = call(switch=False)
    assert (prepared["moved"], prepared["due"]) == (False, True)
    request = {"name": "shop", "user": pwd.getpwuid(os.getuid()).pw_name, "release": str(base / "releases" / "new")}
    done = {**request, "previous": "", "environment": {}, "contents": [], "when": "after"}
    one = {"argv": ["true"], "when": "after", "timeout": 9}
    commands.Commands({**done, "commands": [one]}, check_mode=True).run()
    assert call(hold=True)["due"] is True
    with pytest.raises(commands.CommandsError):
        commands.Commands({**done, "commands": [{**one, "argv": ["false"]}]}, check_mode=False).run()
    assert call(hold=True)["due"] is True
    commands.Commands({**done, "commands": [one]}, check_mode=False).run()
    assert call(hold=True)["due"] is False
    assert call(switch=False)["due"] is False
    # A switch without such commands leaves nothing.
    call(take="old", source={"type": "pip"})
    call(take=str(base / "releases" / "new"))
    assert call(hold=True)["due"] is False


def test_another_celery_is_told_before_anything_stops(base: Path) -> None:
    packages = base / "releases" / "older" / "lib" / "python3.13" / "site-packages"
    (packages / "celery-5.7.0.dist-info").rename(packages / "celery-5.5.3.dist-info")
    (packages / "kombu-5.7.0.dist-info").rename(packages / "kombu-5.5.4.dist-info")
    host = Systemd()
    procedure(host, switch=False, select="older").run()
    (told,) = host.warned
    assert told.startswith("the release has celery 5.5.3 in place of 5.7.0; no longer: queues for remote control")


def test_options_mean_what_they_say_where_ansible_hands_them_over_as_text() -> None:
    """ansible-core 2.18 does, and "False" is true."""
    given = request(keep="2", verify="False", hold="True", account={"group": "shop", "home": "/x", "manage": "no"})
    assert (given["keep"], given["verify"], given["hold"], given["switch"]) == (2, False, True, True)
    assert given["account"] == {"group": "shop", "home": "/x", "manage": False}
