"""Passwords that are made anew: asked for first, then taken by servers, workers and producers, with nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.seldom, pytest.mark.apart]


@pytest.mark.usefixtures("restored")
def test_new_passwords_reach_all_that_use_them(
    host: Host,
    site: Callable[..., Any],
    produce: Callable[..., Any],
    secret_files: list[Path],
    broker: str,
    tmp_path: Path,
) -> None:
    """On a machine that has not the passwords of the first run: another folder."""
    folder = tmp_path / "secrets"
    before = {path.name: path.read_text() for path in secret_files}
    sends = "[send('shop.feeds.import_feed', 'rotated', 1, 3.0).id for _ in range(12)]"
    run = site(variables={"celeryops_secrets_dir": str(folder)})
    assert len(run.messages) == 1, run.messages
    assert f"passwords are in use that are missing in {folder}" in run.messages[0]
    assert "celeryops_rotate_secrets: true" in run.messages[0]
    assert run.changed == []

    ids = produce(f"print(json.dumps({sends}))")
    if broker == "redis":
        # A worker that Redis does not let in any more cannot give back what it holds (docs/removing.md).
        done = f"print(json.dumps([app.AsyncResult(one).get(timeout=90)['articles'] for one in {ids}]))"
        assert produce(done) == [1] * 12
    anew = {"celeryops_secrets_dir": str(folder), "celeryops_rotate_secrets": True}
    run = site("--diff", variables=anew)
    assert run.messages == [], run.messages
    made = {path.name: path.read_text() for path in folder.iterdir() if path.name in before}
    assert made.keys() >= {"redis_admin_password", "shop_redis_password", "shop_flower_password"}
    assert [name for name, value in made.items() if before[name] == value] == []
    assert not [name for name, value in made.items() if value.strip() in run.output]
    # What was sent before is done by workers with the new passwords, and its results are still there.
    states = produce(f"print(json.dumps([app.AsyncResult(one).get(timeout=90)['articles'] for one in {ids}]))")
    assert states == [1] * 12
    # Nothing is asked or changed any more.
    again = site(variables={"celeryops_secrets_dir": str(folder)})
    assert (again.messages, again.changed) == ([], [])
    assert host.run("systemctl --failed --quiet").stdout == ""
