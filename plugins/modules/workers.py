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
extends_documentation_fragment: [celeryops.stack.attributes.reads, celeryops.stack.attributes.action]
options:
  app:
    description: Name of the app.
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
  elsewhere:
    description:
      - Names and patterns of tasks that others run; returned for M(celeryops.stack.unregistered).
    type: list
    elements: str
    default: []
  timeout:
    description: How many seconds to wait for a worker that does not answer, or whose report may be outdated.
    type: int
    default: 30
  pending:
    description: Paths that this run changed, or would change in check mode; affected workers are skipped then.
    type: list
    elements: path
    default: []
  receipt:
    description: Internal; a digest of what the task asks for, as in M(celeryops.stack.files).
    type: str
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
app:
  description: The app.
  type: str
  returned: success
elsewhere:
  description: The option of that name.
  type: list
  elements: str
  returned: success
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
receipt:
  description: True if no call was made, since the facts of this run say that it would find nothing to do.
  type: bool
  returned: if so
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils import receipts
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import UNIT_DIR
from ansible_collections.celeryops.stack.plugins.module_utils.unit_state import show
from ansible_collections.celeryops.stack.plugins.module_utils.workers import Answers, Shared, ask, message, shared

#: Seconds between two looks.
PAUSE = 0.5


def wanted_of(module: AnsibleModule) -> list[dict[str, Any]]:
    """Return the classes to ask: all of them, but in check mode only those that run and stay as they are."""
    workers: list[dict[str, Any]] = module.params["workers"]
    if not module.check_mode:
        return workers
    pids = main_pids(module, workers)
    pending = module.params["pending"]
    return [worker for worker in workers if pids[worker["unit"]] and f"{UNIT_DIR}/{worker['unit']}" not in pending]


def main_pids(module: AnsibleModule, workers: list[dict[str, Any]]) -> dict[str, int]:
    """Return the main process of each unit; 0 when it does not run."""
    statuses = show(module, [worker["unit"] for worker in workers])
    return {name: status.pid for name, status in statuses.items()}


def wait(module: AnsibleModule, wanted: list[dict[str, Any]], told: Shared) -> Answers:
    """Ask until all workers have answered as planned, or the time is over."""
    deadline = time.monotonic() + module.params["timeout"]
    started = time.time()
    while True:
        answers = ask(wanted, main_pids(module, wanted), told, started)
        if not (answers.silent or answers.outdated) or time.monotonic() > deadline:
            return answers
        time.sleep(PAUSE)


def run(module: AnsibleModule) -> None:
    """Ask and compare; ends the module."""
    params = module.params
    state = receipts.seen([params["settings"], params["queues"]])
    try:
        told = shared(params["settings"], params["queues"])
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the configuration of {params['app']} cannot be read: {error}")
    wanted = wanted_of(module)
    answers = wait(module, wanted, told)
    text = message(params["app"], answers.silent, answers.found)
    if text and not module.check_mode:
        module.fail_json(msg=text)
    if text:
        # A dry run does not know all that the run would restart before it asks.
        module.warn(text)
    if params["receipt"] and not module.check_mode:
        more = {name: params[name] for name in ("workers", "settings", "queues")}
        receipts.write(params["receipt"], state, {"answers": more})
    module.exit_json(changed=False, complete=len(wanted) == len(params["workers"]), **answers.result(told))


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
            "elsewhere": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 30},
            "pending": {"type": "list", "elements": "path", "default": []},
            "receipt": {"type": "str"},
        },
        supports_check_mode=True,
    )
    run(module)


if __name__ == "__main__":
    main()
