# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs git, uv and pip for a release, and shows what programs said without secrets."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.module_utils import masking
from ansible_collections.celeryops.stack.plugins.module_utils.paths import AppPaths
from ansible_collections.celeryops.stack.plugins.module_utils.secret_files import secrets_in, secrets_placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.celeryops.stack.plugins.module_utils.releases.request import Request


class ReleaseError(Exception):
    """Something that ends the run; the text is for the user."""

    #: All that a program said, of which the text has the end.
    output = ""


class Programs:
    """The programs of one call.

    Arguments:
        request: of the module.
        work: a directory of its own, which is removed afterwards.
    """

    def __init__(self, request: Request, work: str) -> None:
        self.request = request
        self.work = work

    def run(self, command: Sequence[str], environment: Mapping[str, str], failed: str, *, ignore: bool = False) -> str:
        """Run a program with a clean environment and return its output; secrets go there, never in argv.

        Arguments:
            command: the program and its arguments.
            environment: variables beside those of ``install_environment``, over which they win.
            failed: how an error begins.
            ignore: whether a failure is none.

        Raises:
            ReleaseError: it failed, or could not be run.
        """
        clean = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "NO_COLOR": "1",
            "HOME": self.work, "TMPDIR": self.work,
            **{key: str(value) for key, value in self.request["install_environment"].items()}, **environment,
        }  # fmt: skip
        try:
            # pylint: disable-next=ansible-bad-function
            outcome = subprocess.run(
                list(command), env=clean, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            raise ReleaseError(f"{failed}: {error}") from error
        if outcome.returncode != 0 and not ignore:
            failure = ReleaseError(f"{failed}; {os.path.basename(command[0])} said:\n{self.shown(outcome.stdout)}")
            failure.output = outcome.stdout
            raise failure
        return outcome.stdout

    def shown(self, output: str) -> str:
        """Return the end of what a program printed, without secrets and with everything that tells the cause."""
        request, source = self.request, self.request["source"]
        variables = {**request["install_environment"], **request["environment"]}
        variables["deploy_key"] = source.get("deploy_key") or ""
        texts = [
            source.get("index_url"), *(source.get("extra_index_urls") or []), source.get("repo"),
            source.get("requirements"), *(source.get("packages") or []),
        ]  # fmt: skip
        public = [request["name"], request["user"], *re.split(r"[.:]", request["import"])]
        secrets = masking.secrets_of(variables, [text for text in texts if text])
        secrets += secrets_in(request["contents"] or [])
        # What is in place already was not brought over, and the app reads it all the same.
        secrets += secrets_placed(AppPaths(request["name"]).files_record)
        return masking.tail(output, secrets, public=public)

    def write(self, name: str, text: str) -> str:
        """Write a file for a program, which only root can read, and return its path."""
        path = f"{self.work}/{name}"
        write(path, text)
        return path


def write(path: str, text: str, mode: int = 0o600) -> None:
    """Write a file."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
        stream.write(text)
