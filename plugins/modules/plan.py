# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Turn the variables of roles into their plans, or list every mistake in them
version_added: 0.1.0
description:
  - Runs on the control machine only; no host is contacted.
  - Takes the variables that the argument specs of the roles name, checks them against these specs, and gives them to
    the role's pure planning function, which returns what the role's templates and tasks render from.
  - All mistakes, of all roles and of all hosts asked for, come in one message.
  - A plan holds no secrets.
extends_documentation_fragment: [celeryops.stack.attributes.controller]
options:
  role:
    description:
      - The role whose plan is wanted for the current host.
      - Without it, the whole inventory is checked, that is every role that the groups of each host stand for, and how
        the hosts fit together. Run it once.
    type: str
  show:
    description: Print the plan of the whole inventory, as a table, and write it to O(directory).
    type: bool
    default: false
  directory:
    description:
      - Where on the control machine C(plan.md), a page with the table and a diagram in Mermaid, and C(plan.svg), the
        diagram as a picture, are written. Nowhere when empty.
    type: path
    default: ""
  places:
    description:
      - Whether the whole inventory's worker classes become the fact C(celeryops_places), which
        M(celeryops.stack.rollout) reads.
    type: bool
    default: false
  machines:
    description:
      - Whether M(celeryops.stack.facts) has looked at the hosts in this run, so that what they carry is compared with
        the inventory. What has to go from them becomes the fact C(celeryops_leaving). Schedulers that would run twice,
        and passwords that would become others, are told.
    type: bool
    default: false
  rotate:
    description: Whether passwords that hosts have in use may become others, with O(machines).
    type: bool
    default: false
  only:
    description: Whether it is known that no host which was not looked at has a scheduler, with O(machines).
    type: bool
    default: false
  drain:
    description:
      - How long to wait until queues are empty that lose their consumers, with O(machines); it becomes part of the fact
        C(celeryops_backlogs), which says what M(celeryops.stack.backlog) has to ask on which host.
    type: str
    default: ""
attributes:
  facts:
    description: Returns facts in C(ansible_facts).
    support: full
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Build the plan
  celeryops.stack.plan:
    role: celery_worker
  register: __celery_worker

- name: Check everything before any host is touched
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
