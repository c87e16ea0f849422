"""A task that keeps memory for ever: its process is replaced, its unit's limit holds, and no other class notices."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))
from tools.lab.containers import resource_control

pytestmark = pytest.mark.seldom

MIB = 1024 * 1024
#: Each class gets the same task, and another limit.
CLASSES = {
    "leak-free": {"queues": ["leak-free"], "concurrency": 1},
    "leak-tasks": {"queues": ["leak-tasks"], "concurrency": 1, "max_tasks_per_child": 3},
    "leak-memory": {"queues": ["leak-memory"], "concurrency": 1, "max_memory_per_child": "128M"},
    # Acknowledged early, so that the task that is killed is not tried again.
    "leak-unit": {"queues": ["leak-unit"], "concurrency": 1, "memory_max": "256M", "acknowledgement": "early"},
}
PRODUCER = """
import json, statistics, time
from shop.celery import app
def send(name, *args, **options):
    return app.signature(name, args=args).apply_async(**options)
def leak(queue, times, megabytes=24):
    found = [send("shop.reports.leaky", megabytes, queue=queue).get(timeout=60) for _ in range(times)]
    return [(one["kept"], one["ran_by"]["pid"]) for one in found]
def charges(label, times):
    pids, seconds = set(), []
    for number in range(times):
        began = time.monotonic()
        pids.add(send("shop.payments.charge", f"{label}-{number}", 100).get(timeout=60)["ran_by"]["pid"])
        seconds.append(time.monotonic() - began)
    return sorted(pids), statistics.median(seconds)
"""


def produce(host: Host, program: str) -> Any:
    """Run Python as the app's web process would; returns the last line that it prints, as JSON."""
    out = host.check_output(
        "systemd-run --quiet --pipe --wait --collect --property=User=shop --property=WorkingDirectory=/"
        " --property=EnvironmentFile=/etc/celeryops/shop/celery.env"
        f" /opt/celeryops/shop/current/bin/python -B - <<'END'\n{PRODUCER}{program}\nEND"
    )
    return json.loads(out.splitlines()[-1])


def main_pids(host: Host) -> dict[str, str]:
    units = [f"celery-shop-{name}.service" for name in ("high", "default", "bulk", *CLASSES)]
    shown = host.check_output(f"systemctl show --property=Id,MainPID,NRestarts {' '.join(units)}")
    return {block.splitlines()[-1]: block for block in shown.split("\n\n")}


@pytest.fixture(scope="module", autouse=True)
def leaking(site: Callable[..., Any], inventory: dict[str, Any]) -> Iterator[None]:
    """The app with these classes beside its own; afterwards without them."""
    parts = "--tags=celery_app,celery_worker"
    run = site(parts, variables={"celery_worker_classes": {**inventory["celery_worker_classes"], **CLASSES}})
    assert run.messages == []
    yield
    run = site(parts)
    assert run.messages == []


def test_without_a_limit_it_grows_and_grows(host: Host) -> None:
    leaked = produce(host, 'print(json.dumps(leak("leak-free", 9)))')
    first = leaked[0][0]
    assert [kept - first for kept, _other in leaked] == [24 * number for number in range(9)]
    pid = leaked[-1][1]
    assert len({pid for _other, pid in leaked}) == 1
    resident = int(host.check_output(f"ps -o rss= --pid {pid}")) * 1024
    assert resident > 9 * 24 * MIB, "the memory is really there"


def test_a_process_is_replaced_after_so_many_tasks(host: Host) -> None:
    before = main_pids(host)
    leaked = produce(host, 'print(json.dumps(leak("leak-tasks", 9)))')
    assert len({pid for _other, pid in leaked}) >= 3
    assert max(kept for kept, _other in leaked) == 3 * 24
    assert main_pids(host) == before


def test_a_process_is_replaced_when_it_has_grown(host: Host) -> None:
    before = main_pids(host)
    leaked = produce(host, 'print(json.dumps(leak("leak-memory", 12)))')
    assert len({pid for _other, pid in leaked}) >= 2
    # It is looked at after each task, so it holds what one task more has brought.
    assert max(kept for kept, _other in leaked) <= 128 + 24
    assert main_pids(host) == before


def test_no_other_class_notices_that_processes_leak(host: Host) -> None:
    before = main_pids(host)
    alone, alone_median, beside, beside_median = produce(
        host,
        """
alone = charges("alone", 15)
waiting = [send("shop.reports.leaky", 24, queue=queue) for queue in ("leak-tasks", "leak-memory") for _ in range(12)]
beside = charges("beside", 15)
[one.get(timeout=120) for one in waiting]
print(json.dumps([*alone, *beside]))
""",
    )
    assert alone == beside, "the same process as before has served them"
    assert beside_median < 20 * alone_median, "side by side on the same processors, not one behind the other"
    assert main_pids(host) == before


# Debian testing's systemd manages control groups version 2 only: on a kernel with version 1 its units have no limits.
if resource_control(os.environ.get("CELERYOPS_SUITE", "trixie")):

    def test_the_limit_of_a_unit_holds_and_only_its_own_process_is_killed(host: Host) -> None:
        before = main_pids(host)
        error, kept, pids = produce(
            host,
            """
charges("before", 1)
killed = send("shop.reports.leaky", 700, queue="leak-unit")
pids = charges("during", 10)[0]
try:
    error = f"no error: {killed.get(timeout=120)}"
except Exception as raised:
    error = f"{type(raised).__name__} {raised}"
print(json.dumps([error, leak("leak-unit", 1, 1)[0][0], pids]))
""",
        )
        assert error.startswith("WorkerLostError")
        assert "SIGKILL" in error
        assert kept == 1, "a new process serves the class"
        assert len(pids) == 1
        assert main_pids(host) == before, "no unit was restarted, not even the one over its limit"
