"""A stop loses nothing and repeats nothing; a worker that gets nothing is found; the schedule goes on over all that."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosts import wait
from testinfra.host import Host

Produce = Callable[..., Any]
BULK = "celery-shop-bulk.service"
BEAT = "celery-shop-beat.service"

#: Takes the consumer away from a worker, once, and leaves everything else as it is: what a broker's or a client's
#: mistake does.
DEAF = """
import pathlib
from celery.signals import worker_ready

@worker_ready.connect(weak=False)
def deafen(sender, **_signal):
    once = pathlib.Path("/var/lib/celeryops/shop/deaf")
    if once.exists():
        once.unlink()
        for tag in list(sender.task_consumer._active_tags.values()):
            sender.task_consumer.channel.basic_cancel(tag)
"""

#: A task that no process survives.
POISON = """
import os, signal
from shop.celery import app

@app.task(name="shop.feeds.poison", ignore_result=True)
def poison():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def show(host: Host, unit: str, key: str) -> str:
    return host.check_output(f"systemctl show --property={key} --value {unit}")


def log(host: Host, since: str) -> str:
    """What the class bulk logged, to its file and to the journal."""
    told = host.check_output(f"journalctl --no-pager --output=cat --unit={BULK} --since='{since}'")
    return str(told) + host.check_output("cat /var/log/celeryops/shop/bulk.log")


def now(host: Host) -> str:
    return str(host.check_output("date '+%F %T'"))


@pytest.fixture
def drop_in(host: Host) -> Iterator[Callable[[str], None]]:
    """Change the unit of the class bulk until the end of the test."""
    folder = f"/run/systemd/system/{BULK}.d"

    def place(text: str) -> None:
        host.check_output(f"mkdir -p {folder} && printf '[Service]\\n{text}\\n' > {folder}/test.conf")
        host.check_output(f"systemctl daemon-reload && systemctl restart {BULK}")

    yield place
    host.check_output(f"rm -rf {folder} && systemctl daemon-reload && systemctl restart {BULK}")


@pytest.fixture
def with_module(host: Host, drop_in: Callable[[str], None]) -> Iterator[Callable[..., None]]:
    """Give the worker of the class bulk a module of the test's own."""

    def place(name: str, text: str, directives: str = "") -> None:
        start = re.search(r"^ExecStart=(.*)$", host.file(f"/etc/systemd/system/{BULK}").content_string, re.MULTILINE)
        assert start
        command = start[1].replace("/usr/bin/env ", "").replace("%", "%%")
        environment = host.file("/etc/celeryops/shop/celery.env").content_string
        path = re.search(r'^PYTHONPATH="?([^"\n]*)', environment, re.MULTILINE)
        assert path
        host.check_output(f"mkdir -p /run/module && cat > /run/module/{name}.py <<'END'\n{text}\nEND\n")
        drop_in(
            f"{directives}ExecStart=\\n"
            f"ExecStart=/usr/bin/env PYTHONPATH={path[1]}:/run/module {command} --include={name}"
        )

    yield place
    host.check_output("rm -rf /run/module")


def feeds(produce: Produce, *seconds: float) -> list[str]:
    """Send a feed that takes so long for each number; return the ids."""
    sent = ", ".join(f"send('shop.feeds.import_feed', 'stops', 1, {one}).id" for one in seconds)
    ids: list[str] = produce(f"print(json.dumps([{sent}]))")
    return ids


def answers(produce: Produce, ids: list[str], seconds: int) -> list[dict[str, Any]]:
    """Wait for the results; who ran each."""
    found: list[dict[str, Any]] = produce(
        f"print(json.dumps([app.AsyncResult(one).get(timeout={seconds})['ran_by'] for one in {ids!r}]))"
    )
    return found


def test_a_stop_finishes_what_runs_and_returns_the_rest(host: Host, produce: Produce) -> None:
    before = int(show(host, BULK, "MainPID"))
    ids = feeds(produce, 6, 0.1, 0.1, 0.1)
    wait(lambda: f"[{ids[0]}] received" in log(host, "-1min"), 30, "no feed was begun")
    host.check_output(f"systemctl --no-block restart {BULK}")
    wait(lambda: show(host, BULK, "StatusText") == "draining: 1 tasks still running", 5, "it does not drain")
    ran_by = answers(produce, ids, 60)
    parents = [one["pid"] for one in ran_by]
    told = log(host, "-2min")
    assert [told.count(f"[{one}] succeeded") for one in ids] == [1, 1, 1, 1]
    assert int(show(host, BULK, "MainPID")) != before
    assert parents[0] not in parents[1:], "what had not begun was left to the next worker"
    assert "draining" in told


def test_what_outlasts_the_stop_begins_anew_elsewhere(
    host: Host, produce: Produce, drop_in: Callable[[str], None]
) -> None:
    drop_in("Environment=CELERYOPS_STOP_TIMEOUT=2")
    [one] = feeds(produce, 15)
    wait(lambda: f"[{one}] received" in log(host, "-1min"), 30, "the feed was not begun")
    since, begun = now(host), time.monotonic()
    host.check_output(f"systemctl restart {BULK}")
    assert time.monotonic() - begun < 15, "it waited for the task's end, or systemd had to kill it"
    answers(produce, [one], 60)
    told = log(host, "-2min")
    assert f"still running after 2 s, back to the queue: shop.feeds.import_feed[{one}]" in told
    assert told.count(f"[{one}] succeeded") == 1
    ended = host.check_output(f"journalctl --no-pager --output=cat --unit={BULK} --since='{since}' _COMM=systemd")
    assert not re.search("timed out|SIGKILL", ended), ended


@pytest.mark.broker("rabbitmq")
@pytest.mark.usefixtures("restored")
def test_workers_finish_before_the_role_restarts_rabbitmq(
    host: Host, produce: Produce, site: Callable[..., Any]
) -> None:
    def restarted() -> str:
        return show(host, "rabbitmq-server.service", "ActiveEnterTimestampMonotonic")

    leaving, since, before = "leaving this node of the broker", now(host), restarted()
    # Something of the role that is no reason to restart the server is none to hold the workers either.
    host.check_output("systemctl stop epmd.socket")
    assert site("--tags=rabbitmq").messages == []
    assert (restarted(), leaving in log(host, since)) == (before, False)
    # Longer than the run takes until the restart.
    [one] = feeds(produce, 25)
    wait(lambda: f"[{one}] received" in log(host, since), 30, "the feed was not begun")
    assert site("--tags=rabbitmq", variables={"rabbitmq_config": {"heartbeat": 50}}).messages == []
    assert restarted() != before
    answers(produce, [one], 90)
    told = log(host, since)
    assert (told.count(leaving), told.count(f"[{one}] received"), told.count(f"[{one}] succeeded")) == (1, 1, 1)
    answers(produce, feeds(produce, 0.1), 30)


def test_a_worker_that_gets_nothing_is_restarted(
    host: Host, produce: Produce, with_module: Callable[..., None]
) -> None:
    host.check_output("install -o shop -g shop /dev/null /var/lib/celeryops/shop/deaf")
    try:
        with_module("deaf", DEAF, "WatchdogSec=12\\n")
        since = now(host)
        assert not host.file("/var/lib/celeryops/shop/deaf").exists
        assert show(host, BULK, "StatusText").startswith("consuming feeds, reports")
        restarts = int(show(host, BULK, "NRestarts"))
        ids = feeds(produce, 0.1, 0.1)
        answers(produce, ids, 120)
        assert int(show(host, BULK, "NRestarts")) == restarts + 1
        told = log(host, since)
        assert "consuming nothing although messages wait" in told
        assert "in feeds): this worker has to be restarted" in told
    finally:
        host.check_output("rm -f /var/lib/celeryops/shop/deaf")


@pytest.mark.broker("rabbitmq")
def test_a_task_that_no_process_survives_ends_among_the_dead_letters(
    host: Host, produce: Produce, with_module: Callable[..., None], dead_letters: Callable[[], int]
) -> None:
    """It is acknowledged late, so it comes back each time; without a limit it would do so for ever."""
    with_module("poison", POISON)
    poison = produce("print(json.dumps(send('shop.feeds.poison').id))")
    wait(lambda: dead_letters() == 1, 180, "it is not among the dead letters")
    # The limit of 20 is what the policy says: one delivery, and twenty more.
    assert log(host, "-5min").count(f"[{poison}] received") == 21
    assert answers(produce, feeds(produce, 0.1), 60)


def sent_at(host: Host, since: str) -> list[float]:
    """When the scheduler sent its task, in seconds."""
    lines = host.check_output(f"journalctl --no-pager --output=short-unix --unit={BEAT} --since='{since}'")
    return [float(line.split()[0]) for line in lines.splitlines() if "Sending due task" in line]


def recorded(host: Host) -> int:
    """How many runs of its task the scheduler has written down."""
    entries = json.loads(host.check_output("cat /var/lib/celeryops/shop/beat/schedule.json"))["entries"]
    return int(entries["expire carts"]["runs"])


@pytest.mark.seldom
def test_the_schedule_goes_on_over_restarts_and_crashes(host: Host) -> None:
    """It is due every 10 s. A restart takes a few; none of them makes it come early, or leaves one out."""
    since = now(host)
    for stop in ("systemctl restart", "systemctl kill --signal=KILL", "systemctl restart"):
        count = recorded(host)
        # What a crash keeps from being written down is sent again.
        wait(lambda before=count: recorded(host) > before, 25, "nothing was sent")  # type: ignore[misc]
        host.check_output(f"{stop} {BEAT}")
    time.sleep(21)
    times = sent_at(host, since)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) > 9, gaps
    assert max(gaps) < 18, gaps


@pytest.mark.seldom
def test_the_schedule_goes_on_after_a_restart_of_the_result_backend(host: Host, servers: list[str]) -> None:
    """It subscribed to the results of what it sent; redis-py 5.3 to 6.2 wait there for a lock that they hold."""
    wait(lambda: len(sent_at(host, "-1s")) > 0, 25, "nothing was sent")
    host.check_output(f"systemctl restart {servers[-1]}")
    since = now(host)
    # The first finds the connection lost, and the second, which would hang, is logged before it is sent.
    wait(lambda: len(sent_at(host, since)) > 2, 45, "it hangs")


@pytest.mark.seldom
def test_what_is_due_while_the_broker_is_away_is_sent_once_it_is_back(host: Host, servers: list[str]) -> None:
    wait(lambda: len(sent_at(host, "-1s")) > 0, 25, "nothing was sent")
    since = now(host)
    host.check_output(f"systemctl stop {servers[0]}")
    time.sleep(25)
    host.check_output(f"systemctl start {servers[0]}")
    back = float(host.check_output("date +%s.%N"))
    done = "Task shop.orders.expire_carts"
    wait(
        lambda: (
            f"{done}"
            in host.check_output(
                f"journalctl --no-pager --output=cat --unit=celery-shop-default.service --since='@{int(back)}'"
            )
        ),
        40,
        "nothing came",
    )
    told = host.check_output(f"journalctl --no-pager --output=cat --unit={BEAT} --since='{since}'")
    assert "trying again" in told
    assert "Message Error" not in told
