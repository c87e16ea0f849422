# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

DOCUMENTATION = r"""
name: own_files
short_description: The files of an app that belong on a host
version_added: 0.1.0
description:
  - Combines each file of the plan with its content, which is not part of a plan. The result is input for
    M(celeryops.stack.files).
positional: _input, files
options:
  _input:
    description: The files in the plan of the role celery_app.
    type: list
    elements: dict
    required: true
  files:
    description: The variable C(celery_app_files).
    type: list
    elements: dict
    required: true
  groups:
    description: The groups of the host.
    type: list
    elements: str
    required: true
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Place the app's files
  celeryops.stack.files:
    files: "{{ __celery_app.plan.files | celeryops.stack.own_files(celery_app_files, group_names) }}"
"""

RETURN = r"""
_value:
  description: Entries for M(celeryops.stack.files).
  type: list
  elements: dict
"""


def _own_files(
    planned: Iterable[Mapping[str, Any]], files: Sequence[Mapping[str, Any]], groups: Iterable[str]
) -> list[dict[str, Any]]:
    # Ansible has every host in this one, and does not name it among a host's groups.
    own = {"all", *groups}
    found = []
    for entry in planned:
        wanted = entry["groups"]
        if wanted is None or own & set(wanted):
            written = files[int(entry["number"])]
            kept = {key: entry[key] for key in ("path", "owner", "group", "mode", "secret")}
            found.append({**kept, "own": True, **{key: written[key] for key in ("content", "src") if key in written}})
    return found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"own_files": _own_files}
