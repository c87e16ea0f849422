"""The one message that lists all mistakes."""

from __future__ import annotations

from ansible_collections.celeryops.stack.plugins.plugin_utils.misspelt import misspelt
from ansible_collections.celeryops.stack.plugins.plugin_utils.problem import Problem, did_you_mean, message, shown


def test_a_message_names_variable_value_reason_and_remedy() -> None:
    problem = Problem("redis_purpose", "brokr", "is no purpose", "broker")
    assert message([problem]) == (
        "1 mistake in the variables; nothing was changed:\n  - redis_purpose: 'brokr' is no purpose; write broker"
    )


def test_the_same_mistake_of_fifty_hosts_is_told_once() -> None:
    problem = Problem("redis_purpose", "brokr", "is no purpose", "broker")
    assert message([problem] * 50).count("brokr") == 1


def test_passwords_in_urls_are_hidden() -> None:
    for url in ("postgresql://shop:s3cret@db/x", "redis://:s3cret@db", "amqp://a:s3c@ret@h:5672/v"):
        assert "s3c" not in shown(url)
    assert shown("postgresql://shop:s3cret@db/x") == "'postgresql://shop:***@db/x'"
    assert "s3cret" not in shown({"url": ["amqp://u:s3cret@h"]})


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 500)) == 120


def test_suggestions() -> None:
    assert did_you_mean("concurrncy", ["concurrency", "queues"]) == "concurrency (did you mean that?)"
    assert did_you_mean("zzz", ["b", "a"]) == "one of a, b"


def test_a_misspelt_variable_is_found_and_a_stranger_is_left_alone() -> None:
    known = ["redis_purpose", "redis_port"]
    found = misspelt("redis", known, ["redis_prupose", "redis_exporter_port", "redis_port", "postgres_port"])
    assert [(problem.variable, problem.instead) for problem in found] == [("redis_prupose", "redis_purpose")]
