# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule, in the order of the report."""

from __future__ import annotations

from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import (
    Rule,
    agreement,
    delivery,
    files,
    inventory,
    objects,
    packages,
    results,
    routing,
    workers,
)

RULES: tuple[Rule, ...] = (
    *inventory.RULES,
    *routing.RULES,
    *delivery.RULES,
    *objects.RULES,
    *files.RULES,
    *packages.RULES,
    *results.RULES,
    *workers.RULES,
    *agreement.RULES,
)
