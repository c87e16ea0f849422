# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: redis_restore
short_description: Start Redis or Valkey with the data of a backup
version_added: 0.1.0
description:
  - Stops the server, puts its data aside, and starts it with O(path). If it does not start, or lacks keys of the backup
    then, it gets its own data back.
  - Fails before anything is changed if the server is part of a replicated group, or holds keys, unless O(over) is set.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.redis_engine]
options:
  path:
    description: The file on the host, in the server's data directory. It becomes the server's own.
    type: path
    required: true
  over:
    description: Whether to restore although the server holds keys.
    type: bool
    default: false
attributes:
  check_mode: {details: Checks only whether the server may be given other data.}
  diff_mode: {support: none}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Restore the data
  celeryops.stack.redis_restore:
    engine: redis
    path: /var/lib/redis/celeryops-restore.rdb
    username: admin
    password: "{{ redis_admin_password }}"
"""

RETURN = r"""
keys:
  description: How many keys the server has now.
  type: int
  returned: when not in check mode
aside:
  description: The directory with the data that the server had before; empty if it had none.
  type: str
  returned: when not in check mode
"""

import contextlib
import grp
import os
import pwd
import shutil
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.journal import last_lines
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    OPTIONS,
    Client,
    ServerError,
    engine_names,
)
from ansible_collections.celeryops.stack.plugins.module_utils.restoring import keys_in, keys_of_file, keys_read, why_not

#: Where data are: the log of writes (until Redis 6 a file) and the snapshot. Of these the script before the server's
#: start makes what redis_persistence needs (roles/redis/templates/celeryops-data.sh.j2).
DATA = ("appendonlydir", "appendonly.aof", "dump.rdb")
SNAPSHOT = DATA[-1]


class RestoreError(Exception):
    """The server did not do what a restore needs."""


class Restore:
    """Puts other data into a server, or leaves it as it was."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.names = engine_names(module.params["engine"])
        self.folder = self.names["data_dir"]
        self.path = str(module.params["path"])
        self.aside = ""

    def run(self) -> None:
        """Check everything, and restore; ends the module."""
        try:
            why = why_not(self._ask("replication"), keys_in(self._ask("keyspace")), over=self.module.params["over"])
        except (OSError, ServerError) as error:
            self._fail(f"does not answer ({error}): run celeryops.stack.site first")
        if why:
            self._fail(f"{why}. Nothing was changed")
        if self.module.check_mode:
            self.module.exit_json(changed=True)
        wanted = self._keys_of_file()
        try:
            self._systemctl("stop")
            self._put_aside()
            self._place()
            self._systemctl("start")
            missing = wanted - keys_read(self._ask("persistence"))
            keys = keys_in(self._ask("keyspace"))
        except (OSError, ServerError, RestoreError) as error:
            self._put_back(str(error))
        if missing > 0:
            self._put_back(f"it lacks {missing} of {wanted} keys")
        os.unlink(self.path)
        self.module.exit_json(changed=True, keys=keys, aside=self.aside)

    def _ask(self, section: str) -> str:
        with Client(self.names["socket"], timeout=60) as client:
            client.call("AUTH", self.module.params["username"], self.module.params["password"])
            return str(client.call("INFO", section)).replace("\r", "")

    def _keys_of_file(self) -> int:
        """Return how many keys the backup has; fails when the server could not read it."""
        command = [f"/usr/bin/{self.names['engine']}-check-rdb", self.path]
        code, output, errors = self.module.run_command(command)
        keys = keys_of_file(output)
        if code != 0 or keys < 0:
            said = (errors.strip() or output.strip())[-400:]
            self._fail(f"cannot read the backup, as {os.path.basename(command[0])} says: {said}. Nothing was changed")
        return keys

    def _put_aside(self) -> None:
        """Give the data of the server a directory of root's, on the same disk."""
        there = [name for name in DATA if os.path.lexists(f"{self.folder}/{name}")]
        if there:
            aside = f"{self.folder}/before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            os.mkdir(aside, 0o700)
            self.aside = aside
            for name in there:
                os.rename(f"{self.folder}/{name}", f"{aside}/{name}")

    def _place(self) -> None:
        """Make the backup the snapshot that the server starts from."""
        user, group = pwd.getpwnam(self.names["user"]).pw_uid, grp.getgrnam(self.names["group"]).gr_gid
        os.chown(self.path, user, group)
        os.chmod(self.path, 0o660)
        # A second name: the server replaces the first one with its next snapshot.
        os.link(self.path, f"{self.folder}/{SNAPSHOT}")

    def _put_back(self, why: str) -> None:
        """Start the server with the data that it had; ends the module."""
        self.module.run_command(["systemctl", "stop", "--", self.names["unit"]])
        journal = last_lines(self.module.run_command, self.names["unit"])
        for name in DATA:
            path = f"{self.folder}/{name}"
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)
        if self.aside:
            for name in os.listdir(self.aside):
                os.rename(f"{self.aside}/{name}", f"{self.folder}/{name}")
            os.rmdir(self.aside)
        code, _output, errors = self.module.run_command(["systemctl", "start", "--", self.names["unit"]])
        then = (
            "It has its own data again"
            if code == 0
            else f"It has its own data again, and does not start: {errors.strip()}"
        )
        self._fail(f"did not take the backup: {why}. {then}\n{journal}")

    def _systemctl(self, verb: str) -> None:
        unit = self.names["unit"]
        self.module.run_command(["systemctl", "reset-failed", "--", unit])
        code, _output, errors = self.module.run_command(["systemctl", verb, "--", unit])
        if code != 0:
            raise RestoreError(f"systemctl {verb} {unit}: {errors.strip()}")

    def _fail(self, text: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.module.fail_json(msg=f"{self.names['title']} {text}")


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        **OPTIONS,
        "path": {"type": "path", "required": True},
        "over": {"type": "bool", "default": False},
    }
    Restore(AnsibleModule(argument_spec=spec, supports_check_mode=True)).run()


if __name__ == "__main__":
    main()
