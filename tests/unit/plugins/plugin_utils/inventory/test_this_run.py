"""What was seen in an earlier run is not taken for now."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import (
    seen_now,
    this_run,
    without_stale,
)


def test_one_name_for_all_that_one_process_forks() -> None:
    said = []
    for _time in range(2):
        reader, writer = os.pipe()
        if not (child := os.fork()):
            os.write(writer, this_run().encode())
            os._exit(0)
        os.waitpid(child, 0)
        said.append(os.read(reader, 100).decode())
        os.close(reader)
        os.close(writer)
    assert said == [this_run(os.getpid())] * 2


def test_another_process_has_another() -> None:
    assert this_run(os.getpid()) != this_run(os.getppid()) != this_run(1)
    assert this_run(2**30).startswith(f"{2**30}-")


def test_what_an_earlier_run_saw_is_not_looked_at() -> None:
    assert seen_now(None) == seen_now({}) == {}
    assert seen_now({"celeryops_machine": {"run": "1-1", "listeners": []}}) == {}
    now = {"run": this_run(), "listeners": []}
    assert seen_now({"celeryops_machine": now}) == now


def test_what_a_cache_kept_has_every_role_look_again() -> None:
    facts = {"memtotal_mb": 1, "celeryops_packages": [], "celeryops_rabbitmq": {}, "celeryops_redis": {}}
    for machine in ({}, {"run": "1-1"}):
        assert without_stale({**facts, "celeryops_machine": machine}) == {"memtotal_mb": 1}
    assert without_stale(None) == {}
    now = {**facts, "celeryops_machine": {"run": this_run()}}
    assert without_stale(now) == now
    for path in (Path(__file__).parents[5] / "roles").glob("*/tasks/validate.yml"):
        assert "when: not ansible_facts | celeryops.stack.seen_now" in path.read_text()
