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
short_description: The URLs of RabbitMQ's management API for Flower
version_added: 0.1.0
description:
  - Removes the account from a URL if it is the account of the broker's URL. Flower sends that account
    correctly, but would send encoded characters of an account in the API's URL undecoded.
positional: _input, broker
options:
  _input:
    description: The URL of the API, or several separated by semicolons. It may be empty.
    type: str
    required: true
  broker:
    description: The URL of the broker.
    type: str
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Show the URLs
  ansible.builtin.debug:
    msg: "{{ 'http://watch:p%40ss@mq1:15672/api/' | celeryops.stack.flower_api('amqp://watch:p%40ss@mq1:5672/shop') }}"
"""

RETURN = r"""
_value:
  description: The URLs, without those that the check refuses.
  type: list
  elements: str
"""


def _flower_api(api: str, broker: str) -> list[str]:
    return flower_api(str(api), str(broker))[0]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"flower_api": _flower_api}
