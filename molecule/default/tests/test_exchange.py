"""Real tasks: sent as a web process sends them, run where their route says, read back from the result store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from testinfra.host import Host

Produce = Callable[..., Any]


@pytest.mark.parametrize(
    ("task", "arguments", "queue", "worker_class"),
    [
        ("shop.payments.charge", '"order-1", 100', "payments", "high"),
        ("shop.mails.send_receipt", '"order-1", "a@example.org", 100', "mails", "high"),
        ("shop.feeds.import_feed", '"supplier"', "feeds", "bulk"),
        ("shop.reports.daily_sales", "1", "reports", "bulk"),
        ("shop.orders.confirm", '"order-1", [[1, 100]]', "default", "default"),
        ("shop.stock.count", '"article"', "default", "default"),
    ],
)
def test_a_task_is_run_by_the_unit_that_its_route_names(
    host: Host, produce: Produce, inventory: dict[str, Any], task: str, arguments: str, queue: str, worker_class: str
) -> None:
    app = inventory["celery_app_name"]
    result = produce(f'print(json.dumps(send("{task}", {arguments}).get(timeout=30)))')
    unit = f"celery-{app}-{worker_class}.service"
    main = host.check_output(f"systemctl show --property=MainPID --value {unit}")
    processes = host.check_output(f"ps -o pid= --pid {main} --ppid {main}").split()
    ran_by = result["ran_by"]
    assert ran_by["queue"] == queue
    assert str(ran_by["pid"]) in processes
    assert ran_by["node"].startswith(f"{worker_class}@")
    assert ran_by["uid"] == host.user(app).uid != 0


def test_the_result_is_in_the_store_under_the_apps_prefix_and_expires(
    produce: Produce, ask_redis: Callable[[str], str]
) -> None:
    task_id = produce('r = send("shop.stock.count", "x"); r.get(timeout=30); print(json.dumps(r.id))')
    assert 0 < int(ask_redis(f"TTL shop:celery-task-meta-{task_id}")) <= 86400


def test_each_class_logs_to_its_own_place(host: Host, produce: Produce) -> None:
    ids = produce(
        'r = [send("shop.payments.charge", "log", 1), send("shop.feeds.import_feed", "log")];'
        "[one.get(timeout=30) for one in r]; print(json.dumps([one.id for one in r]))"
    )
    logs = {
        "high": host.check_output("journalctl --no-pager --output=cat --unit=celery-shop-high.service"),
        "default": host.check_output("journalctl --no-pager --output=cat --unit=celery-shop-default.service"),
        "bulk": host.file("/var/log/celeryops/shop/bulk.log").content_string,
    }
    assert [{name for name, text in logs.items() if one in text} for one in ids] == [{"high"}, {"bulk"}]


def test_an_urgent_task_is_done_at_once_while_the_slow_class_is_full(produce: Produce) -> None:
    waited, left = produce(
        # Longer than an urgent task may wait: one of them in the wrong worker is enough to be noticed.
        'slow = [send("shop.feeds.import_feed", "full", 10, 5.0) for _ in range(3)]\n'
        "time.sleep(1.5)\n"
        "begin = time.time()\n"
        'started = send("shop.payments.charge", "urgent", 1).get(timeout=30)["ran_by"]["started"]\n'
        "left = sum(not one.ready() for one in slow)\n"
        "[one.get(timeout=60) for one in slow]\n"
        "print(json.dumps([started - begin, left]))"
    )
    assert waited < 1.5, "the urgent task waited for a slow one"
    assert left >= 2, "the slow class was not full"


def test_a_chord_a_retry_and_a_task_without_result(produce: Produce) -> None:
    total, parts, retries, state = produce(
        "from celery import chord\n"
        "part = lambda n: app.signature('shop.reports.partial_sum', args=([n, n],))\n"
        "whole = chord([part(n) for n in range(5)])(app.signature('shop.reports.grand_total')).get(timeout=60)\n"
        "paid = send('shop.payments.charge', f'retry-{time.time()}', 5, 2, 0.5).get(timeout=60)\n"
        "seen = send('shop.stock.seen', 'x', ignore_result=True); time.sleep(1)\n"
        "print(json.dumps([whole['sum'], whole['parts'], paid['ran_by']['retries'], seen.state]))"
    )
    assert (total, parts, retries, state) == (20, 5, 2, "PENDING")


@pytest.mark.broker("rabbitmq")
def test_a_delayed_task_waits_in_the_broker(host: Host, produce: Produce) -> None:
    produce('send("shop.mails.remind", "eta", "a@example.org", countdown=60); print(0)')
    columns = "rabbitmqctl --silent list_queues --vhost shop name messages_ready messages_unacknowledged"
    held_in: list[tuple[str, str]] = []
    deadline = time.monotonic() + 30
    while not held_in:
        assert time.monotonic() < deadline, "the message is in no delay queue"
        waiting = [line.split() for line in host.check_output(columns).splitlines()]
        held_in = [(name, held) for name, ready, held in waiting if name.startswith("celery_delayed_") and ready != "0"]
    # In the broker, and with no worker.
    assert [held for _name, held in held_in] == ["0"]


@pytest.mark.broker("redis")
def test_a_delayed_task_is_kept_until_it_is_done(produce: Produce, ask_redis: Callable[[str], str]) -> None:
    """A worker holds it, and Redis has a copy until it is acknowledged."""
    task_id = produce('print(json.dumps(send("shop.mails.remind", "eta", "a@example.org", countdown=20).id))')

    def kept() -> bool:
        return task_id in ask_redis("HVALS shop:unacked")

    deadline = time.monotonic() + 15
    while not kept():
        assert time.monotonic() < deadline, "no worker has taken the message"
        time.sleep(1)
    produce(f"app.AsyncResult('{task_id}').get(timeout=40); print(0)")
    deadline = time.monotonic() + 15
    while kept():
        assert time.monotonic() < deadline, "the message was not acknowledged"
        time.sleep(1)


def test_a_delayed_task_comes_in_time(produce: Produce) -> None:
    late = produce(
        "begin = time.time()\n"
        "r = [send('shop.mails.remind', f'eta-{n}', 'a@example.org', countdown=n) for n in (0.5, 3)]\n"
        "print(json.dumps([one.get(timeout=30)['ran_by']['started'] - begin for one in r]))"
    )
    assert 0.4 < late[0] < 2.5
    assert 2.9 < late[1] < 6


def test_the_periodic_task_comes_by_itself(host: Host) -> None:
    def seen() -> int:
        journal = "journalctl --no-pager --output=cat --unit=celery-shop-default.service"
        return host.check_output(journal).count("Task shop.orders.expire_carts")

    before = seen()
    deadline = time.monotonic() + 30
    while seen() == before:
        assert time.monotonic() < deadline, "no periodic task in 30 s"
        time.sleep(1)


def test_a_producer_with_another_account_needs_the_one_line_only(produce: Produce) -> None:
    result = produce('print(json.dumps(send("shop.payments.charge", "web", 1).get(timeout=30)))', account="www-data")
    assert result["ran_by"]["queue"] == "payments"


def test_flower_shows_all_workers(host: Host, secrets: Mapping[str, str], inventory: dict[str, Any]) -> None:
    program = f"""
import base64, json, urllib.request
login = base64.b64encode(b"admin:{secrets["shop_flower_password"]}").decode()
request = urllib.request.Request("http://127.0.0.1:5555/workers?json=1", headers={{"Authorization": "Basic " + login}})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
    deadline = time.monotonic() + 30
    wanted = set(inventory["celery_worker_classes"])
    while True:
        page = host.check_output(f"python3 - <<'END'\n{program}\nEND")
        workers = {row["hostname"].split("@")[0]: row["status"] for row in json.loads(page)["data"]}
        if workers == dict.fromkeys(wanted, True):
            return
        assert time.monotonic() < deadline, workers
        time.sleep(2)


def test_the_broker_page_of_flower_lists_the_queues(host: Host, secrets: Mapping[str, str]) -> None:
    program = f"""
import base64, urllib.request
login = base64.b64encode(b"admin:{secrets["shop_flower_password"]}").decode()
request = urllib.request.Request("http://127.0.0.1:5555/broker", headers={{"Authorization": "Basic " + login}})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""
    page = host.check_output(f"python3 - <<'END'\n{program}\nEND")
    assert [name for name in ("default", "feeds", "mails", "payments", "reports") if name not in page] == []


def test_a_unit_is_ready_only_when_it_consumes_and_says_so(host: Host, inventory: dict[str, Any]) -> None:
    for name in inventory["celery_worker_classes"]:
        status = host.check_output(f"systemctl show --property=StatusText --value celery-shop-{name}.service")
        assert status.startswith("consuming"), (name, status)


def test_a_stop_lets_a_running_task_finish(host: Host, produce: Produce) -> None:
    task_id = produce('r = send("shop.feeds.import_feed", "stop", 10, 6.0); time.sleep(2); print(json.dumps(r.id))')
    host.check_output("systemctl restart celery-shop-bulk.service")
    state, retries = produce(
        f"r = app.AsyncResult('{task_id}'); r.get(timeout=20)\n"
        "print(json.dumps([r.state, r.result['ran_by']['retries']]))"
    )
    assert (state, retries) == ("SUCCESS", 0)
    log = host.file("/var/log/celeryops/shop/bulk.log").content_string
    assert log.count(f"[{task_id}] succeeded") == 1
    assert log.count(f"[{task_id}] received") == 1
