"""Tasks in the queue of a class that leaves the inventory are told of, before the run changes anything and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.long, pytest.mark.apart]

LEAVES = "bulk"
TOLD = "wait in the queue feeds of shop, which no class"


@pytest.fixture
def smaller(inventory: dict[str, Any]) -> dict[str, Any]:
    """What the inventory says without the class, and without the routes to its queues."""
    classes, routes = inventory["celery_worker_classes"], inventory["celery_app_routes"]
    return {
        "celery_worker_classes": {name: own for name, own in classes.items() if name != LEAVES},
        "celery_app_routes": [one for one in routes if one["queue"] not in classes[LEAVES]["queues"]],
    }


def test_tasks_of_a_class_that_leaves_are_not_left_behind_without_a_word(
    host: Host, site: Callable[..., Any], produce: Callable[..., Any], smaller: dict[str, Any]
) -> None:
    processes = f"systemctl show --property=MainPID 'celery-shop-*' {LEAVES}"
    host.check_output(f"systemctl stop celery-shop-{LEAVES}.service")
    ids = produce("print(json.dumps([send('shop.feeds.import_feed', 'left', 1, 0.0).id for _ in range(3)]))")
    before = host.check_output(processes)

    run = site(variables=smaller)
    (message,) = run.messages
    assert f"3 tasks {TOLD} would consume any more" in message
    assert "celeryops_drain: 30m" in message
    assert run.changed == []
    assert host.check_output(processes) == before

    left = site(variables={**smaller, "celeryops_leave_messages": ["feeds"]})
    assert left.messages == []
    assert not host.file(f"/etc/systemd/system/celery-shop-{LEAVES}.service").exists
    # And from now on, until somebody consumes them.
    again = site(variables=smaller)
    assert (again.messages, again.changed) == ([], [])
    assert f"3 tasks {TOLD} consumes" in again.output

    back = site()
    assert back.messages == []
    assert TOLD not in back.output
    produce(f"[app.AsyncResult(one).get(timeout=60) for one in {ids}]; print(0)")


@pytest.mark.seldom
@pytest.mark.usefixtures("restored")
def test_a_run_that_is_to_wait_for_an_empty_queue_leaves_nothing_behind(
    host: Host, site: Callable[..., Any], produce: Callable[..., Any], smaller: dict[str, Any]
) -> None:
    """Nor what the worker has taken and not begun: that goes back when it ends."""
    ids = produce("print(json.dumps([send('shop.feeds.import_feed', 'drained', 1, 45.0).id for _ in range(2)]))")
    # The queue is empty: one runs, and the other one was taken.
    run = site(variables={**smaller, "celeryops_drain": "1s"})
    (message,) = run.messages
    assert "1 task waits in the queue feeds of shop, which no class would consume any more" in message
    assert run.changed == []
    run = site(variables={**smaller, "celeryops_drain": "2m"})
    assert run.messages == []
    assert not host.file(f"/etc/systemd/system/celery-shop-{LEAVES}.service").exists
    # Nobody is there any more who could do them now.
    states = produce(f"print(json.dumps([app.AsyncResult(one).state for one in {ids}]))")
    assert states == ["SUCCESS"] * 2
