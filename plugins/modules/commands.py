# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: commands
short_description: Run programs of an app's release as the app, before or after the switch to the release
version_added: 0.2.0
description:
  - Runs one program after the other, as the app's account, from the release, with the environment and the shared
    configuration that the release will have. Files that are not in use yet are placed beside those in use.
  - The first failure ends the module, with the end of the output. Secrets are not shown, and none of the arguments
    appears in the host's log or in the result.
  - They run in the source directory if the release has one (C(app), with C(manage.py)), else in the app's
    state directory.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.attributes.action]
options:
  name:
    description: The app's short name.
    type: str
    required: true
  user:
    description: The account that the app runs as.
    type: str
    required: true
  release:
    description: Name of a complete release, or the path of a virtual environment.
    type: str
    required: true
  previous:
    description: The release in use, for the message.
    type: str
    default: ""
  when:
    description: Which of O(commands) to run.
    type: str
    choices: [before, after]
    required: true
  commands:
    description: The programs.
    type: list
    elements: dict
    required: true
    suboptions:
      argv:
        description: The words of the command.
        type: list
        elements: str
        required: true
      when:
        description: Whether it is run before or after the switch.
        type: str
        choices: [before, after]
        required: true
      timeout:
        description: How many seconds it may take.
        type: int
        required: true
  environment:
    description: Variables of the app.
    type: dict
    default: {}
  configuration:
    description: Files, in the form of M(celeryops.stack.files), that the programs see instead of those in use.
    type: list
    elements: dict
    default: []
  contents:
    description: Internal; the contents of O(configuration).
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    details: Reports what would be run.
  diff_mode:
    details: Shows the commands.
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Migrate the database
  celeryops.stack.commands:
    name: shop
    user: shop
    release: 1.4.2-5d28c6870c
    when: before
    commands:
      - {argv: [manage.py, migrate, --noinput], when: before, timeout: 3600}
"""

RETURN = r"""
ran:
  description: The commands that were run, or would be in check mode, each as one line.
  type: list
  elements: str
  returned: success
"""

import contextlib
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils import masking, trial
from ansible_collections.celeryops.stack.plugins.module_utils.quiet_module import QuietModule
from ansible_collections.celeryops.stack.plugins.module_utils.releases.lock import LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.releases.store import Store
from ansible_collections.celeryops.stack.plugins.module_utils.secret_files import secrets_in, secrets_placed

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT: dict[str, Any] = {"type": "str", "required": True}
_DICTS: dict[str, Any] = {"type": "list", "elements": "dict", "default": []}
_WHEN: dict[str, Any] = {**_TEXT, "choices": ["before", "after"]}
OPTIONS: dict[str, Any] = {
    "name": _TEXT,
    "user": _TEXT,
    "release": _TEXT,
    "previous": {"type": "str", "default": ""},
    "when": _WHEN,
    "commands": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "argv": {"type": "list", "elements": "str", "required": True},
            "when": _WHEN,
            "timeout": {"type": "int", "required": True},
        },
    },
    "environment": {"type": "dict", "default": {}},
    "configuration": _DICTS,
    "contents": _DICTS,
}


class CommandsError(Exception):
    """Something that ends the run; the text is for the user."""


class Commands:
    """One call of the module."""

    def __init__(self, request: dict[str, Any], *, check_mode: bool) -> None:
        self.request = request
        self.check_mode = check_mode
        self.store = Store(request["name"], check_mode=check_mode)
        self.path = self.store.path(request["release"])

    def run(self) -> dict[str, Any]:
        """Run all commands that belong here and return the module's result."""
        commands = [entry for entry in self.request["commands"] if entry["when"] == self.request["when"]]
        lines = [shlex.join(entry["argv"]) for entry in commands]
        if commands and not self.check_mode:
            try:
                account = trial.account_of(self.request["user"])
            except KeyError as error:
                raise CommandsError(f"there is no account {self.request['user']}") from error
            contents = self.request["contents"]
            with trial.staged(contents, account.gid) as root, trial.standing_in(contents, root) as views:
                variables = trial.redirected(self.request["environment"], root)
                environment = trial.environment_of(account, self.path, variables)
                for entry in commands:
                    self._run(account, entry, shlex.join(entry["argv"]), environment, views)
            if self.request["when"] == "after":
                self.store.done_after()
        return {
            "changed": bool(commands),
            "ran": lines,
            "diff": {"before": "", "after": "".join(f"{self.request['when']} the switch: {line}\n" for line in lines)},
        }

    def _run(
        self,
        account: trial.Account,
        entry: dict[str, Any],
        line: str,
        environment: dict[str, str],
        views: Sequence[tuple[str, str]],
    ) -> None:
        folder = next(path for path in (f"{self.path}/app", self.store.paths.state, "/") if os.path.isdir(path))
        words = program(entry["argv"], folder, self.path, environment["PATH"])
        failed, timeout = "", int(entry["timeout"])
        try:
            status, output = trial.run_as(account, words, environment, folder, timeout, views)
        except subprocess.TimeoutExpired as error:
            failed, output = f"took more than {timeout} s", str(error.output or "")
        except subprocess.SubprocessError:
            failed, output = "cannot be run with the new celery_app_files: this host permits no mount", ""
        except OSError as error:
            failed, output = f"cannot be run: {error.strerror}", ""
            if isinstance(error, FileNotFoundError):
                failed += f"; neither the release nor {folder} has {entry['argv'][0]}"
        else:
            failed = f"ended with {status}" if status else ""
        if failed:
            # A program that fails may print what it was given.
            secrets = masking.secrets_of(self.request["environment"]) + secrets_in(self.request["contents"])
            # A file that has left the inventory is still there to be read.
            secrets += secrets_placed(self.store.paths.files_record)
            said = masking.tail(output, secrets, public=[self.request["name"]])
            raise CommandsError(
                f"celery_app_release_commands: {line} {failed}, as {account.name}. {self._what_runs()}"
                + (f"\n{said}" if said else "")
            )

    def _what_runs(self) -> str:
        release, previous = self.request["release"], self.request["previous"]
        if self.request["when"] == "after":
            return (
                f"The release {release} is in use; what comes after it was not finished: the next run of site.yml or "
                "deploy does it again."
            )
        goes_on = f"{previous} goes on" if previous else "nothing was started"
        return f"The release {release} was not taken into use, {goes_on}."


def program(argv: list[str], folder: str, release: str, path: str) -> list[str]:
    """Return the words of a command with its program found: in the release, in the source's directory, on the host.

    Arguments:
        argv: as they were written.
        folder: the directory that it runs in; a Python file there is given to the release's Python.
        release: path of the release.
        path: where programs are looked for.
    """
    first = argv[0]
    if "/" not in first and first.endswith(".py") and os.path.isfile(f"{folder}/{first}"):
        return [f"{release}/bin/python", *argv]
    return [shutil.which(first, path=path) or first, *argv[1:]]


def main() -> None:
    """Run the module."""
    module = QuietModule(argument_spec=OPTIONS, supports_check_mode=True)
    os.umask(0o022)
    request = module.params
    try:
        # Two migrations at once are none.
        with contextlib.nullcontext() if module.check_mode else locked(request["name"]):
            result = Commands(request, check_mode=module.check_mode).run()
    except (CommandsError, LockError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
