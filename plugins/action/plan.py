# Copyright: celeryops.stack contributors
# Apache License 2.0 (see LICENSE)
"""Collects the variables of roles on the control machine and hands them to the pure functions that plan and judge."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.celeryops.stack.plugins.plugin_utils import drawing
from ansible_collections.celeryops.stack.plugins.plugin_utils.ansible_variables import in_play_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.assemble import Planned, assemble, place_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.beside_inventory import (
    begins_nowhere,
    beside_inventory,
    keep_out_of_repositories,
    local_source,
    unreadable,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.consequences import (
    root,
    where_written,
    without_consequences,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory import HostVariables
from ansible_collections.celeryops.stack.plugins.plugin_utils.layout import is_app_name
from ansible_collections.celeryops.stack.plugins.plugin_utils.leaving import leaving, units_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.made_up import made_up
from ansible_collections.celeryops.stack.plugins.plugin_utils.misspelt import misspelt, misspelt_prefixes
from ansible_collections.celeryops.stack.plugins.plugin_utils.not_worked_out import failing, not_worked_out
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import (
    Place,
    Problem,
    may_be_secret,
    message,
    without_secrets,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.rehearsal import Rehearsal
from ansible_collections.celeryops.stack.plugins.plugin_utils.rolling import places
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules import judge
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES
from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.machines import unusable
from ansible_collections.celeryops.stack.plugins.plugin_utils.second_look import Look, inventory_of, second_look
from ansible_collections.celeryops.stack.plugins.plugin_utils.source_requirements import (
    Found,
    missing_parts,
    read_source,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.spec import converted, misshapen, stand_in, texts_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.stack import (
    ROLES_OF_GROUP,
    queue_places,
    survey,
    view,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.this_run import seen_now, without_stale
from ansible_collections.celeryops.stack.plugins.plugin_utils.yaml_slips import yaml_slips

if TYPE_CHECKING:
    from ansible_collections.celeryops.stack.plugins.plugin_utils.deployment import Deployment

_COLLECTION = Path(__file__).resolve().parents[2]
_PLANS = "ansible_collections.celeryops.stack.plugins.plugin_utils.plans."

#: What leads to a host: the check goes nowhere, and says all the same that the plays behind it could not.
_WAY = ("ansible_connection", "ansible_host", "ansible_port", "ansible_user")

PlanFunction = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[dict[str, Any], list[Problem]]]


#: Names of apps; passwords have files that are named after them.
_APP_NAMES = ("celery_app_name", "celery_worker_app", "celery_beat_app", "flower_app")


def unforeseen(error: Exception, variable: str, where: str) -> Problem:
    """Return a fault of the collection as a mistake that can be looked for: where, with which variable, in which line.

    Arguments:
        error: what a function raised; its text is not told, as it may hold a secret.
        variable: whose value it was, as far as that is known.
        where: what was looked at: the role and the host.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}, {where}"
    reason = f"is something that the check does not understand ({place}), a fault of celeryops.stack"
    return Problem(variable, "(not shown)", reason, "it in another way, and report this line")


@functools.cache
def role_options(role: str) -> dict[str, Any]:
    """Return the options of a role's argument spec."""
    # Plain data; Ansible's own loader would keep track of where each word came from, and takes ten times as long.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (_COLLECTION / "roles" / role / "meta" / "argument_specs.yml").read_text()
    options: dict[str, Any] = yaml.load(text, Loader=loader)["argument_specs"]["main"]["options"]  # noqa: S506 - a SafeLoader
    return options


@functools.cache
def _texts() -> frozenset[str]:
    """Return the variables of all roles, with the keys behind dots, that are texts of any kind."""
    roles = dict.fromkeys(role for several in ROLES_OF_GROUP.values() for role in several)
    return frozenset(name for role in roles for name in texts_of(role_options(role)))


def duties(groups: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return each role with each host that has it, once."""
    return list(
        dict.fromkeys(
            (role, host) for group, roles in ROLES_OF_GROUP.items() for role in roles for host in groups.get(group, [])
        )
    )


def _blamed(
    function: PlanFunction, values: Mapping[str, Any], facts: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return which of the variables that are ``given`` keeps the plan from being made; nothing if none does."""
    for name, option in given.items():
        with contextlib.suppress(Exception):
            function({**values, name: stand_in(name, option)}, facts)
            return name
    return ""


def seen_of(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what this run has seen of a host (celeryops.stack.facts); nothing of what an earlier one saw."""
    return seen_now(variables.get("ansible_facts"))


def _accounts(planned: Mapping[tuple[str, str], Planned]) -> dict[str, dict[str, list[str]]]:
    """Return host -> the accounts and groups that its app needs, for whoever looks at the host."""
    return {
        host: {
            kind: [str(found.values.get(f"celery_app_{variable}"))]
            for kind, variable in (("accounts", "user"), ("groups", "group"))
        }
        for (role, host), found in planned.items()
        if role == "celery_app"
    }


class ActionModule(ActionBase):
    """See plugins/modules/plan.py for what users read."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan of a role or of the inventory, or fail with the one message that lists all mistakes."""
        super().run(tmp, task_vars)
        variables: dict[str, Any] = task_vars or {}
        self._defaults: dict[str, dict[str, Any]] = {}
        self._read: dict[str, Found] = {}
        self._sources: list[str] = list(variables.get("ansible_inventory_sources") or ())
        role = self._task.args.get("role")
        if role is None:
            return self._check(variables)
        facts = without_stale(variables.get("ansible_facts"))
        planned, problems = self._plan(str(role), variables, facts)
        if (machine := seen_of(variables)) and not problems:
            host = str(variables.get("inventory_hostname") or "this host")
            ends = units_of(facts.get("celeryops_leaving") or {}, host)
            problems += unusable(str(role), planned.values, planned.plan, machine, host, ends)
        with contextlib.suppress(OSError):  # Whoever cannot write there wrote no password there either.
            keep_out_of_repositories(self._sources)
        return self._outcome([*self._unread(variables), *problems] if problems else [], {"plan": planned.plan})

    def _unread(self, variables: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield why no password could be looked up; what else is told of their variables follows from it."""
        with contextlib.suppress(AnsibleError, OSError, ValueError):
            said = str(self._template(variables, variables.get("celeryops_secrets_dir") or ""))
            unread = unreadable(beside_inventory(self._sources, "secrets", said))
            if unread:
                yield unread

    def _check(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Plan every role of every host of the inventory and judge the whole; return what the roles need of it."""
        groups: Mapping[str, list[str]] = task_vars["groups"]
        problems: list[Problem | str] = []
        self._misplaced: dict[str, Problem] = {}
        hostvars = task_vars["hostvars"]
        joins = frozenset(self._load("playbooks", "vars", "stack.yml"))
        variables = HostVariables(in_play_of(self._task, hostvars), self._template, joins)
        failed: dict[str, str] = {}

        def given(host: str, name: str, default: Any) -> Any:
            try:
                return variables.get(host, name, default)
            except Exception as error:  # A filter may raise anything.
                failed.setdefault(
                    name, not_worked_out(name, error, variables.raw(host), hidden=may_be_secret(name, ...))
                )
                return default

        found = survey(groups, given)
        planned: dict[tuple[str, str], Planned] = {}
        sound: list[tuple[str, str]] = []
        alike: dict[tuple[str, str, str, str], tuple[Planned, list[Any]]] = {}
        with tempfile.TemporaryDirectory(prefix="celeryops-") as folder:
            rehearsal = Rehearsal(Path(folder))
            for role, host in duties(groups):
                facts = variables.facts(host)
                key = (role, variables.kind(host), json.dumps(view(found, host)), json.dumps(facts, sort_keys=True))
                if key not in alike:
                    own = {**variables.raw(host), "__celeryops_survey": found}
                    own_plan, told_of_it = self._plan(role, self._rehearsed(own, rehearsal), facts, host)
                    if role == "celery_app" and told_of_it and "celery_app_queues" not in own_plan.given:
                        hosts = [other for other, app in found["app_of"].items() if app == found["app_of"].get(host)]
                        told_of_it = where_written(told_of_it, queue_places(groups, given, hosts))
                    alike[key] = own_plan, told_of_it
                planned[role, host], own_problems = alike[key]
                problems += own_problems
                # A RabbitMQ that no app uses is left alone.
                idle = role == "rabbitmq" and not view(found, host)["rabbitmq_wanted"]
                if not own_problems and not idle:
                    sound.append((role, host))
            seen = {host: machine for host in groups["all"] if (machine := seen_of(variables.raw(host)))}
            # An app that has another name now ends first: its Flower frees its port.
            going = leaving(inventory_of(found, groups, given, planned), seen) if seen else {}
            for role, host in sound:
                if host in seen:
                    own_plan = planned[role, host]
                    problems += unusable(role, own_plan.values, own_plan.plan, seen[host], host, units_of(going, host))
            for host in dict.fromkeys(host for _role, host in planned):
                for name in _WAY:
                    given(host, name, None)
            # Whoever plans a role with it tells of it as well.
            told = {root(str(getattr(problem, "variable", problem))) for problem in problems}
            problems += [text for name, text in failed.items() if name not in told]
            deployment, warnings = self._judged(groups, planned, variables, given, problems)
            every = dict.fromkeys(role for entries in ROLES_OF_GROUP.values() for role in entries)
            names = {name for _role, host in planned for name in variables.raw(host)} - joins
            problems += misspelt_prefixes({role: role_options(role) for role in every}, names)
            problems += [*self._yaml_slips(task_vars), *self._misplaced.values()]
            defaults = {name: value for role in every for name, value in self._role_defaults(role).items()}
            problems = without_consequences(problems, defaults, names)
            if not problems:
                problems += [
                    Problem(
                        "celeryops_secrets_dir", Place(secrets), f"cannot be written to ({why})", "another directory"
                    )
                    for secrets, why in rehearsal.keep()
                ]
            secrets = {str(folder): sorted(made_up(folder)) for folder in rehearsal.folders}
        found = {**found, "look": _accounts(planned), "made_up": secrets}
        behind: dict[str, Any] = {}
        if boolean(self._task.args.get("machines", False)) and deployment and not problems:
            look = Look(
                found=found,
                groups=groups,
                seen=seen,
                planned=planned,
                given=given,
                playing=frozenset(task_vars.get("ansible_play_hosts_all") or ()),
                tags=frozenset(str(tag) for tag in task_vars.get("ansible_run_tags") or ("all",)),
                rotate=boolean(self._task.args.get("rotate", False)),
                apps=deployment.apps,
                drain=self._task.args.get("drain") or "",
                place_of=functools.partial(place_of, deployment),
                managed={deployment.machines[server.host].identity for server in deployment.of_kind("redis")},
                only=boolean(self._task.args.get("only", False)),
            )
            more, behind = second_look(look)
            problems += more
        with contextlib.suppress(OSError):  # Whoever cannot write there wrote no password there either.
            keep_out_of_repositories(self._sources)
        result: dict[str, Any] = {
            "checked": {"hosts": len({host for _role, host in planned}), "roles": len(planned)},
            "ansible_facts": {"celeryops_survey": found, **behind},
        }
        if deployment and boolean(self._task.args.get("places", False)):
            result["ansible_facts"]["celeryops_places"] = places(deployment.classes)
        outcome = {**self._outcome(problems, result), "warnings": warnings}
        if self._task.args.get("show") and deployment and not outcome.get("failed"):
            outcome |= self._show(deployment, str(self._task.args.get("directory") or ""), outcome["warnings"])
        return outcome

    def _rehearsed(self, own: dict[str, Any], rehearsal: Rehearsal) -> dict[str, Any]:
        """Return the variables of a host with a copy in the place of the folder of its passwords."""
        # What cannot be worked out or read is told when a variable needs it.
        with contextlib.suppress(AnsibleError, OSError, ValueError):
            said = str(self._template(own, own.get("celeryops_secrets_dir") or ""))
            misplaced = begins_nowhere("celeryops_secrets_dir", said) if said else None
            if misplaced:
                self._misplaced[str(misplaced)] = misplaced
                # What else is wrong comes in the same message.
                said = str(self._loader.path_dwim(said))
            secrets = Path(beside_inventory(self._sources, "secrets", said))
            unread = unreadable(str(secrets))
            if unread:
                self._misplaced[str(unread)] = unread
            # As Ansible's lookup finds it.
            place = Path(self._loader.path_dwim(str(secrets)))
            return {**own, "celeryops_secrets_dir": str(rehearsal.copy(place))}
        return own

    @staticmethod
    def _judged(
        groups: Mapping[str, list[str]],
        planned: Mapping[tuple[str, str], Planned],
        variables: HostVariables,
        given: Callable[[str, str, Any], Any],
        problems: list[Any],
    ) -> tuple[Deployment | None, list[str]]:
        """Return the model of the inventory and the warnings; what the rules refuse is added to ``problems``."""
        try:
            deployment = assemble(groups, planned, variables.facts, given)
            verdict = judge(deployment, RULES)
        except Exception as error:
            # What is wrong already may be why.
            if not problems:
                problems.append(unforeseen(error, "the inventory", "looking at all hosts together"))
            return None, []
        problems += [problem for problem in verdict.problems if root(problem.variable) not in deployment.unusable]
        return deployment, [text for text in verdict.warnings if root(text) not in deployment.unusable]

    @staticmethod
    def _yaml_slips(task_vars: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what the inventory's own files say otherwise than they look."""
        sources = [Path(str(source)) for source in task_vars.get("ansible_inventory_sources") or ()]
        folders = [source if source.is_dir() else source.parent for source in sources if source.exists()]
        folders.append(Path(str(task_vars.get("playbook_dir") or ".")))
        own = [path for source in sources for path in ([source] if source.is_file() else [*source.glob("*")])]
        variables = [
            path
            for folder in dict.fromkeys(folders)
            for kind in ("group_vars", "host_vars")
            for path in sorted((folder / kind).rglob("*"))
        ]
        for path in dict.fromkeys([*own, *variables]):
            if path.suffix not in ("", ".yml", ".yaml", ".json") or not path.is_file():
                continue
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                # Ansible could not read it either.
                continue
            if text.startswith(("$ANSIBLE_VAULT", "#!")):
                continue
            name = next((str(path.relative_to(folder)) for folder in folders if path.is_relative_to(folder)), path.name)
            yield from yaml_slips(name, text, all_keys=path in own, texts=_texts())

    def _show(self, deployment: Deployment, directory: str, warnings: list[str]) -> dict[str, Any]:
        """Print the plan, and leave it in files for those who are not at this terminal."""
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

    @staticmethod
    def _outcome(problems: list[Any], result: dict[str, Any]) -> dict[str, Any]:
        if problems:
            return {"failed": True, "changed": False, "msg": message(problems)}
        return {"changed": False, **result}

    def _template(self, variables: Mapping[str, Any], value: Any) -> Any:
        return self._templar.copy_with_new_env(available_variables=variables).template(value)

    def _plan(
        self, role: str, raw: Mapping[str, Any], facts: Mapping[str, Any], host: str = "this host"
    ) -> tuple[Planned, list[Any]]:
        """Return the plan of ``role`` for a host whose untemplated variables are ``raw``, and the mistakes."""
        options = role_options(role)
        merged, unsound = self._with_sound_names({**self._role_defaults(role), **raw})
        templar = self._templar.copy_with_new_env(available_variables=merged)
        values: dict[str, Any] = {}
        problems: list[Any] = []
        #: Told already; a value of the right kind stands in, so that the other mistakes come to light as well.
        wrong: set[str] = set()
        instead: dict[str, Any] = {}
        for name, option in options.items():
            if name not in merged:
                continue
            try:
                values[name] = unsound[name] if name in unsound else templar.template(merged[name])
            except Exception as error:  # A filter may raise anything.
                wrong.add(name)
                for place, cause in failing(merged[name], name, error, templar.template):
                    hidden = bool(option.get("no_log")) or may_be_secret(place, ...)
                    problems.append(not_worked_out(place, cause, merged, hidden=hidden))
        missing = {
            name
            for name, option in options.items()
            if option.get("required") and name not in wrong and values.get(name) is None
        }
        wrong |= missing
        for name, default in self._role_defaults(role).items():
            if name in options and name in values and values[name] is None:
                # A null is told below. Meanwhile the default shows whether there is another mistake.
                with contextlib.suppress(Exception):
                    instead[name] = templar.template(default)
        problems += [
            f"{name}: is missing; write a value, see the README of the role {role}" for name in sorted(missing)
        ]
        problems += misspelt(role, options, raw)
        found_shapes = misshapen(options, values)
        problems += found_shapes
        wrong |= {root(problem.variable) for problem in found_shapes}
        rest = {name: option for name, option in options.items() if name not in wrong}
        problems += self._validate(role, rest, {name: value for name, value in values.items() if name not in wrong})
        values = {
            name: instead.get(name, stand_in(name, option)) if name in wrong else converted(option, values[name])
            for name, option in options.items()
            if name in wrong or name in values
        }
        function: PlanFunction = importlib.import_module(_PLANS + role).plan
        plan: dict[str, Any] = {}
        try:
            plan, found = function(values, facts)
            problems += [problem for problem in found if root(problem.variable) not in wrong]
            wrong |= unsound.keys() & options.keys()
        except Exception as error:
            # The function may rely on the spec. Where the spec was met, this is a fault of ours and has to be seen.
            if not problems:
                blamed = _blamed(function, values, facts, {name: options[name] for name in options if name in raw})
                problems.append(unforeseen(error, blamed or f"role {role}", f"role {role}, {host}"))
        read = Found()
        if role == "celery_app" and not problems:
            problems += self._missing_source(values["celery_app_source"], self._sources)
            problems += self._missing_files(values.get("celery_app_files") or ())
            read = self._read_source(values["celery_app_source"])
        secret = {
            name for name, option in options.items() if option.get("no_log") or name.endswith(("_url", "_backend"))
        }
        given = frozenset(options) & frozenset(raw)
        return Planned(values, plan, given, frozenset(secret), frozenset(wrong), read.lines, read.locked), problems

    def _with_sound_names(self, merged: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return variables in which the names of apps can be parts of a path, and those that were none.

        They are looked at before all others: a default that looks up a password would write it to wherever a name such
        as ``../x`` leads.
        """
        unsound: dict[str, Any] = {}
        for name in _APP_NAMES:
            # What cannot be worked out is told with the other variables.
            with contextlib.suppress(Exception):
                value = self._template(merged, merged[name])
                if not is_app_name(value):
                    unsound[name] = value
                    merged = {**merged, name: stand_in(name, {})}
        return merged, unsound

    def _missing_source(self, source: Mapping[str, Any], sources: Iterable[str]) -> Iterator[Problem]:
        """Yield that a wheel or a tree is not on the control machine, which is the one that builds from it."""
        kind, path = source["type"], str(source.get("path") or "")
        if kind not in ("wheel", "path"):
            return
        local = local_source(path, sources, self._loader.get_basedir())
        if not (local.is_file() if kind == "wheel" else local.is_dir()):
            what = "the path of a wheel" if kind == "wheel" else "the path of a directory"
            reason = f"is {'no directory' if kind == 'path' and local.exists() else 'not'} on this machine ({local})"
            yield Problem("celery_app_source.path", path, reason, f"{what}, absolute or from the inventory's directory")
        else:
            yield from missing_parts(source, local)

    def _missing_files(self, files: Iterable[Mapping[str, Any]]) -> Iterator[Problem]:
        """Yield the sources of an app's own files that are not on the control machine."""
        for number, path in enumerate(entry.get("src") for entry in files):
            if path is None:
                continue
            local = local_source(str(path), self._sources, self._loader.get_basedir())
            if not local.is_file():
                reason = f"is not on this machine ({local})"
                instead = "the path of a file, absolute or from the inventory's directory"
                yield Problem(f"celery_app_files[{number}].src", str(path), reason, instead)

    def _read_source(self, source: Mapping[str, Any]) -> Found:
        """Return what a wheel or a directory on this machine says of Celery; once for all hosts that have it."""
        if source["type"] not in ("wheel", "path"):
            return Found()
        key = json.dumps(source, sort_keys=True, default=str)
        if key not in self._read:
            local = local_source(str(source.get("path") or ""), self._sources, self._loader.get_basedir())
            self._read[key] = read_source(source, local)
        return self._read[key]

    def _role_defaults(self, role: str) -> dict[str, Any]:
        """Return a role's defaults."""
        if role not in self._defaults:
            self._defaults[role] = self._load("roles", role, "defaults", "main.yml")
        return self._defaults[role]

    def _load(self, *path: str) -> dict[str, Any]:
        """Return the variables in a file of the collection; they may be templates (ansible-core 2.19 asks to say so)."""
        arguments = {}
        if "trusted_as_template" in inspect.signature(self._loader.load_from_file).parameters:
            arguments["trusted_as_template"] = True
        return self._loader.load_from_file(str(_COLLECTION.joinpath(*path)), **arguments) or {}

    @staticmethod
    def _validate(role: str, options: dict[str, Any], values: dict[str, Any]) -> list[str]:
        """Return what Ansible's own validation of the argument spec finds, without any secret value in it."""
        result = ArgumentSpecValidator(options).validate(values)
        texts = [str(remove_values(text, result._no_log_values)) for text in result.error_messages]
        return [f"{role}: {without_secrets(text)}" for text in texts]
