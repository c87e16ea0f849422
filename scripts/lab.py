#!/usr/bin/env python
"""The test lab: systemd containers that stand in for Debian hosts.

The one place that knows how an engine is started, how an image is built from Debian's own packages and with which
options a container runs systemd. The demo, Molecule and the benchmark all come through here. Standard library only:
it has to run before anything is installed.

    scripts/lab.py up demo --suite trixie      engine, image and container, waiting until systemd is up
    scripts/lab.py restart demo                what a reboot is to a host
    scripts/lab.py down demo                   remove it
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from tools.lab.containers import down, ready, restart, up
from tools.lab.engine import engine
from tools.lab.images import SUITES, image
from tools.lab.machine import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence


def host_name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", text):
        raise argparse.ArgumentTypeError("a host name of lower-case letters, digits and dashes")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("engine", help="have a container engine answer")
    build = commands.add_parser("image", help="have the images of these suites")
    build.add_argument("suites", nargs="+", choices=SUITES)
    start = commands.add_parser("up", help="have a host running")
    start.add_argument("name", type=host_name)
    start.add_argument("--suite", choices=SUITES, default="trixie")
    start.add_argument("--publish", action="append", default=[], metavar="[ADDRESS:]PORT:PORT")
    start.add_argument(
        "--volume", action="append", default=[], metavar="FOLDER:FOLDER", help="a folder of this machine"
    )
    start.add_argument("--capability", action="append", default=[], metavar="NAME", help="such as NET_ADMIN")
    for command, text in (
        ("ready", "wait until systemd is up"),
        ("restart", "reboot a host"),
        ("down", "remove hosts"),
    ):
        commands.add_parser(command, help=text).add_argument("names", nargs="+", type=host_name)
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "engine":
                engine()
            case "image":
                engine()
                for suite in options.suites:
                    image(suite)
            case "up":
                # The word is what a caller that reports changes looks for.
                created = up(options.name, options.suite, options.publish, options.volume, options.capability)
                sys.stdout.write("changed\n" if created else "unchanged\n")
            case "down":
                removed = [down(name) for name in options.names]
                sys.stdout.write("changed\n" if any(removed) else "unchanged\n")
            case _:
                for name in options.names:
                    {"ready": ready, "restart": restart}[options.command](name)
    except LabError as problem:
        sys.stderr.write(f"lab: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
