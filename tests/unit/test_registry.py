"""The registry of roles says what is there: folders, plays, variables, plans, and what is removed again."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import checker
import pytest
import yaml
from jinja2 import StrictUndefined
from jinja2.nativetypes import NativeEnvironment

from ansible_collections.celeryops.stack.plugins.module_utils import host_paths, removal, server_contents
from ansible_collections.celeryops.stack.plugins.module_utils.redis_engine import ENGINES
from ansible_collections.celeryops.stack.plugins.plugin_utils.app import files as app_files
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory import made_up
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import role_options
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology import layout, roles
from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.roles import (
    APP_GROUPS,
    PROCESSES,
    ROLES,
    ROLES_OF_GROUP,
    SERVERS,
)

ROOT = Path(__file__).resolve().parents[2]
PLANS = "ansible_collections.celeryops.stack.plugins.plugin_utils.plans."
each_role = pytest.mark.parametrize("role", ROLES.values(), ids=lambda role: role.name)


def plays(name: str) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks" / name).read_text())
    return [play for play in read if "hosts" in play]


def roles_of(play: dict[str, Any]) -> list[str]:
    """The roles that a play runs, whichever way it says so."""
    text = json.dumps(play)
    return [name for name in ROLES if re.search(rf'"name": "celeryops\.stack\.{name}"', text)]


def hosts_of(play: dict[str, Any]) -> str:
    """Whom a play is for in an inventory with all groups; a group that few have is named only where it is there."""
    groups = {group: group for group in ROLES_OF_GROUP}
    return NativeEnvironment(undefined=StrictUndefined).from_string(str(play["hosts"])).render(groups=groups)


def groups_of(play: dict[str, Any]) -> list[str]:
    """The groups whose hosts stay in a play: its own, or the one that its first task asks for."""
    first = next(iter(play.get("tasks", [])), {})
    asked = re.fullmatch(r"'(\w+)' not in group_names", str(first.get("when")))
    if asked and first.get("ansible.builtin.meta") == "end_host" and first.get("tags") == "always":
        return [asked[1]]
    return [group for group in hosts_of(play).split(":") if not group.startswith("!")]


def test_each_role_has_a_folder_and_each_folder_a_role() -> None:
    assert {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()} == set(ROLES)


@each_role
def test_a_role_has_a_plan(role: roles.Role) -> None:
    assert callable(importlib.import_module(PLANS + role.name).plan)


def words(paths: Iterable[str]) -> set[str]:
    """The parts of paths and names."""
    return {word for path in paths for word in re.split(r"[/_]", path)}


def play_named(playbook: str, name: str) -> dict[str, Any]:
    return next(play for play in plays(playbook) if play["name"] == name)


def excluded(play: dict[str, Any]) -> set[str]:
    return {group[1:] for group in hosts_of(play).split(":") if group.startswith("!")}


@each_role
def test_the_variables_of_a_role_are_in_its_spec(role: roles.Role) -> None:
    named = {role.app_variable, *(name for one in role.listens for name in (one.port, one.address))} - {""}
    assert named - set(role_options(role.name)) == set()
    assert [name for name in role_options(role.name) if not name.startswith(role.prefix)] == []
    ports = [role_options(role.name)[one.port] for one in role.listens]
    assert [option for option in ports if not isinstance(option.get("default"), int)] == []


@each_role
def test_site_runs_a_role_on_its_groups(role: roles.Role) -> None:
    found = [play for play in plays("site.yml") if role.name in roles_of(play) and "tasks" in play]
    running = [play for play in found if set(groups_of(play)) == set(role.groups)]
    # Commands behind a release come at the very end.
    assert running, f"the plays of {role.name}: {[play['name'] for play in found]}"


def test_the_plays_of_site_are_in_the_order_of_the_registry() -> None:
    first = {name: number for number, play in reversed(list(enumerate(plays("site.yml")))) for name in roles_of(play)}
    assert sorted(first, key=first.__getitem__) == list(ROLES)


@pytest.mark.parametrize("playbook", sorted(path.name for path in (ROOT / "playbooks").glob("*.yml")))
def test_playbooks_name_groups_that_there_are(playbook: str) -> None:
    for play in plays(playbook):
        named = {group.lstrip("!") for group in hosts_of(play).split(":")} - {"all", "localhost"}
        assert named <= set(ROLES_OF_GROUP)
        # Groups that carry the app, and all of those that have a duty, are named whole, or the new one is forgotten.
        if len(named) > len(APP_GROUPS):
            assert named == set(ROLES_OF_GROUP)


def test_facts_are_gathered_on_every_host_with_a_duty() -> None:
    gathering = [play for play in plays("site.yml") if play["name"] == "Gather facts"]
    assert [groups_of(play) for play in gathering] == [list(ROLES_OF_GROUP)]


@pytest.mark.parametrize(
    ("known", "where"),
    [
        (set(removal.SERVERS), "removal.SERVERS: what its role installed can be removed"),
        # The places of a Sentinel are those of its server.
        (
            {*words(host_paths.OF_SERVERS), "sentinel"},
            "host_paths.OF_SERVERS: directories that its role needs are looked at",
        ),
        ({*words(app_files._OURS), "sentinel"}, "app/files._OURS: an app places nothing there"),
        (set(layout.RESERVED_APP_NAMES), "layout.RESERVED_APP_NAMES: no app has its name"),
        # A Sentinel holds nothing.
        (
            {*server_contents.OPTION["options"]["kind"]["choices"], "sentinel"},
            "server_contents: what it holds is compared",
        ),
        (set(made_up.OF_SERVERS.values()), "made_up: its passwords"),
        (set(groups_of(play_named("remove.yml", "Remove from the server hosts"))), "remove.yml"),
        (excluded(play_named("remove.yml", "Remove from the app hosts")), "remove.yml, the hosts before them"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_for_all_servers_knows_each(known: set[str], where: str) -> None:
    assert set(SERVERS) - known == set(), where


def test_each_engine_of_redis_can_be_removed() -> None:
    """Its role installs one of them; each has a package, units and data of its own."""
    assert set(removal.SERVERS) == {*SERVERS, *ENGINES}


def test_what_leaves_before_the_roles_leaves_before_a_part_of_them() -> None:
    """``--tags`` with the name of any role has the play as well that frees ports and accounts."""
    [play] = [play for play in plays("site.yml") if "have left the inventory" in play["name"] and "tasks" in play]
    tags = {tag for task in play["tasks"] for tag in task.get("tags", ())}
    assert set(ROLES) - tags == set()


@pytest.mark.parametrize("process", PROCESSES.values(), ids=lambda role: role.name)
def test_the_units_of_a_process_say_whose_they_are(process: roles.Role) -> None:
    """What a host no longer has is found by this mark."""
    templates = (ROOT / "roles" / process.name / "templates").glob("*.service.j2")
    assert [path.name for path in templates if f"role {process.name}" not in path.read_text()] == []


def test_the_tests_and_scripts_know_every_group() -> None:
    assert tuple(ROLES_OF_GROUP) == checker.GROUPS
    listed = subprocess.run(
        ["git", "grep", "-nE", '"rabbitmq", "redis", "celery_[w]orkers"', "--", "scripts", "plugins", "tests"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    complete = ", ".join(f'"{group}"' for group in ROLES_OF_GROUP)
    assert [line for line in listed.splitlines() if complete not in line] == []


@each_role
def test_tasks_and_templates_read_what_the_plan_has(role: roles.Role) -> None:
    """A key that is misspelt would be found on the host, in the middle of a run."""
    plan = importlib.import_module(PLANS + role.name).Plan
    folder = ROOT / "roles" / role.name
    files = [*folder.rglob("*.yml"), *folder.rglob("*.j2"), *(ROOT / "playbooks").rglob("*.yml")]
    read = {key for path in files for key in re.findall(rf"\b__{role.name}\.plan\.(\w+)", path.read_text())}
    assert read
    assert read - set(typing.get_type_hints(plan)) == set()
