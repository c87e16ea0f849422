"""What grows elsewhere changes nothing here: a host, a class or an app that joins restarts nobody who need not know it.

Each inventory is planned by the real check, before and after it grows, and every file that a role places on a host is
rendered as the role's own task says it. What differs on a host that was there before is compared with what its units
are restarted for.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from checker import GROUPS, ROOT, SHOP

from ansible_collections.celeryops.stack.plugins.action.files import expand, with_sources
from ansible_collections.celeryops.stack.plugins.module_utils.systemd import is_file_of
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.check import InventoryCheck
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.controller import Controller

QUEUES, SETTINGS = "/etc/celeryops/shop/queues.json", "/etc/celeryops/shop/celery.json"
LIVE, DEFINITIONS = "/etc/rabbitmq/conf.d/40-celeryops.conf", "/etc/rabbitmq/definitions.json"
USERS = "/etc/celeryops/redis/users.acl"
#: host -> its duties, for inventories of one, two and five hosts. Of the servers, every one of them can be reached.
SIZES: Mapping[int, Mapping[str, str]] = {
    1: {"one": "rabbitmq redis celery_workers celery_beat flower"},
    2: {"one": "rabbitmq redis", "two": "celery_workers celery_beat flower"},
    5: {
        "one": "rabbitmq",
        "two": "redis",
        "three": "celery_workers celery_beat",
        "four": "celery_workers flower",
        "five": "celery_producers",
    },
}


@dataclass
class Inventory:
    """Hosts with their duties, and what is said of each."""

    hosts: dict[str, str]
    said: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, size: int, broker: str) -> Inventory:
        """Return one of ``SIZES`` whose broker is RabbitMQ or Redis."""
        hosts = {name: " ".join(set(duties.split()) - {"rabbitmq"}) for name, duties in SIZES[size].items()}
        made = cls({}, {})
        for name, duties in (SIZES[size] if broker == "rabbitmq" else hosts).items():
            made.add(name, duties)
        return made

    def add(self, name: str, duties: str, **said: Any) -> None:
        """Add a host of the shop, unless something else is said of it."""
        address = f"10.0.0.{len(self.hosts) + 1}"
        self.hosts[name] = duties
        listen = {"rabbitmq_listen_addresses": ["127.0.0.1", address], "redis_bind": ["127.0.0.1", address]}
        shop = {**copy.deepcopy(dict(SHOP)), "celery_app_accept": ["shared-queue:payments"]}
        self.said[name] = {**shop, "ansible_host": address, **listen, **said}

    def set_class(self, name: str, **keys: Any) -> None:
        """Have the shop's workers have a class, and a route to each queue that it names."""
        for said in self.said.values():
            said["celery_worker_classes"][name] = keys
            for queue in keys.get("queues", ()):
                said["celery_app_routes"] = [*said["celery_app_routes"], {"task": f"shop.{queue}.*", "queue": queue}]


@dataclass
class Placed:
    """What a role places on a host: path -> content, and the units that it runs."""

    files: dict[str, str]
    units: dict[str, dict[str, Any]]

    def read_by(self, unit: str) -> set[str]:
        """Return the files of the role whose change restarts a unit of its own."""
        own = {path for path in self.files if is_file_of(unit, path)}
        return own | set(self.units[unit].get("restart_on", ()))


Plan = dict[tuple[str, str], Placed]


def planned(inventory: Inventory, folder: Path) -> Plan:
    """Return (role, host) -> what is placed there."""
    loader = DataLoader()
    controller = Controller(Templar(loader=loader), loader, [str(folder)])
    groups = {group: [host for host, duties in inventory.hosts.items() if group in duties.split()] for group in GROUPS}
    groups["all"] = [*inventory.hosts]
    joined = controller.variables_in("playbooks", "vars", "stack.yml")
    common = {"ansible_inventory_sources": [str(folder)], "celeryops_secrets_dir": str(folder / "secrets"), **joined}
    variables = {
        host: {**common, **said, "inventory_hostname": host, "groups": groups} for host, said in inventory.said.items()
    }
    checked = InventoryCheck(controller, groups, variables.__getitem__).run(str(folder))
    assert checked.problems == []
    return {
        (role, host): placed(controller, role, {**found.values, "group_names": []}, found.plan)
        for (role, host), found in checked.planned.items()
    }


def placed(controller: Controller, role: str, values: Mapping[str, Any], plan: Mapping[str, Any]) -> Placed:
    """Return what the task of a role that places its files is given, and what that makes of it."""
    found = {f"__{role}": {"plan": plan}, "__redis_host": {"acl": "", "retired_units": [], "kernel_pending": []}}
    variables = {**controller.variables_in("roles", role, "vars", "main.yml"), **values, **found}
    task = next(task for task in _tasks(role) if "celeryops.stack.files" in task)
    variables |= task.get("vars", {})
    search_path = [ROOT / "roles" / role]
    variables["role_path"] = str(search_path[0])
    variables["ansible_search_path"] = [str(search_path[0])]
    template = controller.templates_with(variables)
    entries = template(task["celeryops.stack.files"]["files"])
    units = task["celeryops.stack.files"].get("units", [])
    expanded = [entry for item in with_sources(entries, DataLoader(), {}) for entry in expand(item, search_path)]
    contents = {
        entry["path"]: str(entry.get("content", entry.get("secret_content", entry.get("state")))) for entry in expanded
    }
    return Placed(contents, {unit["name"]: unit for unit in template(units)})


@functools.cache
def _tasks(role: str) -> list[dict[str, Any]]:
    """Return the tasks of a role that place its files; Ansible has to be told that its templates are trusted."""
    loader = DataLoader()
    trusting = "trusted_as_template" in inspect.signature(loader.load_from_file).parameters
    path = str(ROOT / "roles" / role / "tasks" / "configure.yml")
    tasks: list[dict[str, Any]] = loader.load_from_file(path, **({"trusted_as_template": True} if trusting else {}))
    return tasks


def differing(before: Plan, after: Plan) -> dict[str, set[str]]:
    """Return host -> the files that are others now, for hosts that were there before; new files are none of them."""
    found: dict[str, set[str]] = {}
    for (role, host), was in before.items():
        now = after[role, host]
        paths = {path for path, content in was.files.items() if now.files.get(path) != content}
        if paths:
            found.setdefault(host, set()).update(paths)
    return found


def restarted(before: Plan, after: Plan) -> set[tuple[str, str]]:
    """Return (host, unit) of what was there before and is restarted: for a file of any role that it reads, or is."""
    changed = differing(before, after)
    return {
        (host, unit)
        for (role, host), was in before.items()
        for unit in was.units
        # A unit that is wanted otherwise is more than a restart.
        if was.units[unit] != after[role, host].units.get(unit) or was.read_by(unit) & changed.get(host, set())
    }


BROKERS = ("rabbitmq", "redis")


@pytest.fixture(scope="module", params=[(size, broker) for size in SIZES for broker in BROKERS], ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An inventory, what it comes to, and how to plan it when it has grown."""
    size, broker = request.param
    folder = tmp_path_factory.mktemp("growing")
    at_first = planned(Inventory.of(size, broker), folder)

    def with_what(change: Callable[[Inventory], None]) -> Plan:
        inventory = Inventory.of(size, broker)
        change(inventory)
        return planned(inventory, folder)

    def grown(
        grow: Callable[[Inventory], None], begin: Callable[[Inventory], None] | None = None
    ) -> tuple[dict[str, set[str]], set[tuple[str, str]]]:
        before, after = with_what(begin) if begin else at_first, with_what(grow)
        return differing(before, after), restarted(before, after)

    return Inventory.of(size, broker), at_first, grown


def of_the_shop(inventory: Inventory) -> set[str]:
    return {host for host, duties in inventory.hosts.items() if set(duties.split()) - {"rabbitmq", "redis"}}


def units_of_the_shop(inventory: Inventory) -> set[tuple[str, str]]:
    """Return (host, unit) of its workers, its scheduler and its Flower."""
    kinds = {"celery_workers": ("high", "default"), "celery_beat": ("beat",), "flower": ("flower",)}
    return {
        (host, f"celery-shop-{name}.service")
        for host, duties in inventory.hosts.items()
        for group, names in kinds.items()
        for name in names
        if group in duties.split()
    }


def test_nothing_differs_where_nothing_changes(case: Any) -> None:
    _inventory, _before, grown = case
    assert grown(lambda _inventory: None) == ({}, set())


def test_a_host_of_workers_or_producers_changes_nothing(case: Any) -> None:
    _inventory, _before, grown = case
    for duty in ("celery_workers", "celery_producers"):
        assert grown(lambda inventory, duty=duty: inventory.add("more", duty)) == ({}, set())


def test_a_class_changes_where_tasks_may_go_and_restarts_nobody(case: Any) -> None:
    inventory, _before, grown = case
    differing, restarted = grown(lambda inventory: inventory.set_class("quick", queues=["quick"], time_limit="1m"))
    assert differing == {host: {QUEUES} for host in of_the_shop(inventory)}
    assert restarted == set()


def test_a_class_that_shares_a_queue_on_another_host_changes_nothing(case: Any) -> None:
    _inventory, _before, grown = case

    def grow(inventory: Inventory) -> None:
        more = {"celery_worker_host_classes": {"also": {"queues": ["payments"], "workers": 2}}}
        inventory.add("more", "celery_workers", **more)

    assert grown(grow) == ({}, set())


def test_another_app_is_the_servers_affair_who_hear_of_it_while_they_run(case: Any) -> None:
    inventory, _before, grown = case
    blog = {"celery_app_name": "blog", "celery_app_import": "blog:app", "celery_worker_classes": {"default": {}}}
    blog |= {"celery_app_routes": []}
    differing, restarted = grown(lambda inventory: inventory.add("more", "celery_workers", **blog))
    told = {"rabbitmq": DEFINITIONS, "redis": USERS}
    expected: dict[str, set[str]] = {}
    for host, duties in inventory.hosts.items():
        for server in ("rabbitmq", "redis"):
            if server in duties.split():
                expected.setdefault(host, set()).add(told[server])
    assert (differing, restarted) == (expected, set())


def test_long_tasks_concern_whoever_has_to_know_of_them(case: Any) -> None:
    inventory, before, grown = case
    differing, restarted = grown(lambda inventory: inventory.set_class("bulk", queues=["bulk"], time_limit="6h"))
    if ("rabbitmq", "one") in before:
        # The server is told while it runs, and a worker that has no such tasks need not be.
        assert {path for paths in differing.values() for path in paths} == {QUEUES, LIVE}
        assert restarted == set()
        [server] = [host for host, paths in differing.items() if LIVE in paths]
        assert before["rabbitmq", server].units["rabbitmq-server.service"]["reload_on"] == [LIVE]
        return
    # Of several visibility timeouts on one Redis the shortest holds.
    assert differing == {host: {QUEUES, SETTINGS} for host in of_the_shop(inventory)}
    assert restarted == units_of_the_shop(inventory)


def test_long_tasks_of_the_whole_app_concern_the_classes_without_a_limit(case: Any) -> None:
    inventory, before, grown = case

    def longest(time: str) -> Callable[[Inventory], None]:
        def grow(inventory: Inventory) -> None:
            inventory.set_class("default", time_limit="10m")
            for said in inventory.said.values():
                said["celery_app_longest_task"] = time

        return grow

    # RabbitMQ tells whoever connects: the workers do so again that may have such tasks.
    files, units = grown(longest("6h"), longest("2h"))
    assert {path for paths in files.values() for path in paths} - {SETTINGS, LIVE} == {
        "/etc/systemd/system/celery-shop-high.service"
    }
    high = {(host, unit) for host, unit in units_of_the_shop(inventory) if "high" in unit}
    assert units == (high if ("rabbitmq", "one") in before else units_of_the_shop(inventory))


def test_what_restarts_a_unit_is_seen(case: Any) -> None:
    inventory, _before, grown = case

    def set_for_all(inventory: Inventory) -> None:
        for said in inventory.said.values():
            said["celery_app_settings"] = {"task_ignore_result": True}

    differing, restarted = grown(set_for_all)
    assert differing == {host: {SETTINGS} for host in of_the_shop(inventory)}
    assert restarted == units_of_the_shop(inventory)
    # A class's own unit is a file of its own.
    _differing, restarted = grown(lambda inventory: inventory.set_class("default", concurrency=3))
    assert restarted == {(host, unit) for host, unit in units_of_the_shop(inventory) if "default" in unit}
