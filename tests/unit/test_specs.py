"""A role's defaults and its argument specs say the same; the specs are the only text that a variable has."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).resolve().parents[2] / "roles").iterdir() if path.is_dir())
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "raw": (object,),
}
KEYS = {"choices", "default", "description", "elements", "no_log", "options", "required", "type", "version_added"}
SECRET = ("password", "secret", "cookie", "token")

Option = Mapping[str, Any]


@functools.cache
def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def defaults(role: Path) -> dict[str, Any]:
    return load(role / "defaults" / "main.yml") or {}


def specs(role: Path) -> dict[str, Any]:
    return load(role / "meta" / "argument_specs.yml")["argument_specs"]


def options(role: Path) -> dict[str, Option]:
    """The options of the role's main entry point."""
    return specs(role)["main"].get("options") or {}


def walk(given: Mapping[str, Option], path: str = "") -> Iterator[tuple[str, Option]]:
    """Every option with its dotted name, those inside of others too."""
    for name, option in given.items():
        dotted = f"{path}.{name}" if path else name
        yield dotted, option
        yield from walk(option.get("options") or {}, dotted)


def is_template(value: Any) -> bool:
    """Whether a value is a template or holds one."""
    return "{{" in str(value)


def plain_default(option: Option, value: Any) -> Any:
    """What the specs say of a default: a template that is of another type than text falls back to what they name.

    Ansible's documentation tools refuse text in the place of a number, a truth value, a list or a dictionary.
    """
    fallback = re.search(r"\| default\((.*)\) }}$", str(value))
    return (
        yaml.safe_load(fallback[1]) if fallback and option.get("type", "str") not in ("str", "path", "raw") else value
    )


def computed_secrets(role: Path) -> set[str]:
    """Variables whose default is a template and which are, or hold, a secret.

    Ansible resolves the defaults in the specs and prints them, secrets included, when the validation fails. So such a
    default stands in defaults/main.yml only, and the description says in words what it is.
    """
    return {
        name
        for name, option in options(role).items()
        if is_template(defaults(role).get(name)) and any(entry.get("no_log") for _path, entry in walk({name: option}))
    }


each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def test_every_role_is_looked_at() -> None:
    assert ROLES


@each_role
def test_every_default_is_in_the_specs(role: Path) -> None:
    assert sorted(set(defaults(role)) - set(options(role))) == []


@each_role
def test_every_option_with_a_default_has_it_in_the_defaults(role: Path) -> None:
    with_default = {name for name, option in options(role).items() if "default" in option}
    assert sorted(with_default - set(defaults(role))) == []


@each_role
def test_values_agree(role: Path) -> None:
    given = options(role)
    different = {
        name: {"defaults/main.yml": value, "argument_specs.yml": given[name].get("default", "(no default)")}
        for name, value in defaults(role).items()
        if name in given
        and name not in computed_secrets(role)
        and (given[name].get("default", "(no default)"), type(given[name].get("default")))
        != ((plain := plain_default(given[name], value)), type(plain))
    }
    assert different == {}


@each_role
def test_a_computed_secret_stands_in_the_defaults_only(role: Path) -> None:
    assert [name for name in computed_secrets(role) if "default" in options(role)[name]] == []


@each_role
def test_a_default_has_the_type_and_one_of_the_choices_of_its_option(role: Path) -> None:
    wrong = []
    for dotted, option in walk(options(role)):
        value = option.get("default")
        kind = option.get("type", "str")
        if value is None or (is_template(value) and kind in ("str", "path", "raw")):
            continue
        if not isinstance(value, PYTHON_TYPES[kind]) or (kind != "bool" and kind != "raw" and isinstance(value, bool)):
            wrong.append(f"{dotted}: {value!r} is no {kind}")
        if "choices" in option and any(one not in option["choices"] for one in (value if kind == "list" else [value])):
            wrong.append(f"{dotted}: {value!r} is none of {option['choices']}")
    assert wrong == []


@each_role
def test_a_required_variable_has_no_default(role: Path) -> None:
    assert [name for name, option in walk(options(role)) if option.get("required") and "default" in option] == []
    assert (
        sorted(name for name, option in options(role).items() if option.get("required") and name in defaults(role))
        == []
    )


@each_role
def test_a_variable_without_default_is_required_or_absent_from_the_defaults(role: Path) -> None:
    without = {name for name, option in options(role).items() if "default" not in option}
    assert sorted((without & set(defaults(role))) - computed_secrets(role)) == []


@each_role
def test_every_option_says_what_it_is(role: Path) -> None:
    wrong = []
    for entry, spec in specs(role).items():
        wrong += [f"{entry}: no {key}" for key in ("short_description", "description") if not spec.get(key)]
        for dotted, option in walk(spec.get("options") or {}, "" if entry == "main" else entry):
            if option.get("type") not in PYTHON_TYPES:
                wrong.append(f"{dotted}: type {option.get('type')!r}")
            if option.get("type") == "list" and "elements" not in option:
                wrong.append(f"{dotted}: a list of what?")
            if set(option) - KEYS:
                wrong.append(f"{dotted}: {sorted(set(option) - KEYS)}")
            text = option.get("description") or ""
            text = " ".join(text) if isinstance(text, list) else text
            if not text.strip().endswith((".", "?", "!", ")")) or len(text.split()) < 3:
                wrong.append(f"{dotted}: the description is no sentence: {text!r}")
            if "readme" in text.lower():
                wrong.append(f"{dotted}: the description sends the reader elsewhere")
    assert wrong == []


@each_role
def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    prefix = f"{role.name}_"
    assert [name for name in [*options(role), *defaults(role)] if not name.startswith(prefix)] == []
    internal = load(role / "vars" / "main.yml") or {}
    # The plan has the name of the role itself.
    assert [name for name in internal if not f"{name}_".startswith(f"__{prefix}")] == []


@each_role
def test_a_plan_that_was_not_worked_out_says_why(role: Path) -> None:
    """`validate` registers it under this name, unless --start-at-task begins behind it."""
    internal = load(role / "vars" / "main.yml")
    registered = [task.get("register") for task in load(role / "tasks" / "validate.yml")]
    assert f"__{role.name}" in registered
    assert "undef(hint=" in internal[f"__{role.name}"]
    assert f"--tags {role.name}_configure" in " ".join(internal[f"__{role.name}"].split())


@each_role
def test_what_is_secret_stays_out_of_the_output(role: Path) -> None:
    """`no_log` is what keeps a value out of the result of the argument check."""
    shown = [
        dotted
        for dotted, option in walk(options(role))
        if dotted.rsplit(".", 1)[-1].endswith(SECRET) and option.get("type") == "str" and not option.get("no_log")
    ]
    assert shown == []
