"""Values of another shape than their spec says."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import (
    converted,
    misshapen,
    names_in,
    stand_in,
)

OPTIONS: dict[str, Any] = {
    "packages": {"type": "list", "elements": "str"},
    "source": {"type": "dict", "options": {"packages": {"type": "list"}, "keep": {"type": "bool"}}},
    "users": {"type": "list", "elements": "dict", "options": {"databases": {"type": "list", "elements": "int"}}},
    "port": {"type": "int"},
    "key": {"type": "list", "no_log": True},
    "name": {"type": "str"},
    "level": {"type": "str", "choices": ["", "info", "debug"]},
    "routes": {
        "type": "list",
        "elements": "dict",
        "options": {"task": {"type": "str", "required": True}, "queue": {"type": "str"}},
    },
    "free": {"type": "dict"},
    "listen": {"type": "list", "default": ["127.0.0.1"]},
}


@pytest.mark.parametrize(
    ("values", "variable", "instead"),
    [
        ({"packages": "shop"}, "packages", "[shop]"),
        ({"source": {"packages": "shop"}}, "source.packages", "[shop]"),
        ({"source": ["shop"]}, "source", "keys and values, such as {key: value}"),
        ({"source": {"keep": "maybe"}}, "source.keep", "true or false"),
        ({"users": [{"databases": 1}]}, "users[0].databases", "[1]"),
        ({"users": [{"databases": ["a"]}]}, "users[0].databases[0]", "a whole number"),
        ({"port": "http"}, "port", "a whole number"),
        ({"port": True}, "port", "a whole number"),
        ({"port": "--80"}, "port", "a whole number"),
        ({"port": "8²"}, "port", "a whole number"),
        ({"port": "9" * 5000}, "port", "a whole number"),
        ({"port": None}, "port", "a value, or leave it out"),
        ({"packages": None}, "packages", "[], or leave it out"),
        ({"free": None}, "free", "{}, or leave it out"),
        ({"listen": None}, "listen", "a list, or leave it out"),
        ({"source": {"packages": None}}, "source.packages", "[], or leave it out"),
        ({"packages": [None]}, "packages[0]", "a value, or leave it out"),
        ({"packages": [["a"]]}, "packages[0]", "text"),
        ({"level": "inf"}, "level", "info (did you mean that?)"),
        ({"level": 3}, "level", "one of debug, info"),
        ({"routes": [{"task": "a"}, {"queue": "b"}]}, "routes[1].task", "a value"),
        ({"routes": [{"task": "a", "qeue": "b"}]}, "routes[0].qeue", "queue (did you mean that?)"),
    ],
)
def test_the_wrong_shape_is_told_with_its_path(values: dict[str, Any], variable: str, instead: str) -> None:
    (problem,) = misshapen(OPTIONS, values)
    assert (problem.variable, problem.instead) == (variable, instead)


def test_what_is_secret_is_not_shown() -> None:
    (problem,) = misshapen(OPTIONS, {"key": "s3cret"})
    assert "s3cret" not in str(problem)


def test_the_right_shape_passes_and_text_takes_its_type() -> None:
    values = {"source": {"keep": "no"}, "users": [{"databases": ["1", 2]}], "port": "80", "name": 5}
    assert misshapen(OPTIONS, {**values, "level": "", "free": {"any": 1}}) == []
    assert {name: converted(OPTIONS[name], value) for name, value in values.items()} == {
        "source": {"keep": False},
        "users": [{"databases": [1, 2]}],
        "port": 80,
        "name": "5",
    }


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ({"type": "dict"}, "celery_app_environment", "A=hunter2"),
        ({"type": "list", "elements": "dict"}, "redis_users", "shop hunter2"),
        ({"type": "list", "no_log": True}, "any", "hunter2"),
    ],
)
def test_what_may_be_a_secret_or_an_account_is_not_shown(option: dict[str, Any], name: str, value: str) -> None:
    (problem,) = misshapen({name: option}, {name: value})
    assert (problem.value, "hunter2" in problem.instead) == ("(not shown)", False)


def test_a_truth_value_is_no_text_unless_anything_may_be_there() -> None:
    (problem,) = misshapen(OPTIONS, {"name": True})
    assert problem.reason == "is true or false to YAML, which takes yes, no, on and off for that, and not text"
    (problem,) = misshapen(OPTIONS, {"level": True})
    assert problem.reason == "is not one of its values"
    assert misshapen({"any": {"type": "raw"}}, {"any": True}) == []
    assert converted({"type": "raw"}, "5") == "5"
    assert converted({"type": "float"}, 1.5) == 1.5
    assert converted({"type": "int"}, 7) == 7


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("celery_app_name", {"type": "str"}, "app"),
        ("celery_app_source", {"type": "dict"}, {"type": "virtualenv", "path": "/nowhere"}),
        ("any", {"type": "int", "default": 5}, 5),
        ("any", {"type": "int", "default": "{{ other }}"}, 0),
        ("any", {"type": "str", "choices": ["one", "two", "three"]}, "one"),
        ("any", {"type": "str", "default": "{{ other }}", "choices": ["one", "two", "three"]}, "one"),
        ("any", {"type": "list"}, []),
        ("any", {"type": "dict"}, {}),
        ("any", {"type": "bool"}, False),
        ("any", {"type": "float"}, 0.0),
        ("any", {}, ""),
    ],
)
def test_what_stands_in_for_a_value_of_no_use(name: str, option: dict[str, Any], value: Any) -> None:
    found = stand_in(name, option)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "instead"),
    [(0o640, 'it in quotes: "0640"'), (0o644, 'it in quotes: "0644"'), (640, "0640 (did you mean that?)")],
)
def test_a_mode_without_quotes_is_told_as_it_was_written(value: int, instead: str) -> None:
    (problem,) = misshapen({"mode": {"type": "str", "choices": ["0640", "0644"]}}, {"mode": value})
    assert problem.instead == instead
    (problem,) = misshapen({"mode": {"type": "str", "choices": ["640", "9", "0890"]}}, {"mode": 7})
    assert "quotes" not in problem.instead


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (["bulk"], ["bulk"]),
        ("bulk", ["bulk"]),
        ("bulk, feeds,", ["bulk", "feeds"]),
        ("[a, b]", ["a", "b"]),
        ([], []),
        ("", []),
        (None, []),
    ],
)
def test_names_are_a_list_or_a_text(said: object, names: list[str]) -> None:
    assert names_in(said) == names
