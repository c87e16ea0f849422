"""What was changed by hand, or has left the inventory, is put right by another run; and a reboot changes nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = ROOT / "molecule" / "default" / "inventory"


def main_pids(host: Host, inventory: dict[str, Any]) -> dict[str, str]:
    app = inventory["celery_app_name"]
    return {
        name: host.check_output(f"systemctl show --property=MainPID --value celery-{app}-{name}.service")
        for name in [*inventory["celery_worker_classes"], "beat", "flower"]
    }


@pytest.mark.usefixtures("restored")
def test_a_deleted_user_of_the_broker_comes_back(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any]
) -> None:
    app = inventory["celery_app_name"]
    host.check_output(f"rabbitmqctl delete_user {app}")
    assert app not in host.check_output("rabbitmqctl --silent list_users | cut -f1").splitlines()
    run = site()
    assert run.messages == []
    assert run.changed != []
    assert app in host.check_output("rabbitmqctl --silent list_users | cut -f1").splitlines()
    assert f"{app}\t.*" in host.check_output(f"rabbitmqctl --silent list_permissions --vhost {app}")


@pytest.mark.usefixtures("restored")
def test_an_edited_unit_is_put_right_and_its_class_alone_restarted(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any]
) -> None:
    unit = f"/etc/systemd/system/celery-{inventory['celery_app_name']}-high.service"
    wanted = host.file(unit).content_string
    before = main_pids(host, inventory)
    host.check_output(f"echo 'Environment=BY_HAND=1' >> {unit}")
    run = site()
    assert run.messages == []
    assert host.file(unit).content_string == wanted
    after = main_pids(host, inventory)
    assert {name for name in before if before[name] != after[name]} == {"high"}


@pytest.mark.usefixtures("restored")
def test_a_class_that_leaves_the_inventory_leaves_the_host(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any]
) -> None:
    app = inventory["celery_app_name"]
    others = {name: value for name, value in inventory["celery_worker_classes"].items() if name != "bulk"}
    others["default"] = {**(others["default"] or {}), "queues": ["default", "feeds", "reports"]}
    run = site(variables={"celery_worker_classes": others})
    assert run.messages == []
    assert not host.file(f"/etc/systemd/system/celery-{app}-bulk.service").exists
    assert host.check_output(f"systemctl show --property=LoadState --value celery-{app}-bulk.service") == "not-found"
    assert not [line for line in host.check_output("ps -eo args=").splitlines() if "bulk@" in line]
    assert host.service(f"celery-{app}-high.service").is_running


@pytest.mark.usefixtures("restored")
def test_a_duty_that_moves_to_another_host_leaves_this_one(
    host: Host, site: Callable[..., Any], inventory: dict[str, Any], suite: str
) -> None:
    app = inventory["celery_app_name"]
    # As deep below the checkout as the inventory itself, whose paths are relative.
    moved = ROOT / "build" / "molecule" / f"moved-{suite}"
    shutil.rmtree(moved, ignore_errors=True)
    shutil.copytree(INVENTORY, moved)
    hosts = moved / "hosts.yml"
    hosts.write_text(
        "".join(line for line in hosts.read_text().splitlines(True) if not line.startswith("celery_beat:"))
    )
    run = site(inventory=moved)
    assert run.messages == []
    assert host.check_output(f"systemctl show --property=LoadState --value celery-{app}-beat.service") == "not-found"
    assert host.service(f"celery-{app}-high.service").is_running


@pytest.mark.usefixtures("restored")
def test_a_changed_class_restarts_alone(host: Host, site: Callable[..., Any], inventory: dict[str, Any]) -> None:
    before = main_pids(host, inventory)
    changed = {**inventory["celery_worker_classes"], "default": {"concurrency": 2}}
    run = site(variables={"celery_worker_classes": changed})
    assert run.messages == []
    after = main_pids(host, inventory)
    assert {name for name in before if before[name] != after[name]} == {"default"}


def test_a_reboot_brings_everything_back(
    host: Host, site: Callable[..., Any], reboot: Callable[[], None], inventory: dict[str, Any], engine: str
) -> None:
    reboot()
    deadline = time.monotonic() + 60
    app = inventory["celery_app_name"]
    units = [
        "rabbitmq-server",
        f"{engine}-server",
        *(f"celery-{app}-{name}" for name in [*inventory["celery_worker_classes"], "beat", "flower"]),
    ]
    while not all(host.service(unit).is_running for unit in units):
        assert time.monotonic() < deadline, host.check_output("systemctl list-units --no-pager 'celery-*'")
        time.sleep(1)
    run = site("--check")
    assert run.messages == []
    assert run.changed == []
