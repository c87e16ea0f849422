"""The one message that lists all mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.unknown_variables import misspelt
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import (
    Problem,
    closest,
    did_you_mean,
    holds_accounts,
    may_be_secret,
    message,
    shown,
)


def test_a_message_names_variable_value_reason_and_remedy() -> None:
    problem = Problem("test", "redis_purpose", "brokr", "is not a purpose", "broker")
    assert message([problem]) == (
        "1 mistake in the variables; nothing was changed:\n  - redis_purpose: 'brokr' is not a purpose; write broker"
    )


def test_whether_its_value_could_be_read_makes_no_other_mistake_of_it() -> None:
    problem = Problem("test", "redis_purpose", "brokr", "is not a purpose", "broker")
    assert not problem.readable
    assert problem == Problem("test", "redis_purpose", "brokr", "is not a purpose", "broker", readable=True)
    with pytest.raises(TypeError):
        Problem("test", "redis_purpose", "brokr", "is not a purpose", "broker", True)  # type: ignore[misc]  # that is the point


def test_the_same_mistake_of_fifty_hosts_is_told_once() -> None:
    problem = Problem("test", "redis_purpose", "brokr", "is not a purpose", "broker")
    assert message([problem] * 50).count("brokr") == 1


def test_passwords_in_urls_are_hidden() -> None:
    for url in ("postgresql://shop:s3cret@db/x", "redis://:s3cret@db", "amqp://a:s3c@ret@h:5672/v"):
        assert "s3c" not in shown(url)
    assert shown("postgresql://shop:s3cret@db/x") == "'postgresql://shop:***@db/x'"
    assert "s3cret" not in shown({"url": ["amqp://u:s3cret@h"]})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("celery_app_environment", ["A=hunter2"]),
        ("celery_app_environment.A", "hunter2"),
        ("celery_worker_classes.high.enviroment", {"A": "hunter2"}),
        ("celery_worker_classes.high.env", "hunter2"),
        ("celery_worker_classes.high.passwrod", "hunter2"),
        ("celery_worker_classes.high", [{"environment": {"A": "hunter2"}}]),
        ("rabbitmq_users", {"report": "hunter2"}),
        ("redis_extra_users[0]", "hunter2"),
        ("redis_users[0].password[1]", "hunter2"),
        ("flower_options.oauth2_secret", "hunter2"),
        ("flower_options.oauth2", {"api_key": ["hunter2"]}),
        ("celery_worker_defaults.extra_arguments", "--db-password=hunter2"),
        ("celery_worker_defaults.extra_arguments", ["SECRET_KEY: hunter2"]),
    ],
)
def test_what_may_be_a_secret_is_never_shown(variable: str, value: Any) -> None:
    assert "hunter2" not in str(Problem("test", variable, value, "is wrong", "another"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("celery_app_environment.A", True),
        ("rabbitmq_users[0].permissions", {"vhost": "shp"}),
        ("celery_app_name", "Shop"),
        ("celery_worker_classes.high.queues", ["payments"]),
        ("celery_app_key_prefix", "shop"),
        ("celery_app_settings.task_time_limit", "10m"),
    ],
)
def test_what_is_no_secret_is_shown(variable: str, value: Any) -> None:
    assert not may_be_secret(variable, value)
    assert shown(value) in str(Problem("test", variable, value, "is wrong", "another"))


@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        ("(a key)", "is not known here", "flower_options.oauth2_secret: is not known here; write another"),
        ("(a variable)", "is not a variable", "flower_options.oauth2_secret: is not a variable; write another"),
        (None, "is missing", "flower_options.oauth2_secret: is missing; write another"),
        (None, "is wrong", "flower_options.oauth2_secret: None is wrong; write another"),
    ],
)
def test_where_there_is_no_value_none_is_told(value: Any, reason: str, says: str) -> None:
    assert str(Problem("test", "flower_options.oauth2_secret", value, reason, "another")) == says


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 500)) == 120


def test_suggestions() -> None:
    assert did_you_mean("concurrncy", ["concurrency", "queues"]) == "concurrency (did you mean that?)"
    assert did_you_mean("zzz", ["b", "a"]) == "one of a, b"


def test_a_misspelt_variable_is_found_and_a_stranger_is_left_alone() -> None:
    known = ["redis_purpose", "redis_port"]
    found = misspelt("redis", known, ["redis_prupose", "redis_exporter_port", "redis_port", "postgres_port"])
    assert [(problem.variable, problem.instead) for problem in found] == [("redis_prupose", "redis_purpose")]


@pytest.mark.parametrize(("length", "cut"), [(118, False), (119, True)])
def test_what_fits_is_not_cut(length: int, cut: bool) -> None:
    # Two quotes are part of it.
    text = shown("x" * length)
    assert text == (f"'{'x' * 116}..." if cut else f"'{'x' * length}'")


@pytest.mark.parametrize(
    ("variable", "hidden"),
    [
        # Four letters of five are right; three are not enough.
        ("celery_worker_classes.high.tokem", True),
        ("celery_worker_classes.high.toxem", False),
        ("redis_users[0].name", False),
        ("redis_users", True),
        ("redis_users[0]", True),
        ("redis_users[0].permissions[1]", False),
    ],
)
def test_names_that_nearly_are_those_of_secrets(variable: str, hidden: bool) -> None:
    value: Any = "x" if variable.startswith("celery") or "." in variable else ["x"]
    assert may_be_secret(variable, value) is hidden


def test_values_are_shown_as_plain_ones() -> None:
    # As Ansible's own types of texts and numbers show themselves.
    tagged = type("Tagged", (str,), {"__repr__": "tagged".join})
    number = type("Number", (int,), {"__repr__": hex})
    assert shown({tagged("a"): [tagged("b"), (number(1), True, None, 1.5)]}) == "{'a': ['b', [1, True, None, 1.5]]}"
    assert shown({1, 2}) == "{1, 2}"


def test_a_suggestion_is_the_likeliest_name() -> None:
    known = ["queue_a", "queues", "queue_bb"]
    assert closest("queues_", known) == "queues"
    assert closest("queue", ["queues", "queued"]) == "queues"
    assert closest("zzz", known) == ""
    assert closest("queuez", ["queues"], 0.9) == ""
    assert did_you_mean("x", []) == "nothing"


def test_the_head_of_the_message_counts_lines() -> None:
    one, other = (Problem("test", "redis_purpose", value, "is not a purpose", "broker") for value in ("a", "b"))
    assert message([one, other, one]).splitlines()[0] == "2 mistakes in the variables; nothing was changed:"


def test_variables_that_hold_accounts() -> None:
    names = ("redis_users", "redis_users[0]", "rabbitmq_users.shop", "redis_users_x", "redis_port", "a.b_users")
    assert [name for name in names if holds_accounts(name)] == ["redis_users", "redis_users[0]", "rabbitmq_users.shop"]


def test_the_closest_of_several_names() -> None:
    assert closest("paymnets", ["refunds", "payments", "payment"]) == "payments"
    assert closest("queue", ("queue", "queues")) == "queue"
    assert closest("xyz", {"payments": 1}) == closest("a", []) == ""
    assert closest("shot", ["shop"], 0.75) == "shop"
    assert closest("shot", ["shop"]) == ""


def test_permissions_of_accounts_may_be_shown() -> None:
    assert not may_be_secret("rabbitmq_users[0].permissions", [{"vhost": "shop"}])
    assert not may_be_secret("rabbitmq_users[0].permissions[1]", {"vhost": "shop"})
    assert may_be_secret("rabbitmq_users[0]", {"vhost": "shop"})
