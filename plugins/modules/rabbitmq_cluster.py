#!/usr/bin/python
# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_cluster
short_description: Bring a RabbitMQ cluster to a state, and wait for it
version_added: 0.1.0
description:
  - Asks the management API of one node, which answers for the whole cluster.
  - With V(complete), every quorum queue gets a member on each node, and if any was missing, the leaders are
    distributed anew.
extends_documentation_fragment: [celeryops.stack.attributes, celeryops.stack.rabbitmq_api]
options:
  state:
    description:
      - V(reachable) waits until this host resolves the names of the other O(nodes), and reaches their port mappers and,
        of those that run, their distribution. It asks nobody else.
      - V(up) waits until exactly O(nodes) are members, all of them run, and none is partitioned from another. A
        node that is alone instead, although it was started for this cluster, is stopped, so that there are
        never two brokers. If it holds no message and serves no client, its data are put aside below
        C(/var/lib/rabbitmq/celeryops-aside), so that it can be started again as a blank node.
      - V(asked) waits for nothing and fails for nothing, and returns what V(up) would wait for as RV(faults).
      - V(complete) does as V(up), and then adds the missing members of quorum queues.
      - V(expendable) waits until no queue loses its quorum if this node stops.
      - V(drained) has the workers of Celery that are connected to this node leave it, and waits until they have, or the
        time is up. They finish the tasks that run, and go on at another node, or at this one once it was restarted, so
        that no task runs again. It never fails for a worker that stays, such as one without the collection's runtime.
      - V(balanced) distributes the leaders of the queues over the nodes.
      - V(leaving) has the quorum queues and streams leave the member O(leaving), if it runs. Before, it fails if the
        rest would not be a whole cluster, or if messages would be lost.
      - V(stopped) stops RabbitMQ in this node, and leaves its Erlang node running (C(rabbitmqctl stop_app)). The last
        but one member leaves so. If its Erlang node ended, the other would be a minority of two, which pauses (3.10 and
        4.0) or cannot change the members (4.3).
      - V(aside) moves the data of this node, which must not run, below C(/var/lib/rabbitmq/celeryops-aside). It asks
        nobody.
      - V(forgotten) has the cluster forget the member O(leaving), which must not run, and waits until no queue has a
        member there.
    type: str
    choices: [reachable, up, asked, complete, expendable, drained, balanced, leaving, stopped, aside, forgotten]
    required: true
  nodes:
    description: Names of all nodes of the cluster. Required for V(reachable), V(up), V(asked) and V(complete).
    type: list
    elements: str
    default: []
  addresses:
    description: Node -> the address of its host, where its name does not say it. Used by V(reachable).
    type: dict
    default: {}
  node:
    description: Name of the node that is asked.
    type: str
    required: true
  absent:
    description:
      - Those of O(nodes) that may be down. With V(up) they need not run, and with V(complete) they get no members; a
        later call without them adds these.
      - If there are any, V(expendable) does not wait and does not fail, but answers at once in RV(expendable).
    type: list
    elements: str
    default: []
  leaving:
    description: A member, by its name or by that of its host. Required for V(leaving) and V(forgotten).
    type: str
    default: ""
  without:
    description: Members that V(up) and V(asked) leave out, because they are gone.
    type: list
    elements: str
    default: []
  service_active:
    description: Whether the service of O(leaving) is active, whether RabbitMQ runs in its Erlang node or not.
    type: bool
    default: false
  lose_messages:
    description: Whether a member may leave although messages are lost with it.
    type: bool
    default: false
  blank:
    description: Whether this node was started without data, so that nothing is lost if it is stopped.
    type: bool
    default: false
  timeout:
    description: How many seconds to wait.
    type: int
    default: 180
attributes:
  check_mode: {details: It waits for nothing and reports what it would do.}
  diff_mode: {support: none}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Have a member of each queue on each node
  celeryops.stack.rabbitmq_cluster:
    state: complete
    node: rabbit@mq1
    nodes: [rabbit@mq1, rabbit@mq2, rabbit@mq3]
    login_user: admin
    login_password: "{{ rabbitmq_admin_password }}"
"""

RETURN = r"""
added:
  description: Node -> the number of quorum queues that got a member on it, or would in check mode.
  type: dict
  returned: success
expendable:
  description: Whether no queue loses its quorum if this node stops.
  type: bool
  returned: success, with O(state=expendable)
left:
  description: How many connections of workers to this node have ended.
  type: int
  returned: for V(drained)
leaving:
  description: The member, with its name as C(name), whether it is C(alive), and the C(rest) of the members.
  type: dict
  returned: for V(leaving)
faults:
  description: What is wrong with the cluster.
  type: list
  elements: str
  returned: for V(asked)
place:
  description: Where the data are now, or would be; empty if there were none.
  type: str
  returned: for V(aside)
"""

import contextlib
import json
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_api import (
    OPTIONS,
    Api,
    RefusedError,
    UnreachableError,
    path_of,
    reason_of,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_cluster import (
    CONSUMER_COLUMNS,
    CONTROL_EXCHANGE,
    QUEUE_COLUMNS,
    alone,
    cannot_leave,
    consuming_on,
    kept_only_on,
    leave_command,
    member_called,
    members_on,
    missing_members,
    node_faults,
    offline_members,
    streams_without,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_contents import (
    command,
    look_at,
    look_at_all,
    parse,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_found import found
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_peers import why_not_reached
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_store import ASIDE, put_aside
from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of

#: The states of a run on hosts that may have nothing yet.
ON_THE_WAY = ("up", "complete", "expendable", "drained", "balanced")
#: Seconds between two questions.
PAUSE = 1.0
#: After so many seconds a worker that still consumes does not know what it was asked.
OBEY = 5
#: For how many seconds a node that started blank may be alone before it is a broker of its own: on RabbitMQ 3.10 the
#: first node of every healthy first boot is alone until the others have joined (18 to 23 s, measured).
ALONE = 90
UNIT = "rabbitmq-server.service"
#: Prints the directory of the node, and that of its quorum queues.
WHERE = 'io:format("~ts~n~ts~n", [rabbit_mnesia:dir(), ra_env:data_dir()]).'
#: Adds a member of every quorum queue on a node, where the API cannot (RabbitMQ 3.10 answers 405).
GROW = ("/usr/sbin/rabbitmq-queues", "--quiet", "grow")
SHRINK = ("/usr/sbin/rabbitmq-queues", "--quiet", "shrink")
STOP_APP = ("/usr/sbin/rabbitmqctl", "--quiet", "stop_app")
FORGET = ("/usr/sbin/rabbitmqctl", "--quiet", "forget_cluster_node")


class Cluster:
    """Asks one node, and changes what has to be changed."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.api = Api(self.params)
        self.deadline = time.monotonic() + self.params["timeout"]

    def run(self) -> None:
        """Reach the state; ends the module."""
        state = self.params["state"]
        if state in ON_THE_WAY and self.module.check_mode and not self._answers():
            # Nothing is there yet to be asked.
            self.module.exit_json(changed=False, added={})
        outcome: dict[str, Any] = getattr(self, f"_{state}")()
        self.module.exit_json(**{"changed": False, "added": {}, **outcome})

    def _answers(self) -> bool:
        try:
            self.api.call("GET", "overview?columns=node")
        except (RefusedError, UnreachableError):
            return False
        return True

    def _reachable(self) -> dict[str, Any]:
        own, addresses = self.params["node"], self.params["addresses"]
        missed = dict.fromkeys((name for name in self.params["nodes"] if name != own), "")
        # Their port mappers may not be there yet.
        while not self.module.check_mode:
            missed = {name: why for name in missed if (why := why_not_reached(name, str(addresses.get(name) or "")))}
            if not missed:
                break
            if time.monotonic() > self.deadline:
                self.module.fail_json(
                    msg=f"{own} was not started, because it has no data yet and would not find its cluster: "
                    f"{'; '.join(missed.values())}. Open these ports between the hosts (4369 and 25672), or write "
                    "addresses that the hosts reach into rabbitmq_node_addresses, then run this again"
                )
            time.sleep(PAUSE)
        return {}

    def _up(self) -> dict[str, Any]:
        expected, started = self.params["nodes"], time.monotonic()
        while True:
            nodes, faults = self._faults(expected)
            if nodes is not None and not faults:
                return {}
            by_itself = self.params["blank"] and nodes is not None and alone(self.params["node"], nodes)
            if self.module.check_mode:
                return {}
            if (by_itself and time.monotonic() - started > ALONE) or time.monotonic() > self.deadline:
                self._not_up(faults, stop=by_itself)
            time.sleep(PAUSE)

    def _asked(self) -> dict[str, Any]:
        return {"faults": self._faults(self.params["nodes"])[1]}

    def _faults(self, expected: list[str]) -> tuple[Any, list[str]]:
        """Return the nodes, None when there is no answer, and what is wrong with them."""
        gone = self.params["without"]
        nodes = self._ask("nodes?columns=name,running,partitions")
        if nodes is None:
            return None, [f"the management API of {self.params['node']} does not answer"]
        there = [node for node in nodes if node["name"] not in gone]
        return nodes, node_faults([name for name in expected if name not in gone], there, self.params["absent"])

    def _not_up(self, faults: list[str], *, stop: bool) -> None:
        text = f"the cluster is not whole, as {self.params['node']} sees it: {'; '.join(faults)}"
        if stop:
            directory = self._nothing_in_it()
            self.module.run_command(["systemctl", "stop", "--", UNIT])
            text += (
                f". {self.params['node']} had no data and formed a cluster of its own. It was stopped, so that there "
                "are not two brokers"
            )
            if directory:
                text += (
                    f", and its data, which hold no message, were moved to {put_aside(directory)}. Run this again when "
                    "it reaches ports 4369 and 25672 of the others"
                )
            else:
                text += (
                    ". It may have got messages, so its data were kept: move them away if nothing in them is needed, "
                    "and run this again when it reaches ports 4369 and 25672 of the others"
                )
        self.module.fail_json(msg=text)

    def _nothing_in_it(self) -> str:
        """Return the directory of this node if it is proven that it holds no message and serves nobody."""
        code, output, _errors = self.module.run_command(command(look_at_all()))
        contents = parse(output)
        vhosts = contents.connections
        if code != 0 or not vhosts or not all(contents.idle_vhost(name) for name in vhosts):
            return ""
        code, output, _errors = self.module.run_command(command(WHERE))
        places = output.split("\n")
        # Queues that are kept elsewhere would be left behind.
        if code != 0 or len(places) < 2 or not places[1].startswith(places[0] + "/"):
            return ""
        return str(places[0])

    def _complete(self) -> dict[str, Any]:
        self._up()
        queues = self._queues()
        absent = self.params["absent"]
        expected = [name for name in self.params["nodes"] if name not in absent]
        missing = missing_members(expected, queues)
        added = {name: len(them) for name, them in missing.items()}
        if not missing or self.module.check_mode:
            return {"changed": bool(missing), "added": added}
        for name in missing:
            self._grow(name)
        # The numbers are some seconds old.
        while missing or offline_members(queues, absent):
            if time.monotonic() > self.deadline:
                still = missing.get(next(iter(missing), ""), []) or offline_members(queues, absent)
                self.module.fail_json(msg=f"these queues do not have a member on each node yet: {some_of(still, 5)}")
            time.sleep(PAUSE)
            queues = self._queues()
            missing = missing_members(expected, queues)
        self._rebalance()
        return {"changed": True, "added": added}

    def _grow(self, name: str) -> None:
        """Add a member of every quorum queue on a node."""
        everything = {"strategy": "all", "queue_pattern": ".*", "vhost_pattern": ".*"}
        status, answer = self._call("POST", f"queues/quorum/replicas/on/{name}/grow", everything)
        if status in (404, 405):
            code, output, errors = self.module.run_command([*GROW, name, "all"])
            if code != 0:
                self.module.fail_json(msg=f"the queues did not grow to {name}: {(errors or output).strip()}")
        elif status >= 300:
            self.module.fail_json(msg=f"the queues did not grow to {name}: {reason_of(answer)}")

    def _expendable(self) -> dict[str, Any]:
        while True:
            status, answer = self._call("GET", "health/checks/node-is-quorum-critical")
            if status == 200:
                return {"expendable": True}
            if self.module.check_mode:
                return {"expendable": not self.params["absent"]}
            if self.params["absent"] or time.monotonic() > self.deadline:
                queues = [str(queue.get("name")) for queue in (answer or {}).get("queues", [])]
                text = (
                    f"{self.params['node']} was not stopped, because these queues would lose their quorum: "
                    f"{some_of(queues, 5) if queues else reason_of(answer)}. Have all nodes run, then run this again"
                )
                if not self.params["absent"]:
                    self.module.fail_json(msg=text)
                self.module.warn(text)
                return {"expendable": False}
            time.sleep(PAUSE)

    def _drained(self) -> dict[str, Any]:
        before = self._consuming()
        if not before or self.module.check_mode:
            return {"left": 0}
        payload = json.dumps(leave_command(before, self.params["timeout"]))
        for vhost in sorted(set(before.values())):
            self._broadcast(vhost, payload)
        asked = time.monotonic()
        while True:
            time.sleep(PAUSE)
            staying = before.keys() & self._consuming().keys()
            leaving = (before.keys() - staying) & self._connections()
            obeyed = not staying or time.monotonic() - asked >= OBEY
            if (obeyed and not leaving) or time.monotonic() > self.deadline + OBEY:
                return {"left": len(before) - len(staying) - len(leaving)}

    def _consuming(self) -> dict[str, str]:
        """Return the connections to this node by which tasks are consumed, each with its virtual host."""
        return consuming_on(self.params["node"], self._ask(f"consumers?columns={CONSUMER_COLUMNS}") or [])

    def _connections(self) -> set[str]:
        return {str(one["name"]) for one in self._ask("connections?columns=name") or []}

    def _broadcast(self, vhost: str, payload: str) -> None:
        """Send a command to all workers of a virtual host; one without workers has no such exchange."""
        message = {
            "routing_key": "",
            "properties": {"content_type": "application/json", "content_encoding": "utf-8"},
            "payload": payload,
            "payload_encoding": "string",
        }
        # Whatever keeps it from them: they are restarted with their node then.
        with contextlib.suppress(RefusedError, UnreachableError):
            self.api.call("POST", f"exchanges/{path_of(vhost, CONTROL_EXCHANGE)}/publish", message)

    def _leaving(self) -> dict[str, Any]:
        nodes, queues = self._nodes(), self._queues()
        name = self._member(nodes)
        alive = any(node["name"] == name and node.get("running") for node in nodes)
        reasons, lost = cannot_leave(name, nodes, queues, erlang_runs=self.params["service_active"])
        lost += self._only_there(kept_only_on(name, queues), alive=alive)
        if reasons:
            text = f"{name} was not removed, and nothing was changed: {'; '.join(reasons)}"
            if any(not node.get("running") for node in nodes if node["name"] != name):
                text += ". Have all other nodes run first; if they are gone for good: celeryops.stack.recover"
            self.module.fail_json(msg=text)
        if lost and not self.params["lose_messages"]:
            self.module.fail_json(
                msg=f"{name} was not removed, and nothing was changed. Messages would be lost: {some_of(lost, 5)}. "
                "Move them, or have this node run again; or write celeryops_remove_messages: true to lose them"
            )
        rest = [str(node["name"]) for node in nodes if node["name"] != name]
        if alive and not self.module.check_mode:
            self._move(name, rest)
        return {"changed": True, "leaving": {"name": name, "alive": alive, "rest": rest}}

    def _member(self, nodes: list[dict[str, Any]]) -> str:
        called = self.params["leaving"]
        name = member_called(called, nodes)
        if not name:
            members = ", ".join(str(node["name"]) for node in nodes)
            self.module.fail_json(
                msg=f"{called} is no member of the cluster of {self.params['node']}. Its members are: {members}. "
                "Nothing was changed"
            )
        return name

    def _only_there(self, keys: list[tuple[str, str]], *, alive: bool) -> list[str]:
        """Return the queues, of these on one node alone, that are not proven to be empty."""
        if not keys:
            return []
        if not alive:
            return [f"{vhost}/{name}, which is on that node alone" for vhost, name in keys]
        contents = parse(self._command(command(look_at(keys, []))))
        held = {key: contents.queues[key].messages if key in contents.queues else None for key in keys}
        return [
            f"{vhost}/{name}, which is on that node alone ({'unknown' if count is None else count} messages)"
            for (vhost, name), count in held.items()
            if count != 0 and (vhost, name) not in contents.gone
        ]

    def _move(self, name: str, rest: list[str]) -> None:
        """Have every quorum queue and stream a member on each node of the rest, then none on the one that leaves."""
        queues = self._queues()
        for other in missing_members(rest, queues):
            self._grow(other)
        streams = streams_without(rest, queues)
        for stream, without in streams:
            for other in without:
                self._stream("add_replica", stream, other)
        while missing_members(rest, queues) or any(without for _key, without in streams) or offline_members(queues):
            self._in_time(f"these queues have no member on each of {', '.join(rest)} yet: ", offline_members(queues))
            queues = self._queues()
            streams = streams_without(rest, queues)
        self._command([*SHRINK, name])
        for stream, _without in streams:
            self._stream("delete_replica", stream, name)
        while still := members_on(name, self._queues()):
            self._in_time(f"these queues still have a member on {name}: ", still)

    def _stream(self, function: str, key: tuple[str, str], node: str) -> None:
        """Add or delete a member of a stream, for which not every series has a command."""
        vhost, stream = (f"<<{','.join(str(byte) for byte in part.encode())}>>" for part in key)
        self._command(command(f"rabbit_stream_queue:{function}({vhost}, {stream}, '{node}')."))

    def _forgotten(self) -> dict[str, Any]:
        name = self._member(self._nodes())
        if self.module.check_mode:
            return {"changed": True}
        while any(node["name"] == name and node.get("running") for node in self._nodes()):
            self._in_time(f"{name} still runs", [])
        self._command([*FORGET, name])
        while any(node["name"] == name for node in self._nodes()) or members_on(name, self._queues()):
            self._in_time(f"these queues still have a member on {name}: ", members_on(name, self._queues()))
        return {"changed": True}

    def _stopped(self) -> dict[str, Any]:
        if not self.module.check_mode:
            self._command([*STOP_APP])
        return {"changed": True}

    def _aside(self) -> dict[str, Any]:
        node = self.params["node"]
        host = node.partition("@")[2]
        there = found(host.partition(".")[0], host, lambda words: self.module.run_command(list(words))[1])
        if node not in there.get("nodes", ()):
            return {"place": ""}
        code, _output, _errors = self.module.run_command(["systemctl", "is-active", "--quiet", UNIT])
        if code == 0 and not self.module.check_mode:
            self.module.fail_json(msg=f"{node} runs, so its data were not moved")
        elsewhere = [place["now"] for place in there["stores"].values() if place["now"]]
        if elsewhere:
            self.module.fail_json(msg=f"queues of {node} are in {', '.join(elsewhere)}: move them away by hand")
        directory = there["directory"] or os.path.join(there["data"], node)
        return {"changed": True, "place": ASIDE if self.module.check_mode else put_aside(directory)}

    def _nodes(self) -> list[dict[str, Any]]:
        status, answer = self._call("GET", "nodes?columns=name,running,partitions")
        if status != 200:
            self.module.fail_json(msg=f"the nodes could not be listed: {reason_of(answer)}")
        listed: list[dict[str, Any]] = answer
        return listed

    def _command(self, words: list[str]) -> str:
        code, output, errors = self.module.run_command(words)
        if code != 0:
            self.module.fail_json(msg=f"{words[0]} failed: {(errors or output).strip()}")
        return str(output)

    def _in_time(self, what: str, names: list[str]) -> None:
        """Wait a moment, and fail when the time is up."""
        if time.monotonic() > self.deadline:
            self.module.fail_json(msg=f"{what}{some_of(names, 5)}. Run this again")
        time.sleep(PAUSE)

    def _balanced(self) -> dict[str, Any]:
        if not self.module.check_mode:
            self._rebalance()
        return {}

    def _rebalance(self) -> None:
        status, answer = self._call("POST", "rebalance/queues", {})
        if status >= 300:
            self.module.warn(f"the leaders of the queues were not distributed: {reason_of(answer)}")

    def _queues(self) -> list[dict[str, Any]]:
        status, answer = self._call("GET", f"queues?columns={QUEUE_COLUMNS}")
        if status != 200:
            self.module.fail_json(msg=f"the queues could not be listed: {reason_of(answer)}")
        listed: list[dict[str, Any]] = answer
        return listed

    def _ask(self, path: str) -> Any:
        """Return an answer; None while there is none."""
        try:
            status, answer = self.api.call("GET", path)
        except (RefusedError, UnreachableError):
            return None
        return answer if status == 200 else None

    def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the answer to a request, for which a node that is busy gets some time."""
        while True:
            try:
                return self.api.call(method, path, body)
            except RefusedError as error:
                self.module.fail_json(msg=f"{self.params['node']} refuses {self.params['login_user']}: {error}")
            except UnreachableError as error:
                if time.monotonic() > self.deadline:
                    self.module.fail_json(msg=f"{self.params['node']} does not answer: {error}")
            time.sleep(PAUSE)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": [
                    "reachable",
                    "up",
                    "asked",
                    "complete",
                    "expendable",
                    "drained",
                    "balanced",
                    "leaving",
                    "stopped",
                    "aside",
                    "forgotten",
                ],
                "required": True,
            },
            "nodes": {"type": "list", "elements": "str", "default": []},
            "addresses": {"type": "dict", "default": {}},
            "node": {"type": "str", "required": True},
            "absent": {"type": "list", "elements": "str", "default": []},
            "leaving": {"type": "str", "default": ""},
            "without": {"type": "list", "elements": "str", "default": []},
            "service_active": {"type": "bool", "default": False},
            "lose_messages": {"type": "bool", "default": False},
            "blank": {"type": "bool", "default": False},
            **OPTIONS,
            "timeout": {"type": "int", "default": 180},
        },
        required_if=[
            *(("state", state, ["nodes"]) for state in ("reachable", "up", "asked", "complete")),
            *(("state", state, ["leaving"]) for state in ("leaving", "forgotten")),
        ],
        supports_check_mode=True,
    )
    Cluster(module).run()


if __name__ == "__main__":
    main()
