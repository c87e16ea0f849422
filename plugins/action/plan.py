# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects the variables of roles on the control machine and passes them to the pure functions that plan and check.

What only some calls need is imported by them: what is imported of a collection is compiled in every run.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.ansible_variables import in_play_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.check import InventoryCheck
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.control_paths import (
    beside_inventory,
    keep_out_of_repositories,
    unreadable,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.controller import Controller
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.role_planner import RolePlanner
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import seen_now, without_stale
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem, message, mistakes
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.host_conflicts import unusable
from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.leaving import units_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible_collections.celeryops.stack.plugins.plugin_utils.model.deployment import Deployment


class ActionModule(ActionBase):
    """See plugins/modules/plan.py for what users read."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"role", "show", "directory", "places", "machines", "rotate", "only", "drain"})
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan of a role or of the inventory, or fail with the one message that lists all mistakes."""
        super().run(tmp, task_vars)
        variables: dict[str, Any] = task_vars or {}
        self._controller = Controller(self._templar, self._loader, variables.get("ansible_inventory_sources") or ())
        role = self._task.args.get("role")
        outcome = self._check(variables) if role is None else self._plan(str(role), variables)
        with contextlib.suppress(OSError):  # Whoever cannot write there wrote no password there either.
            keep_out_of_repositories(self._controller.sources)
        return outcome

    def _plan(self, role: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plan of one role for the task's own host."""
        facts = without_stale(variables.get("ansible_facts"))
        planned, problems = RolePlanner(self._controller).plan(role, variables, facts)
        if (machine := seen_now(facts)) and not problems:
            host = str(variables.get("inventory_hostname") or "this host")
            ends = units_of(facts.get("celeryops_leaving") or {}, host)
            problems += unusable(role, planned.values, planned.plan, machine, host, ends)
        return _outcome([*self._unread(variables), *problems] if problems else [], {"plan": planned.plan})

    def _unread(self, variables: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield why no password could be looked up; what else is told of their variables follows from it."""
        with contextlib.suppress(AnsibleError, OSError, ValueError):
            said = str(self._controller.template(variables, variables.get("celeryops_secrets_dir") or ""))
            unread = unreadable(beside_inventory(self._controller.sources, "secrets", said))
            if unread:
                yield unread

    def _check(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """Check the whole inventory; return what the roles need of it."""
        arguments = self._task.args
        check = InventoryCheck(self._controller, task_vars["groups"], in_play_of(self._task, task_vars["hostvars"]))
        checked = check.run(str(task_vars.get("playbook_dir") or "."))
        facts: dict[str, Any] = {"celeryops_survey": checked.found}
        if boolean(arguments.get("machines", False)) and checked.deployment and not checked.problems:
            from ansible_collections.celeryops.stack.plugins.plugin_utils.takeover.second_look import Look, second_look

            look = Look(
                checked,
                checked.deployment,
                playing=frozenset(task_vars.get("ansible_play_hosts_all") or ()),
                tags=frozenset(str(tag) for tag in task_vars.get("ansible_run_tags") or ("all",)),
                rotate=boolean(arguments.get("rotate", False)),
                drain=arguments.get("drain") or "",
                only=boolean(arguments.get("only", False)),
                server=lambda host: check.facts(host).get("celeryops_rabbitmq") or {},
                redis=lambda host: check.facts(host).get("celeryops_redis") or {},
            )
            more, behind = second_look(look)
            checked.problems += more
            facts |= behind
        if checked.deployment and boolean(arguments.get("places", False)):
            from ansible_collections.celeryops.stack.plugins.plugin_utils.rollout.order import places

            facts["celeryops_places"] = places(checked.deployment.classes)
        told = {"hosts": len({host for _role, host in checked.planned}), "roles": len(checked.planned)}
        outcome = _outcome(checked.problems, {"checked": told, "ansible_facts": facts})
        outcome["warnings"] = checked.warnings
        if arguments.get("show") and checked.deployment and not outcome.get("failed"):
            outcome |= self._show(checked.deployment, str(arguments.get("directory") or ""), checked.warnings)
        return outcome

    def _show(self, deployment: Deployment, directory: str, warnings: list[str]) -> dict[str, Any]:
        """Print the plan, and leave it in files for those who are not at this terminal."""
        from ansible_collections.celeryops.stack.plugins.plugin_utils.output import diagram as drawing

        self._display.display(f"\n{drawing.text(deployment)}\n")
        if not directory:
            return {}
        folder = Path(directory)
        pages = {folder / "plan.md": drawing.markdown(deployment), folder / "plan.svg": drawing.svg(deployment)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, content in pages.items():
                path.write_text(content)
        except OSError as error:
            warnings.append(
                f"the plan was not written: {error}; set celeryops_plan_dir to a directory that can be written"
            )
            return {}
        return {"files": [str(path) for path in pages]}


def _outcome(problems: list[Problem], result: dict[str, Any]) -> dict[str, Any]:
    if problems:
        return {"failed": True, "changed": False, "msg": message(problems), "mistakes": mistakes(problems)}
    return {"changed": False, **result}
