#!/usr/bin/python
# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: sentinel_servers
short_description: Compare what a Sentinel knows of its Redis or Valkey servers, and tell it what differs
version_added: 0.1.0
description:
  - Who is the primary is Sentinel's own decision. Only a Sentinel without a state needs to be told, and gets the answer
    from the other Sentinels, or else from the servers.
extends_documentation_fragment: [celeryops.stack.attributes]
options:
  state:
    description:
      - V(found) only reads.
      - V(watched) changes the settings that differ, and waits until the Sentinel knows the others and the primary.
    type: str
    choices: [found, watched]
    required: true
  engine:
    description: The engine of the Sentinel.
    type: str
    choices: [redis, valkey]
    required: true
  api:
    description: Where the Sentinel of this host listens, as C(host) and C(port).
    type: dict
    required: true
  username:
    description: A user of the Sentinels with all rights.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  master_name:
    description: The name by which the Sentinel knows the servers.
    type: str
    required: true
  quorum:
    description: How many Sentinels have to agree that the primary is gone.
    type: int
    required: true
  settings:
    description: Further settings of the servers, as Sentinel names them.
    type: dict
    default: {}
  others:
    description: The other Sentinels, each with C(host) and C(port).
    type: list
    elements: dict
    default: []
  servers:
    description: The servers, each with C(host) and C(port).
    type: list
    elements: dict
    default: []
  server_username:
    description: The user as which Sentinel logs in to the servers.
    type: str
    required: true
  server_password:
    description: Its password.
    type: str
    required: true
  timeout:
    description: How many seconds to wait.
    type: int
    default: 60
attributes:
  check_mode: {details: It waits for nothing and reports what it would do.}
  diff_mode: {support: none}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Have the Sentinel know its servers
  celeryops.stack.sentinel_servers:
    state: watched
    engine: redis
    api: {host: 127.0.0.1, port: 26379}
    username: admin
    password: "{{ sentinel_admin_password }}"
    master_name: celeryops
    quorum: 2
    others: [{host: 10.0.0.2, port: 26379}, {host: 10.0.0.3, port: 26379}]
    server_username: sentinel
    server_password: "{{ redis_sentinel_password }}"
"""

RETURN = r"""
missing_packages:
  description: The Sentinel's packages that are not installed.
  type: list
  elements: str
  returned: with V(found)
primary:
  description: The C(host) and C(port) of the primary.
  type: dict
  returned: success
pending:
  description: Names of the settings that differ, or differed.
  type: list
  elements: str
  returned: success
"""

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.debian_packages import missing_packages
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import (
    ENGINES,
    Client,
    ServerError,
    pairs,
    replication,
    sentinel_names,
)
from ansible_collections.celeryops.stack.plugins.module_utils.text_files import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds between two questions.
PAUSE = 0.5


def login(state: str, master: str) -> dict[str, str]:
    """Return as whom a Sentinel logs in to its servers, by its state (lines of ``sentinel auth-user NAME VALUE``)."""
    found = {}
    for line in state.splitlines():
        words = line.split(" ", 3)
        if len(words) == 4 and words[0] == "sentinel" and words[1] in ("auth-user", "auth-pass") and words[2] == master:
            found[words[1]] = words[3].strip().strip('"')
    return found


class Watching:
    """Asks one Sentinel, and those that it depends on."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.names = sentinel_names(self.params["engine"])
        self.master = self.params["master_name"]

    def found(self) -> None:
        """Only look; ends the module."""
        known = self._told()
        self.module.exit_json(
            changed=False,
            missing_packages=missing_packages(self.names["packages"]),
            primary=_place(known) if known else self._primary(),
            pending=[] if known is None else list(self._differing(known)),
        )

    def watched(self) -> None:
        """Tell the Sentinel what differs, and wait for it; ends the module."""
        if self.module.check_mode:
            known = self._told()
            pending = [] if known is None else list(self._differing(known))
            self.module.exit_json(changed=bool(pending), pending=pending, primary=_place(known) if known else {})
        deadline = time.monotonic() + self.params["timeout"]
        told: dict[str, str] = {}
        while True:
            known = self._told()
            if known:
                differing = self._differing(known)
                told.update(differing)
                if differing:
                    self._set(differing)
                elif int(known.get("num-other-sentinels", 0)) >= len(self.params["others"]) and _healthy(known):
                    self.module.exit_json(changed=bool(told), pending=list(told), primary=_place(known))
            if time.monotonic() > deadline:
                self.module.fail_json(msg=f"{self.names['title']} does not watch the servers yet: {self._why(known)}")
            time.sleep(PAUSE)

    def _why(self, known: Mapping[str, str] | None) -> str:
        if known is None:
            return f"it does not answer {self.params['username']} at {self.params['api']['host']}"
        if not known:
            return f"it does not know {self.master}; without {self.names['state']} it would be told anew"
        others, flags = known.get("num-other-sentinels"), known.get("flags")
        return f"it knows {others} of {len(self.params['others'])} other Sentinels, and the primary is: {flags}"

    def _client(self, place: Mapping[str, Any]) -> Client:
        client = Client((str(place["host"]), int(place["port"])), timeout=5)
        try:
            client.call("AUTH", self.params["username"], self.params["password"])
        except (OSError, ServerError):
            with client:
                raise
        return client

    def _told(self) -> dict[str, str] | None:
        """Return what the Sentinel says of its servers; empty where it knows none, None while it does not say."""
        try:
            with self._client(self.params["api"]) as client:
                return pairs(client.call("SENTINEL", "MASTER", self.master))
        except ServerError as error:
            return {} if "No such master" in str(error) else None
        except OSError:
            return None

    def _differing(self, known: Mapping[str, str]) -> dict[str, str]:
        """Return the settings that differ, with their values."""
        if not known:
            return {}
        wanted = {"quorum": self.params["quorum"], **self.params["settings"]}
        differing = {name: str(value) for name, value in wanted.items() if known.get(name) != str(value)}
        account = {"auth-user": self.params["server_username"], "auth-pass": self.params["server_password"]}
        # It does not tell as whom it logs in.
        given = login(text_of(self.names["state"]), self.master)
        return {**differing, **{name: value for name, value in account.items() if given.get(name) != value}}

    def _set(self, settings: Mapping[str, str]) -> None:
        try:
            with self._client(self.params["api"]) as client:
                for name, value in settings.items():
                    client.call("SENTINEL", "SET", self.master, name, value)
        except (OSError, ServerError) as error:
            self.module.fail_json(msg=f"{self.names['title']} keeps its settings as they were: {error}")

    def _primary(self) -> dict[str, Any]:
        """Return the primary for a Sentinel that knows none: what the others say, else what the servers say."""
        for place in self.params["others"]:
            with contextlib.suppress(OSError, ServerError), self._client(place) as client:
                answer = client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master)
                if answer:
                    return {"host": str(answer[0]), "port": int(answer[1])}
        primaries = []
        for place in self.params["servers"]:
            with contextlib.suppress(OSError, ServerError), Client((place["host"], int(place["port"])), 5) as client:
                client.call("AUTH", self.params["server_username"], self.params["server_password"])
                said = replication(client.call("INFO", "replication"))
                if said["role"] == "primary":
                    primaries.append((said["followers"], place))
        if primaries:
            # One that comes back from a failure is a primary for some seconds, and nobody follows it.
            return dict(max(primaries, key=lambda one: one[0])[1])
        if not self.module.check_mode:
            names = ", ".join(f"{place['host']}:{place['port']}" for place in self.params["servers"])
            self.module.fail_json(
                msg=f"none of the servers says to {self.params['server_username']} that it is the primary: {names}. "
                "Run the role redis for them first"
            )
        # Nothing runs yet.
        return dict(next(iter(self.params["servers"]), {}))


def _place(known: Mapping[str, str]) -> dict[str, Any]:
    return {"host": known["ip"], "port": int(known["port"])}


def _healthy(known: Mapping[str, str]) -> bool:
    """Whether the primary answers, or another is being chosen: that is Sentinel's to do."""
    flags = set(known.get("flags", "").split(","))
    return "failover_in_progress" in flags or not flags & {"s_down", "o_down", "disconnected"}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["found", "watched"], "required": True},
            "engine": {"type": "str", "choices": list(ENGINES), "required": True},
            "api": {"type": "dict", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "master_name": {"type": "str", "required": True},
            "quorum": {"type": "int", "required": True},
            "settings": {"type": "dict", "default": {}},
            "others": {"type": "list", "elements": "dict", "default": []},
            "servers": {"type": "list", "elements": "dict", "default": []},
            "server_username": {"type": "str", "required": True},
            "server_password": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    getattr(Watching(module), module.params["state"])()


if __name__ == "__main__":
    main()
