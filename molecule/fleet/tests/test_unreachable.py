"""A host that cannot be reached: the others get their change and it is named, unless they depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from fleet import APP, INVENTORY, ROOT, Fleet
from playbooks import Run

#: What a container is called means nothing to the control machine.
NOWHERE = {"ansible_connection": "ssh"}
UNIT = f"/etc/systemd/system/celery-{APP}-default.service"
NICE = {"celery_worker_defaults": {"concurrency": 1, "stop_timeout": "6s", "nice": 3}}


@pytest.fixture
def without(fleet: Fleet, tmp_path: Path) -> Callable[..., Run]:
    """Run site.yml while a host cannot be reached: without("app2", celery_worker_defaults=...)."""

    def run(host: str, inventory: Path = INVENTORY, **variables: object) -> Run:
        cut = tmp_path / "cut.yml"
        cut.write_text(yaml.safe_dump({"all": {"hosts": {host: NOWHERE}}}))
        return fleet.play("site", f"--inventory={cut}", inventory=inventory, **variables)

    return run


@pytest.fixture
def beat_on_app2() -> Iterator[Path]:
    """An inventory beside the scenario's, in which the scheduler has moved."""
    text = (INVENTORY / "hosts.yml").read_text()
    line = "celery_beat: {hosts: {app1: {}}}\n"
    assert line in text
    folder = ROOT / "build" / "molecule" / f"{APP}-lost"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("group_vars", "host_vars"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(INVENTORY / name)
    (folder / "hosts.yml").write_text(text.replace(line, line.replace("app1", "app2")))
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_one_of_two_schedulers_does_not_become_the_only_one_while_the_other_is_not_known(
    fleet: Fleet, without: Callable[..., Run], tmp_path: Path
) -> None:
    both = tmp_path / "both.yml"
    both.write_text(yaml.safe_dump({"celery_beat": {"hosts": {"app2": None}}}))
    run = fleet.play("site", f"--inventory={both}", celery_beat_scheduler="redbeat.RedBeatScheduler")
    assert run.messages == []
    run = without("app2")
    assert run.changed == []
    assert "whether app2 still has it is not known" in run.messages[-1]
    # With both of them there, one is removed.
    assert fleet.play("site").messages == []


def test_the_others_get_their_change_and_the_host_is_named(fleet: Fleet, without: Callable[..., Run]) -> None:
    run = without("app2", **NICE)
    assert run.failed
    assert {name: host["unreachable"] for name, host in run.stats.items()} == {"servers": 0, "app1": 0, "app2": 1}
    assert [host["failures"] for host in run.stats.values()] == [0, 0, 0]
    assert run.output.count("These hosts are not as the inventory says") == 1
    assert "app2: not reached: " in run.output
    assert fleet.each(f"grep -c Nice=3 {UNIT} || true") == {"app1": "1", "app2": "0"}
    worker = fleet.pids()["default@app1"]
    # When it is back, it alone has something to do.
    again = fleet.play("site", **NICE)
    assert not again.failed
    assert "These hosts are not as the inventory says" not in again.output
    changed = {name for name, host in again.stats.items() if host["changed"]}
    assert changed == {"app2"}, again.changed
    assert fleet.pids()["default@app1"] == worker
    fleet.play("site")


def test_without_a_server_nothing_is_changed(without: Callable[..., Run]) -> None:
    run = without("servers", **NICE)
    assert run.changed == []
    assert "rabbitmq: on servers, the facts could not be gathered" in run.messages[-1]
    assert "redis: on servers, the facts could not be gathered" in run.messages[-1]


def test_the_scheduler_does_not_move_from_a_host_that_may_run_it_still(
    without: Callable[..., Run], beat_on_app2: Path
) -> None:
    run = without("app1", inventory=beat_on_app2)
    assert run.changed == []
    assert "whether app1 still has it is not known" in run.messages[-1]


def test_a_scheduler_that_cannot_start_stops_no_other_host(fleet: Fleet) -> None:
    run = fleet.play("site", celery_beat_environment={"PYTHONHOME": "/srv/misspelt"}, flower_url_prefix="shop")
    assert len(run.messages) == 1, run.messages
    assert f"celery-{APP}-beat.service: the new content is not valid" in run.messages[0]
    assert {name: host["failures"] for name, host in run.stats.items()} == {"servers": 0, "app1": 1, "app2": 0}
    assert "app1: failed, or was stopped as another host failed" in run.output
    # Flower is behind it, on the other host.
    assert "FLOWER_URL_PREFIX=shop" in fleet.on(
        "app2", f"systemctl show --property=Environment celery-{APP}-flower.service"
    )
    assert fleet.play("site").messages == []
