# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules over the whole deployment: mistakes that no single variable shows.

A rule is a pure function from the model to its findings. The modules beside this one hold them by topic, each with a
tuple ``RULES``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment

#: The variable by which an inventory says that a finding is meant.
ACCEPT = "celery_app_accept"


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found.

    Arguments:
        problem: the variable, its value, why it is wrong, what to write instead.
        subject: what it is about (a class, a queue, a setting): accepting ``rule:subject`` accepts nothing else.
        app: the app that it concerns; None for a server or the inventory.
    """

    problem: Problem
    subject: str = ""
    app: str | None = None


@dataclass(frozen=True)
class Rule:
    """One thing that must not be.

    Arguments:
        name: short, with dashes; what an inventory writes to accept it.
        find: looks for it.
        meaning: one sentence for the documentation: what is refused, and why.
        acceptable: whether an inventory may say that it is meant.
        unwise: a warning, not a mistake; always acceptable.
    """

    name: str
    find: Callable[[Deployment], Iterable[Finding]]
    meaning: str
    acceptable: bool = False
    unwise: bool = False


@dataclass(frozen=True)
class Verdict:
    """What all rules found: the mistakes, and the warnings as they are shown."""

    problems: Sequence[Problem]
    warnings: Sequence[str]


def judge(deployment: Deployment, rules: Iterable[Rule]) -> Verdict:
    """Return what the rules find, without what the inventory accepts.

    Arguments:
        deployment: the model of the whole inventory.
        rules: which to ask.
    """
    rules = tuple(rules)
    problems = list(_unknown(deployment, rules))
    warnings: list[str] = []
    for rule in rules:
        for finding in rule.find(deployment):
            if not (rule.acceptable or rule.unwise):
                problems.append(finding.problem)
            elif not deployment.accepts(rule.name, finding.subject, finding.app):
                entry = f"{rule.name}:{finding.subject}" if finding.subject else rule.name
                meant = f'{finding.problem.instead}, or {ACCEPT}: ["{entry}"] if it is meant'
                told = replace(finding.problem, instead=meant)
                if rule.unwise:
                    warnings.append(str(told))
                else:
                    problems.append(told)
    # A rule looks at values that were read.
    return Verdict([replace(problem, readable=True) for problem in problems], list(dict.fromkeys(warnings)))


def _unknown(deployment: Deployment, rules: Sequence[Rule]) -> Iterable[Problem]:
    """Yield what is accepted and is not a rule, or none that can be accepted."""
    names = {rule.name: rule.acceptable or rule.unwise for rule in rules}
    for app in deployment.apps.values():
        for entry in sorted(app.accepted):
            rule = entry.partition(":")[0]
            if rule not in names:
                instead = did_you_mean(rule, [name for name, acceptable in names.items() if acceptable])
                yield Problem("not-a-rule", ACCEPT, entry, "is not a rule of the check", instead)
            elif not names[rule]:
                instead = "nothing there, and mend what it found"
                yield Problem("not-acceptable", ACCEPT, entry, "cannot be accepted: it is always a mistake", instead)
