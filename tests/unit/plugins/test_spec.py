"""Values of another shape than their spec says."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.spec import converted, misshapen

OPTIONS: dict[str, Any] = {
    "packages": {"type": "list", "elements": "str"},
    "source": {"type": "dict", "options": {"packages": {"type": "list"}, "keep": {"type": "bool"}}},
    "users": {"type": "list", "elements": "dict", "options": {"databases": {"type": "list", "elements": "int"}}},
    "port": {"type": "int"},
    "key": {"type": "list", "no_log": True},
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
        ({"packages": [None]}, "packages[0]", "a value, or leave it out"),
        ({"packages": [["a"]]}, "packages[0]", "text"),
    ],
)
def test_the_wrong_shape_is_told_with_its_path(values: dict[str, Any], variable: str, instead: str) -> None:
    (problem,) = misshapen(OPTIONS, values)
    assert (problem.variable, problem.instead) == (variable, instead)


def test_what_is_secret_is_not_shown() -> None:
    (problem,) = misshapen(OPTIONS, {"key": "s3cret"})
    assert "s3cret" not in str(problem)


def test_the_right_shape_passes_and_text_takes_its_type() -> None:
    values = {"source": {"keep": "no", "own": "x"}, "users": [{"databases": ["1", 2]}], "port": "80", "packages": None}
    assert misshapen(OPTIONS, values) == []
    assert {name: converted(OPTIONS[name], value) for name, value in values.items()} == {
        "source": {"keep": False, "own": "x"},
        "users": [{"databases": [1, 2]}],
        "port": 80,
        "packages": None,
    }
