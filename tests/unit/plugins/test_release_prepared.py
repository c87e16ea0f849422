"""A release beside the one in use: what it must fulfil before anything that runs is touched."""

from __future__ import annotations

import hashlib
import json
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.action import release as action
from ansible_collections.celeryops.stack.plugins.modules import release as module

UNIT = "celery-shop-high.service"


class Systemd:
    """One worker that runs."""

    def __init__(self) -> None:
        self.check_mode = False
        self.warned: list[str] = []

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        return 0, "LoadState=loaded\nActiveState=active\nMainPID=7\n" if UNIT in command else "", ""

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that runs the release ``old`` and has kept two others."""
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
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
        request = action.completed({
            "name": "shop", "import": "shop:app", "user": "shop", "source": {"type": "pip", "packages": ["shop"]},
            "switch": False, "running": [{"unit": UNIT, "report": str(base.parent / "worker.json")}], **changes,
        })  # fmt: skip
        result: dict[str, Any] = module.Release(Systemd(), request).run()  # type: ignore[arg-type]
        return result

    return run


def test_the_one_before_is_what_was_in_use_last(prepare: Callable[..., Any]) -> None:
    found = prepare(select="previous")
    assert (found["release"], found["previous"], found["kept"]) == ("older", "old", ["older", "new"])
    assert (found["moved"], found["changed"]) == (True, False)


def test_a_release_that_is_not_kept_is_answered_with_those_that_are(prepare: Callable[..., Any]) -> None:
    with pytest.raises(
        module.ReleaseError, match=r"nowhere is no release .* write one of: older, new \(in use is old\)"
    ):
        prepare(select="nowhere")


def test_the_release_in_use_needs_nothing(prepare: Callable[..., Any]) -> None:
    assert prepare(select="old")["moved"] is False


def test_a_worker_that_runs_something_else_does(
    prepare: Callable[..., Any], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "runs_in", lambda _pid: str(base / "releases" / "new"))
    assert prepare(select="old")["moved"] is True


def test_a_task_that_a_worker_has_must_not_be_gone(prepare: Callable[..., Any]) -> None:
    with pytest.raises(module.ReleaseError, match=r"has no task shop\.b,.*accept_missing_tasks: \[shop\.b\]"):
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
    with pytest.raises(module.ReleaseError, match=r"celery\.json on this host is not .* run site\.yml first"):
        prepare(select="older", expected=[{"path": str(settings), "sha256": digest}])


def test_an_app_that_was_never_installed_is_left_to_the_site(prepare: Callable[..., Any], base: Path) -> None:
    (base / "current").unlink()
    with pytest.raises(module.ReleaseError, match="was never installed"):
        prepare(select="older", expected=[{"path": "/nowhere", "sha256": ""}])


def test_what_was_verified_by_an_older_version_is_verified_again(prepare: Callable[..., Any], base: Path) -> None:
    """It did not note the tasks."""
    path = base / "releases" / "older"
    history = {"activations": [], "verified": {"path": str(path), "import": "shop:app", "user": "shop"}}
    (base / "activations.json").write_text(json.dumps(history))
    with pytest.raises(module.ReleaseError, match="there is no account shop"):
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
    monkeypatch.setattr(module.os, "chown", lambda path, user, group: owned.append((path, user, group)))
    log, state = tmp_path / "log" / "shop", tmp_path / "lib" / "shop"
    state.mkdir(parents=True, mode=0o700)
    request = action.completed({"name": "shop", "directories": [str(log), str(state)], "source": {"type": "pip"}})
    nobody = pwd.getpwnam("nobody")
    module.Release(Systemd(), request)._provide_directories(nobody)
    assert log.stat().st_mode & 0o777 == 0o750
    # What is there already is left to the task that looks after it.
    assert state.stat().st_mode & 0o777 == 0o700
    assert owned == [(str(log), nobody.pw_uid, nobody.pw_gid)]


def test_another_celery_is_told_before_anything_stops(base: Path) -> None:
    packages = base / "releases" / "older" / "lib" / "python3.13" / "site-packages"
    (packages / "celery-5.7.0.dist-info").rename(packages / "celery-5.5.3.dist-info")
    (packages / "kombu-5.7.0.dist-info").rename(packages / "kombu-5.5.4.dist-info")
    host = Systemd()
    request = action.completed({
        "name": "shop", "import": "shop:app", "user": "shop", "source": {"type": "pip", "packages": ["shop"]},
        "switch": False, "select": "older",
    })  # fmt: skip
    module.Release(host, request).run()  # type: ignore[arg-type]
    (told,) = host.warned
    assert told.startswith("the release has celery 5.5.3 in place of 5.7.0; no longer: queues for remote control")
