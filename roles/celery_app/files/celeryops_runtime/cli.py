# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line for roles, tests and people: ``declare``, ``inspect-app``, ``once``, ``probe`` and ``backlog``.

Exit status: 0 done, or nothing to do; 1 a server refuses, or an object is in the way; 2 wrong usage or configuration;
3 the app cannot be imported, or the shared configuration is not in force in it.

With ``--json`` standard output carries exactly one JSON object, also on failure (``failed``, ``message``). No URL is
ever printed with its password.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from celeryops_runtime import __version__
from celeryops_runtime.commands import NOT_IN_FORCE, OK, USAGE, Failure, backlog, declare, inspect_app, once, probe
from celeryops_runtime.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m celeryops_runtime", description="The runtime of celeryops.stack.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (declare, inspect_app, once, probe, backlog):
        module.add_to(commands).add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _run(command: Callable[[], dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    try:
        result = command()
    except ConfigError as exc:
        return USAGE, {"failed": True, "message": str(exc)}
    except Failure as exc:
        return exc.status, {**exc.details, "failed": True, "message": str(exc)}
    return (OK if result.get("in_force", True) else NOT_IN_FORCE), {**result, "failed": False}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    :param argv: its words; those of the process if not given.
    :returns: the exit status (see the module's text).
    """
    arguments = _parser().parse_args(argv)
    status, result = _run(lambda: arguments.run(arguments))
    if arguments.json:
        print(json.dumps(result, sort_keys=True))
    else:
        print(result["message"], file=sys.stderr if status else sys.stdout)
        routes = result.get("routes", {})
        for task, found in routes.items():
            print(f"  {task} -> {found['queue']['name']}")
        tasks = () if routes else result.get("tasks", ())
        for line in (*result.get("missing", ()), *tasks, *result.get("lines", ())):
            print(f"  {line}")
    return status
