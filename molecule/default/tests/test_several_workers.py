"""A class of several workers, started through a wrapper of the app's own environment (OpenTelemetry's)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosts import wait
from testinfra.host import Host

pytestmark = [pytest.mark.seldom, pytest.mark.apart("releases")]

WORKERS = ("bulk", "bulk-2", "bulk-3")
WRAPPER = "opentelemetry-instrument"
GROWN = {
    "celery_app_extra_packages": ["celery[redis]", "opentelemetry-distro", "opentelemetry-instrumentation-celery"],
    "celery_worker_host_classes": {
        "bulk": {"workers": 3, "command_prefix": WRAPPER, "log": "journal", "watchdog": "20s"},
    },
}


def unit(worker: str) -> str:
    return f"celery-shop-{worker}.service"


def show(host: Host, worker: str, key: str) -> str:
    return str(host.check_output(f"systemctl show --property={key} --value {unit(worker)}"))


def reports(host: Host) -> dict[str, dict[str, Any]]:
    return {name: json.loads(host.check_output(f"cat /run/celeryops/shop/{name}/worker.json")) for name in WORKERS}


@pytest.fixture(scope="module")
def grown(site: Callable[..., Any], leave_astray: Callable[[], None]) -> Iterator[None]:
    """Three workers of the class, behind the wrapper; afterwards the stack is what it was."""
    run = site(variables=GROWN)
    assert not run.failed, run.messages
    yield
    leave_astray()


@pytest.mark.takes_over
@pytest.mark.usefixtures("grown")
def test_each_is_ready_and_is_itself(host: Host) -> None:
    found = reports(host)
    assert {name: (report["node"].partition("@")[0], report["phase"]) for name, report in found.items()} == {
        name: (name, "consuming") for name in WORKERS
    }
    assert {name: report["pid"] for name, report in found.items()} == {
        name: int(show(host, name, "MainPID")) for name in WORKERS
    }
    assert len({tuple(report["queues"]) for report in found.values()}) == 1


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize("worker", WORKERS)
def test_the_wrapper_is_around_each(host: Host, worker: str) -> None:
    environment = host.check_output(f"tr '\\0' '\\n' < /proc/{show(host, worker, 'MainPID')}/environ")
    assert "opentelemetry/instrumentation/auto_instrumentation" in environment


@pytest.mark.usefixtures("grown")
def test_one_that_hangs_behind_the_wrapper_is_replaced(host: Host) -> None:
    before, restarts = show(host, "bulk-2", "MainPID"), int(show(host, "bulk-2", "NRestarts"))
    host.check_output(f"kill -STOP {before}")
    wait(lambda: int(show(host, "bulk-2", "NRestarts")) > restarts, 120, "the watchdog does not see it")
    wait(lambda: show(host, "bulk-2", "ActiveState") == "active", 60, "it does not come back")


@pytest.mark.usefixtures("grown")
def test_a_stop_behind_the_wrapper_is_in_order(host: Host) -> None:
    host.check_output(f"systemctl stop {unit('bulk-3')}")
    assert show(host, "bulk-3", "Result") == "success"
    assert "draining: 0 messages returned" in host.check_output(
        f"journalctl --no-pager --output=cat --lines=40 --unit={unit('bulk-3')}"
    )
    host.check_output(f"systemctl start {unit('bulk-3')}")


@pytest.mark.usefixtures("grown")
def test_fewer_workers_leave_those_that_stay_alone(host: Host, site: Callable[..., Any]) -> None:
    before = {name: show(host, name, "MainPID") for name in ("bulk", "bulk-2")}
    run = site(
        "--tags=celery_worker",
        variables={
            **GROWN,
            "celery_worker_host_classes": {"bulk": {**GROWN["celery_worker_host_classes"]["bulk"], "workers": 2}},
        },
    )
    assert not run.failed, run.messages
    assert {name: show(host, name, "MainPID") for name in ("bulk", "bulk-2")} == before
    assert show(host, "bulk-3", "LoadState") == "not-found"
