"""Values of Celery's settings that it could not work with, held against Celery and kombu themselves."""

from __future__ import annotations

import logging
import re
import zoneinfo
from pathlib import Path
from typing import Any

import kombu.compression
import pytest
from celery.app.annotations import MapAnnotation
from celery.utils.time import rate
from kombu.connection import failover_strategies
from kombu.entity import DELIVERY_MODES
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import KINDS
from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_values import (
    CHOICES,
    COMPRESSIONS,
    value_problems,
)
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem


def found(name: str, value: Any, broker: str = "rabbitmq") -> list[Problem]:
    return list(value_problems(f"s.{name}", name, value, broker))


def test_the_choices_are_those_of_the_libraries() -> None:
    assert set(CHOICES["broker_failover_strategy"]) == set(failover_strategies)
    assert set(CHOICES["task_default_delivery_mode"]) == set(DELIVERY_MODES)
    levels = {name for name in logging.getLevelNamesMapping() if name.isalpha()}
    assert set(CHOICES["worker_redirect_stdouts_level"]) == levels
    assert set(CHOICES) < set(KINDS)
    source = Path(kombu.compression.__file__).read_text()
    aliases = {name for names in re.findall(r"aliases=\[([^]]*)\]", source) for name in re.findall(r"'(\w+)'", names)}
    assert set(COMPRESSIONS) == aliases


@pytest.mark.parametrize("name", CHOICES)
def test_words_to_choose_from(name: str) -> None:
    for choice in CHOICES[name]:
        assert found(name, choice) == []
        (problem,) = found(name, f"{choice}x")
        assert (*told([problem]), problem.instead) == (
            ("not-a-choice", f"s.{name}"),
            f"{choice} (did you mean that?)",
        )
    assert found(name, None) == found(name, 1) == []
    assert found(name, "?")[0].instead.startswith("one of ")


def test_other_texts_are_the_users() -> None:
    assert found("control_exchange", "shop") == found("worker_log_format", "%(message)s") == []


def test_levels_may_be_in_small_letters() -> None:
    assert found("worker_redirect_stdouts_level", "info") == []


def test_tasks_that_are_never_sent() -> None:
    assert told(found("task_always_eager", True)) == [("runs-every-task", "s.task_always_eager")]
    assert found("task_always_eager", False) == []


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT-2", "EST5EDT", ""])
def test_time_zones(zone: str) -> None:
    assert found("timezone", zone) == []


@pytest.mark.parametrize(
    ("zone", "instead"),
    [
        ("Europe/Berln", "Europe/Berlin (did you mean that?)"),
        ("europe/berlin", "Europe/Berlin (did you mean that?)"),
        (" Europe/Berlin", "Europe/Berlin (did you mean that?)"),
        ("Berlin", "Europe/Berlin (did you mean that?)"),
        ("Pariz", "Europe/Paris (did you mean that?)"),
        ("Rome", "Europe/Rome (did you mean that?)"),
        ("CEST", "a name of the time zone database"),
        ("GMT+2", "a name of the time zone database"),
        ("UTC+01:00", "a name of the time zone database"),
        ("Europe", "a name of the time zone database"),
        ("/etc/localtime", "a name of the time zone database"),
        ("../../etc/passwd", "a name of the time zone database"),
        ("\0", "a name of the time zone database"),
    ],
)
def test_what_is_no_time_zone(zone: str, instead: str) -> None:
    (problem,) = found("timezone", zone)
    assert told([problem]) == [("no-time-zone", "s.timezone")]
    assert problem.instead.startswith(instead)


def test_a_machine_without_time_zones_says_nothing_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    assert found("timezone", "Nowhere/City") == []


@pytest.mark.parametrize("limit", ["10/s", "10/m", "0.5/h", "100", "10/", 10, 0.5, "", None])
def test_rates(limit: Any) -> None:
    assert found("task_default_rate_limit", limit) == []
    assert found("task_annotations", {"shop.mails.send": {"rate_limit": limit}}) == []
    rate(limit)


@pytest.mark.parametrize("limit", ["10/d", "10/min", "ten/m", "/m", "10 per hour", "10/m/s"])
def test_what_is_no_rate(limit: str) -> None:
    assert told(found("task_default_rate_limit", limit)) == [("not-a-rate", "s.task_default_rate_limit")]
    annotated = found("task_annotations", [{"*": {"rate_limit": limit}}])
    assert told(annotated) == [("not-a-rate", "s.task_annotations.*.rate_limit")]
    with pytest.raises((KeyError, ValueError)):
        rate(limit)


@pytest.mark.parametrize(
    "annotations",
    [{"*": {"time_limit": 5}}, {"shop.mails.send": {}}, [{"a": {"max_retries": 3}}, "shop:annotations"], "shop:a", 5],
)
def test_annotations(annotations: Any) -> None:
    assert found("task_annotations", annotations) == []


@pytest.mark.parametrize("task", ["shop.*", "*.send", "^shop", "shop mails"])
def test_annotations_know_no_patterns(task: str) -> None:
    annotated = found("task_annotations", {task: {"rate_limit": "10/m"}})
    assert told(annotated) == [("pattern-in-annotations", f"s.task_annotations.{task}")]
    assert "annotate_any" in vars(MapAnnotation)


def test_annotations_are_dictionaries() -> None:
    assert told(found("task_annotations", {"shop.mails.send": "10/m", "shop.pay": "1/s"})) == [
        ("not-a-dictionary", "s.task_annotations.shop.mails.send"),
        ("not-a-dictionary", "s.task_annotations.shop.pay"),
    ]


@pytest.mark.parametrize("name", ["task_compression", "result_compression"])
def test_compressions(name: str) -> None:
    assert [found(name, known) for known in (*COMPRESSIONS, "lz4", "application/x-gzip", "snappy")] == [[]] * 12
    (problem,) = found(name, "gzpi")
    assert (*told([problem]), problem.instead) == (
        ("no-compression-of-kombu", f"s.{name}"),
        "gzip (did you mean that?)",
    )


@pytest.mark.parametrize("name", ["beat_schedule", "broker_transport_options", "timezone", "task_annotations"])
def test_nothing_is_no_value(name: str) -> None:
    assert found(name, None) == []


def test_a_schedule_is_looked_at() -> None:
    assert found("beat_schedule", {"a": {"task": "b", "schedule": 0}}) != []
    assert found("beat_schedule", {}) == []


@pytest.mark.parametrize(
    ("name", "value", "broker", "fits"),
    [
        ("broker_use_ssl", {"server_hostname": "mq"}, "rabbitmq", True),
        ("broker_use_ssl", {"server_hostname": "mq"}, "redis", False),
        ("redis_backend_use_ssl", {"ca_path": "/etc/ssl"}, "rabbitmq", True),
        ("redis_backend_use_ssl", {"server_hostname": "mq"}, "rabbitmq", False),
        ("broker_transport_options", {"confirm_publsh": True}, "rabbitmq", False),
        ("broker_transport_options", {"confirm_publsh": True}, "redis", True),
        ("broker_transport_options", {"fanout_prefx": True}, "redis", False),
        ("broker_transport_options", {"fanout_prefx": True}, "rabbitmq", True),
        ("result_backend_transport_options", {"master_nme": "shop"}, "redis", False),
        ("result_backend_transport_options", {"fanout_prefx": True}, "redis", True),
    ],
)
def test_options_are_those_of_the_client_that_gets_them(name: str, value: Any, broker: str, fits: bool) -> None:
    assert (found(name, value, broker) == []) is fits
