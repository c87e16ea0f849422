# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Compute the order in which the workers of many hosts are replaced
version_added: 0.1.0
description:
  - Runs on the control machine only; no host is contacted.
  - Divides the hosts into batches so that no batch has all consumers of a queue, and returns the classes and hosts that
    need a stand-in, because no other worker consumes one of their queues.
extends_documentation_fragment: [celeryops.stack.attributes.controller]
options:
  places:
    description: >-
      All workers on all hosts, with C(app), C(host), C(name), C(queues) and C(class), the class of the worker; the fact
      C(celeryops_places).
    type: list
    elements: dict
    required: true
  hosts:
    description: The hosts whose workers are replaced.
    type: list
    elements: str
    required: true
  prefix:
    description: Prefix of the variables that the following options come from, for messages.
    type: str
    required: true
  classes:
    description: Only these classes, or workers of them; all if empty.
    type: list
    elements: str
    default: []
  mode:
    description: V(wait) or V(drain), as for M(celeryops.stack.roll).
    type: str
    default: wait
  at_once:
    description: How many hosts at the same time, a number or a percentage.
    type: str
    default: 25%
  drain_timeout:
    description: How long running tasks may go on in mode V(drain).
    type: str
    default: 24h
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Compute the order of the hosts
  celeryops.stack.rollout:
    places: "{{ ansible_facts['celeryops_places'] }}"
    hosts: "{{ ansible_play_hosts }}"
    prefix: celeryops_restart
    at_once: 25%
  run_once: true
  register: celeryops_rollout
"""

RETURN = r"""
batches:
  description: The batches in order, with C(hosts) and C(stand_ins) (host -> classes).
  type: list
  elements: dict
  returned: success
workers:
  description: The names of the workers that are replaced.
  type: list
  elements: str
  returned: success
mode:
  description: As given.
  type: str
  returned: success
drain_seconds:
  description: O(drain_timeout) in seconds.
  type: int
  returned: success
"""
