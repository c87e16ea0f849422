"""What hosts have alike is worked out once for all of them, and comes to what each would have for itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ansible.template
from ansible.template import Templar
from check_in_process import checked

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.check import Checked, InventoryCheck
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.host_variables import HostVariables
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology import worker_classes


def trusted(value: Any) -> Any:
    """Return variables whose texts may be templates, as those of an inventory are (ansible-core 2.19 asks for it)."""
    if isinstance(value, Mapping):
        return {key: trusted(entry) for key, entry in value.items()}
    trust = getattr(ansible.template, "trust_as_template", None)
    return trust(value) if trust and isinstance(value, str) else value


COMMON: Mapping[str, Any] = {
    "rabbitmq_listen_addresses": ["127.0.0.1", "10.0.0.1"],
    "redis_bind": ["127.0.0.1", "10.0.0.1"],
    "celery_app_environment": {"ZONE": "{{ zone }}", "QUEUES": "{{ celeryops_queues | join(',') }}"},
    "zone": "eu",
}
WORKERS: Mapping[str, Mapping[str, Any]] = {
    "two.invalid": {},
    "three.invalid": {"celery_worker_host_classes": {"high": {"concurrency": 7}}},
    "four.invalid": {"zone": "us"},
    "five.invalid": {"celery_worker_log_keep": 9, "celery_worker_host_classes": {"own": {"queues": ["own"]}}},
    "six.invalid": {"celery_worker_log_keep": "{{ days }}", "days": 3},
    "eight.invalid": {"celery_app_files": [{"path": "own.conf", "content": "x"}]},
    "nine.invalid": {"celery_worker_defaults": {"environment": {"NODE": "{{ inventory_hostname }}"}}},
    "ten.invalid": {"celery_worker_defaults": {"environment": {"NODE": "{{ inventory_hostname }}"}}},
    "seven.invalid": {"celery_worker_log_keep": "{{ days }}", "days": 5},
}


@contextmanager
def planned(folder: Path, workers: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what came of each role on each host of a check; the passwords are those of the check before."""
    seen: list[Checked] = []
    run = InventoryCheck.run

    def spying(check: InventoryCheck, playbook: str) -> Checked:
        seen.append(run(check, playbook))
        return seen[0]

    with patch.object(InventoryCheck, "run", spying):
        outcome = checked(folder, trusted(COMMON), trusted(workers))
    found = {f"{role} {host}": (one.values, one.plan, one.unusable) for (role, host), one in seen[0].planned.items()}
    assert "msg" not in outcome
    yield found


def test_a_host_is_planned_as_it_would_be_alone(tmp_path: Path) -> None:
    numbers = itertools.count()
    assert "msg" not in checked(tmp_path, trusted(COMMON))
    # Nothing is alike.
    with (
        patch.object(HostVariables, "meaning", lambda *_: str(next(numbers))),
        patch.object(HostVariables, "kind", lambda *_: str(next(numbers))),
        planned(tmp_path, WORKERS) as alone,
    ):
        pass
    with planned(tmp_path, WORKERS) as together:
        assert len(together) > len(WORKERS) * 2
        assert [name for name, found in alone.items() if together[name] != found] == []


def test_a_host_with_a_class_of_its_own_costs_little_more(tmp_path: Path) -> None:
    asked = itertools.count()
    template = Templar.template

    def counting(self: Templar, *arguments: Any, **options: Any) -> Any:
        next(asked)
        return template(self, *arguments, **options)

    def costs(number: int) -> int:
        workers = {
            f"worker{one}.invalid": {"celery_worker_host_classes": {"high": {"concurrency": one}}}
            for one in range(2, 2 + number)
        }
        before = next(asked)
        with patch.object(Templar, "template", counting), planned(tmp_path, workers):
            return next(asked) - before

    with planned(tmp_path, WORKERS) as found:
        assert found["celery_app two.invalid"][1] is found["celery_app five.invalid"][1]
    # Its own classes, its address, and where its passwords are; not the sixty variables of its two roles.
    assert (costs(12) - costs(2)) / 10 < 15


def test_the_classes_of_a_host_are_read_once(tmp_path: Path) -> None:
    """For the survey, the plan of the role and the model: once for the hosts that are alike, and for each other one."""
    reader = patch.object(worker_classes, "read_class", wraps=worker_classes.read_class)
    with reader as reading, planned(tmp_path, WORKERS):
        pass
    read = [call.args[0].name for call in reading.mock_calls]
    assert sorted(read) == sorted(["high", "default"] * 5 + ["own"])
