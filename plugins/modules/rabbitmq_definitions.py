#!/usr/bin/python
# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_definitions
short_description: Make the objects inside a RabbitMQ server what one document declares
version_added: 0.1.0
description:
  - Compares a definitions document with what the server has, in one HTTP request, and imports only what differs.
  - Removes what an earlier run declared and this one no longer does. What it once declared is recorded in the server
    itself, as a global parameter, so that it is known on every node and after a reinstallation of the control machine.
  - Passwords are checked against the salted hash that the server stores. They appear in no output, no diff and no
    command line.
  - When the server refuses the login (the user was deleted, or its password changed by hand), that one user is repaired
    through C(rabbitmqctl), which reads it from a file that only the server's user can read.
options:
  definitions:
    description:
      - The document, in the format of RabbitMQ's own definitions, with the kinds C(vhosts), C(users), C(permissions),
        C(topic_permissions), C(parameters), C(global_parameters), C(policies), C(exchanges), C(queues), C(bindings).
      - Users carry neither a password nor a hash here.
    type: dict
    required: true
  passwords:
    description: The password of every user, by name.
    type: dict
    default: {}
  password_hashes:
    description: The password hash of every user that has none in O(passwords), by name.
    type: dict
    default: {}
  owner:
    description: Whose objects these are; another owner's objects on the same server are left alone.
    type: str
    default: celeryops
  prune:
    description:
      - Kinds of which every object that no owner declares is removed, whoever made it.
      - Queues, exchanges and bindings are removed from declared virtual hosts only. A queue goes when it is proven that
        it has neither messages nor consumers, a virtual host when none of its queues has any and nobody is connected to
        it; else a warning says so. The queues themselves are asked, since the server's statistics are late, and empty
        after a start; one that does not answer stays.
    type: list
    elements: str
    choices: [vhosts, users, permissions, topic_permissions, parameters, policies, exchanges, queues, bindings]
    default: []
  found:
    description:
      - What the server held before the first run, as M(celeryops.stack.files) tells. The server remembers it with the
        first record of O(owner), and no virtual host and no queue of it is ever removed unless its kind is in O(prune),
        even after it was declared and is no more.
    type: dict
    default: {}
  api_host:
    description: Address of the management API.
    type: str
    default: 127.0.0.1
  api_port:
    description: Port of the management API.
    type: int
    default: 15672
  login_user:
    description: An administrator; it is never removed.
    type: str
    required: true
  login_password:
    description: The administrator's password.
    type: str
    required: true
  state_dir:
    description: The server's own directory, where the file for such a repair is put for a moment.
    type: path
    default: /var/lib/rabbitmq
  timeout:
    description: For how many seconds to wait for a server that does not answer yet.
    type: int
    default: 60
attributes:
  check_mode:
    description: Says what would be done; a server that is not there yet counts as empty.
    support: full
  diff_mode:
    description: Shows the objects that differ, without passwords.
    support: full
author: celeryops.stack contributors
"""

EXAMPLES = r"""
- name: Declare a virtual host with its user
  celeryops.stack.rabbitmq_definitions:
    login_user: admin
    login_password: "{{ rabbitmq_admin_password }}"
    definitions:
      vhosts: [{name: shop}]
      users: [{name: shop, tags: []}]
      permissions: [{vhost: shop, user: shop, configure: ".*", write: ".*", read: ".*"}]
    passwords:
      shop: "{{ shop_password }}"
"""

RETURN = r"""
changes:
  description: What was done, or would be in check mode, in words.
  type: list
  elements: str
  returned: success
  sample: ["create user shop", "update policy shop/limits", "remove queue shop/old"]
"""

import base64
import http.client
import json
import os
import tempfile
import time
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_contents import (
    Contents,
    command,
    look_at,
    parse,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_objects import (
    KEYS,
    Change,
    Comparison,
    Credentials,
    Key,
    compare,
    exchange_in_use,
    found_record,
    global_parameters,
    holds_delayed,
    label,
    leftovers,
    record_name,
    record_of,
    redact,
    stored_record,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_password import DEFAULT_ALGORITHM, hash_password
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import MASK


class RefusedError(Exception):
    """The server does not accept the login."""


class UnreachableError(Exception):
    """Nothing answers at the address."""


#: How many queues and virtual hosts one call of rabbitmqctl is asked about: a word of a command line has at most
#: 128 KiB (execve(2), MAX_ARG_STRLEN), and a name at most 255 bytes, each written as up to four signs.
AT_ONCE = 50


class Api:
    """The management API; never through a proxy.

    Each call has a connection of its own: the server ends one on which nothing came for five seconds (cowboy,
    request_timeout), and rabbitmqctl, which is asked in between, takes longer than that on a busy host.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        credentials = f"{params['login_user']}:{params['login_password']}".encode()
        self.headers = {
            "Authorization": "Basic " + base64.b64encode(credentials).decode("ascii"),
            "Content-Type": "application/json",
        }
        self.address = f"{params['api_host']}:{params['api_port']}"
        self.connection = http.client.HTTPConnection(params["api_host"], params["api_port"], timeout=60)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the status and the decoded answer of a request."""
        data = None if body is None else json.dumps(body).encode("utf-8")
        try:
            self.connection.request(method, "/api/" + path, body=data, headers=self.headers)
            response = self.connection.getresponse()
            text = response.read().decode("utf-8", errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.address}: {error}") from error
        finally:
            # The next request opens it anew.
            self.connection.close()
        if response.status == 401:
            raise RefusedError(text)
        try:
            return response.status, json.loads(text) if text else None
        except ValueError:
            return response.status, text


class Reconciler:
    """Brings a server to the declared state."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.api = Api(self.params)
        self.wanted: dict[str, Any] = {
            kind: list(self.params["definitions"].get(kind) or []) for kind in (*KEYS, "global_parameters")
        }
        self.credentials = Credentials(self.params["passwords"], self.params["password_hashes"])
        self.owner: str = self.params["owner"]
        self.changes: list[str] = []
        self.refused: list[tuple[str, Key]] = []
        #: Asked for once, when a user is to go.
        self.connections: list[dict[str, Any]] | None = None

    def run(self) -> None:
        """Compare, and unless in check mode, act; ends the module."""
        self._check_document()
        present, offline = self._read()
        comparison = compare(self.wanted, present, self.credentials)
        if comparison.conflicts:
            self._fail_conflicts(comparison.conflicts)
        going = self._removable(present, offline)
        if self.params["found"].get("text") and stored_record(present, self.owner) is None and not offline:
            before = parse(self.params["found"]["text"])
            self.wanted["global_parameters"].append(found_record(before.queues, before.connections))
        parameters = global_parameters(self.wanted, present)
        # Until the removals are done the record names both, so that an aborted run forgets nothing.
        record = record_of(self.wanted, self.refused)
        new_record = stored_record(present, self.owner) != record
        self.changes += [f"{change.action} {label(change.kind, change.key)}" for change in comparison.changes]
        self.changes += [f"set global parameter {entry['name']}" for entry in parameters]
        if new_record and not self.changes and not going:
            self.changes.append("record what is declared")
        if (self.changes or going) and not self.module.check_mode:
            self._apply(comparison, parameters, record_of(self.wanted, [*self.refused, *going]))
            if going:
                going = self._remove(going, present)
                self._finish(going)
            self._verify()
        self.changes += [f"remove {label(kind, key)}" for kind, key in going]
        for kind, key in self.refused:
            self.module.warn(
                f"{label(kind, key)} is no longer declared but still in use, so it stays; "
                "it goes with a later run once it holds no message and nobody uses it"
            )
        self.module.exit_json(
            changed=bool(self.changes), changes=self.changes, diff=self._diff(comparison, parameters, going)
        )

    def _check_document(self) -> None:
        unknown = sorted(set(self.params["definitions"]) - set(self.wanted))
        if unknown:
            self.module.fail_json(msg=f"definitions: {', '.join(unknown)} is no kind that this module knows")
        nameless = [
            entry["name"]
            for entry in self.wanted["users"]
            if entry["name"] not in self.credentials.passwords and entry["name"] not in self.credentials.hashes
        ]
        if nameless:
            self.module.fail_json(msg=f"no password and no hash was given for: {', '.join(nameless)}")

    def _read(self) -> tuple[dict[str, Any], bool]:
        """Return the server's definitions, and whether its API could not be asked."""
        deadline = time.monotonic() + self.params["timeout"]
        while True:
            try:
                return self._definitions(), False
            except RefusedError:
                self.changes.append(f"repair the login of user {self.params['login_user']}")
                if self.module.check_mode:
                    return self._export(), True
                self._repair_login()
                try:
                    return self._definitions(), False
                except (RefusedError, UnreachableError) as error:
                    self.module.fail_json(msg=f"the server refuses user {self.params['login_user']}: {error}")
            except UnreachableError as error:
                if self.module.check_mode:
                    return {}, True
                if time.monotonic() > deadline:
                    self.module.fail_json(msg=f"RabbitMQ's management API does not answer at {error}")
                time.sleep(1)

    def _definitions(self) -> dict[str, Any]:
        status, answer = self.api.call("GET", "definitions")
        if status != 200 or not isinstance(answer, dict):
            raise UnreachableError(f"{self.api.address}: status {status}")
        return answer

    def _repair_login(self) -> None:
        """Import the administrator alone, through the command line tool, which needs no login."""
        name = self.params["login_user"]
        user = {
            "name": name,
            "password_hash": hash_password(self.params["login_password"]),
            "hashing_algorithm": DEFAULT_ALGORITHM,
            "tags": ["administrator"],
        }
        # Not from standard input, for which the tool of RabbitMQ 4.0 waits for ever. It runs as the server's own user,
        # who may look into that directory.
        handle, path = tempfile.mkstemp(prefix=".celeryops-", suffix=".json", dir=self.params["state_dir"])
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({"users": [user]}, stream)
            owner = os.stat(self.params["state_dir"])
            os.chown(path, owner.st_uid, owner.st_gid)
            command = ["rabbitmqctl", "--timeout", "60", "import_definitions", path]
            code, output, errors = self.module.run_command(command)
        finally:
            os.unlink(path)
        if code != 0:
            said = (errors or output).replace(user["password_hash"], MASK).strip()
            self.module.fail_json(msg=f"the server refuses user {name}, and it could not be repaired: {said}", rc=code)

    def _export(self) -> dict[str, Any]:
        """Return the definitions by way of the command line tool, which needs no login."""
        code, output, errors = self.module.run_command(
            ["rabbitmqctl", "--silent", "--timeout", "60", "export_definitions", "-"]
        )
        start = output.find("{")
        if code != 0 or start < 0:
            self.module.fail_json(msg=f"rabbitmqctl export_definitions failed: {errors.strip()}", rc=code)
        exported: dict[str, Any] = json.loads(output[start:])
        return exported

    def _removable(self, present: dict[str, Any], offline: bool) -> list[tuple[str, Key]]:
        """Return what has to go and can; what cannot yet is remembered as refused."""
        declared_vhosts = {entry["name"] for entry in self.wanted["vhosts"]}
        mine = stored_record(present, self.owner) or {}
        candidates = []
        for kind, key in leftovers(
            self.wanted, present, self.owner, self.params["prune"], keep_users=[self.params["login_user"]]
        ):
            foreign = list(key) not in mine.get(kind, [])
            if kind in ("exchanges", "queues", "bindings") and foreign and key[0] not in declared_vhosts:
                continue
            candidates.append((kind, key))
        going = []
        for kind, key in candidates:
            if not offline and self._in_use(kind, key, present, candidates):
                self.refused.append((kind, key))
            else:
                going.append((kind, key))
        return going if offline else self._proven(going)

    def _in_use(self, kind: str, key: Key, present: dict[str, Any], going: list[tuple[str, Key]]) -> bool:
        """Tell whether the server's statistics, which cost nothing, show that somebody would miss an object."""
        if holds_delayed(kind, key, present):
            return True
        if kind == "exchanges":
            return exchange_in_use(key, present, going)
        if kind == "queues":
            status, queue = self.api.call("GET", f"queues/{_path(*key)}")
            return status == 200 and bool(queue.get("messages") or queue.get("consumers"))
        if kind == "vhosts":
            connections = self.api.call("GET", f"vhosts/{_path(*key)}/connections")[1]
            status, queues = self.api.call("GET", f"queues/{_path(*key)}")
            return bool(connections) or status != 200 or any(queue.get("messages") for queue in queues)
        if kind == "users":
            # Its permissions are no leftovers of their own: they stay with it.
            return self._connected(key[0])
        return False

    def _connected(self, user: str) -> bool:
        """Whether somebody is connected as a user, or may be: a connection that has just begun has no user yet."""
        if self.connections is None:
            status, connections = self.api.call("GET", "connections?columns=user")
            self.connections = connections if status == 200 and isinstance(connections, list) else [{}]
        return any(connection.get("user", user) == user for connection in self.connections)

    def _proven(self, going: list[tuple[str, Key]]) -> list[tuple[str, Key]]:
        """Return what may go after all that holds messages was asked itself; the rest is remembered as refused."""
        queues = [(key[0], key[1]) for kind, key in going if kind == "queues"]
        vhosts = [key[0] for kind, key in going if kind == "vhosts"]
        contents = self._contents(queues, vhosts)
        proven: list[tuple[str, Key]] = []
        for kind, key in going:
            holds = (kind == "queues" and not contents.idle_queue((key[0], key[1]))) or (
                kind == "vhosts" and not contents.idle_vhost(key[0])
            )
            (self.refused if holds else proven).append((kind, key))
        return proven

    def _contents(self, queues: list[tuple[str, str]], vhosts: list[str]) -> Contents:
        """Return what queues and virtual hosts hold now; of a server that does not answer, nothing is known."""
        output = ""
        for start in range(0, max(len(queues), len(vhosts)), AT_ONCE):
            program = look_at(queues[start : start + AT_ONCE], vhosts[start : start + AT_ONCE])
            output += self.module.run_command(command(program))[1] + "\n"
        return parse(output)

    def _apply(
        self,
        comparison: Comparison,
        parameters: list[dict[str, Any]],
        record: dict[str, Any],
    ) -> None:
        document: dict[str, Any] = dict(comparison.document)
        document["global_parameters"] = [*parameters, {"name": record_name(self.owner), "value": record}]
        self._post(document)
        for user, limit in comparison.stray_limits:
            self._delete(f"user-limits/{_path(user, limit)}", f"limit {limit} of user {user}")

    def _remove(self, going: list[tuple[str, Key]], present: dict[str, Any]) -> list[tuple[str, Key]]:
        """Remove what may go, and return what is gone: somebody may have begun to use it since the first look."""
        classic = {
            (entry["vhost"], entry["name"])
            for entry in present.get("queues", [])
            if (entry.get("arguments") or {}).get("x-queue-type", "classic") == "classic"
        }
        gone = []
        for kind, key in self._proven(going):
            # What is used by now the server itself refuses to remove, where it can: not of quorum queues and streams.
            careful = kind == "exchanges" or (kind == "queues" and key in classic)
            done = True
            for path in self._paths(kind, key, careful=careful):
                done = self._delete(path, label(kind, key), careful=careful) and done
            if done:
                gone.append((kind, key))
            else:
                self.refused.append((kind, key))
        return gone

    def _finish(self, gone: list[tuple[str, Key]]) -> None:
        """Store the record without what is gone by now."""
        record = record_of(self.wanted, self.refused)
        document: dict[str, Any] = {"global_parameters": [{"name": record_name(self.owner), "value": record}]}
        if any(kind == "topic_permissions" for kind, _key in gone):
            # The API removes a user's topic permissions for all exchanges of a virtual host at once.
            document["topic_permissions"] = self.wanted["topic_permissions"]
        self._post(document)

    def _post(self, document: dict[str, Any]) -> None:
        status, answer = self.api.call("POST", "definitions", document)
        if status not in (200, 201, 204):
            self.module.fail_json(msg=f"the server refuses the definitions: {_reason(answer)}", status=status)

    def _delete(self, path: str, name: str, *, careful: bool = False) -> bool:
        """Remove an object, and tell whether it is gone; a ``careful`` removal may find that it is in use."""
        status, answer = self.api.call("DELETE", path)
        if careful and status == 400:
            return False
        if status not in (200, 204, 404):
            self.module.fail_json(msg=f"the server does not remove {name}: {_reason(answer)}", status=status)
        return True

    def _paths(self, kind: str, key: Key, *, careful: bool) -> list[str]:
        """Return what to delete in the API for an object."""
        if kind == "permissions" or kind == "topic_permissions":
            return [f"{kind.replace('_', '-')}/{_path(*key[:2])}"]
        if kind == "queues":
            # Quorum queues and streams refuse these conditions (seen on RabbitMQ 3.10.8 and 4.0.5).
            return [f"queues/{_path(*key)}" + ("?if-empty=true&if-unused=true" if careful else "")]
        if kind == "exchanges":
            return [f"exchanges/{_path(*key)}?if-unused=true"]
        if kind == "bindings":
            return self._binding_paths(key)
        if kind == "parameters":
            vhost, component, name = key
            if component == "operator_policy":
                return [f"operator-policies/{_path(vhost, name)}"]
            if component == "vhost-limits":
                return [f"vhost-limits/{_path(vhost, limit)}" for limit in ("max-connections", "max-queues")]
            return [f"parameters/{_path(component, vhost, name)}"]
        return [f"{kind}/{_path(*key)}"]

    def _binding_paths(self, key: Key) -> list[str]:
        vhost, source, destination_type, destination, routing_key, arguments = key
        letter = "q" if destination_type == "queue" else "e"
        base = f"bindings/{_path(vhost)}/e/{_path(source)}/{letter}/{_path(destination)}"
        status, bindings = self.api.call("GET", base)
        if status != 200:
            return []
        return [
            f"{base}/{_path(binding['properties_key'])}"
            for binding in bindings
            if binding["routing_key"] == routing_key and binding["arguments"] == json.loads(arguments)
        ]

    def _verify(self) -> None:
        """Fail when the server took the import and still differs: what it cannot do, it ignores silently."""
        try:
            present = self._definitions()
        except UnreachableError as error:
            self.module.fail_json(msg=f"RabbitMQ's management API stopped answering: {error}")
        left = compare(self.wanted, present, self.credentials)
        wrong = [label(change.kind, change.key) for change in (*left.changes, *left.conflicts)]
        if wrong:
            self.module.fail_json(
                msg=f"the server took the definitions without a complaint, but these still differ: {', '.join(wrong)}"
            )

    def _fail_conflicts(self, conflicts: list[Change]) -> None:
        lines = [
            f"{label(change.kind, change.key)}: the server has {_difference(change.before or {}, change.after)}"
            for change in conflicts
        ]
        self.module.fail_json(
            msg="RabbitMQ cannot alter a queue or an exchange that exists. Declare it as it is, or give the new one "
            "another name, or empty and delete the old one first. Nothing was changed.\n" + "\n".join(lines)
        )

    def _diff(
        self, comparison: Comparison, parameters: list[dict[str, Any]], going: list[tuple[str, Key]]
    ) -> dict[str, str]:
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for change in comparison.changes:
            name = label(change.kind, change.key)
            after[name] = change.after
            if change.before is not None:
                before[name] = change.before
        for entry in parameters:
            after[f"global parameter {entry['name']}"] = redact(entry["value"])
        for kind, key in going:
            before[label(kind, key)] = "present"
        return {"before": _text(before), "after": _text(after), "before_header": "server", "after_header": "declared"}


def _text(states: dict[str, Any]) -> str:
    return json.dumps(states, indent=2, sort_keys=True) + "\n" if states else ""


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _reason(answer: Any) -> str:
    return str(redact(answer.get("reason", answer) if isinstance(answer, dict) else answer))


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    differing = [name for name in after if before.get(name) != after[name]]
    return ", ".join(
        f"{name} {json.dumps(before.get(name))} where {json.dumps(after[name])} is declared" for name in differing
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "definitions": {"type": "dict", "required": True},
            "passwords": {"type": "dict", "default": {}, "no_log": True},
            "password_hashes": {"type": "dict", "default": {}, "no_log": True},
            "owner": {"type": "str", "default": "celeryops"},
            "prune": {"type": "list", "elements": "str", "default": [], "choices": list(KEYS)},
            "found": {"type": "dict", "default": {}},
            "api_host": {"type": "str", "default": "127.0.0.1"},
            "api_port": {"type": "int", "default": 15672},
            "login_user": {"type": "str", "required": True},
            "login_password": {"type": "str", "required": True, "no_log": True},
            "state_dir": {"type": "path", "default": "/var/lib/rabbitmq"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    Reconciler(module).run()


if __name__ == "__main__":
    main()
