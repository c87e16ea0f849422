"""Celery's settings: what every app is promised, and what of a user's own is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from app_plans import BACKEND, ROLE, SECRET, only, planned, refused, settings
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.celery.setting_kinds import KINDS, UNLISTED
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans import (
    celery_app_environment,
    celery_app_settings,
)

NAMED = ["redbeat_lock_timeout"]

# The names of Celery's settings


def test_the_setting_names_are_those_of_the_installed_celery() -> None:
    from celery.app.defaults import NAMESPACES, flatten

    flat = {
        name: option.type if isinstance(option.type, str) else option.type.__name__
        for name, option in flatten(NAMESPACES)
    }
    listed = {name: kind for name, kind in KINDS.items() if name not in UNLISTED}
    assert listed == flat
    assert sorted(set(UNLISTED) & set(flat)) == []


def test_the_unlisted_settings_are_read_by_celery() -> None:
    import celery.backends

    source = "".join(path.read_text() for path in Path(celery.backends.__path__[0]).glob("*.py"))
    assert [name for name in UNLISTED if f"'{name}'" not in source] == []


def test_every_setting_that_the_plan_sets_is_one_of_celerys() -> None:
    everything = settings() | settings(broker_url=BACKEND)
    assert sorted(set(everything) - set(KINDS)) == []
    assert not [
        problem
        for name, value in everything.items()
        for problem in celery_app_settings._kind_problems(name, name, value)  # what users' values are held against
    ]


def test_every_setting_that_another_variable_decides_exists() -> None:
    assert sorted(set(celery_app_settings.OWNED_SETTINGS) - set(KINDS)) == []


def test_every_variable_that_a_message_names_exists() -> None:
    known = set(yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"])
    texts = [
        *celery_app_settings.OWNED_SETTINGS.values(),
        *celery_app_settings.OWNED_KEYS.values(),
        *celery_app_environment.OWNED_ENVIRONMENT.values(),
    ]
    named = {word for text in texts for word in text.split() if word.startswith("celery_app_")}
    assert named
    assert sorted(named - known) == []


def test_only_json_is_accepted_and_late_acknowledgement_is_the_rule() -> None:
    found = settings()
    assert found["accept_content"] == ["json"]
    assert {found[f"{kind}_serializer"] for kind in ("task", "result", "event")} == {"json"}
    assert found["task_acks_late"] is found["task_reject_on_worker_lost"] is True
    assert found["broker_connection_max_retries"] is None


def test_rabbitmq_gets_confirmed_publishing_timeouts_and_delayed_delivery() -> None:
    found = settings()
    assert found["broker_transport_options"] == {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30}
    assert found["task_default_exchange_type"] == found["task_create_missing_queue_exchange_type"] == "topic"
    assert found["task_default_queue_type"] == found["broker_native_delayed_delivery_queue_type"] == "quorum"


def test_a_cluster_that_is_not_of_the_inventory_gets_the_times_of_one() -> None:
    several = ";".join(f"amqp://shop:{SECRET}@mq{number}.example.org:5672/shop" for number in (1, 2, 3))
    one, found = settings(), settings(broker_url=several)
    assert {name: value for name, value in found.items() if value != one.get(name)} == {
        "broker_heartbeat": 6,
        "broker_connection_timeout": 3,
        "task_publish_retry_policy": {
            "max_retries": 75,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
        "broker_transport_options": {
            "confirm_publish": True,
            "read_timeout": 10,
            "write_timeout": 10,
            "connect_retries_timeout": 27,
        },
    }
    assert set(one) <= set(found)
    own = settings(broker_url=several, settings={"broker_heartbeat": 60})
    assert own["broker_heartbeat"] == 60


def test_redis_as_broker_waits_longer_than_the_longest_eta_and_two_tasks() -> None:
    found = settings(broker_url=BACKEND, longest_eta="12h", longest_task="1h")
    options = found["broker_transport_options"]
    assert options["visibility_timeout"] == 12 * 3600 + 2 * 3600 + 600
    assert options["global_keyprefix"] == "shop:"
    assert options["socket_timeout"] > 0
    assert options["health_check_interval"] > 0
    assert "task_default_queue_type" not in found
    assert "confirm_publish" not in options


def test_the_result_store_has_the_apps_prefix() -> None:
    assert settings()["result_backend_transport_options"]["global_keyprefix"] == "shop:"
    assert "result_backend_transport_options" not in settings(result_backend="")


def test_own_settings_win_and_transport_options_are_merged() -> None:
    found = settings(settings={"task_acks_late": False, "broker_transport_options": {"read_timeout": 5}})
    assert found["task_acks_late"] is False
    assert found["broker_transport_options"] == {"confirm_publish": True, "read_timeout": 5, "write_timeout": 30}


def test_what_every_app_is_promised() -> None:
    promised = {
        "accept_content": ["json"],
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": 0.0,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 10,
        "task_default_queue": "default",
        "task_default_exchange": "tasks",
        "task_default_routing_key": "default",
        "result_expires": 86400,
        "task_store_errors_even_if_ignored": True,
        "control_queue_exclusive": True,
        "event_queue_exclusive": True,
    }
    on_rabbitmq = {
        "broker_transport_options": {"confirm_publish": True, "read_timeout": 30, "write_timeout": 30},
        "worker_detect_quorum_queues": True,
    }
    on_redis = {
        "broker_transport_options": {
            "global_keyprefix": "shop:",
            "health_check_interval": 10,
            "socket_connect_timeout": 10,
            "socket_keepalive": True,
            "socket_timeout": 30,
            "visibility_timeout": 3600 + 2 * 1800 + 600,
        }
    }
    in_redis = {
        "result_backend_always_retry": True,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 10,
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": False,
        "redis_backend_health_check_interval": 10,
        "result_backend_transport_options": {"global_keyprefix": "shop:"},
    }
    found = settings()
    assert {name: found[name] for name in {**promised, **on_rabbitmq, **in_redis}} == {
        **promised,
        **on_rabbitmq,
        **in_redis,
    }
    found = settings(broker_url=BACKEND, result_backend="rpc://")
    assert {name: found[name] for name in {**promised, **on_redis}} == {**promised, **on_redis}
    assert not (on_rabbitmq.keys() - on_redis.keys() | in_redis.keys()) & found.keys()


def test_a_visibility_timeout_that_is_given_counts() -> None:
    options = settings(broker_url=BACKEND, visibility_timeout="4h")["broker_transport_options"]
    assert options["visibility_timeout"] == 4 * 3600


def test_rules_are_part_of_the_configuration_where_there_are_any() -> None:
    assert not {"once", "results"} & planned()["configuration"].keys()
    found = planned(once={"shop.nightly": "20h"}, results={"shop.*": "ignore"})["configuration"]
    assert found["once"]["prefix"] == "shop:"
    assert [(rule["task"], rule["period"]) for rule in found["once"]["rules"]] == [("shop.nightly", 72000)]
    assert found["results"] == [{"task": "shop.*", "result": "ignore"}]


def test_only_transport_options_are_merged() -> None:
    base = {"x_transport_options": {"a": 1, "b": 1}, "task_annotations": {"a": 1}}
    own = {"x_transport_options": {"b": 2}, "task_annotations": {"b": 2}}
    assert celery_app_settings.merged_settings(base, own) == {
        "x_transport_options": {"a": 1, "b": 2},
        "task_annotations": {"b": 2},
    }
    assert celery_app_settings.merged_settings(base, {"x_transport_options": "none"})["x_transport_options"] == "none"
    # Ansible's own types of texts are no business of the renderer.
    tagged = type("Tagged", (str,), {})
    merged = celery_app_settings.merged_settings({}, {tagged("timezone"): tagged("UTC")})
    assert [type(entry) for pair in merged.items() for entry in pair] == [str, str]
    plain = {"timezone": None, "include": ("a", True, 1, 1.5, None)}
    assert celery_app_settings.merged_settings({}, plain) == {"timezone": None, "include": ["a", True, 1, 1.5, None]}


@pytest.mark.parametrize("number", [1, 10_000])
def test_what_a_worker_may_take_in_advance(number: int) -> None:
    assert settings(prefetch_multiplier=number)["worker_prefetch_multiplier"] == number
    outside = number - 1 if number == 1 else number + 1
    assert told(refused(prefetch_multiplier=outside)) == [("out-of-range", "celery_app_prefetch_multiplier")]


# What is refused


@pytest.mark.parametrize(
    ("name", "value", "path", "identity"),
    [
        ("redbeat_lock_timeout", 5, "", "not-a-setting-of-celery"),
        ("task_routes", {"a": "b"}, "", "decided-by-another-variable"),
        ("task_queues", [], "", "decided-by-another-variable"),
        ("worker_concurrency", 3, "", "decided-by-another-variable"),
        ("broker_url", f"amqp://u:{SECRET}@h", "", "decided-by-another-variable"),
        ("redis_password", SECRET, "", "decided-by-another-variable"),
        ("broker_transport_options", {"visibility_timeout": 1}, ".visibility_timeout", "decided-by-another-variable"),
        ("security_key_password", SECRET, "", "looks-like-a-secret"),
        ("broker_failover_strategy", f"redis://u:{SECRET}@h", "", "looks-like-a-secret"),
        ("mongodb_backend_settings", {"user": "x", "password": SECRET}, ".password", "looks-like-a-secret"),
        (
            "broker_transport_options",
            {"sentinel_kwargs": {"password": SECRET}},
            ".sentinel_kwargs.password",
            "looks-like-a-secret",
        ),
        ("task_acks_late", "yes", "", "not-a-boolean"),
        ("task_acks_late", {"a": 1}, "", "not-a-boolean"),
        ("broker_use_ssl", "yes", "", "not-a-boolean"),
        ("result_cache_max", "5", "", "not-a-number"),
        ("result_cache_max", [1], "", "not-a-number"),
        ("result_cache_max", True, "", "not-a-number"),
        ("result_cache_max", 1.5, "", "number-out-of-range"),
        ("result_chord_retry_interval", float("inf"), "", "number-out-of-range"),
        ("timezone", 1, "", "not-text"),
        ("timezone", {"a": 1}, "", "not-text"),
        ("cassandra_port", True, "", "not-text"),
        ("cassandra_port", {"a": 1}, "", "not-text"),
        ("cassandra_auth_kwargs", ["a"], "", "not-text"),
        ("beat_schedule", [], "", "not-a-dictionary"),
        ("include", "shop.tasks", "", "not-a-list"),
        ("beat_schedule", {1: "x"}, "", "cannot-be-written-as-json"),
        ("beat_schedule", {"x": {1, 2}}, "", "cannot-be-written-as-json"),
        ("task_annotations", [float("inf")], "", "cannot-be-written-as-json"),
    ],
)
def test_settings_that_are_refused(name: str, value: Any, path: str, identity: str) -> None:
    assert told(refused(settings={name: value})) == [(identity, f"celery_app_settings.{name}{path}")]


def test_the_password_of_sentinels_has_a_variable() -> None:
    (problem,) = refused(settings={"result_backend_transport_options": {"sentinel_kwargs": {"password": SECRET}}})
    assert problem.instead == "celery_app_sentinel_password"
    (problem,) = refused(settings={"mongodb_backend_settings": {"password": SECRET}})
    assert "celery_app_environment" in problem.instead


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("task_ackslate", "task_acks_late (did you mean that?)"),
        ("CELERY_TASK_ACKS_LATE", "task_acks_late (did you mean that?)"),
        ("redbeat_lock_timeout", "celery_app_extra_setting_names"),
        ("broker_url", "celery_app_broker_url"),
        ("task_routes", "celery_app_routes"),
        ("task_queues", "celery_app_queues"),
        ("worker_concurrency", "celery_worker_classes"),
        ("redis_password", "celery_app_result_backend"),
    ],
)
def test_a_setting_that_is_none_is_told_with_what_decides_it(name: str, instead: str) -> None:
    assert instead in only(refused(settings={name: True})).instead


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cassandra_port", 9042),
        ("task_default_rate_limit", "10/m"),
        ("cassandra_auth_kwargs", {"username": "x"}),
        ("database_engine_options", {"a": [None, True, 1, 1.5, "x", {"b": None}]}),
        ("timezone", None),
        ("beat_schedule", {}),
        ("include", ["a"]),
        ("broker_use_ssl", {"ca_certs": "/x"}),
        ("broker_use_ssl", True),
    ],
)
def test_kinds_that_a_setting_may_be_of(name: str, value: Any) -> None:
    assert settings(settings={name: value})[name] == value


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("worker_concurrency", 3, 3),
        ("redis_password", SECRET, "(not shown)"),
        ("broker_url", SECRET, "(not shown)"),
        ("database_url", SECRET, "(not shown)"),
        ("result_backend", SECRET, "(not shown)"),
        ("nothing_of_celery", True, True),
        ("nothing_of_celery", 5, 5),
        ("nothing_of_celery", 0.5, 0.5),
        ("nothing_of_celery", SECRET, "(not shown)"),
        ("nothing_of_celery", [SECRET], "(not shown)"),
    ],
)
def test_what_may_be_a_secret_is_not_shown(name: str, value: Any, shown: Any) -> None:
    assert only(refused(settings={name: value})).value == shown


def test_one_wrong_setting_hides_no_other() -> None:
    wrong = {"broker_url": "x", "nope": 1, "security_key_password": SECRET, "task_acks_late": "yes"}
    assert [problem.variable.rpartition(".")[2] for problem in refused(settings=wrong)] == list(wrong)


def test_an_extensions_settings_can_be_named_but_not_to_get_around_the_plan() -> None:
    assert settings(settings={NAMED[0]: 5}, extra_setting_names=NAMED)[NAMED[0]] == 5
    assert told(refused(settings={"task_routes": {}}, extra_setting_names=["task_routes"])) == [
        ("setting-of-the-collection", "celery_app_extra_setting_names"),
        ("decided-by-another-variable", "celery_app_settings.task_routes"),
    ]


def test_a_cache_of_django_is_named_where_results_are_in_one() -> None:
    planned(result_backend="django-cache", settings={"cache_backend": "default"})
    assert only(refused(settings={"cache_backend": "default"})).value == "default"
    assert only(refused(result_backend="django-cache", settings={"redis_db": 1})).value == 1


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accept_content", ["json", "pickle"], "pickle"),
        ("accept_content", ["application/x-python-serialize"], "application/x-python-serialize"),
        ("result_accept_content", ["json", "Pickle"], "Pickle"),
        ("task_serializer", "pickle", "pickle"),
        ("result_serializer", "pickle", "pickle"),
        ("event_serializer", "pickle", "pickle"),
    ],
)
def test_pickle_is_refused_wherever_it_can_be_named(name: str, value: Any, shown: str) -> None:
    problem = only(refused(settings={name: value}))
    assert (*told([problem]), problem.value) == (("pickle-runs-code", f"celery_app_settings.{name}"), shown)


def test_other_serializers_are_the_users_choice() -> None:
    found = settings(settings={"accept_content": ["json", "msgpack", "yaml"], "task_serializer": "msgpack"})
    assert (found["accept_content"], found["task_serializer"]) == (["json", "msgpack", "yaml"], "msgpack")


@pytest.mark.parametrize("name", ["longest_eta", "longest_task", "result_expires"])
def test_durations_that_cannot_be_read_are_refused(name: str) -> None:
    assert told(refused(**{name: "5x"})) == [("not-a-duration", f"celery_app_{name}")]


def test_what_is_no_duration_is_nothing_meanwhile() -> None:
    values = {"longest_eta": "x", "longest_task": "", "result_expires": "1d", "visibility_timeout": ""}
    read, problems = celery_app_settings.durations(values)
    assert read == {"longest_eta": 0, "longest_task": 0, "result_expires": 86400, "visibility_timeout": 0}
    assert [problem.variable for problem in problems] == ["celery_app_longest_eta", "celery_app_longest_task"]
