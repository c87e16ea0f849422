# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Validate the variables of roles and compute their plans
version_added: 0.1.0
description:
  - Runs on the control machine only; no host is contacted.
  - Reads the variables in the argument specs of the roles, validates them against these specs, and passes them to
    the role's planning function, which returns the data for the role's templates and tasks.
  - One message lists all mistakes of all requested roles and hosts.
  - A plan contains no secrets.
extends_documentation_fragment: [celeryops.stack.attributes.controller]
options:
  role:
    description:
      - The role to plan for the current host.
      - Without it, the whole inventory is checked, that is every role of every host by its groups, and how
        the hosts fit together. Run it once.
    type: str
  show:
    description: Print the plan of the whole inventory, as a table, and write it to O(directory).
    type: bool
    default: false
  directory:
    description:
      - Directory on the control machine for C(plan.md), a page with the table and a Mermaid diagram, and C(plan.svg),
        the diagram as a picture. If empty, they are not written.
    type: path
    default: ""
  places:
    description:
      - Whether to set the fact C(celeryops_places) to the whole inventory's worker classes, which
        M(celeryops.stack.rollout) reads.
    type: bool
    default: false
  machines:
    description:
      - Whether M(celeryops.stack.facts) has run on the hosts in this run, so that their services are compared with
        the inventory. The fact C(celeryops_leaving) lists what to remove from them. Schedulers that would run twice,
        and passwords that would change, are reported.
    type: bool
    default: false
  rotate:
    description: Whether passwords in use on hosts may change, with O(machines).
    type: bool
    default: false
  only:
    description: Whether the user guarantees that no host without facts has a scheduler, with O(machines).
    type: bool
    default: false
  drain:
    description:
      - How long to wait until queues without consumers are empty, with O(machines). It becomes part of the fact
        C(celeryops_backlogs), which lists what M(celeryops.stack.backlog) must count on which host.
    type: str
    default: ""
attributes:
  facts:
    description: Returns facts in C(ansible_facts).
    support: full
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Compute the plan
  celeryops.stack.plan:
    role: celery_worker
  register: __celery_worker

- name: Validate all variables of all hosts
  celeryops.stack.plan:
  run_once: true
"""

RETURN = r"""
mistakes:
  description: The lines of the message, each by C(id) and by C(variable), with the path inside it.
  type: list
  elements: dict
  returned: when a variable has a mistake
  sample: [{id: not-a-duration, variable: celery_worker_classes.high.time_limit}]
plan:
  description: The plan of O(role) for the current host.
  type: dict
  returned: when O(role) is given
files:
  description: The files that were written.
  type: list
  elements: str
  returned: when O(show) and O(directory) are given
checked:
  description: How many hosts and roles were checked.
  type: dict
  returned: when O(role) is not given
"""
