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
  - The primary of several servers stays the primary, because O(sentinels) are told to wait. Its replicas take over what
    it has then, and the module waits for them.
  - Fails before anything is changed if the server is a replica, has replicas and no Sentinels, or holds keys, unless
    O(over) is set.
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
  place:
    description: Where the Sentinels find this server. Needed with O(sentinels).
    type: dict
    suboptions:
      host:
        description: An IP address.
        type: str
        required: true
      port:
        description: The port.
        type: int
        required: true
  sentinels:
    description: All Sentinels that watch the server. Each has to answer, and to know it as the primary.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: An IP address.
        type: str
        required: true
      port:
        description: The port.
        type: int
        required: true
  master_name:
    description: The name by which Sentinel knows the servers.
    type: str
    default: ""
  sentinel_username:
    description: A user of the Sentinels that may run C(SENTINEL SET).
    type: str
    default: ""
  sentinel_password:
    description: Its password.
    type: str
    default: ""
  timeout:
    description: How many seconds to wait for the replicas.
    type: int
    default: 600
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
replicas:
  description: How many replicas have taken over the data.
  type: int
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
    PLACE,
    Client,
    ServerError,
    engine_names,
    replication,
)
from ansible_collections.celeryops.stack.plugins.module_utils.restoring import keys_in, keys_of_file, keys_read, why_not
from ansible_collections.celeryops.stack.plugins.module_utils.sentinel_patience import Sentinels

#: Where data are: the log of writes (until Redis 6 a file) and the snapshot. Of these the script before the server's
#: start makes what redis_persistence needs (roles/redis/templates/celeryops-data.sh.j2).
DATA = ("appendonlydir", "appendonly.aof", "dump.rdb")
SNAPSHOT = DATA[-1]
#: Seconds between two questions.
PAUSE = 0.5


class RestoreError(Exception):
    """The server did not do what a restore needs, in words for people."""


class Restore:
    """Puts other data into a server, or leaves it as it was."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.names = engine_names(module.params["engine"])
        self.folder = self.names["data_dir"]
        self.path = str(module.params["path"])
        self.aside = ""
        #: Whether none of the server's own data is in their place any more.
        self.emptied = False
        params = module.params
        self.sentinels = Sentinels(
            params["sentinels"], params["master_name"], params["sentinel_username"], params["sentinel_password"]
        )

    def run(self) -> None:
        """Check everything, and restore; ends the module."""
        result, failed = {}, ""
        try:
            result = self._restore()
        except RestoreError as error:
            failed = f"{self.names['title']} {error}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        if self.sentinels.stuck:
            stuck = ", ".join(self.sentinels.stuck)
            self.module.warn(f"run celeryops.stack.site: Sentinel does not watch the primary now at {stuck}")
        if failed:
            self.module.fail_json(msg=failed)
        self.module.exit_json(changed=True, **result)

    def _restore(self) -> dict[str, Any]:
        """Return what there is now.

        Raises:
            RestoreError: the server has what it had, or a replica lacks what it has now.
        """
        watched = bool(self.sentinels.places)
        try:
            found = replication(self._ask("replication"))
            why = why_not(found, keys_in(self._ask("keyspace")), over=self.module.params["over"], watched=watched)
        except (OSError, ServerError) as error:
            raise RestoreError(f"does not answer ({error}): run celeryops.stack.site first") from error
        if not why and watched:
            place = self.module.params["place"]
            refusal = self.sentinels.refusal((str(place["host"]), int(place["port"])))
            why = f"stops during the restore, and {refusal}" if refusal else ""
        if why:
            raise RestoreError(f"{why}. Nothing was changed")
        if self.module.check_mode:
            return {}
        wanted = self._keys_of_file()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.sentinels.waiting())
            except (OSError, ServerError) as error:
                raise RestoreError(f"has a Sentinel that does not wait: {error}. Nothing was changed") from error
            keys = self._take(wanted)
            # Until then Sentinel would find data in the replicas that nobody wants any more.
            self._await_replicas(found["followers"])
        return {"keys": keys, "aside": self.aside, "replicas": found["followers"]}

    def _take(self, wanted: int) -> int:
        """Start the server with the backup, and return how many keys it has.

        Arguments:
            wanted: how many keys the backup has.

        Raises:
            RestoreError: it has its own data again.
        """
        try:
            self._systemctl("stop")
            self._put_aside()
            self._place()
            self._systemctl("start")
            missing = wanted - keys_read(self._ask("persistence"))
            keys = keys_in(self._ask("keyspace"))
            if missing > 0:
                raise RestoreError(f"it lacks {missing} of {wanted} keys")
        except (OSError, ServerError, RestoreError) as error:
            raise RestoreError(self._put_back(str(error))) from error
        os.unlink(self.path)
        return keys

    def _await_replicas(self, number: int) -> None:
        """Wait until so many replicas have the data.

        Raises:
            RestoreError: they do not have it in time.
        """
        deadline = time.monotonic() + self.module.params["timeout"]
        while True:
            # One that still loads them has told of nothing that it has.
            there = sum(offset > 0 for offset in self._replication()["offsets"])
            if there >= number:
                return
            if time.monotonic() > deadline:
                raise RestoreError(f"has the backup, but {there} of {number} replicas have it too. They go on trying")
            time.sleep(PAUSE)

    def _replication(self) -> dict[str, Any]:
        try:
            return replication(self._ask("replication"))
        except (OSError, ServerError):
            return replication("")

    def _ask(self, section: str) -> str:
        with Client(self.names["socket"], timeout=60) as client:
            client.call("AUTH", self.module.params["username"], self.module.params["password"])
            return str(client.call("INFO", section)).replace("\r", "")

    def _keys_of_file(self) -> int:
        """Return how many keys the backup has.

        Raises:
            RestoreError: the server could not read it.
        """
        command = [f"/usr/bin/{self.names['engine']}-check-rdb", self.path]
        code, output, errors = self.module.run_command(command)
        keys = keys_of_file(output)
        if code != 0 or keys < 0:
            said = (errors.strip() or output.strip())[-400:]
            tool = os.path.basename(command[0])
            raise RestoreError(f"cannot read the backup, as {tool} says: {said}. Nothing was changed")
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
        self.emptied = True

    def _place(self) -> None:
        """Make the backup the snapshot that the server starts from."""
        user, group = pwd.getpwnam(self.names["user"]).pw_uid, grp.getgrnam(self.names["group"]).gr_gid
        os.chown(self.path, user, group)
        os.chmod(self.path, 0o660)
        # A second name: the server replaces the first one with its next snapshot.
        os.link(self.path, f"{self.folder}/{SNAPSHOT}")

    def _put_back(self, why: str) -> str:
        """Start the server with the data that it had; return what is to be told."""
        self.module.run_command(["systemctl", "stop", "--", self.names["unit"]])
        journal = last_lines(self.module.run_command, self.names["unit"])
        for name in DATA if self.emptied else ():
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
        return f"did not take the backup: {why}. {then}\n{journal}"

    def _systemctl(self, verb: str) -> None:
        unit = self.names["unit"]
        self.module.run_command(["systemctl", "reset-failed", "--", unit])
        code, _output, errors = self.module.run_command(["systemctl", verb, "--", unit])
        if code != 0:
            raise RestoreError(f"systemctl {verb} {unit}: {errors.strip()}")


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        **OPTIONS,
        "path": {"type": "path", "required": True},
        "over": {"type": "bool", "default": False},
        "place": {"type": "dict", "options": PLACE},
        "sentinels": {"type": "list", "elements": "dict", "default": [], "options": PLACE},
        "master_name": {"type": "str", "default": ""},
        "sentinel_username": {"type": "str", "default": ""},
        "sentinel_password": {"type": "str", "default": "", "no_log": True},
        "timeout": {"type": "int", "default": 600},
    }
    Restore(AnsibleModule(argument_spec=spec, supports_check_mode=True)).run()


if __name__ == "__main__":
    main()
