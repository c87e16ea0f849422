# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command of the runtime in an app's release, as the app's account, with the app's environment."""

from __future__ import annotations

import json
import pwd
import subprocess
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.account import group_ids
from ansible_collections.celeryops.stack.plugins.module_utils.environment_file import parse_environment
from ansible_collections.celeryops.stack.plugins.module_utils.masking import secrets_of, tail
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths

if TYPE_CHECKING:
    from collections.abc import Sequence


class CommandError(Exception):
    """The command could not be run, or gave no report; the text is for the user."""


def run_runtime(
    current: str, environment_file: str, user: str, words: Sequence[str], *, timeout: float
) -> dict[str, Any]:
    """Return the JSON report of ``python -m celeryops_runtime``; secrets are in its environment only, never in argv.

    Arguments:
        current: the link to the release.
        environment_file: the app's environment file, which only root can read.
        user: the account to run as.
        words: the command and its options, without ``--json``.
        timeout: seconds.

    Raises:
        CommandError: when there is no account, no file, no program, or no report.
    """
    python, command = f"{current}/bin/python", words[0]
    try:
        account = pwd.getpwnam(user)
        with open(environment_file, encoding="utf-8") as stream:
            variables = parse_environment(stream.read())
    except (KeyError, OSError) as error:
        raise CommandError(str(error)) from error
    groups = group_ids(account.pw_name, account.pw_gid)
    try:
        # pylint: disable-next=ansible-bad-function
        outcome = subprocess.run(
            [python, "-m", "celeryops_runtime", *words, "--json"],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": account.pw_dir, **variables},
            cwd="/", user=account.pw_uid, group=account.pw_gid, extra_groups=groups, umask=0o077,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout, check=False, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{python} -m celeryops_runtime {command}: {error}") from error
    try:
        report: dict[str, Any] = json.loads(outcome.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        # As argparse says it. The runtime comes with the app's configuration, later in a run than the first question.
        if f"invalid choice: '{command}'" in outcome.stderr or "unrecognized arguments:" in outcome.stderr:
            raise CommandError(
                f"the runtime on this host is of an earlier version and lacks what {command} is asked for; run "
                "site.yml once without that change, which brings the new one"
            ) from error
        said = tail(outcome.stdout + outcome.stderr, secrets_of(variables))
        raise CommandError(
            f"{python} -m celeryops_runtime {command} ended with {outcome.returncode}:\n{said}"
        ) from error
    report["failed"] = bool(report.get("failed")) or outcome.returncode != 0
    return report


def waiting(app: str, user: str, words: Sequence[str] = ()) -> dict[str, Any] | str:
    """Return the messages in each queue of an app, or why they are not known.

    Arguments:
        app: its name.
        user: the account that it runs as.
        words: further options of the command ``backlog``.
    """
    places = AppPaths(app)
    try:
        report = run_runtime(places.current, places.environment, user, ["backlog", *words], timeout=60)
    except CommandError as error:
        return str(error)
    counted = report.get("waiting")
    if report["failed"] or not isinstance(counted, dict):
        return str(report.get("message") or "the app's runtime reported no counts")
    return counted
