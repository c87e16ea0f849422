# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: further
short_description: Find the hosts outside of a run that must be inspected
version_added: 0.1.0
description:
  - Runs on the control machine only, after M(celeryops.stack.facts). Run it once.
  - A run with C(--limit) could start a scheduler beside one that it does not see, or replace passwords that are
    in use on an excluded host. If so, the other hosts are inspected first; usually there are none.
extends_documentation_fragment: [celeryops.stack.attributes.controller]
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Find the hosts to inspect outside of this run
  celeryops.stack.further:
  run_once: true
  register: celeryops_further
"""

RETURN = r"""
hosts:
  description: Names of hosts.
  type: list
  elements: str
  returned: success
"""
