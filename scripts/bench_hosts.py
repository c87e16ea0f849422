#!/usr/bin/env python
"""How a run grows with the hosts that have workers: 2, 4 and 8 more, with Ansible's five forks and with enough of them.

One host has everything, and is there from the beginning; further hosts with workers are new for each number. All are
containers of this machine and share its processors, so a first run, which installs an app on each host at the same
time, says little of hosts that have processors of their own. What the control machine itself does is shown beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tools.bench.common import BUILD, GROUPS, ROOT, SUITE, keep, lab, shop
from tools.bench.growth import cost

if TYPE_CHECKING:
    from pathlib import Path

    from tools.bench.growth import Cost

NUMBERS = (2, 4, 8)
#: Ansible's own, and one for each host.
FORKS = (5, 25)
NAME = "celeryops-bench-hosts"
SERVERS = f"{NAME}-servers"
#: On a network that only the lab's containers share.
ANYWHERE = "0.0.0.0"  # noqa: S104
VARIABLES = {
    "ansible_connection": "community.docker.docker",
    "rabbitmq_listen_addresses": [ANYWHERE],
    "redis_bind": [ANYWHERE],
}


def workers(number: int) -> list[str]:
    """Return the names of the further hosts of one measurement."""
    return [f"{NAME}-{number}-{index}" for index in range(1, number + 1)]


def inventory(number: int) -> Path:
    """Write the inventory with that number of further hosts, and return its path."""
    folder = BUILD / NAME
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, Any] = {group: {"hosts": {SERVERS: None}} for group in GROUPS if group != "sentinel"}
    groups["celery_workers"]["hosts"].update(dict.fromkeys(workers(number)))
    path = folder / f"hosts-{number}.json"
    path.write_text(json.dumps({"all": {"vars": VARIABLES}, **groups}))
    return path


def site(number: int, forks: int, **changes: Any) -> Cost:
    """Run site.yml and return what it took of the control machine."""
    hosts = inventory(number)
    extra = hosts.with_name("extra.json")
    extra.write_text(json.dumps(shop(**changes)))
    return cost(["ansible-playbook", "-i", str(hosts), "-f", str(forks), "-e", f"@{extra}", str(ROOT / "site.yml")])


def measure(console: Console, number: int) -> dict[str, Cost]:
    """Return what each kind of run took on that number of new hosts."""
    names = workers(number)
    found: dict[str, Cost] = {}
    try:
        for name in names:
            lab("up", name, "--suite", SUITE)
        found["first"] = site(number, FORKS[-1])
        # What the first run left to do is no part of an unchanged one.
        site(number, FORKS[-1])
        for forks in FORKS:
            found[f"unchanged, {forks} forks"] = site(number, forks)
            changed = {"SHOP_STATE": "/var/lib/celeryops/shop", "SHOP_FORKS": str(forks)}
            found[f"changed environment, {forks} forks"] = site(number, forks, celery_app_environment=changed)
            site(number, FORKS[-1])
    finally:
        lab("down", *names)
    for title, one in found.items():
        console.print(f"  {number} hosts, {title}: {one.seconds:.1f} s")
    return found


def table(found: dict[int, dict[str, Cost]]) -> Table:
    """Return what a person reads: seconds, and in brackets those of a processor of the control machine."""
    view = Table(title="site.yml for further hosts with three worker classes each")
    view.add_column("run")
    for number in found:
        view.add_column(f"{number} hosts")
    for title in next(iter(found.values())):
        costs = [measured[title] for measured in found.values()]
        view.add_row(title, *(f"{one.seconds:.1f} s ({one.processor_seconds:.1f} s)" for one in costs))
    return view


def main() -> None:
    """Measure, print and write into build/bench.json."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        lab("up", SERVERS, "--suite", SUITE)
        site(0, FORKS[-1])
        found = {number: measure(console, number) for number in NUMBERS}
    finally:
        lab("down", SERVERS)
    console.print(table(found))
    keep(
        {"hosts": {str(number): {title: one.seconds for title, one in runs.items()} for number, runs in found.items()}}
    )


if __name__ == "__main__":
    main()
