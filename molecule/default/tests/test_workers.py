"""The running workers are asked what they do, and what somebody changed while they run is found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host


def report(host: Host, worker_class: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.file(f"/run/celeryops/shop/{worker_class}/worker.json").content_string)
    return found


def control(host: Host, *words: str) -> None:
    """`celery control`, as an operator would call it; the answer comes through the broker."""
    command = " ".join(words)
    host.check_output(
        "systemd-run --quiet --pipe --wait --collect --property=User=shop --property=WorkingDirectory=/"
        " --property=EnvironmentFile=/etc/celeryops/shop/celery.env"
        f" /opt/celeryops/shop/current/bin/celery -A shop.celery:app control --timeout 10 {command}"
    )


def main_pids(host: Host) -> dict[str, str]:
    names = ("default", "bulk", "high")
    units = " ".join(f"celery-shop-{name}.service" for name in names)
    shown = host.check_output(f"systemctl show --property=MainPID --value {units}").split()
    return dict(zip(names, shown, strict=True))


def wait_for(host: Host, worker_class: str, key: str, value: object) -> None:
    deadline = time.monotonic() + 30
    while report(host, worker_class)[key] != value:
        assert time.monotonic() < deadline, report(host, worker_class)
        time.sleep(1)


@pytest.mark.broker("rabbitmq")
def test_what_a_worker_says_of_itself_is_what_the_broker_sees(host: Host) -> None:
    said = {queue for name in ("high", "default", "bulk") for queue in report(host, name)["queues"]}

    def consumed() -> set[str]:
        lines = host.check_output("rabbitmqctl --silent list_queues --vhost shop name consumers").splitlines()
        names = {line.split()[0] for line in lines if line.split()[1] != "0"}
        return {name for name in names if not name.startswith(("celeryev", "celery@")) and "pidbox" not in name}

    # RabbitMQ counts the consumers of a quorum queue every five seconds.
    deadline = time.monotonic() + 20
    while consumed() != said:
        assert time.monotonic() < deadline, (consumed(), said)
        time.sleep(1)


def test_what_a_worker_says_of_itself_is_what_the_inventory_says(host: Host, inventory: dict[str, Any]) -> None:
    wanted = {name: set(entry.get("queues", ["default"])) for name, entry in inventory["celery_worker_classes"].items()}
    assert {name: set(report(host, name)["queues"]) for name in wanted} == wanted


def test_a_worker_says_what_it_was_started_with(host: Host, broker: str) -> None:
    bulk = report(host, "bulk")
    # However many hosts there are: it would take more than one only while its tasks are short.
    prefetch = 8 if broker == "rabbitmq" else 1
    assert (bulk["max_tasks_per_child"], bulk["time_limit"], bulk["prefetch_multiplier"]) == (40, 3600, prefetch)
    # Its tasks are not so short that it would take as many as it may.
    assert bulk["prefetch"] == int(bulk["concurrency"])
    assert "shop.reports.leaky" in bulk["tasks"]
    assert str(bulk["pid"]) == host.check_output("systemctl show --property=MainPID --value celery-shop-bulk.service")


def test_only_the_apps_account_and_root_read_it(host: Host) -> None:
    file = host.file("/run/celeryops/shop/bulk/worker.json")
    assert (file.user, oct(file.mode)) == ("shop", "0o640")


@pytest.fixture(scope="module")
def told(host: Host, site: Callable[..., Any]) -> str:
    """What a run says of workers that somebody changed, of one that hangs, and of one whose report is another's.

    They are as they were afterwards: by what the message advises, and by a restart.
    """
    reports = "/run/celeryops/shop"
    # Without a watchdog, or systemd restarts them while they are waited for.
    drop_ins = [f"/run/systemd/system/celery-shop-{name}.service.d" for name in ("default", "high")]
    for drop_in in drop_ins:
        host.check_output(f"mkdir {drop_in}; printf '[Service]\\nWatchdogSec=0\\n' > {drop_in}/test.conf")
    host.check_output("systemctl daemon-reload; systemctl restart celery-shop-default.service celery-shop-high.service")
    control(host, "--destination", "bulk@$(hostname)", "cancel_consumer", "feeds")
    control(host, "--destination", "bulk@$(hostname)", "pool_grow", "1")
    wait_for(host, "bulk", "queues", ["reports"])
    wait_for(host, "bulk", "concurrency", 2)
    pids = main_pids(host)
    host.check_output(f"kill -STOP {pids['default']}; touch --date='1 minute ago' {reports}/default/worker.json")
    other = json.dumps({**report(host, "high"), "pid": int(pids["bulk"])})
    # A worker that works writes its own again.
    host.check_output(f"kill -STOP {pids['high']}; cat > {reports}/high/worker.json <<'END'\n{other}\nEND")
    try:
        run = site("--tags=celery_worker")
    finally:
        host.check_output(
            f"kill -CONT {pids['default']} {pids['high']}; rm -r {' '.join(drop_ins)}; systemctl daemon-reload;"
            "systemctl restart celery-shop-high.service celery-shop-default.service"
        )
    [message] = run.messages
    # The number of the process is known here only.
    return str(message).replace(f"process {pids['bulk']}", "process BULK")


@pytest.mark.alike
def test_what_was_changed_while_workers_run_is_found_in_one_message(host: Host, told: str) -> None:
    advice = "systemctl restart celery-shop-bulk.service"
    assert f"bulk: consumes reports, planned is feeds, reports; run {advice}" in told
    assert f"bulk: its concurrency is 2, planned is 1; run {advice}" in told
    assert [line for line in told.splitlines() if "default:" in line or "high:" in line] == []
    host.check_output(advice)
    assert (report(host, "bulk")["queues"], report(host, "bulk")["concurrency"]) == (["feeds", "reports"], 1)


@pytest.mark.alike
def test_a_worker_that_hangs_and_a_report_of_another_process_are_no_answers(told: str) -> None:
    assert "celery-shop-default.service does not answer: its last sign of life is" in told
    assert "celery-shop-high.service does not answer: its report is of process BULK, and process" in told
    assert "celery-shop-bulk.service does not answer" not in told


@pytest.mark.alike
@pytest.mark.usefixtures("restored")
def test_a_route_to_a_task_that_no_worker_has_is_reported(site: Callable[..., Any], inventory: dict[str, Any]) -> None:
    routes = [
        *inventory["celery_app_routes"],
        {"task": "shop.stock.counts", "queue": "reports"},
        {"task": "shop.invoices.*", "queue": "reports"},
        {"task": "old_shop.export", "queue": "reports"},
    ]
    tags = "--tags=celery_app,celery_worker"
    run = site(tags, variables={"celery_app_routes": routes, "celery_worker_tasks_elsewhere": ["old_shop.*"]})
    assert run.messages == []
    assert "'shop.stock.counts' is a task that no worker has; write shop.stock.count (did you mean that?)" in run.output
    assert "'shop.invoices.*' is a pattern that no task of a worker matches" in run.output
    assert "'old_shop.export' is" not in run.output
