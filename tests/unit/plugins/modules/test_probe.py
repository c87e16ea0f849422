"""What probes of workers found is judged."""

from __future__ import annotations

from ansible_collections.celeryops.stack.plugins.modules import probe


def test_what_probes_found_is_judged() -> None:
    answer = {"node": "high@a", "pid": 1, "release": "new", "seconds": 0.1}
    assert probe.judge({"one": answer}, ["new"], 60) == ("", [])
    assert probe.judge({"one": answer}, [], 60) == ("", [])
    wrong, told = probe.judge({"one": {**answer, "release": "old"}, "two": {"waiting": 0}}, ["new"], 60)
    assert "one: high@a answered from the release old, and not from new" in wrong
    assert "two: a worker took the probe and did not answer within 60 s" in wrong
    assert told == []
    wrong, told = probe.judge({"one": {"waiting": 5}}, ["new"], 60)
    assert (wrong, len(told)) == ("", 1)
    assert "behind 4 other messages" in told[0]
