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
      - V(up) waits until exactly O(nodes) are members, all of them run, and none is partitioned from another. A
        node that is alone instead, although it was started for this cluster, is stopped, so that there are
        never two brokers.
      - V(complete) does so as well, and then adds the missing members of quorum queues.
      - V(expendable) waits until no queue loses its quorum if this node stops.
      - V(balanced) distributes the leaders of the queues over the nodes.
    type: str
    choices: [up, complete, expendable, balanced]
    required: true
  nodes:
    description: Names of all nodes of the cluster. Required for V(up) and V(complete).
    type: list
    elements: str
    default: []
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
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_api import (
    OPTIONS,
    Api,
    RefusedError,
    UnreachableError,
    reason_of,
)
from ansible_collections.celeryops.stack.plugins.module_utils.rabbitmq_cluster import (
    QUEUE_COLUMNS,
    alone,
    missing_members,
    node_faults,
    offline_members,
)
from ansible_collections.celeryops.stack.plugins.module_utils.wording import some_of

#: Seconds between two questions.
PAUSE = 1.0
#: For how many seconds a node that started blank may be alone before it is a broker of its own: on RabbitMQ 3.10 the
#: first node of every healthy first boot is alone until the others have joined (18 to 23 s, measured).
ALONE = 90
UNIT = "rabbitmq-server.service"
#: Adds a member of every quorum queue on a node, where the API cannot (RabbitMQ 3.10 answers 405).
GROW = ("/usr/sbin/rabbitmq-queues", "--quiet", "grow")


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
        if self.module.check_mode and not self._answers():
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

    def _up(self) -> dict[str, Any]:
        expected, started = self.params["nodes"], time.monotonic()
        while True:
            nodes = self._ask("nodes?columns=name,running,partitions")
            faults = [] if nodes is None else node_faults(expected, nodes, self.params["absent"])
            if nodes is not None and not faults:
                return {}
            by_itself = self.params["blank"] and nodes is not None and alone(self.params["node"], nodes)
            if self.module.check_mode:
                return {}
            if (by_itself and time.monotonic() - started > ALONE) or time.monotonic() > self.deadline:
                self._not_up(faults or ["its management API does not answer"], stop=by_itself)
            time.sleep(PAUSE)

    def _not_up(self, faults: list[str], *, stop: bool) -> None:
        text = f"the cluster is not whole, as {self.params['node']} sees it: {'; '.join(faults)}"
        if stop:
            self.module.run_command(["systemctl", "stop", "--", UNIT])
            text += (
                f". {self.params['node']} had no data and formed a cluster of its own. It was stopped, so that there "
                "are not two brokers. Run this again when it reaches ports 4369 and 25672 of the others"
            )
        self.module.fail_json(msg=text)

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
            "state": {"type": "str", "choices": ["up", "complete", "expendable", "balanced"], "required": True},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "node": {"type": "str", "required": True},
            "absent": {"type": "list", "elements": "str", "default": []},
            "blank": {"type": "bool", "default": False},
            **OPTIONS,
            "timeout": {"type": "int", "default": 180},
        },
        required_if=[("state", "up", ["nodes"]), ("state", "complete", ["nodes"])],
        supports_check_mode=True,
    )
    Cluster(module).run()


if __name__ == "__main__":
    main()
