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

__all__ = ["NOT_IN_FORCE", "OK", "REFUSED", "USAGE", "Failure", "add_config"]

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


def add_config(parser: argparse.ArgumentParser) -> None:
    """Let a command read another configuration than the environment names.

    :param parser: of the command.
    """
    parser.add_argument("--config", metavar="FILE", help=f"the shared configuration (default: ${ENVIRONMENT})")
