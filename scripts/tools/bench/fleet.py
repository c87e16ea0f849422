"""Writes the inventory of a large installation, the way people write one: a part of scripts/bench.py.

Hosts with workers, of which some are larger than the others and some are special, and a host for each other duty.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

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


def files(number_of_workers: int = WORKERS, *, different: bool = False) -> dict[str, Any]:
    """Return path -> content of every file of the inventory.

    Arguments:
        number_of_workers: hosts with workers.
        different: whether each of them has a class with values that no other host has.
    """
    names = [f"worker{number:02}.example.org" for number in range(1, number_of_workers + 1)]
    # A number that only another tool reads: every fleet has something of the kind.
    workers = {
        name: {"ansible_host": f"10.1.{number // 250}.{number % 250}", "server_id": number}
        for number, name in enumerate(names, 1)
    }
    groups: dict[str, Any] = {
        "all": {"vars": {"ansible_user": "root"}},
        "celery_workers": {"hosts": workers},
        "large": {"hosts": dict.fromkeys(names[:LARGE])},
    }
    for number, (group, name) in enumerate(SERVERS.items(), 10):
        groups[group] = {"hosts": {f"{name}.example.org": {"ansible_host": f"10.0.0.{number}"}}}
    classes = {f"work{number}": worker_class(number) for number in range(CLASSES - 1)}
    special = {names[0]: {"work2": {"concurrency": 8}}, names[-1]: {"work3": {"log": "file"}}}
    if different:
        special = {
            name: {"work2": {"concurrency": 1 + number % 16, "memory_max": f"{512 + number}M"}}
            for number, name in enumerate(names)
        }
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
        **{f"host_vars/{name}.yml": {"celery_worker_host_classes": own} for name, own in special.items()},
    }


def write(folder: Path, number_of_workers: int = WORKERS, *, different: bool = False) -> Path:
    """Write the inventory below ``folder``, in the place of one that was there, and return its directory.

    Arguments:
        folder: where.
        number_of_workers: of ``files``.
        different: of ``files``.
    """
    import yaml

    shutil.rmtree(folder, ignore_errors=True)
    for path, content in files(number_of_workers, different=different).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
