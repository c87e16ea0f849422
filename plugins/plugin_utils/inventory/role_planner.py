# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans one role for one host: evaluates its variables, computes the plan, and collects every mistake."""

from __future__ import annotations

import contextlib
import importlib
import json
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils import plans
from ansible_collections.celeryops.stack.plugins.plugin_utils.app.source_requirements import (
    SourceLines,
    missing_parts,
    read_source,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import (
    converted,
    misshapen,
    role_options,
    stand_in,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.root_causes import root
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.template_errors import failing, not_worked_out
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.unknown_variables import misspelt
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    Sentence,
    may_be_secret,
    without_secrets,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.model.build import Planned
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.layout import is_app_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import APP_VARIABLES, ROLES

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.controller import Controller

#: The modules that plan, by role. They are imported in the process that tasks are forked from, not by each of them:
#: what is imported of a collection is compiled every time.
_PLANS = {role: importlib.import_module(f"{plans.__name__}.{role}") for role in ROLES}

Template = Callable[[Any], Any]
PlanFunction = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[dict[str, Any], list[Problem]]]


def unforeseen(error: Exception, variable: str, where: str) -> Problem:
    """Return a fault of the collection as a mistake that can be looked for: where, with which variable, in which line.

    Arguments:
        error: what a function raised; its text is not told, as it may hold a secret.
        variable: whose value it was, as far as that is known.
        where: what was looked at: the role and the host.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}, {where}"
    reason = f"hit a bug in celeryops.stack ({place})"
    return Problem(
        "bug-in-the-check", variable, NOT_SHOWN, reason, "the value in another way, and please report this line"
    )


@dataclass(frozen=True)
class _Read:
    """One variable of a role: its value, what is wrong with its shape, and the value as the role takes it."""

    value: Any
    misshapen: tuple[Problem, ...]
    converted: Any


class RolePlanner:
    """Plans roles; what several hosts have alike, a variable or the source of an app, is read once for all of them.

    Arguments:
        controller: what the control machine has.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._sources: dict[str, SourceLines] = {}
        self._variables: dict[Hashable, _Read] = {}
        #: Names of apps that can be parts of a path.
        self._sound: set[Hashable] = set()
        #: Variables that Ansible's own validation has passed.
        self._valid: set[Hashable] = set()

    def plan(
        self,
        role: str,
        raw: Mapping[str, Any],
        facts: Mapping[str, Any],
        host: str = "this host",
        meaning: Callable[[str], Hashable] | None = None,
        said: Any = None,
    ) -> tuple[Planned, list[Problem]]:
        """Return the plan of a role for a host, and the mistakes.

        Arguments:
            role: the role.
            raw: the untemplated variables of the host.
            facts: what is known of the host.
            host: its name, for messages.
            meaning: returns what is equal wherever a variable comes to the same; without it each is read for itself.
            said: what was read of the host for all roles already: the worker classes of the role celery_worker.
        """
        options = role_options(role)
        known = {**self._controller.role_defaults(role), **raw}
        merged, template, unsound = self._with_sound_names(known, meaning)
        read: dict[str, _Read] = {}
        #: Variables that were read for another host already -> their place among those.
        keys: dict[str, Hashable] = {}
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        #: Told already; a value of the right kind stands in, so that the other mistakes come to light as well.
        wrong: set[str] = set()
        instead: dict[str, Any] = {}
        for name, option in options.items():
            if name not in merged:
                continue
            # With a name that is unsound, what stands in for it counts, which the meaning does not tell.
            keys[name] = (role, name, meaning(name)) if meaning and not unsound else None
            try:
                read[name] = self._variables.get(keys[name]) or _read(
                    name, option, unsound[name] if name in unsound else template(merged[name])
                )
                values[name] = read[name].value
                if keys[name]:
                    self._variables[keys[name]] = read[name]
            except Exception as error:  # A filter may raise anything.
                wrong.add(name)
                for place, cause in failing(merged[name], name, error, template):
                    hidden = bool(option.get("no_log")) or may_be_secret(place, ...)
                    problems.append(not_worked_out(place, cause, merged, hidden=hidden))
        missing = {
            name
            for name, option in options.items()
            if option.get("required") and name not in wrong and values.get(name) is None
        }
        wrong |= missing
        for name, default in self._controller.role_defaults(role).items():
            if name in options and name in values and values[name] is None:
                # A null is told below. Meanwhile the default shows whether there is another mistake.
                with contextlib.suppress(Exception):
                    instead[name] = template(default)
        problems += [
            Problem("missing", name, None, "is missing", f"a value, see the README of the role {role}")
            for name in sorted(missing)
        ]
        problems += misspelt(role, options, raw)
        found_shapes = [problem for one in read.values() for problem in one.misshapen]
        problems += found_shapes
        wrong |= {root(problem.variable) for problem in found_shapes}
        new = {
            name: option for name, option in options.items() if name not in wrong and keys.get(name) not in self._valid
        }
        refused = _validate(role, new, {name: value for name, value in values.items() if name in new})
        problems += refused
        self._valid.update(() if refused else filter(None, map(keys.get, new)))
        values = {
            name: instead.get(name, stand_in(name, option)) if name in wrong else read[name].converted
            for name, option in options.items()
            if name in wrong or name in values
        }
        module = _PLANS[role]
        plan: dict[str, Any] = {}
        meant: list[Any] = []
        try:
            if hasattr(module, "read"):
                # Beside a mistake, something else stands in for what was said.
                meant = [module.read(values, *([said] if said and not problems and not unsound else []))]
            plan, found = module.plan(values, facts, *meant)
            problems += [problem for problem in found if root(problem.variable) not in wrong]
            wrong |= unsound.keys() & options.keys()
        except Exception as error:
            # The function may rely on the spec. Where the spec was met, this is a fault of ours and has to be seen.
            if not problems:
                blamed = _blamed(module.plan, values, facts, {name: options[name] for name in options if name in raw})
                problems.append(unforeseen(error, blamed or f"role {role}", f"role {role}, {host}"))
        source = SourceLines()
        if role == "celery_app" and not problems:
            problems += self._missing_source(values["celery_app_source"])
            problems += self._missing_files(values.get("celery_app_files") or ())
            source = self._read_source(values["celery_app_source"])
        secret = {
            name for name, option in options.items() if option.get("no_log") or name.endswith(("_url", "_backend"))
        }
        given = frozenset(options) & frozenset(raw)
        of_source = (source.lines, source.locked)
        return Planned(values, plan, given, frozenset(secret), frozenset(wrong), *of_source, *meant), problems

    def _with_sound_names(
        self, merged: dict[str, Any], meaning: Callable[[str], Hashable] | None
    ) -> tuple[dict[str, Any], Template, dict[str, Any]]:
        """Return variables in which the names of apps can be parts of a path, what templates with them, and the others.

        They are looked at before all others: a default that looks up a password would write it to wherever a name such
        as ``../x`` leads.
        """
        template = self._controller.templates_with(merged)
        unsound: dict[str, Any] = {}
        for name in APP_VARIABLES:
            key = meaning(name) if meaning and not unsound else None
            if key in self._sound:
                continue
            # What cannot be worked out is told with the other variables.
            with contextlib.suppress(Exception):
                value = template(merged[name])
                if not is_app_name(value):
                    unsound[name] = value
                    merged = {**merged, name: stand_in(name, {})}
                    template = self._controller.templates_with(merged)
                elif key:
                    self._sound.add(key)
        return merged, template, unsound

    def _missing_source(self, source: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield that a wheel or a tree is not on the control machine, which is the one that builds from it."""
        kind, path = source["type"], str(source.get("path") or "")
        if kind not in ("wheel", "path"):
            return
        local = self._controller.local(path)
        if not (local.is_file() if kind == "wheel" else local.is_dir()):
            what = "the path of a wheel" if kind == "wheel" else "the path of a directory"
            reason = f"is {'no directory' if kind == 'path' and local.exists() else 'not'} on this machine ({local})"
            instead = f"{what}, absolute or from the inventory's directory"
            yield Problem("not-on-this-machine", "celery_app_source.path", path, reason, instead)
        else:
            yield from missing_parts(source, local)

    def _missing_files(self, files: Iterable[Mapping[str, Any]]) -> Iterator[Problem]:
        """Yield the sources of an app's own files that are not on the control machine."""
        for number, path in enumerate(entry.get("src") for entry in files):
            if path is None:
                continue
            local = self._controller.local(str(path))
            if not local.is_file():
                reason = f"is not on this machine ({local})"
                instead = "the path of a file, absolute or from the inventory's directory"
                yield Problem("not-on-this-machine", f"celery_app_files[{number}].src", str(path), reason, instead)

    def _read_source(self, source: Mapping[str, Any]) -> SourceLines:
        """Return what a wheel or a directory on this machine says of Celery; once for all hosts that have it."""
        if source["type"] not in ("wheel", "path"):
            return SourceLines()
        key = json.dumps(source, sort_keys=True, default=str)
        if key not in self._sources:
            local = self._controller.local(str(source.get("path") or ""))
            self._sources[key] = read_source(source, local)
        return self._sources[key]


def _read(name: str, option: Mapping[str, Any], value: Any) -> _Read:
    """Return a variable that was worked out, read by its option in the argument spec."""
    wrong = tuple(misshapen({name: option}, {name: value}))
    return _Read(value, wrong, None if wrong else converted(option, value))


def _blamed(
    function: PlanFunction, values: Mapping[str, Any], facts: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return which of the variables that are ``given`` keeps the plan from being made; nothing if none does."""
    for name, option in given.items():
        with contextlib.suppress(Exception):
            function({**values, name: stand_in(name, option)}, facts)
            return name
    return ""


def _validate(role: str, options: dict[str, Any], values: dict[str, Any]) -> list[Problem]:
    """Return what Ansible's own validation of the argument spec finds, without any secret value in it."""
    result = ArgumentSpecValidator(options).validate(values)
    texts = [str(remove_values(text, result._no_log_values)) for text in result.error_messages]
    return [Sentence("argument-spec", role, NOT_SHOWN, without_secrets(text), "") for text in texts]
