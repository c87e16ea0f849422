#!/usr/bin/env python
"""Whether an urgent task stays quick under a flood of slow ones: classes of work, beside what people do without them.

    scripts/bench_priorities.py                 every variant, on Debian 13
    scripts/bench_priorities.py --keep          leave the container for another look

Each variant gets 5,000 slow tasks, which keep every processor busy, and then an urgent one every 150 ms. Its latency is
the time from before it is sent until its code runs. What is judged is how many times the latency on the same system
without the flood that is; scripts/README.md says how to read it. It fails when the flood was none.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tools.bench import common
from tools.bench.common import BUILD, PYTHON, ROOT, SUITE, inventory, keep, lab, play, shop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOST = "celeryops-bench-priorities"
on_host = functools.partial(common.on_host, HOST)
TRAFFIC = ROOT / "scripts" / "tools" / "bench" / "traffic.py"
SLOW, URGENT = 5_000, 100
#: The share of the flood that has to wait from the first urgent task to the last, and of the processors that work.
STILL_WAITING, PROCESSORS_BUSY = 0.2, 0.8
#: A system whose processors work more than this without the flood is not idle: something else runs on the machine.
IDLE_BUSY = 0.5
#: Two units that do nothing but work, on one processor: the shares that they get are their weights, if weights act.
PROBE = """
set -eu
for weight in 100 400; do
  systemd-run -q --collect --unit="probe-$weight" -p CPUWeight="$weight" -p CPUAffinity=0 sh -c 'while :; do :; done'
done
sleep 3
for weight in 100 400; do
  cut -d ' ' -f 14 "/proc/$(systemctl show -P MainPID "probe-$weight")/stat"
done
systemctl stop probe-100 probe-400
"""
READY = """
this=$(systemctl show -P InvocationID plain.service)
until journalctl -q _SYSTEMD_INVOCATION_ID="$this" | grep -q ' ready\\.'; do
  systemctl -q is-active plain.service
  sleep 0.5
done
"""


@dataclass(frozen=True)
class Plain:
    """A worker without the collection: one for everything, on one queue, in the same number of processes.

    Arguments:
        settings: Celery's settings beside its defaults.
        priority: the priority of an urgent message.
    """

    key: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None


# A classic queue, which keeps a queue per priority. Quorum queues, which survive the loss of a node, know no priorities
# in 3.10; in 4.0 they know two, and one message of the lower passes for every two of the higher; from 4.3 on they know
# 32, as an order (rabbitmq.com/docs/4.3/priority).
PRIORITY_QUEUE = {"task_queue_max_priority": 10}
PLAIN_VARIANTS = (
    Plain("single_worker", "one worker, one queue"),
    Plain("priority_queue", "one worker, priority queue, as Celery comes", PRIORITY_QUEUE, 9),
    Plain(
        "priority_queue_prefetch_1",
        "one worker, priority queue, prefetch 1, late ack",
        {**PRIORITY_QUEUE, "worker_prefetch_multiplier": 1, "task_acks_late": True},
        9,
    ),
)


@dataclass
class Latencies:
    """What was measured in one variant, in all rounds together.

    Arguments:
        key: its name in build/bench.json.
        seconds: the latency of each urgent task.
        waiting: slow tasks in the queues, at the first urgent task of each round and at the last.
        busy: share of the processors that worked, per round.
    """

    key: str
    label: str
    seconds: list[float] = field(default_factory=list)
    waiting: list[tuple[int, int]] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def add(self, report: Mapping[str, Any]) -> None:
        """Take in what one round found."""
        self.seconds += report["latencies"]
        self.waiting.append((report["waiting"][0], report["waiting"][-1]))
        self.busy.append(report["processors_busy"])

    @property
    def median(self) -> float:
        """Return the latency that half of the urgent tasks had, in seconds."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """Return the latency that 19 of 20 had, in seconds: a value that was measured, none in between."""
        return sorted(self.seconds)[math.ceil(len(self.seconds) * 0.95) - 1]


def send(environment: str, *arguments: str) -> dict[str, Any]:
    """Send tasks as a web process of the shop would, its user and its environment; return what was found."""
    command = ["docker", "exec", "-i", HOST, "systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
    command += ["-p", "User=shop", "-p", f"EnvironmentFile={environment}", "-p", "WorkingDirectory=/tmp"]
    done = subprocess.run(
        [*command, PYTHON, "-", *arguments], check=False, input=TRAFFIC.read_text(), capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"the traffic failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def flaws(report: Mapping[str, Any], slow: int) -> list[str]:
    """Return why a measurement under a flood of ``slow`` tasks, or on an idle system when 0, says nothing."""
    waiting, busy = report["waiting"], report["processors_busy"]
    if not slow:
        return [f"{max(waiting)} slow tasks waited on a system that had to be idle"] if any(waiting) else []
    found = []
    if min(waiting) < slow * STILL_WAITING:
        found.append(f"only {min(waiting)} of {slow} slow tasks were waiting while urgent ones were sent")
    # By then no urgent task is in these queues any more, also where they share one with the flood.
    if report["left"] >= waiting[0]:
        found.append(f"no worker took any of the {waiting[0]} slow tasks")
    if busy < PROCESSORS_BUSY:
        found.append(f"the processors were busy for only {busy:.0%} of the time")
    return found


def measure(into: Latencies, environment: str, slow: int, priority: int | None = None) -> None:
    """Measure one variant once more.

    Raises:
        SystemExit: when what was measured says nothing.
    """
    arguments = [f"--flood={slow}", f"--urgent={URGENT}"]
    arguments += [] if priority is None else [f"--priority={priority}"]
    report = send(environment, *arguments)
    found = flaws(report, slow)
    if found:
        sys.exit(f"{into.label}: {'; '.join(found)}")
    into.add(report)


def variables(*, weights: bool) -> dict[str, Any]:
    """Return the variables of the demo, with enough slow work at once to keep the processors busy.

    Without ``weights`` no class has a weight, and none is nice.
    """
    everything = shop()
    classes: dict[str, dict[str, Any]] = everything["celery_worker_classes"]
    classes["bulk"]["concurrency"] = 6
    if not weights:
        for worker_class in classes.values():
            for key in ("cpu_weight", "io_weight", "nice"):
                worker_class.pop(key, None)
    return {**everything, **common.account("plain")}


def processes() -> int:
    """Return how many tasks all classes together run at once: a plain worker gets as many."""
    return sum(int(one["concurrency"]) for one in variables(weights=True)["celery_worker_classes"].values())


def with_classes(console: Console, rounds: int) -> list[Latencies]:
    """Measure the collection's classes: idle, and under the flood with weights and without, in turns."""
    idle = Latencies("idle", "classes, idle system")
    weighted = Latencies("under_flood", "classes with weights")
    equal = Latencies("weights_off", "classes, weights off")
    hosts = inventory(HOST)
    for number in range(rounds):
        for latencies, weights in ((weighted, True), (equal, False)):
            console.print(f"  {latencies.label}, round {number + 1}")
            play(hosts, ROOT / "site.yml", variables(weights=weights))
            set_weight = on_host("systemctl show -P CPUWeight celery-shop-high.service").strip()
            if (set_weight == "[not set]") is weights:
                sys.exit(f"{latencies.label}: the CPU weight of class high is {set_weight}")
            environment = "/etc/celeryops/shop/celery.env"
            measure(idle, environment, 0)
            measure(latencies, environment, SLOW)
    return [idle, weighted, equal]


def without_classes(console: Console) -> list[Latencies]:
    """Measure what people do without classes, each on a virtual host without a trace of the others."""
    on_host("systemctl stop celery-shop.target")
    on_host(common.by_hand("plain", "PYTHONPATH=/opt/plain", "CELERY_CONFIG_MODULE=plain_settings"))
    on_host("mkdir -p -m 755 /opt/plain")
    found = []
    for variant in PLAIN_VARIANTS:
        console.print(f"  {variant.label}")
        settings = {**variant.settings, "task_default_queue": variant.key}
        # The shop's Redis user may touch nothing but the shop's keys.
        settings["result_backend_transport_options"] = {"global_keyprefix": "shop:"}
        lines = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
        on_host(f"cat > /opt/plain/plain_settings.py <<'EOF'\n{lines}\nEOF\nchmod 644 /opt/plain/plain_settings.py")
        common.start_by_hand(HOST, "plain", f"-c {processes()}", READY)
        latencies = Latencies(variant.key, variant.label)
        measure(latencies, "/etc/celeryops/plain.env", SLOW, variant.priority)
        on_host("systemctl stop plain.service")
        found.append(latencies)
    return found


def weights_act() -> float:
    """Return how much more of a processor four times the CPU weight gives a unit here: 4 where weights act, or 1."""
    light, heavy = (int(line) for line in on_host(PROBE).split())
    return heavy / max(light, 1)


def report(found: Sequence[Latencies], idle: Latencies) -> Table:
    """Return the table that a person reads."""
    table = Table(title=f"Urgent tasks under a flood of {SLOW:,} slow ones, measured in this run")
    for heading in ("variant", "median ms", "p95 ms", "worst ms", "/ idle", "slow ones waiting", "busy"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for latencies in found:
        values = (latencies.median, latencies.p95, max(latencies.seconds))
        table.add_row(
            latencies.label,
            *(f"{value * 1000:,.1f}" for value in values),
            f"{latencies.median / idle.median:,.1f}",
            ", ".join(f"{first:,} to {last:,}" for first, last in latencies.waiting)
            if any(map(any, latencies.waiting))
            else "-",
            f"{statistics.mean(latencies.busy):.0%}",
        )
    return table


def results(found: Sequence[Latencies], idle: Latencies) -> dict[str, Any]:
    """Return what goes into build/bench.json: the ratios of medians, and of what 19 of 20 stay below."""
    kept: dict[str, Any] = {}
    for latencies in found:
        if latencies is not idle:
            kept[f"urgent_latency_{latencies.key}_over_idle"] = round(latencies.median / idle.median, 3)
            kept[f"urgent_latency_p95_{latencies.key}_over_idle"] = round(latencies.p95 / idle.p95, 3)
    return kept


def main() -> None:
    """Measure, print and write into build/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="repetitions of what has classes (default: 2)")
    parser.add_argument("--keep", action="store_true", help="leave the container")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 132)
    BUILD.mkdir(parents=True, exist_ok=True)
    lab("up", HOST, "--suite", SUITE)
    share = weights_act()
    idle, *classes = with_classes(console, options.rounds)
    found = [idle, *classes, *without_classes(console)]
    if not options.keep:
        lab("down", HOST)
    console.print(report(found, idle))
    console.print(
        f"CPU weights of 400 and 100 gave shares of {share:.1f} to 1 here"
        + (". " if share > 2 else ": they do not act on this machine, and on and off are the same thing. ")
        + "IO weights are not tested: the flood needs no disk."
    )
    if statistics.mean(idle.busy) > IDLE_BUSY:
        console.print(
            "[bold red]Something else kept this machine busy: the idle system was not idle, so do not trust this.[/]"
        )
    keep(
        {
            **results(found, idle),
            "idle_processors_busy": round(statistics.mean(idle.busy), 3),
            "cpu_weight_400_over_100": round(share, 3),
        }
    )


if __name__ == "__main__":
    main()
