# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the results of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment


def _kept_nowhere(deployment: Deployment) -> Iterator[Finding]:
    for app in deployment.apps.values():
        rules = app.variables.get("celery_app_results")
        if app.has_results or not isinstance(rules, Mapping):
            continue
        for task, result in rules.items():
            if result == "keep":
                reason = "has nowhere to keep them: the app has no result backend"
                instead = "an address in celery_app_result_backend, or ignore"
                problem = Problem("no-result-backend", f"celery_app_results.{task}", "keep", reason, instead)
                yield Finding(problem, str(task), app.name)


RULES = (
    Rule(
        "results-without-backend",
        _kept_nowhere,
        "Results that are to be kept in an app without a result backend.",
        unwise=True,
    ),
)
