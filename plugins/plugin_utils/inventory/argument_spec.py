# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that do not match their argument spec.

Ansible's own validation is generous: text where a list belongs is split into one, for itself. A role that reads the
variable afterwards still has the text, and goes through it letter by letter. What it does refuse it tells without
saying where in a list, or what to write.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import NOT_SHOWN
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    did_you_mean,
    holds_accounts,
    may_be_secret,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import APP_VARIABLES, ROLES
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.yaml_altered_text import altered

#: Lists in whose place a word may stand. Ansible's own validation is told that their entries may be anything, since it
#: makes a list of the word; what an entry has to be, the spec's ``options`` say all the same.
WORDS: Mapping[str, tuple[str, ...]] = {"celery_app_routes": ("from-app",)}
#: Not isdigit(), for which a raised 2 is a digit; and no longer than what Python turns into a number.
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_WORDS = {"list": "list", "dict": "dictionary"}
#: What a list or a dictionary looks like, where people know another shape from Celery's settings or a Compose file.
_SHAPES: Mapping[str, str] = {
    "celery_app_environment": "{DJANGO_SETTINGS_MODULE: shop.settings}",
    "celery_app_once": "{shop.reports.nightly: 20h}",
    "celery_app_routes": '[{task: "shop.payments.*", queue: payments}]',
    "celery_app_source": '{type: git, repo: "https://git.example.org/shop.git", version: v1.4.2}',
    "celery_worker_classes": "{high: {queues: [payments]}, default: {}}",
    "flower_basic_auth": "{ops: ...}, names and passwords",
}
#: What people call a key, too far from its name to look like a slip.
_OTHER_NAMES: Mapping[str, str] = {
    "branch": "version",
    "dest": "path",
    "name": "task",
    "pattern": "task",
    "ref": "version",
    "tag": "version",
    "url": "repo",
}
_ROLES = Path(__file__).resolve().parents[3] / "roles"
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@functools.cache
def role_options(role: str) -> dict[str, Any]:
    """Return the options of a role's argument spec."""
    # Plain data; Ansible's own loader would keep track of where each word came from, and takes ten times as long.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (_ROLES / role / "meta" / "argument_specs.yml").read_text()
    options: dict[str, Any] = yaml.load(text, Loader=loader)["argument_specs"]["main"]["options"]  # noqa: S506 - a SafeLoader
    return options


def default_of(variable: str) -> Any:
    """Return the default of a role's variable, as its argument spec has it; it may be a template."""
    role = max((name for name in ROLES if variable.startswith(f"{name}_")), key=len)
    return role_options(role)[variable].get("default")


def misshapen(options: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any], where: str = "") -> list[Problem]:
    """Return a problem for every value of another kind, choice that is none, and key that is unknown or missing.

    Arguments:
        options: the options of an argument spec.
        values: what was given; names without an option are not looked at.
        where: the path to ``values``, for the messages.
    """
    problems: list[Problem] = []
    for name, option in options.items():
        path = f"{where}.{name}" if where else name
        if name not in values:
            continue
        if values[name] is not None:
            problems += _check(option, values[name], path)
        elif not option.get("required"):
            # Nothing behind the colon: Ansible would hand the roles a null in place of the default.
            problems.append(Problem("empty", path, None, "is empty", f"{_something(option)}, or leave it out"))
    return problems


def _kind(option: Mapping[str, Any]) -> str:
    return str(option.get("type", "str"))


def _entry(option: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option of an entry of a list."""
    return {**option, "type": "dict" if option.get("options") else option.get("elements", "str")}


def _is_no_account(option: Mapping[str, Any], where: str, value: Any) -> bool:
    """Whether something else stands in the place of one or several accounts: name and password in one text, perhaps."""
    return holds_accounts(where) and _kind(option) in _WORDS and isinstance(value, str)


def _something(option: Mapping[str, Any]) -> str:
    """Return what to write for nothing, or that something has to be there."""
    kind, usual = _kind(option), option.get("default")
    if kind not in _WORDS:
        return "a value"
    # No entries may be another thing than the default: a server that listens nowhere.
    return f"a {_WORDS[kind]}" if usual and "{{" not in str(usual) else f"{_EMPTY[kind]}"


def _check(option: Mapping[str, Any], value: Any, where: str) -> Iterator[Problem]:
    kind = _kind(option)
    hidden = option.get("no_log") or may_be_secret(where, value) or _is_no_account(option, where, value)
    shown = NOT_SHOWN if hidden else value
    if kind == "list":
        if isinstance(value, str) and value in WORDS.get(where, ()):
            return
        if not isinstance(value, (list, tuple)):
            words = option.get("elements") == "str"
            instead = _listed(value, words) if isinstance(value, (str, int)) and not hidden else "a list"
            if where in WORDS:
                instead = ", or ".join([_SHAPES.get(where, "a list"), *WORDS[where]])
            yield Problem("not-a-list", where, shown, "is not a list", instead)
            return
        entry = _entry(option)
        for number, element in enumerate(value):
            if element is None:
                yield Problem("empty", f"{where}[{number}]", None, "is empty", "a value, or leave it out")
            else:
                yield from _check(entry, element, f"{where}[{number}]")
    elif kind == "dict":
        if not isinstance(value, Mapping):
            instead = f"keys and values, such as {_SHAPES.get(where, '{key: value}')}"
            yield Problem("not-a-dictionary", where, shown, "is not a dictionary", instead)
            return
        yield from _check_keys(option.get("options") or {}, value, where)
    elif kind == "bool":
        if not isinstance(value, bool) and str(value).lower() not in (*_TRUE, *_FALSE):
            yield Problem("not-a-boolean", where, shown, "is neither true nor false", "true or false")
    elif kind == "int":
        if isinstance(value, bool) or not _WHOLE_NUMBER.fullmatch(str(value)):
            yield Problem("not-a-whole-number", where, shown, "is not a whole number", "a whole number")
    elif kind == "str" and isinstance(value, (list, tuple, Mapping)):
        yield Problem("not-text", where, shown, "is not text", "text")
    elif kind == "str" and not option.get("choices") and isinstance(value, bool):
        reason = "is true or false to YAML, which takes yes, no, on and off for that, and not text"
        yield Problem("yaml-boolean", where, shown, reason, "it in quotes")
    elif kind == "str" and option.get("no_log") and (fault := altered(where, value, lines=where.endswith("_key"))):
        yield fault
    elif option.get("choices") and str(value) not in map(str, option["choices"]):
        choices = [str(choice) for choice in option["choices"] if choice != ""]
        octal = _octal(value, choices)
        if octal:
            reason = f"is what YAML makes of {octal}, a number to base 8"
            yield Problem("yaml-octal", where, value, reason, f'it in quotes: "{octal}"')
            return
        yield Problem("not-a-choice", where, shown, "is not one of its values", did_you_mean(str(value), choices))


def _listed(value: object, words: bool) -> str:
    """Return how a list is written whose entries stand in one text, of words apart by commas or blanks."""
    entries = re.split(r"[,\s]+", str(value).strip()) if words else [str(value)]
    # What a requirement compares belongs together.
    if not all(re.fullmatch(r"[\w.:/+*@-]+(\[[\w.-]+\])?([=<>~!]=?=?[\w.*+!-]+)?", entry) for entry in entries):
        entries = [str(value)]
    plain = all(re.fullmatch(r"[A-Za-z0-9/][\w .:/+@-]*", entry) for entry in entries)
    return f"[{', '.join(entries if plain else map(json.dumps, entries))}]"


def _octal(value: Any, choices: Iterable[str]) -> str:
    """Return the mode of a file that a number was before YAML read it, or an empty text."""
    modes = (choice for choice in choices if re.fullmatch(r"0[0-7]+", choice))
    return next((mode for mode in modes if isinstance(value, int) and value == int(mode, 8)), "")


def _check_keys(options: Mapping[str, Mapping[str, Any]], value: Mapping[Any, Any], where: str) -> Iterator[Problem]:
    """Yield what is wrong with the keys of a dictionary; one without options takes any."""
    yield from misshapen(options, value, where)
    for key in value if options else ():
        if key not in options:
            right = _OTHER_NAMES.get(str(key), "")
            instead = right if right in options else did_you_mean(str(key), options)
            yield Problem("unknown-key", f"{where}.{key}", "(a key)", "is not known here", instead)
    for key, option in options.items():
        if option.get("required") and value.get(key) is None:
            choices = ", ".join(map(str, option.get("choices") or ()))
            yield Problem(
                "missing", f"{where}.{key}", None, "is missing", f"one of {choices}" if choices else "a value"
            )


def converted(option: Mapping[str, Any], value: Any) -> Any:
    """Return ``value`` with the numbers, truth values and texts inside of it in their own type, as roles rely on it.

    Arguments:
        option: the option of the argument spec.
        value: a value without problems (``misshapen``).
    """
    kind = _kind(option)
    if value is None:
        return None
    if kind == "list" and isinstance(value, str):
        return value
    if kind == "list":
        entry = _entry(option)
        return [converted(entry, element) for element in value]
    if kind == "dict":
        options = option.get("options") or {}
        return {key: converted(options[key], entry) if key in options else entry for key, entry in value.items()}
    if kind == "bool" and not isinstance(value, bool):
        return str(value).lower() in _TRUE
    if kind == "int" and not isinstance(value, int):
        return int(str(value))
    if kind == "str" and isinstance(value, (bool, int, float)):
        return str(value)
    return value


def names_in(said: object) -> list[str]:
    """Return the names in a list, or in a text with commas, which is what ``-e name=a,b`` hands over."""
    if isinstance(said, str):
        text = said.strip()
        said = (text[1:-1] if text.startswith("[") and text.endswith("]") else text).split(",")
    names = said if isinstance(said, (list, tuple, set)) else []
    return [name for one in names if (name := str(one).strip())]


def texts_of(options: Mapping[str, Mapping[str, Any]], where: str = "") -> Iterator[str]:
    """Yield the options, with the keys behind dots, whose value is any text.

    Arguments:
        options: the options of an argument spec.
        where: the path to them, with a dot at its end.
    """
    for name, option in options.items():
        if _kind(option) == "str" and not option.get("choices"):
            yield f"{where}{name}"
        yield from texts_of(option.get("options") or {}, f"{where}{name}.")


#: What stands in for the variables that have no default, in the shape that plans rely on.
_STAND_INS: Mapping[str, Any] = {
    **dict.fromkeys(APP_VARIABLES, "app"),
    "celery_app_import": "app:app",
    "celery_app_source": {"type": "virtualenv", "path": "/nowhere"},
    "celery_app_key_prefix": "app:",
}
_EMPTY: Mapping[str, Any] = {"list": [], "dict": {}, "bool": False, "int": 0, "float": 0.0}


def stand_in(name: str, option: Mapping[str, Any]) -> Any:
    """Return a value of the right kind for a variable whose own value cannot be used.

    Arguments:
        name: the variable.
        option: the option of the argument spec.
    """
    if name in _STAND_INS:
        return _STAND_INS[name]
    default = option.get("default")
    if default is not None and "{{" not in str(default):
        return default
    if option.get("choices"):
        return option["choices"][0]
    return _EMPTY.get(str(option.get("type", "str")), "")
