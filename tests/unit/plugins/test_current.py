"""The link to the release in use, and the note of when it led where."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import current


def test_the_link_leads_to_a_release_or_is_not_there(tmp_path: Path) -> None:
    assert current.leads_to(str(tmp_path)) == ""
    (tmp_path / "current").symlink_to("releases/one")
    assert current.leads_to(str(tmp_path)) == "releases/one"


def test_a_switch_is_one_step_and_is_noted(tmp_path: Path) -> None:
    history = current.read_history(str(tmp_path))
    assert history == {"activations": [], "verified": {}}
    before = time.time()
    for target in ("releases/one", "/srv/venv"):
        current.switch(str(tmp_path), target, history)
        assert current.leads_to(str(tmp_path)) == target
    assert [name for _when, name in history["activations"]] == ["one", "/srv/venv"]
    assert all(before <= when <= time.time() for when, _name in history["activations"])
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_the_note_holds_the_last_hundred_switches_and_what_is_still_there(tmp_path: Path) -> None:
    history = {
        "activations": [[float(number), f"r{number}"] for number in range(150)],
        "verified": {str(tmp_path): {"import": "shop.celery:app"}, str(tmp_path / "gone"): {}},
    }
    current.save_history(str(tmp_path), history)
    kept = current.read_history(str(tmp_path))
    assert [name for _when, name in kept["activations"]] == [f"r{number}" for number in range(50, 150)]
    assert kept["verified"] == {str(tmp_path): {"import": "shop.celery:app"}}


@pytest.mark.parametrize("text", ["", "{"])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / current.HISTORY).write_text(text)
    assert current.read_history(str(tmp_path)) == {"activations": [], "verified": {}}


def test_a_file_is_replaced_whole_and_all_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text("old and much longer than what comes in its place")
    mask = os.umask(0o077)
    try:
        current.write_json(str(path), {"b": 1, "a": [2]})
    finally:
        os.umask(mask)
    assert path.read_text() == '{\n "a": [\n  2\n ],\n "b": 1\n}\n'
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["note.json"]
