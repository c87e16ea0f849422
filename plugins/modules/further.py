# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: further
short_description: Tell which hosts beyond those of a run have to be looked at
version_added: 0.1.0
description:
  - Runs on the control machine only, behind M(celeryops.stack.facts). Run it once.
  - A run that C(--limit) narrows would start a scheduler beside one that it does not see, or replace passwords that are
    in use on a host that it leaves out. Where it may, the other hosts are looked at first; mostly there are none.
extends_documentation_fragment: [celeryops.stack.attributes.controller]
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Find the hosts to look at beyond those of this run
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
