"""Secrets that are not what was written."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import misshapen
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.yaml_traps import yaml_slips
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.yaml_altered_text import altered

PEM = "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("hunter2hunter2\n", "ends in a line break"),
        ("hunter2hunter2\r\n", "ends in a line break"),
        ("hunter2\nhunter2", "contains a line break"),
        ("hunter2\thunter2", "contains a line break or another control character"),
        ("hunter2\x7f", "contains a line break or another control character"),
        (PEM, "ends in a line break"),
        (1234567890.50, "is a number with a fraction to YAML"),
        (datetime.date(2026, 1, 5), "is a date to YAML"),
        (datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC), "is a date to YAML"),
    ],
)
def test_what_a_secret_cannot_be(value: Any, told: str) -> None:
    problem = altered("redis_admin_password", value)
    assert problem is not None
    assert told in problem.reason
    assert "hunter2" not in str(problem)
    assert "1234567890" not in str(problem)


@pytest.mark.parametrize("value", ["hunter2 hunter2", " x ", "ü€", 1234567890, "", None, True])
def test_what_a_secret_can_be(value: Any) -> None:
    assert altered("redis_admin_password", value) is None


def test_a_key_has_lines_and_a_token_none() -> None:
    assert altered("celery_app_source.deploy_key", PEM, lines=True) is None
    problem = altered("celery_app_environment.TOKEN", "hunter2\n", lines=True)
    assert problem is not None


def test_every_secret_of_a_spec_is_looked_at() -> None:
    options = {
        "redis_admin_password": {"type": "str", "no_log": True},
        "redis_users": {
            "type": "list",
            "elements": "dict",
            "options": {"password": {"type": "str", "no_log": True}, "name": {"type": "str"}},
        },
    }
    values = {"redis_admin_password": 0.5, "redis_users": [{"password": "hunter2\n", "name": "a\n"}]}
    assert [problem.variable for problem in misshapen(options, values)] == [
        "redis_admin_password",
        "redis_users[0].password",
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("redis_admin_password: 0123456", "a whole number"),
        ("redis_admin_password: 0x1F2E3D", "a whole number"),
        ("redis_admin_password: 0b1010", "a whole number"),
        ("redis_admin_password: 1_000_000", "a whole number"),
        ("redis_admin_password: +123456", "a whole number"),
        ("celery_app_broker_url: 0123456", "a whole number"),
        ("flower_basic_auth: {admin: 0123456}", "a whole number"),
        ("rabbitmq_users: [{name: a, password: 0123456}]", "a whole number"),
        ("rabbitmq_secret_config: {a.b: 0123456}", "a whole number"),
        ("celery_app_environment: {RATE: 1.50}", "a number with a fraction"),
        ("celery_app_environment: {MODE: 0644}", "a whole number"),
        ("celery_worker_classes: {high: {environment: {RATE: 1.0e+3}}}", "a number with a fraction"),
    ],
)
def test_a_number_that_yaml_writes_otherwise(text: str, kind: str) -> None:
    (problem,) = yaml_slips("group_vars/all.yml", text, all_keys=False)
    assert str(problem).endswith(
        f": '(not shown)' in line 1 of group_vars/all.yml is {kind} to YAML, and not written as it stands there;"
        " write it in quotes"
    )


@pytest.mark.parametrize(
    ("text", "written", "number"),
    [
        ("celery_app_source: {type: git, version: 1.10}", "1.10", "1.1"),
        ("celery_app_source: {type: git, version: 0123456}", "0123456", "42798"),
        ("celery_app_python: 3.10", "3.10", "3.1"),
        ("rabbitmq_vhosts: [{name: 2026.10}]", "2026.10", "2026.1"),
    ],
)
def test_a_version_that_yaml_takes_for_another_number(text: str, written: str, number: str) -> None:
    texts = {"celery_app_source.version", "celery_app_python", "rabbitmq_vhosts.name"}
    (problem,) = yaml_slips("all.yml", text, all_keys=False, texts=texts)
    said = f"'{written}' in line 1 of all.yml is the number {number} to YAML; write it in quotes: \"{written}\""
    assert str(problem).endswith(f": {said}")
    assert yaml_slips("all.yml", text.replace(written, "3.13"), all_keys=False, texts=texts) == []


def test_a_number_in_an_inventory() -> None:
    (problem,) = yaml_slips("hosts.yml", "all: {vars: {redis_admin_password: 0123456}}", all_keys=True)
    assert problem.variable == "redis_admin_password"
    (problem,) = yaml_slips("hosts.yml", "redis: {hosts: {a: {redis_admin_password: 0123456}}}", all_keys=True)
    assert problem.variable == "redis_admin_password"


@pytest.mark.parametrize(
    "text",
    [
        "redis_admin_password: 1234567",
        'redis_admin_password: "0123456"',
        "redis_admin_password: '0x1F'",
        "redis_admin_password: 0123456x",
        "redis_admin_password: 08",
        "redis_port: 0x1F",
        "celery_app_settings_mode: 0644",
        "celery_app_environment: {RATE: 1.5, PORT: 8080, ON: true}",
        "rabbitmq_memory_high_watermark: 0.40",
        "my_password: 0123456",
        "celery_app_result_expires: 1_000",
    ],
)
def test_what_is_written_as_it_stands(text: str) -> None:
    assert yaml_slips("group_vars/all.yml", text, all_keys=False) == []
