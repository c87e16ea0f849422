# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Collects a role's variables on the control machine and hands them to the role's pure planning function."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils.misspelt import misspelt
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, message
from ansible_collections.celeryops.stack.plugins.plugin_utils.spec import converted, misshapen
from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import ROLES_OF_GROUP
from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import problems as stack_problems

_COLLECTION = Path(__file__).resolve().parents[2]
_PLANS = "ansible_collections.celeryops.stack.plugins.plugin_utils.plans."

PlanFunction = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[dict[str, Any], list[Problem]]]


def first_line(error: Exception) -> str:
    """Return what went wrong without the excerpt of the file that Ansible adds."""
    return str(error).splitlines()[0]


class ActionModule(ActionBase):
    """See plugins/modules/plan.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan, or fail with the one message that lists all mistakes."""
        super().run(tmp, task_vars)
        variables: dict[str, Any] = task_vars or {}
        role = self._task.args.get("role")
        if role is None:
            return self._check(variables)
        plan, problems = self._plan(str(role), variables)
        return self._outcome(problems, {"plan": plan})

    def _check(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Plan every role of every host of the inventory, and keep the mistakes only."""
        hostvars, inventory = task_vars["hostvars"], task_vars["groups"]
        problems: list[Problem | str] = []
        try:
            problems += stack_problems(inventory, hostvars)
        except AnsibleError as error:
            problems.append(f"a variable of the inventory cannot be worked out: {first_line(error)}")
        hosts: dict[str, list[str]] = {}
        for group, group_roles in ROLES_OF_GROUP.items():
            for host in inventory.get(group, []):
                known = hosts.setdefault(host, [])
                known.extend(role for role in group_roles if role not in known)
        for host, roles in hosts.items():
            raw = hostvars.raw_get(host)
            raw = {**raw, **{key: task_vars[key] for key in ("groups", "hostvars") if key in task_vars}}
            play_vars = {
                key: value for key, value in task_vars.items() if key.startswith(("celeryops_", "__celeryops_"))
            }
            for role in roles:
                problems += self._plan(role, {**play_vars, **raw, "inventory_hostname": host})[1]
        checked = {"hosts": len(hosts), "roles": sum(len(roles) for roles in hosts.values())}
        return self._outcome(problems, {"checked": checked})

    @staticmethod
    def _outcome(problems: list[Any], result: dict[str, Any]) -> dict[str, Any]:
        if problems:
            return {"failed": True, "changed": False, "msg": message(problems)}
        return {"changed": False, **result}

    def _plan(self, role: str, raw: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """Return the plan of ``role`` for the host whose untemplated variables are ``raw``, and the mistakes."""
        options = self._options(role)
        defaults = self._load(_COLLECTION / "roles" / role / "defaults" / "main.yml")
        merged = {**defaults, **raw}
        templar = self._templar.copy_with_new_env(available_variables=merged)
        values: dict[str, Any] = {}
        problems: list[Any] = []
        for name in options:
            if name not in merged:
                continue
            try:
                values[name] = templar.template(merged[name])
            except AnsibleError as error:
                problems.append(
                    f"{name}: cannot be worked out, it may need a variable that is not set: {first_line(error)}"
                )
        problems += misspelt(role, options, raw)
        found_shapes = misshapen(options, values)
        problems += found_shapes
        wrong = {problem.variable.split(".")[0].split("[")[0] for problem in found_shapes}
        # What is already told is not told again in Ansible's words.
        rest = {name: option for name, option in options.items() if name in values or name not in merged}
        rest = {name: option for name, option in rest.items() if name not in wrong}
        problems += self._validate(role, rest, {name: value for name, value in values.items() if name not in wrong})
        values = {name: value if name in wrong else converted(options[name], value) for name, value in values.items()}
        function: PlanFunction = importlib.import_module(_PLANS + role).plan
        try:
            plan, found = function(values, raw.get("ansible_facts", {}))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # The function may rely on the spec. Where the spec was met, this is a fault of ours and has to be seen.
            if not problems:
                raise
            return {}, problems
        return plan, problems + found

    def _options(self, role: str) -> dict[str, Any]:
        specs = self._load(_COLLECTION / "roles" / role / "meta" / "argument_specs.yml")
        options: dict[str, Any] = specs["argument_specs"]["main"]["options"]
        return options

    def _load(self, path: Path) -> dict[str, Any]:
        """Return a YAML file of this collection; its strings may be templates (ansible-core 2.19 asks to say so)."""
        arguments = {}
        if "trusted_as_template" in inspect.signature(self._loader.load_from_file).parameters:
            arguments["trusted_as_template"] = True
        loaded: dict[str, Any] = self._loader.load_from_file(str(path), **arguments) or {}
        return loaded

    @staticmethod
    def _validate(role: str, options: dict[str, Any], values: dict[str, Any]) -> list[str]:
        """Return what Ansible's own validation of the argument spec finds, without any secret value in it."""
        result = ArgumentSpecValidator(options).validate(values)
        return [f"{role}: {remove_values(text, result._no_log_values)}" for text in result.error_messages]
