#!/usr/bin/python
# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: redis_replication
short_description: Wait for a replicated Redis or Valkey, or hand its duty as primary over
version_added: 0.1.0
description:
  - Asks the server on the host, which is one of several with the same data.
  - It never decides which of them is the primary. Sentinel does.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.redis_engine]
options:
  state:
    description:
      - V(up) waits until the server is a replica that is connected and has the data, or a primary that has a replica.
      - V(handed_over) makes the server fit for a restart. If it is the primary and has replicas, it refuses
        writes until all of them have its data, Sentinel makes one of them the primary, and this one follows that. So no
        write is lost that a client believes to be done.
    type: str
    choices: [up, handed_over]
    required: true
  place:
    description: Where the other servers and Sentinel find this one.
    type: dict
    required: true
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
    description: The Sentinels, any of which can make another server the primary.
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
    description: A user of the Sentinels that may run C(SENTINEL FAILOVER).
    type: str
    default: ""
  sentinel_password:
    description: Its password.
    type: str
    default: ""
  timeout:
    description: How many seconds to wait.
    type: int
    default: 120
attributes:
  check_mode: {details: It waits for nothing and reports what it would do.}
  diff_mode: {support: none}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Let another server be the primary while this one restarts
  celeryops.stack.redis_replication:
    state: handed_over
    engine: redis
    username: admin
    password: "{{ redis_admin_password }}"
    place: {host: 10.0.0.1, port: 6379}
    sentinels: [{host: 10.0.0.1, port: 26379}, {host: 10.0.0.2, port: 26379}, {host: 10.0.0.3, port: 26379}]
    master_name: celeryops
    sentinel_username: admin
    sentinel_password: "{{ sentinel_admin_password }}"
"""

RETURN = r"""
role:
  description: V(primary), V(replica), or empty if the server does not answer.
  type: str
  returned: success
primary:
  description: The C(host) and C(port) of the server that is the primary now, as far as it is known.
  type: dict
  returned: success
paused:
  description: For how many seconds writes had to wait.
  type: float
  returned: when the duty was handed over
"""

import contextlib
import time
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    OPTIONS,
    PLACE,
    Client,
    ServerError,
    engine_names,
    pairs,
    replication,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds between two questions.
PAUSE = 0.2
#: For how many seconds writes wait at most, until the replicas have all data and Sentinel has made one the primary.
PATIENCE = 10
#: What Sentinel says of a replica that it would not choose.
_DOWN = ("s_down", "o_down", "disconnected")


class _StuckError(Exception):
    """Why the duty was not handed over."""


class Replicated:
    """Asks one server, and has Sentinel change what has to be changed."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.names = engine_names(self.params["engine"])
        self.place = (str(self.params["place"]["host"]), int(self.params["place"]["port"]))
        self.deadline = time.monotonic() + self.params["timeout"]

    def up(self) -> None:
        """Wait until the server has its place among the others; ends the module."""
        while True:
            found = self._look()
            whole = found["role"] == "replica" and found["link"]
            if whole or (found["role"] == "primary" and found["followers"]) or self.module.check_mode:
                self._end(found)
            if time.monotonic() > self.deadline:
                self._fail(f"{self.names['title']} is not one of several yet: {_told(found)}")
            time.sleep(PAUSE)

    def handed_over(self) -> None:
        """Make the server fit for a restart; ends the module."""
        found = self._look()
        while True:
            if found["role"] != "primary" or not found["offsets"]:
                # Nobody would miss it, or nobody could take its place.
                self._end(found)
            sentinel = self._sentinel()
            if sentinel is None:
                self.module.warn(
                    f"no Sentinel answers that knows {self.params['master_name']}, so nobody stands in for the primary "
                    "during its restart"
                )
                self._end(found)
            if self.module.check_mode:
                self._end(found, changed=True)
            with sentinel:
                if self._primary(sentinel) == self.place:
                    self._hand_over(sentinel)
            # It was gone for some time, and Sentinel is about to tell it that another one is the primary.
            if time.monotonic() > self.deadline:
                self._fail(f"{_told(found)}, and Sentinel has another primary")
            time.sleep(PAUSE)
            found = self._look()

    def _hand_over(self, sentinel: Client) -> None:
        """Let another server be the primary; ends the module."""
        started = time.monotonic()
        with self._server() as client:
            try:
                self._wait_for_replicas(client, sentinel)
                # Longer than all of the waiting below.
                client.call("CLIENT", "PAUSE", str(3 * PATIENCE * 1000), "WRITE")
                started = time.monotonic()
                try:
                    self._change_primary(client, sentinel)
                finally:
                    # What still waits is refused by a replica, and served where it was not handed over.
                    client.call("CLIENT", "UNPAUSE")
            except (OSError, ServerError, _StuckError) as error:
                self._fail(f"the primary was not restarted, and goes on: {error}")
        paused = round(time.monotonic() - started, 1)
        while True:
            found = self._look()
            if found["role"] == "replica" and found["link"]:
                self._end(found, changed=True, paused=paused)
            if time.monotonic() > self.deadline:
                self._fail(f"the primary is another one now, and this one does not follow it: {_told(found)}")
            time.sleep(PAUSE)

    def _wait_for_replicas(self, client: Client, sentinel: Client) -> None:
        """Wait until every replica that Sentinel may choose has the data, whichever it chooses."""
        for _turn in self._attempts(self.deadline, "not every replica is connected and has the data"):
            listed = [pairs(one) for one in sentinel.call("SENTINEL", "REPLICAS", self.params["master_name"])]
            eligible = [one for one in listed if not set(one.get("flags", "").split(",")) & set(_DOWN)]
            linked = [one for one in eligible if one.get("master-link-status") == "ok"]
            online = replication(client.call("INFO", "replication"))["offsets"]
            if linked and len(linked) == len(eligible) <= len(online):
                return

    def _change_primary(self, client: Client, sentinel: Client) -> None:
        """Have Sentinel make a replica the primary that has all data, and follow it."""
        name = self.params["master_name"]
        deadline = time.monotonic() + PATIENCE
        for _turn in self._attempts(deadline, "a replica is behind"):
            found = replication(client.call("INFO", "replication"))
            if found["offsets"] and min(found["offsets"]) >= found["offset"]:
                break
        sentinel.call("SENTINEL", "FAILOVER", name)
        deadline = time.monotonic() + PATIENCE
        primary = self.place
        for _turn in self._attempts(deadline, "Sentinel did not make a replica the primary"):
            primary = self._primary(sentinel)
            if primary != self.place:
                break
        # Sentinel would do so in some seconds. Until then what waits here would be written, and lost.
        client.call("REPLICAOF", primary[0], str(primary[1]))
        client.call("CONFIG", "REWRITE")
        client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def _attempts(self, deadline: float, complaint: str) -> Iterator[None]:
        """Yield again and again until a deadline.

        Raises:
            _StuckError: it has passed.
        """
        while True:
            yield
            if time.monotonic() > deadline:
                raise _StuckError(complaint)
            time.sleep(PAUSE)

    def _primary(self, sentinel: Client) -> tuple[str, int]:
        answer = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.params["master_name"])
        return (str(answer[0]), int(answer[1])) if answer else ("", 0)

    def _sentinel(self) -> Client | None:
        """Return a client of a Sentinel that knows the servers."""
        for place in self.params["sentinels"]:
            with contextlib.suppress(OSError, ServerError):
                client = Client((place["host"], place["port"]), timeout=5)
                with contextlib.ExitStack() as stack:
                    stack.enter_context(client)
                    client.call("AUTH", self.params["sentinel_username"], self.params["sentinel_password"])
                    if self._primary(client) != ("", 0):
                        stack.pop_all()
                        return client
        return None

    def _server(self) -> Client:
        client = Client(self.names["socket"])
        client.call("AUTH", self.params["username"], self.params["password"])
        return client

    def _look(self) -> dict[str, Any]:
        try:
            with self._server() as client:
                return replication(client.call("INFO", "replication"))
        except (OSError, ServerError):
            return replication("")

    def _end(self, found: dict[str, Any], *, changed: bool = False, **further: Any) -> NoReturn:
        own = {"host": self.place[0], "port": self.place[1]}
        primary = own if found["role"] == "primary" else found["primary"]
        self.module.exit_json(changed=changed, role=found["role"], primary=primary, **further)
        raise AssertionError

    def _fail(self, text: str) -> NoReturn:
        self.module.fail_json(msg=text)
        raise AssertionError


def _told(found: dict[str, Any]) -> str:
    """Return what a server is, for people."""
    if found["role"] == "replica":
        primary = found["primary"]
        return f"it is a replica of {primary['host']}:{primary['port']}, {'' if found['link'] else 'not '}connected"
    return "it is a primary without a replica" if found["role"] else "it does not answer"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["up", "handed_over"], "required": True},
            **OPTIONS,
            "place": {"type": "dict", "required": True, "options": PLACE},
            "sentinels": {"type": "list", "elements": "dict", "default": [], "options": PLACE},
            "master_name": {"type": "str", "default": ""},
            "sentinel_username": {"type": "str", "default": ""},
            "sentinel_password": {"type": "str", "default": "", "no_log": True},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    replicated = Replicated(module)
    getattr(replicated, module.params["state"])()


if __name__ == "__main__":
    main()
