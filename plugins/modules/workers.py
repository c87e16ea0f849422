# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: workers
short_description: Compare the running workers of a host with the plan
version_added: 0.1.0
description:
  - Reads the report that each worker writes to the runtime directory of its unit (consumed queues, prefetch
    count, limits, pool, registered tasks), all reports in one call, without the broker.
  - A report counts only if the unit's main process wrote it and keeps renewing it.
  - One message lists all differences and all workers that do not answer.
extends_documentation_fragment: [celeryops.stack.attributes.reads]
options:
  app:
    description: Name of the app, for messages.
    type: str
    required: true
  workers:
    description: The worker classes of this host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The class.
        type: str
        required: true
      unit:
        description: Its unit.
        type: str
        required: true
      report:
        description: The report file of its worker.
        type: path
        required: true
      queues:
        description: The queues that it must consume.
        type: list
        elements: str
        required: true
      pool:
        description: Its pool.
        type: str
        required: true
      concurrency:
        description: A number, or V(auto), which is not compared.
        type: str
        required: true
      prefetch_multiplier:
        description: Messages per process. The default of this and the following options is the shared configuration.
        type: int
      time_limit:
        description: In seconds.
        type: int
      soft_time_limit:
        description: In seconds.
        type: int
      max_tasks_per_child:
        description: A number of tasks.
        type: int
      max_memory_per_child:
        description: In KiB.
        type: int
      acks_late:
        description: Whether tasks are acknowledged after they ran.
        type: bool
  settings:
    description: The app's shared configuration.
    type: path
    required: true
  queues:
    description: The app's queues and routes.
    type: path
    required: true
  timeout:
    description: How many seconds to wait for a worker that does not answer, or whose report may be outdated.
    type: int
    default: 30
  pending:
    description: Paths that this run changed, or would change in check mode; affected workers are skipped then.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    details: Does the same, except for units that do not run or would change; a difference is a warning.
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Verify the workers
  celeryops.stack.workers:
    app: shop
    settings: /etc/celeryops/shop/celery.json
    queues: /etc/celeryops/shop/queues.json
    workers:
      - name: bulk
        unit: celery-shop-bulk.service
        report: /run/celeryops/shop/bulk/worker.json
        queues: [feeds, reports]
        pool: prefork
        concurrency: "2"
"""

RETURN = r"""
answered:
  description: Names of the classes that answered.
  type: list
  elements: str
  returned: success
complete:
  description: Whether all classes were asked.
  type: bool
  returned: success
tasks:
  description: Names of the tasks that the workers of this host have registered.
  type: list
  elements: str
  returned: success
routes:
  description: The task names and patterns of the app's routes.
  type: list
  elements: str
  returned: success
"""

import hashlib
import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.systemd import UNIT_DIR
from ansible_collections.celeryops.stack.plugins.module_utils.workers import (
    Difference,
    differences,
    message,
    no_answer,
    read_report,
    tasks,
)

#: Seconds between two looks.
PAUSE = 0.5


class Workers:
    """Reads the reports, and waits for those that are late."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.settings: dict[str, Any] = {}
        self.routes: list[str] = []
        self.digest = ""

    def run(self) -> None:
        """Ask and compare; ends the module."""
        self._read_configuration()
        wanted = self._asked()
        deadline = time.monotonic() + self.module.params["timeout"]
        started = time.time()
        while True:
            pids = self._main_pids([worker["unit"] for worker in wanted])
            answers: dict[str, dict[str, Any]] = {}
            silent: dict[str, str] = {}
            found: list[Difference] = []
            waiting = False
            for worker in wanted:
                report, changed = read_report(worker["report"])
                why = no_answer(report, pids.get(worker["unit"], 0), time.time() - changed)
                if why or report is None:
                    silent[worker["unit"]] = why
                    waiting = True
                    continue
                answers[worker["name"]] = report
                other = differences(worker, report, self.settings, self.digest)
                found += other
                # It may have been put right since: only what was written after the question counts against a worker.
                waiting = waiting or bool(other and changed < started)
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(PAUSE)
        text = message(self.module.params["app"], silent, found)
        if text and not self.module.check_mode:
            self.module.fail_json(msg=text)
        if text:
            # A dry run does not know all that the run would restart before it asks.
            self.module.warn(text)
        self.module.exit_json(
            changed=False,
            answered=list(answers),
            complete=len(wanted) == len(self.module.params["workers"]),
            tasks=tasks(answers.values()),
            routes=self.routes,
        )

    def _asked(self) -> list[dict[str, Any]]:
        """Return the classes to ask: all of them, but in check mode only those that run and stay as they are."""
        workers: list[dict[str, Any]] = self.module.params["workers"]
        if not self.module.check_mode:
            return workers
        pids = self._main_pids([worker["unit"] for worker in workers])
        pending = self.module.params["pending"]
        return [
            worker
            for worker in workers
            if pids.get(worker["unit"], 0) and f"{UNIT_DIR}/{worker['unit']}" not in pending
        ]

    def _read_configuration(self) -> None:
        document, content = self._document(self.module.params["settings"])
        if content:
            self.settings = document.get("settings", {})
            self.digest = hashlib.sha256(content).hexdigest()
        # The app's own routes (a word in their place) are looked at when a release is tried.
        routes = self._document(self.module.params["queues"])[0].get("routes", [])
        self.routes = [str(route["task"]) for route in routes] if isinstance(routes, list) else []

    def _document(self, path: str) -> tuple[dict[str, Any], bytes]:
        """Return what a file of the app says, and its content; both are empty where it is not there yet."""
        try:
            with open(path, "rb") as stream:
                content = stream.read()
            document: dict[str, Any] = json.loads(content)
        except FileNotFoundError:
            return {}, b""
        except (OSError, ValueError) as error:
            self.module.fail_json(msg=f"{path} cannot be read: {error}")
        return document, content

    def _main_pids(self, units: list[str]) -> dict[str, int]:
        if not units:
            return {}
        command = ["systemctl", "show", "--property=MainPID", "--value", "--", *units]
        code, output, errors = self.module.run_command(command)
        if code != 0:
            self.module.fail_json(msg=f"systemd does not answer: {errors.strip()}", rc=code)
        # One line for each unit, with an empty one between them; 0 when it does not run.
        pids = [int(line) for line in output.split()]
        if len(pids) != len(units):
            self.module.fail_json(msg=f"systemd told of {len(pids)} units when asked about {len(units)}")
        return {unit: pids[position] for position, unit in enumerate(units)}


def main() -> None:
    """Run the module."""
    number = {"type": "int"}
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "app": text,
            "workers": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": text,
                    "unit": text,
                    "report": {"type": "path", "required": True},
                    "queues": {"type": "list", "elements": "str", "required": True},
                    "pool": text,
                    "concurrency": text,
                    "prefetch_multiplier": number,
                    "time_limit": number,
                    "soft_time_limit": number,
                    "max_tasks_per_child": number,
                    "max_memory_per_child": number,
                    "acks_late": {"type": "bool"},
                },
            },
            "settings": {"type": "path", "required": True},
            "queues": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 30},
            "pending": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    Workers(module).run()


if __name__ == "__main__":
    main()
