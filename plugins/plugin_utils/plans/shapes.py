# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of the roles' plans: the keys that tasks and templates read.

A plan that could not be made, because of a mistake in the variables, has none of them; it is never read. What several
roles have in their plans has one shape; the rest is in the module of the role.
"""

from __future__ import annotations

from typing import TypedDict


class Unit(TypedDict, total=False):
    """A systemd unit as it is to run (celeryops.stack.units)."""

    name: str
    enabled: bool
    state: str
    restart_on: list[str]
    runs_from: str


class Target(TypedDict):
    """The target of an app, which all of its units belong to."""

    name: str
    content: str


class Prune(TypedDict):
    """Which units of a role may go when the plan has them no more (celeryops.stack.units)."""

    glob: str
    markers: list[str]


class Process(TypedDict, total=False):
    """What the plans of the roles have in common that run a process of an app."""

    app: str
    target: Target
    units: list[Unit]
    prune: Prune
