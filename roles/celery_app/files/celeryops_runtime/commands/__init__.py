# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""The commands, one per module: what each does, and its arguments on the command line.

Each module has a function ``add_to(commands)``, which is all that :mod:`celeryops_runtime.cli` asks of it. Celery and
kombu are imported where a command needs them, so that ``--help`` and a wrong word cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeryops_runtime.config_reader import ENVIRONMENT

if TYPE_CHECKING:
    import argparse

OK, REFUSED, USAGE, NOT_IN_FORCE = 0, 1, 2, 3
"""Exit status: see :mod:`celeryops_runtime.cli`."""


class Failure(Exception):  # noqa: N818 (an outcome with an exit status, not an error of this program)
    """Something a person has to put right."""

    def __init__(self, status: int, message: str, **details: Any) -> None:
        """Make it.

        :param status: the exit status.
        :param message: one sentence or more: what is wrong and what to do.
        :param details: further keys of the JSON object.
        """
        super().__init__(message)
        self.status = status
        self.details = details


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, says: str, reads: str = ""
) -> argparse.ArgumentParser:
    """Add a command to the command line; gives its parser.

    :param commands: of the command line.
    :param name: of the command.
    :param says: what it does.
    :param reads: what it takes from the environment beside the place of the shared configuration, in a sentence; one
        that gives none asks for no configuration.
    """
    parser = commands.add_parser(name, allow_abbrev=False, help=says, description=reads or None)
    if reads:
        parser.add_argument("--config", metavar="FILE", help=f"the shared configuration (default: ${ENVIRONMENT})")
    return parser
