#!/usr/bin/env python
"""How many tasks that do nothing a worker gets through: a class of the collection beside a worker started by hand.

Both have the same number of processes and the same RabbitMQ, one after the other, in turns. The one started by hand is
Celery as it comes: a classic queue, four messages per process in advance, acknowledged before they run. The class is
the collection's default: a quorum queue, acknowledged after they ran, with publisher confirms, and eight messages in
advance once it knows how short the tasks are. Both log at INFO, as Celery's first steps do.

Then three classes work off a backlog of short tasks, first undisturbed, and then while `restart.yml` replaces them.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tools.bench import common
from tools.bench.common import BUILD, PYTHON, ROOT, SUITE, inventory, keep, lab, play, shop, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HOST = "celeryops-bench-throughput"
on_host = functools.partial(common.on_host, HOST)
PROCESSES, TASKS = 2, 12_000
UNIT = {"ours": "celery-shop-default.service", "stock": "stock.service"}
ENVIRONMENT = {"ours": "/etc/celeryops/shop/celery.env", "stock": "/etc/celeryops/stock.env"}
#: Three classes that are restarted one after another, with as many processes; tasks of so many seconds.
CLASSES, SHORT = ("one", "two", "three"), 0.1
UNDISTURBED = 20.0
NOTHING = f"""
import time
from celery import shared_task

@shared_task(name="nothing", ignore_result=True)
def nothing():
    pass

for name in {CLASSES!r}:
    @shared_task(name=name, ignore_result=True)
    def short():
        time.sleep({SHORT})
"""
SEND = """
import sys, time
from shop.celery import app
number = int(sys.argv[1])
with app.producer_pool.acquire(block=True) as producer:
    for _ in range(number):
        app.send_task("nothing", producer=producer, ignore_result=True)
"""
#: Twice what three classes get through in a minute and a half, the longest that a restart takes.
FILL = f"""
from shop.celery import app
with app.producer_pool.acquire(block=True) as producer:
    for _ in range({int(2 * 90 / SHORT * PROCESSES)}):
        for name in {CLASSES!r}:
            app.send_task(name, producer=producer, ignore_result=True)
"""
#: When, by the host's own clock, and how many wait.
LEFT = f"""
import time
from shop.celery import app
channel = app.connection_for_write().default_channel
print(time.monotonic(), sum(channel.queue_declare(name, passive=True).message_count for name in {CLASSES!r}))
"""
#: How long the queue takes from nine tenths of its length to one tenth, by the host's own clock.
WATCH = """
import sys, time
from shop.celery import app
number = int(sys.argv[1])
queue = app.amqp.router.route({}, "nothing")["queue"].name
channel = app.connection_for_write().default_channel
def left():
    return channel.queue_declare(queue, passive=True).message_count
def reached(length):
    deadline = time.monotonic() + 300
    while (now := left()) > length:
        if time.monotonic() > deadline:
            sys.exit(f"{now} messages are left after 300 s")
        time.sleep(0.05)
    return time.monotonic(), now
(begin, most), (end, least) = reached(number * 0.9), reached(number * 0.1)
print((most - least) / (end - begin))
"""


def python(variant: str, program: str) -> str:
    """Run a program as a process of the shop would, with its user and a variant's environment; return its output."""
    options = f"-p User=shop -p EnvironmentFile={ENVIRONMENT[variant]} -p WorkingDirectory=/tmp"
    return on_host(f"systemd-run --quiet --pipe --wait --collect {options} {PYTHON} - {TASKS} <<'END'\n{program}\nEND")


def variables() -> dict[str, Any]:
    """Return the variables of the demo with one class, and an account for the worker started by hand."""
    everything = shop()
    everything["celery_worker_defaults"] = {"concurrency": PROCESSES, "extra_arguments": ["--include=nothing"]}
    everything["celery_worker_classes"] = {"default": {}, **{name: {"queues": [name]} for name in CLASSES}}
    everything["celery_app_routes"] = [{"task": name, "queue": name} for name in CLASSES]
    everything["celery_app_python_path"] = ["/opt/nothing"]
    return {**everything, **common.account("stock")}


def measure(variant: str) -> float:
    """Fill the queue, start the worker, and return how many tasks it gets through in a second."""
    python(variant, SEND)
    if variant == "ours":
        on_host(f"systemctl start {UNIT[variant]}")
    else:
        common.start_by_hand(HOST, "stock", f"-c {PROCESSES} --include nothing")
    rate = float(python(variant, WATCH))
    on_host(f"systemctl stop {UNIT[variant]}")
    return rate


def done(program: Callable[[], object]) -> float:
    """Return how many tasks of the three classes are done in a second while a program runs."""
    begin, most = map(float, python("ours", LEFT).split())
    program()
    end, least = map(float, python("ours", LEFT).split())
    if least < most / 10:
        sys.exit("the backlog came to its end")
    return (most - least) / (end - begin)


def restarted(console: Console, hosts: Path) -> float:
    """Print how much work is done while all classes are replaced; return its share of the undisturbed work."""
    python("ours", FILL)
    on_host("systemctl start celery-shop.target")
    time.sleep(10)
    undisturbed = done(lambda: time.sleep(UNDISTURBED))
    selected = {**variables(), "celeryops_restart_classes": list(CLASSES)}
    replaced = done(lambda: play(hosts, ROOT / "playbooks" / "restart.yml", selected))
    ratio = replaced / undisturbed
    console.print(f"Tasks of {SHORT} s per second, three classes of {PROCESSES} processes with a backlog:")
    console.print(f"  undisturbed                {undisturbed:.1f}")
    console.print(f"  in a rolling restart       {replaced:.1f}")
    console.print(f"  ratio                      {ratio:.2f}, at least 0.8 is wanted")
    return ratio


def report(console: Console, rates: Mapping[str, list[float]]) -> float:
    """Print what was found; return the median of the ratios of the rounds: a machine is not equally fast all day."""
    ratio = statistics.median(ours / stock for ours, stock in zip(rates["ours"], rates["stock"], strict=True))
    console.print(f"Tasks per second that do nothing, {PROCESSES} processes (least, median, most):")
    console.print(f"  a class of the collection  {spread(rates['ours'])}")
    console.print(f"  a worker started by hand   {spread(rates['stock'])}")
    console.print(f"  ratio                      {ratio:.2f}, at least 1 is wanted")
    return ratio


def main() -> None:
    """Measure, print and write into build/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each (default: 5)")
    parser.add_argument("--keep", action="store_true", help="leave the container")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 132)
    BUILD.mkdir(parents=True, exist_ok=True)
    lab("up", HOST, "--suite", SUITE)
    on_host(f"mkdir -p /opt/nothing && cat > /opt/nothing/nothing.py <<'END'\n{NOTHING}\nEND\n")
    hosts = inventory(HOST)
    play(hosts, ROOT / "site.yml", variables())
    on_host(common.by_hand("stock", "PYTHONPATH=/opt/nothing"))
    # Nothing else may work on this machine meanwhile.
    on_host("systemctl stop celery-shop.target 'celery-shop-*.service'")
    rates: dict[str, list[float]] = {"ours": [], "stock": []}
    for _round in range(options.rounds):
        for variant, found in rates.items():
            found.append(measure(variant))
    ratio = report(console, rates)
    kept = restarted(console, hosts)
    if not options.keep:
        lab("down", HOST)
    keep({"throughput_over_stock": round(ratio, 3), "throughput_in_restart": round(kept, 3)})


if __name__ == "__main__":
    main()
