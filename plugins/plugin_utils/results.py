# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""The rules of ``celery_app_results``: whose results are kept. The processes' part is celeryops_runtime/results.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.patterns import PATTERN_HELP, glob, malformed
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, did_you_mean

VARIABLE = "celery_app_results"
CHOICES = ("keep", "ignore")


def result_rules(declared: Mapping[str, Any]) -> tuple[list[dict[str, str]], list[Problem]]:
    """Return the rules as the runtime reads them, and what is wrong with them.

    Arguments:
        declared: ``celery_app_results``: a task's name or pattern, and ``keep`` or ``ignore``.
    """
    rules: list[dict[str, str]] = []
    problems: list[Problem] = []
    for raw, value in declared.items():
        task, result = str(raw), str(value)
        if malformed(task):
            problems.append(Problem(VARIABLE, task, "is not a task name or pattern", PATTERN_HELP))
            continue
        hiding = next((rule["task"] for rule in rules if glob(rule["task"]).fullmatch(task)), None)
        if hiding is not None:
            reason = f"is never reached: {hiding} stands before it and matches too"
            problems.append(Problem(VARIABLE, task, reason, "it above that rule"))
        if result not in CHOICES:
            instead = did_you_mean(result, CHOICES)
            problems.append(Problem(f"{VARIABLE}.{task}", value, "is not a choice here", instead))
        rules.append({"task": task, "result": result})
    return rules, problems
