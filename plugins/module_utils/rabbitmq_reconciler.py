# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconciles a RabbitMQ server with the declared definitions. Runs on managed hosts.

What differs is decided in ``rabbitmq_objects``; what queues and virtual hosts hold is asked as ``rabbitmq_contents``
says.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_api import (
    Api,
    RefusedError,
    UnreachableError,
    deletions,
    path_of,
    reason_of,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_contents import (
    Contents,
    command,
    look_at,
    parse,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_differences import (
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
    topology,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_password import DEFAULT_ALGORITHM, hash_password
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import MASK

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

#: How many queues and virtual hosts one call of rabbitmqctl is asked about: a word of a command line has at most
#: 128 KiB (execve(2), MAX_ARG_STRLEN), and a name at most 255 bytes, each written as up to four signs.
AT_ONCE = 50


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
        flags = [] if offline else self._disabled_flags()
        if not offline:
            self._look_at_open_files()
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
        self._enable(flags)
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
            changed=bool(self.changes),
            changes=self.changes,
            diff=self._diff(comparison, parameters, going, flags),
            topology={} if self.changes else topology(present),
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

    def _look_at_open_files(self) -> None:
        """Warn of a node that may open fewer files than its clients need; nothing is known of one that does not say."""
        needed: int = self.params["open_files"]
        if not needed:
            return
        status, nodes = self.api.call("GET", "nodes?columns=name,fd_total")
        for node in nodes if status == 200 and isinstance(nodes, list) else []:
            limit = node.get("fd_total")
            if isinstance(limit, int) and 0 < limit < needed:
                self.module.warn(
                    f"rabbitmq_open_files: {node.get('name')} may open {limit} files, and its clients need {needed}; "
                    "if the variable says more, the hard limit of systemd's own process is lower: raise that of the "
                    "container or of the machine (DefaultLimitNOFILE= in /etc/systemd/system.conf), and restart it"
                )

    def _disabled_flags(self) -> list[str]:
        """Return the stable feature flags that all nodes have and that are disabled, as after an upgrade.

        RabbitMQ wants them enabled after each upgrade, and the next one fails without ("Feature Flags"). An
        experimental one is the user's affair. RabbitMQ enables none while a node of the cluster does not run.
        """
        status, flags = self.api.call("GET", "feature-flags")
        disabled = [
            str(flag["name"])
            for flag in (flags if status == 200 and isinstance(flags, list) else [])
            if flag.get("state") == "disabled" and flag.get("stability") == "stable"
        ]
        if disabled:
            status, nodes = self.api.call("GET", "nodes?columns=name,running")
            if status != 200 or not all(node.get("running") for node in nodes):
                return []
        return disabled

    def _enable(self, flags: list[str]) -> None:
        for name in flags:
            self.changes.append(f"enable feature flag {name}")
            if self.module.check_mode:
                continue
            status, answer = self.api.call("PUT", f"feature-flags/{path_of(name)}/enable", {"name": name})
            if status not in (200, 204):
                self.module.fail_json(
                    msg=f"the server does not enable feature flag {name}: {reason_of(answer)}", status=status
                )

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
            status, queue = self.api.call("GET", f"queues/{path_of(*key)}")
            return status == 200 and bool(queue.get("messages") or queue.get("consumers"))
        if kind == "vhosts":
            connections = self.api.call("GET", f"vhosts/{path_of(*key)}/connections")[1]
            status, queues = self.api.call("GET", f"queues/{path_of(*key)}")
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
            self._delete(f"user-limits/{path_of(user, limit)}", f"limit {limit} of user {user}")

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
            for path in deletions(self.api, kind, key, careful=careful):
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
            self.module.fail_json(msg=f"the server refuses the definitions: {reason_of(answer)}", status=status)

    def _delete(self, path: str, name: str, *, careful: bool = False) -> bool:
        """Remove an object, and tell whether it is gone; a ``careful`` removal may find that it is in use."""
        status, answer = self.api.call("DELETE", path)
        if careful and status == 400:
            return False
        if status not in (200, 204, 404):
            self.module.fail_json(msg=f"the server does not remove {name}: {reason_of(answer)}", status=status)
        return True

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
        self,
        comparison: Comparison,
        parameters: list[dict[str, Any]],
        going: list[tuple[str, Key]],
        flags: list[str],
    ) -> dict[str, str]:
        before: dict[str, Any] = {f"feature flag {name}": "disabled" for name in flags}
        after: dict[str, Any] = {f"feature flag {name}": "enabled" for name in flags}
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


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    differing = [name for name in after if before.get(name) != after[name]]
    return ", ".join(
        f"{name} {json.dumps(before.get(name))} where {json.dumps(after[name])} is declared" for name in differing
    )
