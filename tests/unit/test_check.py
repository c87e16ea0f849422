"""Wrong inventories, run through the real playbook: one message before any host is touched, with what to write."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("rabbitmq", "redis", "celery_workers", "celery_producers", "celery_beat", "flower")
SHOP: dict[str, Any] = {
    "celery_app_name": "shop",
    "celery_app_import": "shop.celery:app",
    "celery_app_source": {"type": "pip", "packages": ["shop==1.4.2"]},
    "celery_worker_classes": {"high": {"queues": ["payments"]}, "default": {}},
    "celery_app_routes": [{"task": "shop.payments.*", "queue": "payments"}],
}


def check(folder: Path, variables: dict[str, Any], hosts: dict[str, list[str]] | None = None) -> tuple[int, str]:
    """Run the check on an inventory whose hosts do not exist; return the exit code and what it said."""
    inventory: dict[str, Any] = {"all": {"vars": variables}}
    for group in GROUPS:
        inventory[group] = {"hosts": dict.fromkeys((hosts or {}).get(group, ["nowhere.invalid"]))}
    (folder / "hosts.json").write_text(json.dumps(inventory))
    finished = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", str(ROOT / "playbooks" / "check.yml")],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        },
    )
    return finished.returncode, finished.stdout + finished.stderr


def test_a_sound_inventory_passes_and_no_host_is_contacted(tmp_path: Path) -> None:
    code, said = check(tmp_path, SHOP)
    assert code == 0, said
    assert "unreachable=0" in said


def test_what_the_playbook_derives_for_the_app_is_part_of_the_check(tmp_path: Path) -> None:
    user = {"name": "report", "password": "long-enough-for-a-test", "permissions": [{"vhost": "shop", "read": ".*"}]}
    code, said = check(tmp_path, {**SHOP, "rabbitmq_users": [user]})
    assert code == 0, said
    code, said = check(tmp_path, {**SHOP, "rabbitmq_users": [{**user, "permissions": [{"vhost": "shp"}]}]})
    assert code != 0
    assert "'shp' is no declared virtual host" in said


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"redis_port": "http"}, ["redis_port", "http"], id="wrong type"),
        pytest.param(
            {"celery_worker_classes": {"high": {"concurrncy": 4}}},
            ["celery_worker_classes.high.concurrncy", "did you mean", "concurrency"],
            id="unknown key inside a class",
        ),
        pytest.param({"celery_app_import": None}, ["celery_app_import"], id="missing value"),
        pytest.param({"celery_app_user": "root"}, ["celery_app_user", "root", "all rights"], id="root"),
        pytest.param(
            {"celery_app_broker_url": "postgresql://shop:s3cret@db/shop"},
            ["celery_app_broker_url", "postgresql://", "is a database", "amqp://"],
            id="a database as broker",
        ),
        pytest.param({"redis_purpose": "brokr"}, ["redis_purpose", "brokr", "broker"], id="not one of the choices"),
        pytest.param({"redis_prot": 6380}, ["redis_prot", "redis_port"], id="misspelt variable"),
        pytest.param(
            {"celery_app_settings": {"task_acks_lat": True}}, ["task_acks_lat", "task_acks_late"], id="misspelt setting"
        ),
        pytest.param(
            {"celery_worker_classes": {"high": {"time_limit": "soon"}}},
            ["celery_worker_classes.high.time_limit", "soon", "is not a duration", "90s"],
            id="unreadable duration",
        ),
        pytest.param({"flower_basic_auth": {}}, ["flower_basic_auth"], id="Flower without authentication"),
        pytest.param({"celery_app_name": "my-shop"}, ["celery_app_name", "my-shop"], id="a name that cannot be a path"),
    ],
)
def test_a_mistake_is_told_with_variable_value_and_remedy(
    tmp_path: Path, changes: dict[str, Any], told: list[str]
) -> None:
    variables = {name: value for name, value in {**SHOP, **changes}.items() if value is not None}
    code, said = check(tmp_path, variables)
    assert code != 0
    assert [text for text in told if text not in said] == []
    assert "nothing was changed" in said
    assert "s3cret" not in said


def test_all_mistakes_of_all_hosts_come_at_once(tmp_path: Path) -> None:
    variables = {
        **SHOP,
        "redis_maxmemory": "plenty",
        "rabbitmq_stop_timeout": "soon",
        "celery_app_user": "root",
        "celery_beat_max_interval": "x",
    }
    code, said = check(tmp_path, variables, {"rabbitmq": ["a.invalid", "b.invalid"], "celery_beat": ["a.invalid"]})
    assert code != 0
    told = ("redis_maxmemory", "rabbitmq_stop_timeout", "celery_app_user", "celery_beat_max_interval", "one host")
    assert [text for text in told if text not in said] == []
    assert said.count("fatal: ") == 1


def test_variables_may_look_at_other_hosts(tmp_path: Path) -> None:
    looking = {
        **SHOP,
        "celery_app_default_queue": "{{ hostvars['nowhere.invalid'].queue_of_all }}",
        "celery_worker_classes": {"default": {}, "high": {"queues": ["payments"]}},
        "redis_port": "{{ hostvars[groups['redis'][0]].redis_number }}",
        "redis_number": 6400,
        "queue_of_all": "default",
    }
    code, said = check(tmp_path, looking)
    assert code == 0, said
    code, said = check(tmp_path, {**looking, "redis_number": "many"})
    assert code != 0
    assert "redis_port: 'many'" in said
