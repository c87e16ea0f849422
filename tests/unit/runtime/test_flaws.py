"""What is wrong with the fields of a message, before any worker looks at them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from celeryops_runtime.malformed.flaws import flaw, shown

SIGNATURE = {"task": "stand.work", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}

SOUND: list[dict[str, Any]] = [
    {},
    {"timelimit": [10, 5.5], "retries": 3, "eta": None, "expires": "2999-01-01T00:00:00+00:00"},
    {"expires": datetime(2999, 1, 1, tzinfo=UTC), "group_index": 0, "ignore_result": True},
    {"argsrepr": "('x',)", "kwargsrepr": "{}", "root_id": "a", "parent_id": None, "group": "b", "origin": "me"},
    {"stamped_headers": ["who"], "stamps": {"who": ["me"]}, "replaced_task_nesting": 1, "shadow": None},
    {"timelimit": [], "eta": "", "something": object},
]


@pytest.mark.parametrize("headers", SOUND)
def test_what_celery_sends_is_sound(headers: dict[str, Any]) -> None:
    full = {"task": "a", "id": "b", **headers}
    assert flaw(full, [[1], {"a": 1}, None]) is None
    assert flaw(full, ([], {}, {"callbacks": [SIGNATURE], "chain": [SIGNATURE], "chord": SIGNATURE})) is None
    assert flaw(full, {"args": [], "kwargs": {}}) is None
    assert flaw({}, {"args": [], "kwargs": {}, "utc": True, "taskset": "x", **full}) is None


WRONG_FIELDS: list[tuple[str, Any]] = [
    *(("timelimit", value) for value in ("abc", [1], 5, ["a", 1], [1, 2, 3], [-1, None], [True, None], [1e300, 1], {})),
    *((name, value) for name in ("eta", "expires") for value in (5, "tomorrow", {"a": 1}, ["x"], b"\xff")),
    *((name, "0001-01-01T00:00:00+14:00") for name in ("eta", "expires")),
    *(("retries", value) for value in ("x", [], {"a": 1})),
    *(("shadow", value) for value in ({"a": 1}, ["x"])),
    *(
        (name, value)
        for name in ("callbacks", "errbacks", "chain")
        for value in ("x", 5, {"a": 1}, [5], [{"a": 1}], [{"task": 5}], [{**SIGNATURE, "args": 5}], [[SIGNATURE]])
    ),
    *(
        ("chord", value)
        for value in (5, "", [SIGNATURE], {"b": 1}, {**SIGNATURE, "kwargs": [1]}, {**SIGNATURE, "options": 5})
    ),
    ("stamps", "x"),
    ("stamps", [1]),
    ("stamped_headers", "x"),
    ("stamped_headers", [5]),
    *((name, value) for name in ("id", "task") for value in (5, {"a": 1}, ["x"], "", b"x")),
]


@pytest.mark.parametrize(("name", "value"), WRONG_FIELDS)
def test_a_field_of_another_type_is_named(name: str, value: Any) -> None:
    full = {"task": "a", "id": "b"}
    found = flaw({**full, name: value}, [[], {}, None])
    assert found
    assert name in found
    assert flaw({}, {**full, "args": [], "kwargs": {}, name: value})
    if name not in {"id", "task"}:
        assert flaw(full, [[], {}, {name: value}])


WHOLE = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def test_an_id_may_be_an_object() -> None:
    one = uuid4()
    assert flaw({"task": "a", "id": one}, [[], {}, None]) is None
    assert shown(one) == repr(str(one))


@pytest.mark.parametrize(("name", "value"), [("group", 5), ("group", {"a": 1}), ("group_index", "x")])
def test_a_part_of_a_chord_needs_its_group(name: str, value: Any) -> None:
    for headers, body in (
        ({name: value}, [[], {}, {**WHOLE, "chord": SIGNATURE}]),
        ({}, [[], {}, {**WHOLE, "chord": SIGNATURE, name: value}]),
        ({name: value}, {"args": [], "kwargs": {}, "chord": SIGNATURE}),
    ):
        found = flaw({"task": "a", "id": "b", **headers}, body)
        assert found
        assert name in found
