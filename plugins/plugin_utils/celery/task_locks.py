# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of ``celery_app_once``: which tasks run once per period. The worker's part is celeryops_runtime/once.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    UnreadableError,
    did_you_mean,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.patterns import pattern_problems
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.quantities import DURATION_HELP, parse_duration

VARIABLE = "celery_app_once"
#: Keys of the long form, and what the choices among them are; the first is the default.
KEYS = ("period", "key", "on_failure", "when_redis_is_down")
CHOICES = {"on_failure": ("free", "keep"), "when_redis_is_down": ("refuse", "run")}
KEY_HELP = "a list of arguments by name or position, such as [order] or [0]; [] when the arguments do not matter"


def once_rules(declared: Mapping[str, Any], *, redis: bool) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rules as the runtime reads them, and what is wrong with them.

    Arguments:
        declared: ``celery_app_once``: a task's name or pattern, and a duration or the long form.
        redis: whether the app has a Redis to keep the keys in.
    """
    rules: list[dict[str, Any]] = []
    problems: list[Problem] = []
    if declared and not redis:
        reason = "needs a Redis, and the app has none: its results are kept elsewhere or nowhere"
        instead = "a redis:// address in celery_app_result_backend, or in celery_app_once_url"
        problems.append(Problem("needs-a-redis", VARIABLE, [str(task) for task in declared], reason, instead))
    problems += pattern_problems(VARIABLE, map(str, declared), "rule")
    for raw, value in declared.items():
        task, variable = str(raw), f"{VARIABLE}.{raw}"
        given = dict(value) if isinstance(value, Mapping) else {"period": value}
        rule, wrong = _rule(task, variable, given)
        rules.append(rule)
        problems += wrong
    return rules, problems


def _rule(task: str, variable: str, given: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    problems = [
        Problem("not-a-key", f"{variable}.{name}", given[name], "is not a key of a rule", did_you_mean(str(name), KEYS))
        for name in given
        if name not in KEYS
    ]
    rule: dict[str, Any] = {"task": task, "period": None, "key": None}
    if "period" not in given:
        problems.append(Problem("no-period", variable, dict(given), "has no period", "{period: 20h}"))
    else:
        try:
            rule["period"] = parse_duration(given["period"])
        except UnreadableError as error:
            problems.append(error.of(f"{variable}.period", given["period"]))
        else:
            if not rule["period"]:
                reason = "must be longer than 0s"
                problems.append(Problem("zero-duration", f"{variable}.period", given["period"], reason, DURATION_HELP))
    key = given.get("key")
    if key is not None:
        if isinstance(key, (list, tuple)) and all(map(_is_argument, key)):
            rule["key"] = [int(part) if isinstance(part, int) else str(part) for part in key]
        else:
            reason = "does not name arguments"
            problems.append(Problem("does-not-name-arguments", f"{variable}.key", key, reason, KEY_HELP))
    for name, allowed in CHOICES.items():
        rule[name] = str(given.get(name, allowed[0]))
        if rule[name] not in allowed:
            instead = " or ".join(sorted(allowed))
            problems.append(Problem("not-a-choice", f"{variable}.{name}", given[name], "is not a choice here", instead))
    return rule, problems


def _is_argument(part: Any) -> bool:
    if isinstance(part, str):
        return part.isidentifier()
    return isinstance(part, int) and not isinstance(part, bool) and part >= 0
