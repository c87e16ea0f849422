# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of ``celery_app_results``: whose results are kept. The processes' part is celeryops_runtime/results.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, did_you_mean
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.patterns import pattern_problems

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "celery_app_results"
CHOICES = ("keep", "ignore")


def result_rules(declared: Mapping[str, Any]) -> tuple[list[dict[str, str]], list[Problem]]:
    """Return the rules as the runtime reads them, and what is wrong with them.

    Arguments:
        declared: ``celery_app_results``: a task's name or pattern, and ``keep`` or ``ignore``.
    """
    rules: list[dict[str, str]] = []
    problems = list(pattern_problems(VARIABLE, map(str, declared), "rule"))
    for raw, value in declared.items():
        task, result = str(raw), str(value)
        if result not in CHOICES:
            instead = did_you_mean(result, CHOICES)
            problems.append(Problem("not-a-choice", f"{VARIABLE}.{task}", value, "is not a choice here", instead))
        rules.append({"task": task, "result": result})
    return rules, problems
