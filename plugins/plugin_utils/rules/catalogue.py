# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Every rule, in the order in which findings are told."""

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
