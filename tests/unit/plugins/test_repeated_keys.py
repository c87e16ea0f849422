"""Keys that stand twice in one mapping."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.repeated_keys import repeated_keys


def told(text: str, *, all_keys: bool = False) -> list[str]:
    return [str(problem) for problem in repeated_keys("group_vars/all.yml", text, all_keys=all_keys)]


def test_a_key_with_two_values_is_told_with_its_lines_and_without_its_values() -> None:
    (line,) = told("redis_port: 6379\nredis_bind: []\nredis_port: 6380\n")
    reason = "has it in lines 1 and 3, with different values: only the last counts"
    assert line == f"redis_port: 'group_vars/all.yml' {reason}; write it once"


def test_the_path_leads_to_a_key_inside() -> None:
    text = "celery_app_source:\n  packages: [a]\n  packages: [b]\nredis_users:\n- {name: a, name: b}\n"
    assert [line.partition(": ")[0] for line in told(text)] == ["celery_app_source.packages", "redis_users.name"]


@pytest.mark.parametrize(
    "text",
    [
        "redis_port: 6379\nredis_port: 6379\n",
        "redis_users: [{a: 1, b: 2}]\nredis_users:\n- b: 2\n  a: 1\n",
        "a: &a {x: 1}\nb: &b {x: 2}\nredis_settings:\n  <<: *a\n  <<: *b\n",
        "mine: 1\nmine: 2\n",
        "redis_admin_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61626364\n",
        "[redis]\ncache1 ansible_host=10.0.0.5\n",
        "- a\n- b\n",
        "",
        "a: [",
    ],
)
def test_what_loses_nothing_is_left_alone(text: str) -> None:
    assert told(text) == []


def test_in_an_inventory_every_key_counts() -> None:
    text = "redis: {hosts: {a: }}\nredis: {hosts: {b: }}\n"
    assert [line.partition(": ")[0] for line in told(text, all_keys=True)] == ["redis"]
