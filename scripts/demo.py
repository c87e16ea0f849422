#!/usr/bin/env python
"""Show a deployed stack at work: real tasks of every kind through every class, and a table of what happened.

    scripts/demo.py                                  the container that `make demo` has set up
    scripts/demo.py --inventory inventories/local    a host of your own

Everything that the table is judged by comes from the inventory (classes, routes, pages). It ends with 1 when something
that had to happen did not, and with 2 when the host could not be asked.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tools.demo import report as demo_report
from tools.demo.report import Expected, Page, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
TRAFFIC = ROOT / "scripts" / "tools" / "demo" / "traffic.py"
LEAST = 300  # tasks, for the demo to count as one
WIDTH = 132  # of the tables where nothing says how wide the screen is, as in a log

FACTS = """
systemctl show 'celery-{app}-*.service' --property=Id,ActiveState,MainPID,User,UID
printf '%s\\n' ----
ps -eo pid=,ppid=,user:32=
"""


class DemoError(Exception):
    """The host, or a tool, did not answer as it must."""


def reach(name: str, variables: Mapping[str, Any], user_id: int) -> list[str]:
    """Return the words to put before a command so that it runs on the host as root."""
    target = str(variables.get("ansible_host") or name)
    match str(variables.get("ansible_connection") or "ssh"):
        case "community.docker.docker" | "docker":
            return ["docker", "exec", "--interactive", target]
        case "local" | "ansible.builtin.local":
            return [] if user_id == 0 else ["sudo"]
        case _:
            login = variables.get("ansible_user")
            return ["ssh", f"{login}@{target}" if login else target, "sudo"]


def command_on(prefix: Sequence[str], command: Sequence[str]) -> list[str]:
    """Join prefix and command. A shell reads what ssh sends, so that there the words are quoted."""
    if prefix[:1] == ["ssh"]:
        return [*prefix, shlex.join(command)]
    return [*prefix, *command]


def traffic_command(promise: Expected, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs the traffic as a web process of the app would run: its user, its environment."""
    return [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        f"--property=User={promise.user}",
        f"--property=EnvironmentFile={promise.paths['environment']}",
        f"--property=WorkingDirectory={promise.paths['state']}",
        f"{promise.paths['current']}/bin/python",
        "-",
        *arguments,
    ]


def run(command: Sequence[str], stdin: str | None = None) -> str:
    """Run a command and return its output."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DemoError(f"{command[0]} is not installed") from error
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise DemoError(f"`{shlex.join(command[:6])} ...` ended with {done.returncode}\n{tail}")
    return done.stdout


def host_of(inventory: Mapping[str, Any], name: str | None) -> tuple[str, dict[str, Any]]:
    """Find the host with workers in the output of `ansible-inventory --list`, and its variables."""
    hostvars = inventory.get("_meta", {}).get("hostvars", {})
    if name is None:
        hosts = inventory.get("celery_workers", {}).get("hosts") or []
        if not hosts:
            raise DemoError("the inventory has no host in the group celery_workers")
        name = str(hosts[0])
    return name, dict(hostvars.get(name, {}))


def events(command: Sequence[str], source: str) -> Iterator[dict[str, Any]]:
    """Run the traffic and yield what it tells, while it runs."""
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it ended early: its exit status tells why
                process.stdin.write(source)
                process.stdin.close()
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        if process.returncode:
            errors.seek(0)
            tail = "\n".join(errors.read().strip().splitlines()[-15:])
            raise DemoError(f"the traffic ended with {process.returncode}\n{tail}")


def watch(console: Console, stream: Iterator[dict[str, Any]], every: float = 5.0) -> dict[str, Any]:
    """Show progress, a bar on a terminal and a line now and then in a log. Return the report."""
    report: dict[str, Any] | None = None
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            sent = progress.add_task("Tasks sent", total=None)
            done = progress.add_task("Tasks done", total=None)
            for event in stream:
                if event["event"] == "report":
                    report = event
                    continue
                progress.update(sent, total=event["total"], completed=event["sent"])
                progress.update(done, total=event["total"], completed=event["done"])
                if event["done"] == event["total"] and event["waiting_for"]:
                    progress.update(done, description=f"Waiting for {event['waiting_for']}")
    else:
        told = time.monotonic()
        for event in stream:
            if event["event"] == "report":
                report = event
            elif time.monotonic() - told >= every:
                told = time.monotonic()
                missing = f", waiting for {event['waiting_for']}" if event["waiting_for"] else ""
                console.print(f"  {event['sent']} of {event['total']} tasks sent, {event['done']} done{missing}")
    if report is None:
        raise DemoError("the traffic ended without a report")
    return report


def status(url: str, user: str = "", password: str = "") -> int:
    """Return the HTTP status of a page, or 0 when nothing answers."""
    request = urllib.request.Request(url)  # noqa: S310  the address comes from the inventory, and begins with http
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    # No proxy: the pages are on this machine, or on a host of the inventory.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def address(prefix: Sequence[str], name: str, port: int) -> str:
    """Find where a port of the host is reached from here: for a container where it is published, or its own address."""
    if prefix[:1] == ["docker"]:
        ports = json.loads(run(["docker", "inspect", "--format", "{{json .NetworkSettings}}", prefix[-1]]))
        published = (ports["Ports"] or {}).get(f"{port}/tcp")
        if published:
            return f"127.0.0.1:{published[0]['HostPort']}"
        return f"{next(iter(ports['Networks'].values()))['IPAddress']}:{port}"
    return f"127.0.0.1:{port}" if prefix[:1] in ([], ["sudo"]) else f"{name}:{port}"


def ask_pages(pages: Sequence[Mapping[str, Any]], prefix: Sequence[str], name: str, secrets: Path) -> list[Page]:
    """Knock at every page, without its password and with it."""
    asked = []
    for page in pages:
        url = f"http://{address(prefix, name, int(page['port']))}"
        secret = secrets / page["secret"]
        if not secret.is_file():
            raise DemoError(f"{page['name']}: there is no password in {secret}")
        refused = status(url + page["check"])
        accepted = status(url + page["check"], page["user"], secret.read_text(encoding="utf-8").strip())
        shown = os.path.relpath(secret)
        asked.append(Page(page["name"], url, page["user"], shown, refused, accepted))
    return asked


def ask_units(promise: Expected, prefix: Sequence[str]) -> list[Unit]:
    """Ask the host about the units of the app, and their processes."""
    facts = run(command_on(prefix, ["sh", "-c", FACTS.format(app=promise.app)]))
    show, _sign, processes = facts.partition("----\n")
    return demo_report.parse_units(show, processes)


def demo(options: argparse.Namespace, console: Console) -> bool:
    """Send the traffic, ask the host, print what happened. Return whether all of it had to."""
    listing = json.loads(run(["ansible-inventory", "--inventory", str(options.inventory), "--list"]))
    name, variables = host_of(listing, options.host)
    promise = demo_report.expected(variables)
    prefix = shlex.split(options.via) if options.via is not None else reach(name, variables, os.geteuid())

    active = {unit.name for unit in ask_units(promise, prefix) if unit.state == "active"}
    down = [unit for unit in map(promise.unit_of, promise.classes) if unit not in active]
    if down:
        raise DemoError(f"{', '.join(down)}: not running on {name}. Has site.yml been run with this inventory?")
    console.print(f"Sending {options.tasks} tasks through {escape(promise.app)} on {escape(name)} ...")
    arguments = [f"--tasks={options.tasks}", f"--seconds={options.seconds}", f"--timeout={options.timeout}"]
    command = command_on(prefix, traffic_command(promise, arguments))
    report = watch(console, events(command, TRAFFIC.read_text(encoding="utf-8")))

    units = ask_units(promise, prefix)
    table = demo_report.rows(promise, units, report["records"] + report["periodic"])
    inventory = options.inventory if options.inventory.is_dir() else options.inventory.parent
    pages = ask_pages(
        variables.get("demo_pages") or [], prefix, name, options.secrets or inventory / ".celeryops" / "secrets"
    )
    checks = demo_report.judge(promise, table, report, pages, least=LEAST)

    seconds = report["end"] - report["begin"]
    console.print()
    console.print(
        demo_report.class_table(table, f"{len(report['records'])} tasks in {seconds:.0f} s on {escape(name)}")
    )
    console.print(demo_report.check_table(checks))
    console.print()
    console.print(demo_report.page_table(pages, options.stop))
    return all(check.ok for check in checks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--inventory", type=Path, default=ROOT / "inventories" / "demo", help="default: inventories/demo"
    )
    parser.add_argument("--host", help="the host to send from (default: the first one of celery_workers)")
    parser.add_argument(
        "--via", help="what to put before a command to run it there as root (default: as the inventory connects)"
    )
    parser.add_argument(
        "--secrets", type=Path, help="directory of the passwords (default: .celeryops/secrets in the inventory)"
    )
    parser.add_argument("--tasks", type=int, default=330, help="how many tasks to send (default: 330)")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="over which time to send what is not slow (default: 8)"
    )
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for the answers (default: 120)")
    parser.add_argument("--stop", default="make demo-down", help="the command to print that ends it all")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    try:
        return 0 if demo(options, console) else 1
    except DemoError as error:
        console.print(f"[bold red]demo:[/] {escape(str(error))}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
