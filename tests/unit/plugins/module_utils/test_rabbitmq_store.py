"""The data of a node that is stopped."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_found import nodes
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_store import put_aside


def test_data_are_put_where_no_node_finds_them(tmp_path: Path) -> None:
    base = tmp_path / "mnesia"
    for name in ("rabbit@mq1", "rabbit@mq1-plugins-expand", "rabbit@mq10"):
        (base / name).mkdir(parents=True)
        (base / name / "file").write_text(name)
    (base / "rabbit@mq1-feature_flags").write_text("[].")
    place = Path(put_aside(str(base / "rabbit@mq1"), str(tmp_path / "aside")))
    assert (place / "rabbit@mq1" / "file").read_text() == "rabbit@mq1"
    assert (place / "rabbit@mq1-feature_flags").read_text() == "[]."
    assert place.parent == tmp_path / "aside"
    assert place.stat().st_mode & 0o077 == 0
    assert nodes(str(base)) == ["rabbit@mq10"]


def test_nothing_is_made_for_a_node_without_data(tmp_path: Path) -> None:
    assert put_aside(str(tmp_path / "mnesia" / "rabbit@mq1"), str(tmp_path / "aside")) == ""
    assert not (tmp_path / "aside").exists()
