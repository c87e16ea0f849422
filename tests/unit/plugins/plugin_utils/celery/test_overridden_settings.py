"""What an app says of settings that the role decides is told once, with the place for another value."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from release_request import procedure

from ansible_collections.celeryops.stack.plugins.module_utils import paths, placed
from ansible_collections.celeryops.stack.plugins.module_utils import trial as trials
from ansible_collections.celeryops.stack.plugins.module_utils.releases import procedure as module
from ansible_collections.celeryops.stack.plugins.module_utils.releases.programs import ReleaseError
from ansible_collections.celeryops.stack.plugins.module_utils.releases.verify import IMPORT_TIMEOUT
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.overridden_settings import told

REPLACED = [
    {"setting": "task_routes", "app": "a.b to mails", "here": "a.b to default"},
    {"setting": "task_acks_late", "app": "False", "here": "True"},
    {"setting": "task_queues", "app": "mails", "here": "default"},
]


def test_one_warning_says_all_in_sorted_lines() -> None:
    head, *lines = told("shop.celery:app", REPLACED, []).splitlines()
    assert head.startswith("shop.celery:app has settings of its own that do not hold")
    own = "(from-app keeps the app's own)"
    assert [line.removesuffix(" to have another value") for line in lines] == [
        "- task_acks_late: the app says False, here True holds; write celery_app_settings.task_acks_late",
        "- task_queues: the app says mails, here default holds; write celery_app_queues",
        f"- task_routes: the app says a.b to mails, here a.b to default holds; write celery_app_routes {own}",
    ]


def test_what_the_inventory_decides_outright_is_not_told() -> None:
    assert "task_acks_late" not in told("shop:app", REPLACED, ["task_acks_late"])
    assert told("shop:app", REPLACED[1:2], ["task_acks_late"]) == ""
    assert told("shop:app", [], []) == ""


class Host:
    """Answers nothing."""

    check_mode = False

    def warn(self, text: str) -> None:
        raise AssertionError(text)


class DryRun(Host):
    """As with ``--check``; notes what is told."""

    check_mode = True

    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Try the release in use; what the app is found to be is given."""
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path))
    release = tmp_path / "shop" / "releases" / "one"
    packages = release / "lib" / "python3.13" / "site-packages"
    for name in ("celery", "kombu"):
        (packages / f"{name}-5.7.0.dist-info").mkdir(parents=True)
    (release / "bin").mkdir()
    (release / "bin" / "python").write_text("")
    (tmp_path / "shop" / "current").symlink_to("releases/one")

    def run(
        report: dict[str, Any], failed: str = "", host: Host | None = None, tried: Any = None, **request: Any
    ) -> dict[str, Any]:
        line = json.dumps({"celeryops": {"tasks": ["a.b"], **report}})
        answer = (1, failed) if failed else (0, f"{line}\n")
        monkeypatch.setattr(trials, "run_as", tried or (lambda *_arguments: answer))
        options = {"user": pwd.getpwuid(os.getuid()).pw_name, "select": "current", "hold": True, **request}
        return procedure(host or Host(), **options).run()

    return run


def test_a_release_tells_it_when_it_is_tried_and_not_again(trial: Callable[..., dict[str, Any]]) -> None:
    assert trial({"replaced": REPLACED})["replaced"] == REPLACED
    assert "replaced" not in trial({"replaced": REPLACED})


def test_no_line_of_a_secret_file_that_is_in_place_is_shown(
    trial: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not brought over, as it is as it has to be; the app reads it all the same."""
    secret, public = tmp_path / "secret", tmp_path / "public"
    secret.write_text("CLIENT = connect('geheim-12345')\n")
    secret.chmod(0o640)
    public.write_text("DEBUG = 'offen-12345'\n")
    public.chmod(0o644)
    monkeypatch.setattr(paths, "CONFIG", str(tmp_path / "etc"))
    (tmp_path / "etc" / "shop").mkdir(parents=True)
    record = {str(path): {"sha256": ""} for path in (secret, public, tmp_path / "gone")}
    placed.write(str(tmp_path / "etc" / "shop" / placed.NAME), record)
    said = secret.read_text() + public.read_text()
    with pytest.raises(ReleaseError) as error:
        trial({}, failed=said)
    assert "geheim" not in str(error.value)
    assert "offen-12345" in str(error.value)


def test_an_app_that_hangs_says_where(trial: Callable[..., dict[str, Any]]) -> None:
    def hang(_account: object, command: list[str], *_arguments: object) -> None:
        soon = command[2].partition("import json")[0].replace(str(IMPORT_TIMEOUT - 5), "0.1")
        code = f"{soon}import time\ndef connect(): time.sleep(0.5)\nconnect()"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
        raise subprocess.TimeoutExpired(command, IMPORT_TIMEOUT, output=said)

    with pytest.raises(ReleaseError, match=r"(?s)took more than 300 s, so neither .* in connect"):
        trial({}, tried=hang)


def test_a_release_with_a_route_that_leads_nowhere_is_not_taken(trial: Callable[..., dict[str, Any]]) -> None:
    routes = {"named": {"a.*": "mails"}, "tasks": {"a.b": "mails"}, "asked": [], "failed": {}}
    for _run in range(2):
        with pytest.raises(ReleaseError, match=r"a\.\* to mails. Consumed are default. Write mails into"):
            trial({"routes": routes}, consumed=["default"])
    assert trial({"routes": routes}, consumed=["mails"])["release"] == "one"


def test_a_task_that_names_a_queue_nobody_consumes_is_told_and_taken(trial: Callable[..., dict[str, Any]]) -> None:
    host = DryRun()
    host.check_mode = False  # type: ignore[misc]
    trial({"queues": {"a.b": "mails"}}, host=host, consumed=["default"])
    assert [text for text in host.told if "a.b to mails" in text]
    host.told.clear()
    trial({"queues": {"a.b": "mails"}}, host=host, consumed=["mails"], environment={"A": "1"})
    assert host.told == []


def test_a_file_of_the_apps_own_has_a_place_that_is_there_and_that_the_app_cannot_change(
    trial: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    own = {"own": True, "owner": me, "group": grp.getgrgid(os.getgid()).gr_name, "mode": "0640", "content": "x"}

    def refused(path: Path, user: str = "nobody", **more: str) -> str:
        with pytest.raises(ReleaseError) as error:
            trial({}, configuration=[{"path": str(path), **own, **more}], user=user)
        return str(error.value)

    tmp_path.chmod(0o755)
    loose, link = tmp_path / "loose", tmp_path / "link"
    loose.mkdir()
    loose.chmod(0o777)
    link.symlink_to("/etc/hostname")
    assert refused(tmp_path / "none" / "a").startswith(
        f"celery_app_files: {tmp_path}/none is not a directory on this host"
    )
    assert refused(link).startswith(f"celery_app_files: {link} is a link on this host; remove it")
    assert refused(loose).startswith(f"celery_app_files: {loose} is no file on this host")
    for kind, name in (("owner", "account"), ("group", "group")):
        said = f"celery_app_files: there is no {name} nobody-here on this host, for /etc/a; make it before"
        assert refused(Path("/etc/a"), **{kind: "nobody-here"}).startswith(said)
    # /tmp is everybody's.
    assert "can be written by nobody, so the app could replace" in refused(loose / "a")
    assert "can be written by nobody-here, so the app could replace" in refused(loose / "a", user="nobody-here")


def test_what_a_package_is_to_bring_is_not_asked_for_before_it_is_there(
    trial: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path("/etc/nobody-here")
    configuration = [{"path": f"{folder}/a", "own": True, "owner": "nobody-here", "mode": "0640", "sha256": ""}]
    missing = ["nobody-here"]
    monkeypatch.setattr(module, "missing_packages", lambda _wanted: missing)
    assert trial({}, configuration=configuration, user="nobody", select="")["missing_packages"] == missing
    # A package replaces no link, and its directories are below others that the app must not be able to write to.
    for path, said in ((tmp_path / "link", "is a link on this host"), (Path("/tmp/none/a"), "/tmp can be written by")):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to("/etc/hostname")
        with pytest.raises(ReleaseError, match=said):
            trial({}, configuration=[{**configuration[0], "path": str(path)}], user="nobody", select="")
    missing.clear()
    with pytest.raises(ReleaseError, match=f"{folder} is not a directory on this host; make it before"):
        trial({}, configuration=configuration, user="nobody", select="")


def test_a_dry_run_tells_of_a_directory_that_is_not_there_yet(
    trial: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """A package or a play before may be what makes it. What is in the way of one is refused all the same."""
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    own = {"own": True, "owner": "root", "group": "root", "mode": "0640", "sha256": ""}

    def told(path: Path, host: Host) -> None:
        assert trial({}, configuration=[{"path": str(path), **own}], user="nobody", host=host)["release"] == "one"

    tmp_path.chmod(0o755)
    dry = DryRun()
    missing = Path("/etc/nobody-here/yet")
    told(missing / "a", dry)
    said = f"celery_app_files: {missing} is not on this host yet, for {missing}/a; unless the run itself makes it, "
    assert dry.told == [f"{said}make it before, or write a path below /etc/celeryops/shop/files/"]
    with pytest.raises(ReleaseError, match="/tmp can be written by nobody, so the app could replace"):
        told(Path("/tmp/none/yet/a"), dry)
    for folder, host in (("file", dry), ("file/below", dry), ("dangling", dry), ("none", Host())):
        with pytest.raises(ReleaseError, match=f"{tmp_path}/{folder} is not a directory on this host; make it"):
            told(tmp_path / folder / "a", host)
    assert len(dry.told) == 1


def test_another_mode_alone_is_tried_as_well(trial: Callable[..., dict[str, Any]]) -> None:
    """The file holds what it is to hold, and the account may not read it any more."""
    own = {"own": True, "owner": "root", "group": "root"}
    target = Path("/etc/debian_version")
    entry = {"path": str(target), "sha256": hashlib.sha256(target.read_bytes()).hexdigest(), **own}
    user = {"user": "nobody"}
    assert trial({}, configuration=[{**entry, "mode": "0600"}], **user).get("needs_files") is True
    assert "needs_files" not in trial({}, configuration=[{**entry, "mode": "0644"}], **user)
