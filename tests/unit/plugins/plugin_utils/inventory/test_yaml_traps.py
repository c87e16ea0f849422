"""Keys that stand twice in one mapping, and numbers that look like times."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.yaml_traps import yaml_slips


def told(text: str, *, all_keys: bool = False) -> list[str]:
    return [str(problem) for problem in yaml_slips("group_vars/all.yml", text, all_keys=all_keys)]


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


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (
            "12:30",
            "the number 750",
        ),
        ("1:30:00", "the number 5400"),
        ("190:20", "the number 11420"),
    ],
)
def test_a_number_to_base_60(text: str, meant: str) -> None:
    (line,) = told(f"redis_port: 6379\ncelery_app_longest_eta: {text}\n")
    reason = f"in line 2 of group_vars/all.yml is {meant} to YAML, which counts to base 60 there"
    assert line.startswith(f"celery_app_longest_eta: '{text}' {reason}; write ")
    assert line.endswith(", or it in quotes where it is no duration")


def test_a_number_to_base_60_inside_of_a_variable() -> None:
    text = "celery_worker_classes:\n  high:\n    queues: [a, 1:30]\n    time_limit: 1:30\nredis_a: [[{b: 2:00}]]\n"
    lines = told(text)
    assert [line.partition(": ")[0] for line in lines] == [
        "celery_worker_classes.high.queues[1]",
        "celery_worker_classes.high.time_limit",
        "redis_a[0][0].b",
    ]
    assert "'1:30' in line 4 of group_vars/all.yml is the number 90 to YAML" in lines[1]
    assert lines[1].endswith("; write 1h30m or 1m30s, or it in quotes where it is no duration")


def test_a_number_to_base_60_in_an_inventory() -> None:
    text = (
        "all:\n  vars: {celery_app_longest_eta: 1:30, mine: 1:30}\n  children:\n    celery_workers_eu:\n"
        "      hosts: {celery_1: {redis_timeout: 2:00, own: 2:00}, b: 2:00}\n      vars: {own: {redis_a: 3:00}}\n"
        "celery_beat: 2:00\n"
    )
    lines = told(text, all_keys=True)
    assert [line.partition(": ")[0] for line in lines] == ["celery_app_longest_eta", "redis_timeout"]


def test_what_may_be_a_secret_is_told_without_either_number() -> None:
    (line,) = told("celery_app_environment: {OPENS: 8:30}\n")
    assert line == (
        "celery_app_environment.OPENS: '(not shown)' in line 1 of group_vars/all.yml is another number to YAML, which "
        "counts to base 60 there; write it in quotes"
    )
    for text, variable in (
        ("redis_admin_password: 12:30:45:11\n", "redis_admin_password"),
        ("flower_basic_auth: {kim: 12:30:45:11}\n", "flower_basic_auth.kim"),
        ("rabbitmq_users: [{name: kim, password: 12:30:45:11}]\n", "rabbitmq_users[0].password"),
        ("celery_app_broker_url: 12:30:45:11\n", "celery_app_broker_url"),
    ):
        (line,) = told(text)
        assert line.startswith(f"{variable}: '(not shown)' in line 1 of group_vars/all.yml is another number to YAML")
        assert "12:30" not in line


@pytest.mark.parametrize(
    "text",
    [
        'celery_app_longest_eta: "12:30"',
        "celery_app_longest_eta: '12:30'",
        "celery_app_longest_eta: 08:30",
        "celery_app_longest_eta: 12:90",
        "mine: 12:30",
        "mine: {redis_port: 12:30}",
        "redis_bind: [::1, 10.0.0.1]",
        "12:30: redis_port",
        "12:30",
        "- 12:30",
    ],
)
def test_other_texts_with_colons_are_what_they_look_like(text: str) -> None:
    assert told(text) == []


def test_a_fraction_to_base_60() -> None:
    (line,) = told("redis_timeout: 1:30.5\n")
    assert line.endswith("is another number to YAML, which counts to base 60 there; write it in quotes")


def test_lines_are_counted_from_one() -> None:
    (line,) = told("a: 1\nredis_port: 6379\nb: 1\nredis_port: 6380\n")
    assert "has it in lines 2 and 4, with different values" in line


NOWHERE = "'(a key)' in line {} of group_vars/all.yml is in no place where Ansible looks; write it below {}"


@pytest.mark.parametrize(
    ("text", "where", "line", "place"),
    [
        ("all:\n  redis_port: 5\n", "all.redis_port", 2, "vars: all: {vars: {redis_port: ...}}"),
        ("rabbitmq:\n  mq1:\n    x: 1\n", "rabbitmq.mq1", 2, "hosts: rabbitmq: {hosts: {mq1: ...}}"),
        ("all:\n  children:\n    redis: {c1: }\n", "redis.c1", 3, "hosts: redis: {hosts: {c1: ...}}"),
        ("all: {redis: {hosts: {c1: }}}\n", "all.redis", 1, "children: all: {children: {redis: ...}}"),
    ],
)
def test_what_ansible_leaves_out_of_an_inventory_is_told(text: str, where: str, line: int, place: str) -> None:
    assert told(text, all_keys=True) == [f"{where}: {NOWHERE.format(line, place)}".replace("'(a key)' ", "")]
    assert told(text) == []


def test_variables_below_a_key_of_a_host_are_told() -> None:
    text = "redis: {hosts: {c1: {vars: {redis_port: 5}}, c2: {vars: {mine: 5}}, c3: {hosts: 5}}}"
    (line,) = told(text, all_keys=True)
    assert line.startswith("redis.hosts.c1.vars: of group_vars/all.yml is a variable of that name to Ansible")


@pytest.mark.parametrize(
    "text",
    [
        "all: {vars: {redis_port: 5}, hosts: {c1: {redis_port: 5}}, children: {redis: {hosts: {c1: }}}}",
        # Somebody's groups and anchors, and an inventory of a plugin.
        "mine: {x: 1}\nshared: &shared {vars: {redis_port: 5}}\nredis: {<<: *shared, hosts: {c1: }}",
        "plugin: constructed\ngroups: {celery_workers: \"'app' in tags\", redis: x}\nredis: {c1: x}",
        "redis:",
        "redis: {hosts: c1}",
        "[a]",
    ],
)
def test_an_inventory_in_its_places_is_not_told(text: str) -> None:
    assert told(text, all_keys=True) == []
