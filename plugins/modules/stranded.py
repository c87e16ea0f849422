# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: stranded
short_description: Fail if tasks would stay in queues that no class consumes any more
version_added: 0.1.0
description:
  - Runs on the control machine only, on what M(celeryops.stack.backlog) returned for each host. Run it once.
  - A queue that loses its consumers in this run must be empty or accepted. For one that lost them earlier it warns.
extends_documentation_fragment: [celeryops.stack.attributes.controller]
options:
  answers:
    description: The results of the loops over M(celeryops.stack.backlog), one for each host.
    type: list
    elements: dict
    required: true
  accepted:
    description: Queues that may keep their messages; a list, or names separated by commas.
    type: list
    elements: str
    default: []
attributes:
  facts:
    description: Returns facts in C(ansible_facts).
    support: full
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Fail if tasks would be left behind
  celeryops.stack.stranded:
    answers: "{{ ansible_play_hosts | map('extract', hostvars, 'answer') }}"
  run_once: true
"""

RETURN = r"""
ansible_facts:
  description: C(celeryops_retired), app -> the queues to remember.
  type: dict
  returned: success
"""
