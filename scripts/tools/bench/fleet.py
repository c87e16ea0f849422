"""Writes the inventory of a large installation, the way people write one: a part of scripts/bench.py.

Fifty hosts with workers, of which some are larger than the others and one is special, and a host for each other duty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORKERS, CLASSES, LARGE = 50, 20, 8
#: Group -> hosts of it, beside the workers.
SERVERS = {"rabbitmq": "mq1", "redis": "redis1", "celery_beat": "beat1", "flower": "flower1"}


def worker_class(number: int) -> dict[str, Any]:
    """Return what is said of one class: all have queues of their own, some have limits."""
    values: dict[str, Any] = {"queues": [f"work{number}", f"work{number}.retries"], "concurrency": 1 + number % 4}
    if number % 3 == 0:
        values |= {"max_tasks_per_child": 200, "memory_max": "1G"}
    if number % 5 == 0:
        values |= {"time_limit": "1h", "stop_timeout": "65m", "nice": 5}
    return values


def files() -> dict[str, Any]:
    """Return path -> content of every file of the inventory."""
    names = [f"worker{number:02}.example.org" for number in range(1, WORKERS + 1)]
    # A number that only another tool reads: every fleet has something of the kind.
    workers = {name: {"ansible_host": f"10.0.1.{number}", "server_id": number} for number, name in enumerate(names, 1)}
    groups: dict[str, Any] = {
        "all": {"vars": {"ansible_user": "root"}},
        "celery_workers": {"hosts": workers},
        "large": {"hosts": dict.fromkeys(names[:LARGE])},
    }
    for number, (group, name) in enumerate(SERVERS.items(), 10):
        groups[group] = {"hosts": {f"{name}.example.org": {"ansible_host": f"10.0.0.{number}"}}}
    classes = {f"work{number}": worker_class(number) for number in range(CLASSES - 1)}
    return {
        "hosts.yml": groups,
        "group_vars/all.yml": {
            "celery_app_name": "shop",
            "celery_app_import": "shop.celery:app",
            "celery_app_source": {"type": "pip", "packages": ["acme-shop==1.4.2+acme"]},
            "celery_app_environment": {"DJANGO_SETTINGS_MODULE": "shop.settings"},
            "celery_app_longest_eta": "12h",
            "celery_app_routes": [{"task": f"shop.{name}.*", "queue": name} for name in classes],
            "celery_app_settings": {"task_ignore_result": True},
            "celery_worker_classes": {**classes, "default": {"concurrency": 2}},
        },
        "group_vars/rabbitmq.yml": {"rabbitmq_listen_addresses": ["127.0.0.1", "{{ ansible_host }}"]},
        "group_vars/redis.yml": {"redis_bind": ["127.0.0.1", "{{ ansible_host }}"]},
        "group_vars/large.yml": {"celery_worker_group_classes": {"work1": {"concurrency": 16}}},
        f"host_vars/{names[0]}.yml": {"celery_worker_host_classes": {"work2": {"concurrency": 8}}},
        f"host_vars/{names[-1]}.yml": {"celery_worker_host_classes": {"work3": {"log": "file"}}},
    }


def write(folder: Path) -> Path:
    """Write the inventory below ``folder`` and return its directory."""
    import yaml

    for path, content in files().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
