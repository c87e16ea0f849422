# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: commands
short_description: Run programs of an app's release as the app, before or after the release is taken into use
version_added: 0.2.0
description:
  - Runs one program after the other, as the app's account, from the release, with the environment and the shared
    configuration that the release will have; of those, what is not in use yet is laid beside what is.
  - The first one that fails ends it, with the end of what it printed. Secrets are not shown.
  - They run in the source's own directory where the release has one (C(app), with C(manage.py)), else in the app's
    state directory.
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
    description: What is in use now, for the message.
    type: str
    default: ""
  when:
    description: Which of O(commands) are run.
    type: str
    choices: [before, after]
    required: true
  commands:
    description: >-
      The programs, each with C(argv) (words), C(when) (V(before) or V(after) the switch) and C(timeout) (seconds).
    type: list
    elements: dict
    required: true
  environment:
    description: Variables of the app.
    type: dict
    default: {}
  configuration:
    description: Files, written as in M(celeryops.stack.files), that the programs find in place of those in use.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Says what would be run.
    support: full
  diff_mode:
    description: Shows the commands.
    support: full
author: celeryops.stack contributors
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
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import masking, placed, trial
from ansible_collections.celeryops.stack.plugins.module_utils.current import read_history, save_history
from ansible_collections.celeryops.stack.plugins.module_utils.lock import LockError, locked
from ansible_collections.celeryops.stack.plugins.module_utils.ours import CONFIG
from ansible_collections.celeryops.stack.plugins.module_utils.release import tail

ROOT = "/opt/celeryops"
STATE = "/var/lib/celeryops"


class CommandsError(Exception):
    """Something that ends the run; the text is for the user."""


class Commands:
    """One call of the module."""

    def __init__(self, request: dict[str, Any], *, check_mode: bool) -> None:
        self.request = request
        self.check_mode = check_mode
        name = str(request["release"])
        self.path = name if name.startswith("/") else f"{ROOT}/{request['name']}/releases/{name}"

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
            self._note_done()
        return {
            "changed": bool(commands),
            "ran": lines,
            "diff": {"before": "", "after": "".join(f"{self.request['when']} the switch: {line}\n" for line in lines)},
        }

    def _note_done(self) -> None:
        """Forget that something was left to be done for the release."""
        base = f"{ROOT}/{self.request['name']}"
        history = read_history(base)
        if self.request["when"] == "after" and history.get("after"):
            save_history(base, {**history, "after": ""})

    def _run(
        self,
        account: trial.Account,
        entry: dict[str, Any],
        line: str,
        environment: dict[str, str],
        views: Sequence[tuple[str, str]],
    ) -> None:
        folder = next(
            path for path in (f"{self.path}/app", f"{STATE}/{self.request['name']}", "/") if os.path.isdir(path)
        )
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
            secrets = masking.secrets_of(self.request["environment"]) + trial.secrets_in(self.request["contents"])
            # A file that has left the inventory is still there to be read.
            secrets += trial.secrets_placed(f"{CONFIG}/{self.request['name']}/{placed.NAME}")
            said = tail(output, secrets, public=[self.request["name"]])
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
    module = AnsibleModule(
        # Everything in one text: marked piece by piece, a value such as "1" would be starred out of all output.
        argument_spec={"request": {"type": "str", "required": True, "no_log": True}},
        supports_check_mode=True,
    )
    os.umask(0o022)
    request = json.loads(module.params["request"])
    try:
        # Two migrations at once are none.
        with contextlib.nullcontext() if module.check_mode else locked(request["name"]):
            result = Commands(request, check_mode=module.check_mode).run()
    except (CommandsError, LockError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
