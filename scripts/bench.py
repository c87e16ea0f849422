#!/usr/bin/env python
"""How fast the collection is, as ratios of what was measured side by side in this run.

    scripts/bench.py                 the check of ever more hosts, and all five ratios, on Debian 13
    scripts/bench.py --rounds 3      fewer repetitions
    scripts/bench.py --growth        only the check of ever more hosts, which needs no container

Absolute seconds say more about the machine than about the collection, so none is judged. scripts/README.md says how to
read the result, which is printed and written to build/bench.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tools.bench import fleet as fleets
from tools.bench import growth
from tools.bench.common import BUILD, PASSWORD, ROOT, SUITE, Ratio, inventory, keep, lab, play, shop, spread, timed

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOOR = """
- name: Floor
  hosts: all
  gather_facts: true
  tasks:
    - name: Ping
      ansible.builtin.ping:
"""

#: The same packages, installed and started by a person in a hurry: no accounts, no limits, no configuration.
SHELL = r"""
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends rabbitmq-server redis-server python3-venv logrotate >/dev/null
systemctl enable --now -q rabbitmq-server redis-server
rabbitmq-plugins enable -q rabbitmq_management >/dev/null
python3 -m venv /opt/app && /opt/app/bin/pip install -q /root/shop 'celery[redis]>=5.7' uv
python3 -m venv /opt/flower && /opt/flower/bin/pip install -q 'flower>=2.2' 'celery[redis]>=5.7'
useradd --system shop
broker="--broker amqp://guest:guest@127.0.0.1// --result-backend redis://127.0.0.1"
start() {
  name=$1; shift
  systemd-run -q --unit "$name" -p User=shop -p WorkingDirectory=/tmp -p SetLoginEnvironment=yes \
    /opt/app/bin/celery -A shop.celery:app $broker "$@"
}
start worker-high worker -l INFO -n high@%h -Q payments,mails -c 2
start worker-default worker -l INFO -n default@%h -c 1
start worker-bulk worker -l INFO -n bulk@%h -Q feeds,reports -c 2
start beat beat -s /tmp/schedule
systemd-run -q --unit flower -p User=shop -p WorkingDirectory=/tmp \
  /opt/flower/bin/celery --broker amqp://guest:guest@127.0.0.1// flower --address=127.0.0.1
for unit in worker-high worker-default worker-bulk; do
  until journalctl -q -u $unit | grep -q ' ready\.'; do sleep 0.2; done
done
"""


def more_classes(number: int) -> dict[str, Any]:
    """Return the shop's three classes and as many small ones as it takes to have ``number``."""
    classes = dict(shop()["celery_worker_classes"])
    for index in range(number - len(classes)):
        classes[f"extra{index}"] = {"queues": [f"extra{index}"], "pool": "solo"}
    return {"celery_worker_classes": classes}


def objects(number: int) -> dict[str, Any]:
    """Return ``number`` RabbitMQ users and queues beside those of the app."""
    permissions = [{"vhost": "shop", "configure": "^$", "write": "^$", "read": ".*"}]
    return {
        "rabbitmq_users": [
            {"name": f"bench{index}", "password": PASSWORD, "permissions": permissions} for index in range(number)
        ],
        "rabbitmq_queues": [{"vhost": "shop", "name": f"bench.{index}"} for index in range(number)],
    }


def second_runs(console: Console, rounds: int) -> list[Ratio]:
    """Measure unchanged runs: against the floor, with more classes and with more objects."""
    host, site, floor = "celeryops-bench", ROOT / "site.yml", BUILD / "floor.yml"
    floor.write_text(FLOOR)
    lab("up", host, "--suite", SUITE)
    hosts = inventory(host)
    variants = {
        "base": shop(),
        "one": shop(**objects(1)),
        "hundred": shop(**objects(100)),
        "thirty": shop(**more_classes(30)),
    }
    times: dict[str, list[float]] = {name: [] for name in ("floor", *variants)}
    for name, variables in variants.items():
        console.print(f"  second run, {name}: set up")
        play(hosts, site, variables)
        # What the first run left to do, such as a unit that was restarted, is not part of an unchanged run.
        play(hosts, site, variables, unchanged=True)
        for _round in range(rounds):
            if name == "base":
                times["floor"].append(play(hosts, floor, {}))
            times[name].append(play(hosts, site, variables, unchanged=True))
        console.print(f"  second run, {name}: {spread(times[name])} s")
        if name == "base":
            for _round in range(rounds):
                times["floor"].append(play(hosts, floor, {}))
    lab("down", host)
    return [
        Ratio("second_run_over_floor", "second run / facts and ping", 3.0, times["base"], times["floor"]),
        Ratio("classes_3_to_30", "second run, 30 classes / 3", 1.25, times["thirty"], times["base"]),
        Ratio("objects_1_to_100", "second run, 100 users and queues / 1", 1.1, times["hundred"], times["one"]),
    ]


def first_runs(console: Console, rounds: int) -> Ratio:
    """Measure a run on a bare host against a shell script that does the least, in turns."""
    ours: list[float] = []
    shell: list[float] = []
    for number in range(rounds):
        console.print(f"  first run, round {number + 1}")
        for kind in ("shell", "ours"):
            host = f"celeryops-bench-{kind}"
            lab("up", host, "--suite", SUITE)
            if kind == "ours":
                ours.append(play(inventory(host), ROOT / "site.yml", shop()))
            else:
                subprocess.run(["docker", "cp", str(ROOT / "examples" / "shop"), f"{host}:/root/shop"], check=True)
                started = time.monotonic()
                subprocess.run(["docker", "exec", "-i", host, "sh"], input=SHELL, text=True, check=True)
                shell.append(time.monotonic() - started)
            lab("down", host)
    return Ratio("first_run_over_shell", "first run / shell script", 1.3, ours, shell)


def check(console: Console, rounds: int) -> Ratio:
    """Measure the check of a large inventory against Ansible's own reading of it, in turns. No host is contacted."""
    fleet = str(fleets.write(BUILD / "fleet"))
    checks: list[float] = []
    listings: list[float] = []
    for _round in range(rounds):
        listings.append(timed(["ansible-inventory", "-i", fleet, "--list"])[0])
        checks.append(timed(["ansible-playbook", "-i", fleet, "celeryops.stack.check"])[0])
    console.print(f"  check of {fleets.WORKERS} hosts: {spread(checks)} s")
    return Ratio("check_50_hosts_over_inventory", "check, 50 hosts / ansible-inventory", 2.0, checks, listings)


def report(ratios: Sequence[Ratio]) -> Table:
    """Return the table that a person reads."""
    table = Table(title="Ratios of medians, measured in this run")
    for heading in ("what", "seconds (min, median, max)", "against", "ratio", "at most"):
        table.add_column(heading)
    for ratio in ratios:
        colour = "green" if ratio.value <= ratio.limit else "red"
        table.add_row(
            ratio.label,
            spread(ratio.measured),
            spread(ratio.baseline),
            f"[{colour}]{ratio.value:.2f}[/]",
            f"{ratio.limit:g}",
        )
    return table


def main() -> None:
    """Measure, print and write build/bench.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each check and second run (default: 5)")
    parser.add_argument("--first-rounds", type=int, default=2, help="repetitions of each first run (default: 2)")
    parser.add_argument("--growth", action="store_true", help="only the check of ever more hosts")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    BUILD.mkdir(parents=True, exist_ok=True)
    costs = growth.growth(console)
    console.print(growth.table(costs))
    keep(growth.results(costs))
    if options.growth:
        return
    ratios = [
        check(console, options.rounds),
        *second_runs(console, options.rounds),
        first_runs(console, options.first_rounds),
    ]
    console.print(report(ratios))
    keep({ratio.key: round(ratio.value, 3) for ratio in ratios})


if __name__ == "__main__":
    main()
