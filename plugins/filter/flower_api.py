# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.flower_api import flower_api

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: flower_api
short_description: The address of RabbitMQ's management API as Flower can use it
version_added: 0.1.0
description:
  - Leaves the account out of the address where it is the account of the broker's address. Flower sends that one
    rightly, and of one in the address it would send encoded signs as they stand there.
positional: _input, broker
options:
  _input:
    description: The address of the API. It may be empty.
    type: str
    required: true
  broker:
    description: The address of the broker.
    type: str
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show the address
  ansible.builtin.debug:
    msg: "{{ 'http://watch:p%40ss@mq1:15672/api/' | celeryops.stack.flower_api('amqp://watch:p%40ss@mq1:5672/shop') }}"
"""

RETURN = r"""
_value:
  description: The address. It is empty for an empty one, and for one that the check refuses.
  type: str
"""


def _flower_api(api: str, broker: str) -> str:
    return flower_api(str(api), str(broker))[0]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"flower_api": _flower_api}
