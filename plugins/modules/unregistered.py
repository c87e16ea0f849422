# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: unregistered
short_description: Warn about routes to tasks that no running worker has registered
version_added: 0.1.0
description:
  - Runs on the control machine only, on what M(celeryops.stack.workers) returned for each host, of all apps.
    Run it once.
extends_documentation_fragment: [celeryops.stack.attributes.controller]
options:
  answers:
    description: What M(celeryops.stack.workers) returned, one entry for each host.
    type: list
    elements: dict
    required: true
  hosts:
    description: How many hosts should have answered.
    type: int
    required: true
  limited:
    description: Whether the run leaves out hosts of the inventory.
    type: bool
    default: false
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Warn of routes to tasks that no worker has registered
  celeryops.stack.unregistered:
    answers: "{{ ansible_play_hosts | map('extract', hostvars, 'answer') }}"
    hosts: "{{ ansible_play_hosts_all | length }}"
  run_once: true
"""

RETURN = r"""
routes:
  description: The warnings.
  type: list
  elements: str
  returned: success
"""
