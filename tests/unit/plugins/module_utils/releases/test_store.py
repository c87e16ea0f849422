"""The link to the release in use, and the note of when it led where."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import paths
from ansible_collections.celeryops.stack.plugins.module_utils.releases import store
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the app ``shop``, which is not there yet."""
    monkeypatch.setattr(paths, "PROGRAMS", str(tmp_path))
    return tmp_path / "shop"


def add(base: Path, *releases: str, complete: bool = True) -> None:
    for name in releases:
        (base / "releases" / name).mkdir(parents=True)
        if complete:
            (base / "releases" / name / store.MANIFEST).write_text("{}")


def test_the_link_leads_to_a_release_or_is_not_there(base: Path) -> None:
    assert Store("shop").current == ""
    base.mkdir()
    (base / "current").symlink_to("releases/one")
    assert Store("shop").current == "one"
    assert Store("shop").path("one") == f"{base}/releases/one"
    assert Store("shop").path("/srv/venv") == "/srv/venv"


def test_a_switch_is_one_step_and_is_noted(base: Path) -> None:
    one = Store("shop")
    assert one.history == {"activations": [], "verified": {}}
    before = time.time()
    for release in ("one", "/srv/venv"):
        one.switch(release, after=False)
        assert one.current == release
    assert (base / "current").readlink() == Path("/srv/venv")
    history = Store("shop").history
    assert [name for _when, name in history["activations"]] == ["one", "/srv/venv"]
    assert all(before <= when <= time.time() for when, _name in history["activations"])
    assert sorted(path.name for path in base.iterdir()) == ["activations.json", "current"]
    noted = (base / "activations.json").stat().st_mtime_ns
    Store("shop").switch("/srv/venv", after=True)
    assert (base / "activations.json").stat().st_mtime_ns == noted, "nothing was switched"
    one.save()
    assert (base / "activations.json").stat().st_mtime_ns == noted, "all was written"


def test_a_dry_run_switches_notes_and_removes_nothing(base: Path) -> None:
    add(base, "one")
    dry = Store("shop", check_mode=True)
    dry.note_verified("one", {"import": "shop:app"})
    dry.switch("one", after=True)
    dry.save()
    dry.remove("one")
    assert [path.name for path in base.iterdir()] == ["releases"]
    assert (base / "releases" / "one").is_dir()


def test_the_note_holds_the_last_hundred_switches_and_what_is_still_there(base: Path) -> None:
    base.mkdir()
    activations = [[float(number), f"r{number}"] for number in range(150)]
    (base / "activations.json").write_text(
        json.dumps({"activations": activations, "verified": {str(base): {"import": "a"}, str(base / "gone"): {}}})
    )
    add(base, "one")
    one = Store("shop")
    one.note_verified("one", {"import": "shop.celery:app"})
    one.save()
    kept = Store("shop")
    assert [name for _when, name in kept.history["activations"]] == [f"r{number}" for number in range(50, 150)]
    assert sorted(kept.history["verified"]) == [str(base), str(base / "releases" / "one")]
    assert kept.verified("one") == {"import": "shop.celery:app"}
    assert kept.verified("none") == {}


@pytest.mark.parametrize("text", ["", "{"])
def test_a_note_that_cannot_be_read_is_none(base: Path, text: str) -> None:
    base.mkdir()
    (base / "activations.json").write_text(text)
    assert Store("shop").history == {"activations": [], "verified": {}}


def test_the_note_of_an_older_version_is_understood(base: Path) -> None:
    add(base, "one")
    path = str(base / "releases" / "one")
    (base / "activations.json").write_text(
        json.dumps({"activations": [], "verified": {"path": path, "import": "shop:app", "user": "shop"}})
    )
    one = Store("shop")
    assert one.verified("one") == {"import": "shop:app", "user": "shop"}
    one.history["verified"]["/gone"] = {}
    one.switch("one", after=False)
    saved = Store("shop")
    assert [name for _when, name in saved.history["activations"]] == ["one"]
    assert list(saved.history["verified"]) == [path]
    assert (saved.was_used("one"), saved.was_used("two")) == (True, False)


def test_the_note_is_roots_alone(base: Path) -> None:
    """It has a digest of the environment, by which a short password could be found."""
    Store("shop").switch("one", after=False)
    assert (base / "activations.json").stat().st_mode & 0o777 == 0o600


def test_what_is_left_to_be_done_after_a_switch_is_due_until_it_is_done(base: Path) -> None:
    base.mkdir()
    Store("shop").switch("one", after=True)
    assert Store("shop").is_due("one")
    assert not Store("shop").is_due("two")
    Store("shop").done_after()
    assert not Store("shop").is_due("one")
    Store("shop").switch("two", after=True)
    Store("shop").switch("one", after=False)
    assert not any(Store("shop").is_due(name) for name in ("one", "two"))


@pytest.mark.usefixtures("base")
def test_where_nothing_is_left_nothing_is_written() -> None:
    Store("shop").done_after()
    assert not Path(Store("shop").base).exists()


def test_a_file_is_replaced_whole_and_all_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text("old and much longer than what comes in its place")
    mask = os.umask(0o077)
    try:
        store.write_json(str(path), {"b": 1, "a": [2]})
    finally:
        os.umask(mask)
    assert path.read_text() == '{\n "a": [\n  2\n ],\n "b": 1\n}\n'
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["note.json"]


def test_what_is_there_goes_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "stays").mkdir()
    (tmp_path / "dangling").symlink_to("stays/none")
    for name in ("link", "file", "folder", "dangling", "none"):
        store.delete(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["stays"]


# What may go


def test_incomplete_releases_go_and_the_oldest_of_the_others(base: Path) -> None:
    assert Store("shop").superfluous("one", 1) == ([], [])
    add(base, "one", "two", "three")
    add(base, "broken", complete=False)
    (base / "activations.json").write_text(json.dumps({"activations": [[1.0, "three"], [2.0, "two"]], "verified": {}}))
    one = Store("shop")
    assert one.complete() == ["one", "three", "two"]
    assert one.kept("one") == ["two", "three"]
    assert one.superfluous("one", 3) == (["broken"], [])
    assert one.superfluous("one", 2) == (["broken"], ["three"])
    # What is about to be built is none of them.
    assert one.superfluous("broken", 1) == ([], ["three", "two", "one"])
    one.remove("three")
    assert one.complete() == ["one", "two"]


def test_a_release_that_failed_goes_unless_something_runs_from_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(base, "one", "two")
    Store("shop").switch("one", after=False)
    may = Store("shop").may_discard
    assert [may(name) for name in ("two", "one", "none", str(base))] == [True, False, False, False]
    monkeypatch.setattr(store, "runs_in", lambda _pid: str(base / "releases" / "two"))
    assert not may("two")


def test_the_oldest_releases_go_and_never_one_that_is_needed() -> None:
    releases = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert store.superfluous(releases, "d", [], 2) == ["a", "b"]
    assert store.superfluous(releases, "a", [], 1) == ["b", "c", "d"]
    assert store.superfluous(releases, "d", ["a"], 2) == ["b"]
    assert store.superfluous(releases, "d", [], 9) == []
    assert store.superfluous(releases, "", [], 3) == ["a", "b"]


def test_the_release_before_is_the_one_that_was_in_use_last() -> None:
    history = [[1.0, "a"], [2.0, "b"], [3.0, "a"], [4.0, "d"], [5.0, "gone"]]
    assert store.kept(["a", "b", "c", "d"], history, "d") == ["a", "b", "c"]


def test_the_release_that_was_in_use_last_comes_first_and_one_that_never_was_last() -> None:
    history = [(5e8, "b"), (7e8, "a"), (9e8, "c"), (6e8, "d")]
    assert store.kept(["a", "b", "c", "d", "0", "e"], history, "c") == ["a", "d", "b", "0", "e"]
