"""Serializers: those that are refused, and those that nobody would read."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.serialization import prepare_accept_content, registry
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.serializers import (
    CONTENT_TYPES,
    DEFAULTS,
    SETTINGS,
    UNSAFE,
    serializer_problems,
    unread_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem

PICKLE = registry.name_to_type["pickle"]


def found(name: str, value: Any) -> list[Problem]:
    return list(serializer_problems(f"celery_app_settings.{name}", name, value))


def unread(**own: Any) -> list[tuple[str, str]]:
    """Return what nobody reads: the ids of the messages, and the settings."""
    return [
        (identity, variable.removeprefix("celery_app_settings.")) for identity, variable in told(unread_problems(own))
    ]


def test_the_names_are_those_of_kombu() -> None:
    assert {name: registry.name_to_type[name] for name in CONTENT_TYPES} == CONTENT_TYPES
    # "raw" is what has no serializer at all.
    assert set(registry.name_to_type) - set(CONTENT_TYPES) - {"raw"} == {"pickle"}
    assert {"pickle", PICKLE} < UNSAFE
    assert set(DEFAULTS) == set(SETTINGS) - {"result_accept_content"}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("form", ["pickle", PICKLE, "Pickle ", "dill", "cloudpickle"])
def test_what_runs_code_is_refused_everywhere(name: str, form: str) -> None:
    for value in (form, ["json", form]):
        (problem,) = found(name, value)
        assert (*told([problem]), problem.value) == (("pickle-runs-code", f"celery_app_settings.{name}"), form)


def test_other_settings_have_no_serializers() -> None:
    assert found("task_compression", "pickle") == []


@pytest.mark.parametrize(
    "form", ["json", "yaml", "msgpack", "application/json", "auth", "orjson", "ujson", "zstd-json", "bson", "raw"]
)
def test_what_is_one_or_may_be_one_of_an_extension(form: str) -> None:
    assert found("task_serializer", form) == found("accept_content", [form]) == []


@pytest.mark.parametrize(
    ("form", "meant"), [("jsn", "json"), ("JSON", "json"), (" json", "json"), ("yml", "yaml"), ("msgpck", "msgpack")]
)
def test_a_misspelt_one(form: str, meant: str) -> None:
    (problem,) = found("accept_content", ["json", form])
    assert (*told([problem]), problem.value) == (
        ("no-serializer-of-kombu", "celery_app_settings.accept_content"),
        form,
    )
    assert problem.instead == f"{meant} (did you mean that?)"
    assert unread(task_serializer=form) == unread(accept_content=[form]) == []


def test_a_list_of_nothing() -> None:
    for name in ("accept_content", "result_accept_content"):
        assert told(found(name, [])) == [("empty", f"celery_app_settings.{name}")]
        assert unread(**{name: []}) == []
        assert found(name, None) == []


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"accept_content": ["application/json"]},
        {"accept_content": ["yaml", "json"], "task_serializer": "yaml"},
        {"accept_content": ["json", "application/x-yaml"], "result_serializer": "yaml", "task_serializer": "yaml"},
        {"result_accept_content": ["msgpack"], "result_serializer": "msgpack"},
        {"event_serializer": "yaml"},
        {"accept_content": ["json", "orjson"], "task_serializer": "orjson"},
        {"accept_content": ["json", "application/x-own"], "task_serializer": "own"},
        {"accept_content": None, "task_serializer": None, "result_accept_content": None},
        {"accept_content": "yaml"},
        {"accept_content": ["json"], "task_serializer": 5},
        {"task_serializer": "pickle"},
    ],
)
def test_what_is_read_or_told_otherwise(own: dict[str, Any]) -> None:
    assert unread(**own) == []


@pytest.mark.parametrize(
    ("own", "setting", "lists"),
    [
        ({"task_serializer": "yaml"}, "task_serializer", "accept_content: [json, yaml]"),
        (
            {"result_serializer": "msgpack", "accept_content": None},
            "result_serializer",
            "accept_content: [json, msgpack]",
        ),
        # What is read of tasks does not count where results have a list of their own.
        (
            {"accept_content": ["json", "yaml"], "result_serializer": "yaml", "result_accept_content": ["json"]},
            "result_serializer",
            "result_accept_content: [json, yaml]",
        ),
        ({"accept_content": ["yaml"], "task_serializer": "yaml"}, "accept_content", "accept_content: [yaml, json]"),
        # One list that lacks what two write is told once.
        ({"accept_content": ["yaml"]}, "accept_content", "accept_content: [yaml, json]"),
    ],
)
def test_what_nobody_reads(own: dict[str, Any], setting: str, lists: str) -> None:
    (problem,) = unread_problems(own)
    assert told([problem]) == [("serializer-not-accepted", f"celery_app_settings.{setting}")]
    assert problem.instead.endswith(lists)


def test_each_list_that_lacks_something_is_told() -> None:
    assert len(unread(accept_content=["yaml"], result_accept_content=["yaml"])) == 2
    assert unread(task_serializer="own", accept_content=["application/x-yaml", "json"]) != []


def test_kombu_agrees() -> None:
    for accepted in (["json"], ["application/x-yaml", "json"]):
        types = prepare_accept_content(accepted)
        for form, kind in CONTENT_TYPES.items():
            refused = bool(unread(accept_content=accepted, task_serializer=form))
            assert refused is (kind not in types)


def test_what_is_of_another_kind_hides_nothing() -> None:
    assert len(unread(task_serializer=5, result_serializer="yaml")) == 1
    schedule = {"a": {"options": {"serializer": 5}}, "b": {"options": {"serializer": "yaml"}}}
    assert len(unread(beat_schedule=schedule)) == 1


@pytest.mark.parametrize("form", ["pickle", "yaml", "own"])
def test_single_tasks_in_a_form_that_nobody_reads(form: str) -> None:
    schedule = {"a": {"options": {"serializer": form}}, "b": {"options": {}}, "c": {"options": 5}, "d": 5}
    assert unread(beat_schedule=schedule) == [("serializer-not-accepted", "beat_schedule.a.options.serializer")]
    for given in ({"a.b": {"serializer": form}}, [{"a.b": {"serializer": form}, "c": {}, "d": 5}, "shop:all"]):
        assert unread(task_annotations=given) == [("serializer-not-accepted", "task_annotations.a.b.serializer")]
    everything = ["json", "application/x-yaml", "application/x-own"]
    assert (unread(beat_schedule=schedule, accept_content=everything) == []) is (form != "pickle")
    assert unread(beat_schedule=schedule, accept_content="json") == []
    assert (
        unread(beat_schedule={"a": {"options": {"serializer": 5}}}, task_annotations={"a": {"serializer": None}}) == []
    )
    assert unread(beat_schedule=["a"], task_annotations="shop:all") == []
