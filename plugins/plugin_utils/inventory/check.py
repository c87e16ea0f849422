# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans every role of every host of an inventory, and checks all plans together."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import role_options, texts_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.control_paths import (
    begins_nowhere,
    beside_inventory,
    unreadable,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.host_variables import HostVariables
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.made_up import made_up
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.password_rehearsal import PasswordRehearsal
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.role_planner import RolePlanner, unforeseen
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.root_causes import (
    root,
    where_written,
    without_consequences,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.template_errors import not_worked_out
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import seen_now
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.unknown_variables import misspelt_prefixes
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.yaml_traps import slips_beside
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import FilePath, Problem, may_be_secret
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.build import Planned, assemble
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import judge
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.host_conflicts import unusable
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.leaving import inventory_of, leaving, units_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.unreached import why_lost
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.members import Members, members, queue_places
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import ROLES, ROLES_OF_GROUP
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.survey import Survey, survey, view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.controller import Controller
    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.machines import Given

#: What leads to a host: the check goes nowhere, and says all the same that the plays behind it could not.
_WAY = ("ansible_connection", "ansible_host", "ansible_port", "ansible_user")


@functools.cache
def _texts() -> frozenset[str]:
    """Return the variables of all roles, with the keys behind dots, that are texts of any kind."""
    return frozenset(name for role in ROLES for name in texts_of(role_options(role)))


def duties(groups: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return each role with each host that has it, once."""
    return list(
        dict.fromkeys(
            (role, host) for group, roles in ROLES_OF_GROUP.items() for role in roles for host in groups.get(group, [])
        )
    )


@dataclass
class Checked:
    """What came of checking an inventory.

    Arguments:
        found: ``survey``, with ``look`` (host -> accounts and groups that its app needs) and ``made_up`` (folder
            of passwords -> files that were made up).
        planned: (role, host) -> what came of planning it.
        seen: host -> what this run has seen of it.
        given: returns a variable of a host, worked out, or a default.
        problems: all that is wrong.
        deployment: the model of the inventory; None when it could not be made.
        warnings: of rules that only warn.
        lost: host -> why this run could not gather its facts.
    """

    found: Survey
    planned: dict[tuple[str, str], Planned]
    seen: dict[str, Mapping[str, Any]]
    given: Given
    problems: list[Problem] = field(default_factory=list)
    deployment: Deployment | None = None
    warnings: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)


class InventoryCheck:
    """One check of one inventory.

    Arguments:
        controller: what the control machine has.
        groups: the inventory's groups and their hosts.
        raw: returns the untemplated variables of a host.
    """

    def __init__(
        self, controller: Controller, groups: Mapping[str, list[str]], raw: Callable[[str], Mapping[str, Any]]
    ) -> None:
        self._controller = controller
        self._groups = groups
        self._joins = controller.variables_in("playbooks", "vars", "stack.yml")
        self._variables = HostVariables(raw, controller.template, frozenset(self._joins))
        self._planner = RolePlanner(controller)
        self._failed: dict[str, Problem] = {}
        self._misplaced: dict[str, Problem] = {}
        self._apps: dict[str, Members] = {}

    def given(self, host: str, name: str, default: Any) -> Any:
        """Return a variable of a host, worked out, or a default; what cannot be is told at the end."""
        try:
            return self._variables.get(host, name, default)
        except Exception as error:  # A filter may raise anything.
            hidden = may_be_secret(name, ...)
            self._failed.setdefault(name, not_worked_out(name, error, self._variables.raw(host), hidden=hidden))
            return default

    def facts(self, host: str) -> dict[str, Any]:
        """Return what is known of the machine of a host; empty before it was looked at."""
        return self._variables.facts(host)

    def run(self, playbook: str) -> Checked:
        """Return what came of it; passwords that were made up are kept when nothing is wrong.

        Arguments:
            playbook: the directory of the playbook, beside which there may be variables.
        """
        raw = self._variables.raw
        seen = {host: own for host in self._groups["all"] if (own := seen_now(raw(host).get("ansible_facts")))}
        with tempfile.TemporaryDirectory(prefix="celeryops-") as folder:
            rehearsal = PasswordRehearsal(Path(folder))
            self._apps = members(self._groups, self.given)
            lost = {host: why for host in self._groups["all"] if (why := why_lost(raw(host)))}
            found = survey(self._apps, self._groups, self.given, self.facts)
            checked = Checked(found, {}, seen, self.given, lost=lost)
            sound = self._plan_all(checked, rehearsal)
            self._look_at_machines(checked, sound)
            self._judge(checked)
            self._finish(checked, playbook)
            if not checked.problems:
                checked.problems += [
                    Problem(
                        "cannot-be-written",
                        "celeryops_secrets_dir",
                        FilePath(secrets),
                        f"cannot be written to ({why})",
                        "another directory",
                    )
                    for secrets, why in rehearsal.keep()
                ]
            made = {str(secrets): sorted(made_up(secrets)) for secrets in rehearsal.folders}
        checked.found["look"], checked.found["made_up"] = _accounts(checked.planned), made
        return checked

    def _plan_all(self, checked: Checked, rehearsal: PasswordRehearsal) -> list[tuple[str, str]]:
        """Plan every role of every host, once for all that are alike; return those without a mistake."""
        found = checked.found
        sound: list[tuple[str, str]] = []
        alike: dict[tuple[str, str, str], tuple[Planned, list[Problem]]] = {}
        surroundings: dict[str, tuple[dict[str, Any], str, bool]] = {}
        texts: dict[str, str] = {}
        for role, host in duties(self._groups):
            defaults = self._controller.role_defaults(role)
            if host not in surroundings:
                facts, told = self._variables.facts(host), view(found, host)
                around = json.dumps([told, facts], sort_keys=True)
                # One text for all that are equal: they are compared often.
                surroundings[host] = facts, texts.setdefault(around, around), told["rabbitmq_wanted"]
            facts, around, rabbitmq_wanted = surroundings[host]
            key = (role, self._variables.kind(host, role, defaults), around)
            if key not in alike:
                own = self._rehearsed({**self._variables.raw(host), "__celeryops_survey": found}, rehearsal)
                known = functools.partial(self._meaning, host, defaults, around)
                said = self._apps[found["app_of"][host]].classes[host] if role == "celery_worker" else None
                planned, problems = self._planner.plan(role, own, facts, host, known, said)
                if role == "celery_app" and problems and "celery_app_queues" not in planned.given:
                    problems = where_written(problems, queue_places(self._apps[found["app_of"][host]]))
                alike[key] = planned, problems
            checked.planned[role, host], problems = alike[key]
            checked.problems += problems
            # A RabbitMQ that no app uses is left alone.
            if not problems and (rabbitmq_wanted or role != "rabbitmq"):
                sound.append((role, host))
        return sound

    def _meaning(self, host: str, defaults: Mapping[str, Any], around: str, name: str) -> tuple[str, str]:
        """Return what is equal wherever a variable comes to the same."""
        return self._variables.meaning(host, name, defaults), around

    def _look_at_machines(self, checked: Checked, sound: Iterable[tuple[str, str]]) -> None:
        """Add what the machines that were seen do not have for the roles that are planned for them."""
        seen, planned = checked.seen, checked.planned
        # An app that has another name now ends first: its Flower frees its port.
        wanted = inventory_of(checked.found, self._groups, self.given, planned) if seen else None
        going = leaving(wanted, seen) if wanted else {}
        for role, host in sound:
            if host in seen:
                own = planned[role, host]
                checked.problems += unusable(role, own.values, own.plan, seen[host], host, units_of(going, host))

    def _judge(self, checked: Checked) -> None:
        """Build the model of the whole, and let the rules look at it."""
        for host in dict.fromkeys(host for _role, host in checked.planned):
            for name in _WAY:
                self.given(host, name, None)
        # Whoever plans a role with it tells of it as well.
        told = {root(problem.variable) for problem in checked.problems}
        checked.problems += [text for name, text in self._failed.items() if name not in told]
        try:
            deployment = assemble(self._groups, checked.planned, self._variables.facts, self.given)
            verdict = judge(deployment, RULES)
        except Exception as error:
            # What is wrong already may be why.
            if not checked.problems:
                checked.problems.append(unforeseen(error, "the inventory", "looking at all hosts together"))
            return
        checked.deployment, unusable_ones = deployment, deployment.unusable
        checked.problems += [problem for problem in verdict.problems if root(problem.variable) not in unusable_ones]
        checked.warnings += [text for text in verdict.warnings if root(text) not in unusable_ones]

    def _finish(self, checked: Checked, playbook: str) -> None:
        """Add what the files say otherwise than it looks, and take away what only follows from another mistake."""
        names = {name for _role, host in checked.planned for name in self._variables.raw(host)}
        names -= self._joins.keys()
        checked.problems += misspelt_prefixes({role: role_options(role) for role in ROLES}, names)
        checked.problems += [*slips_beside(self._controller.sources, playbook, _texts()), *self._misplaced.values()]
        defaults = {**self._joins}
        for role in ROLES:
            defaults |= self._controller.role_defaults(role)
        checked.problems = without_consequences(checked.problems, defaults, names)

    def _rehearsed(self, own: dict[str, Any], rehearsal: PasswordRehearsal) -> dict[str, Any]:
        """Return the variables of a host with a copy in the place of the folder of its passwords."""
        # What cannot be worked out or read is told when a variable needs it.
        with contextlib.suppress(AnsibleError, OSError, ValueError):
            said = str(self._controller.template(own, own.get("celeryops_secrets_dir") or ""))
            misplaced = begins_nowhere("celeryops_secrets_dir", said) if said else None
            if misplaced:
                self._misplaced[str(misplaced)] = misplaced
                # What else is wrong comes in the same message.
                said = str(self._controller.place_of(said))
            secrets = Path(beside_inventory(self._controller.sources, "secrets", said))
            unread = unreadable(str(secrets))
            if unread:
                self._misplaced[str(unread)] = unread
            # As Ansible's lookup finds it.
            place = self._controller.place_of(str(secrets))
            return {**own, "celeryops_secrets_dir": str(rehearsal.copy(place))}
        return own


def _accounts(planned: Mapping[tuple[str, str], Planned]) -> dict[str, dict[str, list[str]]]:
    """Return host -> the accounts and groups that its app needs, for whoever looks at the host."""
    return {
        host: {
            "accounts": [str(found.values.get("celery_app_user"))],
            "groups": [str(found.values.get("celery_app_group"))],
        }
        for (role, host), found in planned.items()
        if role == "celery_app"
    }
