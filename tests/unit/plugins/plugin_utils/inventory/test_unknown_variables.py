"""Variables that look like a role's and are not."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.unknown_variables import (
    SHARED,
    misspelt,
    misspelt_prefixes,
)

ROLES = {
    "celery_app": ["celery_app_routes", "celery_app_name", "celery_app_install_environment"],
    "celery_worker": ["celery_worker_classes", "celery_worker_defaults"],
    "rabbitmq": ["rabbitmq_port"],
    "redis": ["redis_port"],
}


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("celery_workers_classes", "celery_worker_classes"),
        ("celry_app_routes", "celery_app_routes"),
        ("rabbit_mq_port", "rabbitmq_port"),
        ("celeryops_install_enviroment", "celeryops_install_environment"),
        ("celery_ops_secrets_dir", "celeryops_secrets_dir"),
        ("celeryops_rotate_secret", "celeryops_rotate_secrets"),
        ("celeryops_leave_message", "celeryops_leave_messages"),
        ("celeryops_look_at_all_host", "celeryops_look_at_all_hosts"),
    ],
)
def test_a_misspelt_prefix_is_told(name: str, instead: str) -> None:
    (problem,) = misspelt_prefixes(ROLES, [name, "celery_app_name", "ansible_host"])
    assert (problem.variable, problem.instead) == (name, instead)


@pytest.mark.parametrize(
    "name",
    ["celery_log_shipping", "redis_exporter_port", "redisport", "reports", "celery_app_route", "rebuild_port", *SHARED],
)
def test_the_names_of_others_are_left_alone(name: str) -> None:
    assert misspelt_prefixes(ROLES, [name]) == []


def test_a_key_of_a_class_and_a_setting_belong_elsewhere() -> None:
    (problem,) = misspelt("celery_worker", ROLES["celery_worker"], ["celery_worker_concurrency", "celery_worker_own"])
    assert problem.instead == "concurrency in celery_worker_defaults or in a class of celery_worker_classes"
    for role in ("celery_app", "celery_worker"):
        (problem,) = misspelt(role, ROLES[role], [f"{role}_task_acks_late"])
        assert problem.instead == "task_acks_late in celery_app_settings"
    assert misspelt("redis", ROLES["redis"], ["redis_task_acks_late"]) == []
